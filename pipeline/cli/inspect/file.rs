//! A data file, as `print(adata)` would show it, with the values of its columns.

use std::sync::Arc;

use formats::{
    format::{Choice, flag_for_counts, open},
    source::{AnnDataMember, Source, chunks},
};
use ingest::{
    keys::{RequestedKeys, ResolvedKeys, resolve},
    label::{LabelTables, Labeller},
};
use serde_json::{Value, json};

use super::{
    Inspected,
    atlas::{covariates_value, labels_text, size_text},
    columns::{ColumnSurvey, columns_table, type_name},
    conditions::{conditions_table, conditions_value},
    matrix_values::ValueSurvey,
    shown_rows,
};
use crate::{CommandContext, args::InspectArgs};
use schemas::Result;

/// The families of an AnnData object whose members are listed, in the order of `print(adata)`.
const FAMILIES: [&str; 7] = ["raw", "layers", "obsm", "varm", "obsp", "varp", "uns"];
/// The member with what this program's predictions are: cells or means.
const OUR_OUTPUT: &str = "uns/perturbine/output";

pub(super) fn inspected(args: &InspectArgs, context: &CommandContext) -> Result<Inspected> {
    let choice = Choice { lists_members: true, ..args.choice.choice(&context.resources.stop) };
    let source = open(&args.path, &choice)?;
    let (mut value, guessed) = value_of(&source)?;
    value["counts"] =
        if value["values"] == "counts" { Value::Null } else { json!(flag_for_counts(&args.path, &choice)) };
    let conditions = conditions_table(&value["conditions"])?;
    let mut text = format!("{} of {}", value["kind"].as_str().unwrap_or_default(), size_text(&value));
    text += &provenance_text(&value);
    text += &format!("AnnData object with n_obs × n_vars = {} × {}\n", value["cells"], value["genes"]);
    text += &matrix_text(&value);
    text += &shown_rows(&columns_table(&value["obs_columns"])?, "column", context);
    text += &var_text(&value);
    text += &members_text(&value);
    if !guessed.is_empty() {
        text += &format!("ingest would take: {}\n", guessed.join(" "));
    }
    text += &labels_text(&value);
    text += &shown_rows(&conditions, "condition", context);
    Ok(Inspected { value, table: conditions, text })
}

/// A file as JSON, computed in one pass over it, and the flags that `ingest` would guess.
fn value_of(source: &Arc<dyn Source>) -> Result<(Value, Vec<String>)> {
    // Columns that can't be resolved don't prevent showing the rest.
    let (keys, is_labelled) = match resolve(&**source, &RequestedKeys::default()) {
        Ok(keys) => (Some(keys), true),
        Err(error) => {
            // Predictions of this program need no control among them.
            if !is_our_output(source.members()) {
                tracing::warn!("labels are left out: {error}");
            }
            let unlabelled = RequestedKeys { no_perturbation: true, ..RequestedKeys::default() };
            (resolve(&**source, &unlabelled).ok(), false)
        }
    };
    let guessed = keys.as_ref().filter(|_| is_labelled).map(|keys| keys.guessed.clone()).unwrap_or_default();
    let mut labels = keys.map(|keys| CountedLabels::new(Arc::clone(source), keys));
    let mut columns = ColumnSurvey::new(&source.obs_schema());
    let mut values = ValueSurvey::default();
    for chunk in chunks(Arc::clone(source)) {
        let chunk = chunk?;
        values.add(&chunk.expression);
        columns.add(&chunk.obs)?;
        if let Some(Err(error)) = labels.as_mut().map(|labels| labels.add(chunk.first.0, &chunk.obs)) {
            tracing::warn!("labels are left out: {error}");
            labels = None;
        }
    }
    let (conditions, covariates) = match labels {
        Some(CountedLabels { labeller, covariate_cells }) => {
            let LabelTables { conditions: table, cells_of, covariates } = labeller.finish();
            let conditions = if is_labelled { conditions_value(&table, &cells_of) } else { json!([]) };
            (conditions, covariates_value(&covariates, &covariate_cells))
        }
        None => (json!([]), json!({})),
    };
    let names: Vec<String> = source.obs_schema().fields().iter().map(|field| field.name().clone()).collect();
    let (columns_of, members): (Vec<_>, Vec<_>) = source.members().iter().partition(|member| member.form == "column");
    let stored_type = |frame: &str, name: &str| {
        let column = columns_of.iter().find(|column| column.name == format!("{frame}/{name}"));
        column.map(|column| column.data_type.as_str())
    };
    let var = source.var().schema();
    let var = var.fields().iter().map(|field| {
        json!({ "name": field.name(), "dtype": type_name(field.data_type(), stored_type("var", field.name())) })
    });
    let value = json!({
        "kind": source.kind(),
        "format": 1,
        "cells": source.cells(),
        "genes": source.var().num_rows(),
        "nonzeros": values.nonzeros,
        "values": if values.are_counts() { "counts" } else { "continuous" },
        "bytes": source.origin().bytes,
        "conditions": conditions,
        "covariates": covariates,
        "splits": {},
        "checksum": Value::Null,
        "obs": names,
        "obs_columns": columns.value(|name| stored_type("obs", name)),
        "var": var.collect::<Value>(),
        "matrix": values.value(&source.origin().matrix),
        "members": members,
        "guessed": guessed,
    });
    Ok((value, guessed))
}

/// The labels of cells that were read, and the cells of each covariate value.
struct CountedLabels {
    labeller: Labeller,
    covariate_cells: Vec<Vec<u64>>,
}

impl CountedLabels {
    fn new(source: Arc<dyn Source>, keys: ResolvedKeys) -> Self {
        Self { labeller: Labeller::new(source, keys.columns, keys.rules), covariate_cells: Vec::new() }
    }

    fn add(&mut self, first: u64, obs: &arrow::array::RecordBatch) -> Result<()> {
        let cells: Vec<u64> = (first..first + obs.num_rows() as u64).collect();
        let codes = self.labeller.codes(&cells, obs)?;
        let width = codes.len().checked_div(obs.num_rows()).unwrap_or(1);
        self.covariate_cells.resize(width.saturating_sub(1), Vec::new());
        for record in codes.chunks(width.max(1)) {
            for (counts, code) in self.covariate_cells.iter_mut().zip(&record[1..]) {
                let at = *code as usize;
                counts.resize(counts.len().max(at + 1), 0);
                counts[at] += 1;
            }
        }
        Ok(())
    }
}

/// A line about predictions of this program; empty for other files.
fn provenance_text(value: &Value) -> String {
    let members: Vec<AnnDataMember> = serde_json::from_value(value["members"].clone()).unwrap_or_default();
    let text = |key: &str| {
        let member = members.iter().find(|member| member.name.strip_prefix("uns/perturbine/") == Some(key));
        Some(format!("{key} {}", member?.text.as_ref()?))
    };
    if !is_our_output(&members) {
        return String::new();
    }
    let known: Vec<String> = ["version", "output", "scale", "model", "atlas"].into_iter().filter_map(text).collect();
    format!("predictions by perturbine: {}\n", known.join(", "))
}

/// Whether the file holds predictions of this program.
fn is_our_output(members: &[AnnDataMember]) -> bool {
    members.iter().any(|member| member.name == OUR_OUTPUT)
}

fn matrix_text(value: &Value) -> String {
    let matrix = &value["matrix"];
    let mut text = format!(
        "{}: {}, from {} to {}\n",
        matrix["name"].as_str().unwrap_or_default(),
        matrix["described"].as_str().unwrap_or_default(),
        number_text(&matrix["min"]),
        number_text(&matrix["max"])
    );
    if let Some(flag) = value["counts"].as_str() {
        text += &format!("counts may be elsewhere in this file: {flag}\n");
    }
    text
}

/// A whole number without decimals, any other with four.
fn number_text(number: &Value) -> String {
    let number = number.as_f64().unwrap_or(f64::NAN);
    if number.fract() == 0.0 { number.to_string() } else { format!("{number:.4}") }
}

fn var_text(value: &Value) -> String {
    let columns = value["var"].as_array().map(Vec::as_slice).unwrap_or_default();
    let text = |one: &Value, key: &str| one[key].as_str().unwrap_or_default().to_owned();
    let shown: Vec<String> =
        columns.iter().skip(1).map(|one| format!("{} ({})", text(one, "name"), text(one, "dtype"))).collect();
    if shown.is_empty() { String::new() } else { format!("var: {}\n", shown.join(", ")) }
}

/// Layers, `raw` and the like, a line for each family.
fn members_text(value: &Value) -> String {
    let members: Vec<AnnDataMember> = serde_json::from_value(value["members"].clone()).unwrap_or_default();
    let mut text = String::new();
    for family in FAMILIES {
        let of_family =
            members.iter().filter_map(|member| Some((member.name.strip_prefix(family)?.strip_prefix('/')?, member)));
        let shown: Vec<String> =
            of_family.filter(|(name, _)| !name.contains('/')).map(|(name, member)| described(name, member)).collect();
        if !shown.is_empty() {
            text += &format!("{family}: {}\n", shown.join(", "));
        }
    }
    text
}

fn described(name: &str, member: &AnnDataMember) -> String {
    let shape: Vec<String> = member.shape.iter().map(ToString::to_string).collect();
    let parts = [shape.join(" × "), member.form.clone(), member.data_type.clone()];
    let parts: Vec<&str> = parts.iter().map(String::as_str).filter(|part| !part.is_empty()).collect();
    if parts.is_empty() { name.to_owned() } else { format!("{name} ({})", parts.join(", ")) }
}
