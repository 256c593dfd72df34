//! `inspect`: shows the content of an atlas, a data file or a model.

use std::path::Path;

use polars::prelude::{Column, DataFrame};
use schemas::{
    atlas::files,
    conditions::{CONTROL, ConditionTable, Covariate},
    ids::ConditionId,
};
use serde_json::{Map, Value, json};
use stages::{
    evaluate::frame::draw,
    reader::{group_statistics::summaries, groups::Groups, split::Split},
};

use super::{CommandContext, args::InspectArgs, models::inspected, splits::counts};
use crate::{Atlas, Error, Result};

/// Maximum number of conditions, and of groups of cells, in the text; JSON shows all.
const SHOWN_CONDITIONS: usize = 40;
/// Number of differential genes per group, in JSON and in the text.
const SHOWN_GENES: usize = 20;
const NAMED_GENES: usize = 5;

pub(super) fn inspect(args: &InspectArgs, context: &CommandContext) -> Result<()> {
    let mut value = value_of(args, context)?;
    if args.statistics {
        value["statistics"] = statistics_value(&args.path, context)?;
    }
    context.show.result(&value, || text(&args.path, &value))
}

fn value_of(args: &InspectArgs, context: &CommandContext) -> Result<Value> {
    let path = &args.path;
    if !path.exists() {
        return Err(Error::Missing { path: path.clone(), kind: "file or folder" });
    }
    if let Some(model) = inspected(path) {
        return model;
    }
    if path.is_dir() && is_atlas(path) {
        return atlas_value(&context.open(path)?);
    }
    file_value(args, context)
}

/// Whether a folder is an atlas (even one that has lost its manifest) rather than a folder of data.
pub(super) fn is_atlas(path: &Path) -> bool {
    [files::MANIFEST, files::MATRIX].iter().any(|name| path.join(name).exists())
        || path.extension().is_some_and(|extension| extension == "atlas")
}

/// An atlas as JSON.
pub(super) fn atlas_value(atlas: &Atlas) -> Result<Value> {
    let manifest = atlas.manifest();
    let groups = Groups::from_atlas(atlas, None);
    let mut cells_of = vec![0; manifest.conditions.conditions().len()];
    let mut covariate_cells: Vec<Vec<u64>> =
        manifest.covariates.iter().map(|covariate| vec![0; covariate.values.len()]).collect();
    for group in groups.all() {
        let cells: u64 = group.cells.iter().sum();
        cells_of[group.condition.index()] += cells;
        for (counts, code) in covariate_cells.iter_mut().zip(&group.covariates) {
            counts[*code as usize] += cells;
        }
    }
    let mut splits = Map::new();
    for name in Split::names(atlas) {
        splits.insert(name.clone(), counts(&Split::read(atlas, &name)?));
    }
    let bytes: u64 = manifest.files.values().map(|file| file.bytes).sum();
    Ok(json!({
        "kind": "atlas",
        "format": manifest.format,
        "cells": manifest.cells,
        "genes": manifest.genes,
        "nonzeros": manifest.nonzeros,
        "values": manifest.values,
        "bytes": bytes,
        "conditions": conditions_value(&manifest.conditions, &cells_of),
        "covariates": covariates_value(&manifest.covariates, &covariate_cells),
        "splits": splits,
        "checksum": manifest.checksum,
        "codec": manifest.codec,
        "keys": manifest.keys,
        "sources": manifest.sources,
    }))
}

/// The statistics of an atlas's groups, without the per-gene numbers.
fn statistics_value(path: &Path, context: &CommandContext) -> Result<Value> {
    let groups = match path.join(files::MANIFEST).exists() {
        true => summaries(&context.open(path)?, SHOWN_GENES)?,
        false => return Err(Error::usage("only atlases hold statistics", "ingest the file and inspect the atlas")),
    };
    if groups.is_none() {
        context.show.note("the atlas has no statistics: it has too many groups, or an earlier version made it");
    }
    serde_json::to_value(groups).map_err(|error| Error::Bug(error.to_string()))
}

/// A data file as JSON, computed in one pass over it.
fn file_value(args: &InspectArgs, context: &CommandContext) -> Result<Value> {
    use stages::{
        formats::{format::open, source::chunks},
        ingest::{
            keys::{RequestedKeys, resolve},
            label::{LabelTables, Labeller},
        },
    };
    let source = open(&args.path, &args.choice.choice(&context.resources.stop))?;
    let bytes = source.origin().bytes;
    let (cells, genes, kind) = (source.cells(), source.var().num_rows(), source.kind().to_owned());
    // Columns that can't be resolved don't prevent showing the rest.
    let (keys, is_labelled) = match resolve(&*source, &RequestedKeys::default()) {
        Ok(keys) => (Some(keys), true),
        Err(error) => {
            tracing::warn!("labels are left out: {error}");
            let unlabelled = RequestedKeys { no_perturbation: true, ..RequestedKeys::default() };
            (resolve(&*source, &unlabelled).ok(), false)
        }
    };
    let mut labeller = keys.map(|keys| Labeller::new(std::sync::Arc::clone(&source), keys.columns, keys.rules));
    let covariate_names: Vec<String> = source.obs_schema().fields().iter().map(|field| field.name().clone()).collect();
    let mut nonzeros = 0_u64;
    let mut are_counts = true;
    let mut covariate_cells: Vec<Vec<u64>> = Vec::new();
    for chunk in chunks(source) {
        let chunk = chunk?;
        nonzeros += chunk.expression.values().len() as u64;
        are_counts &= chunk.expression.values().iter().all(|value| *value >= 0.0 && value.fract() == 0.0);
        let Some(coded) = labeller.as_mut().map(|labeller| {
            labeller
                .codes(&(chunk.first.0..chunk.first.0 + chunk.obs.num_rows() as u64).collect::<Vec<u64>>(), &chunk.obs)
        }) else {
            continue;
        };
        match coded {
            Ok(codes) => {
                let width = codes.len().checked_div(chunk.obs.num_rows()).unwrap_or(1);
                covariate_cells.resize(width.saturating_sub(1), Vec::new());
                for record in codes.chunks(width.max(1)) {
                    for (counts, code) in covariate_cells.iter_mut().zip(&record[1..]) {
                        let at = *code as usize;
                        counts.resize(counts.len().max(at + 1), 0);
                        counts[at] += 1;
                    }
                }
            }
            Err(error) => {
                tracing::warn!("labels are left out: {error}");
                labeller = None;
            }
        }
    }
    let (conditions, covariates) = match labeller {
        Some(labeller) => {
            let LabelTables { conditions: table, cells_of, covariates } = labeller.finish();
            let conditions = if is_labelled { conditions_value(&table, &cells_of) } else { json!([]) };
            (conditions, covariates_value(&covariates, &covariate_cells))
        }
        None => (json!([]), json!({})),
    };
    Ok(json!({
        "kind": kind,
        "format": 1,
        "cells": cells,
        "genes": genes,
        "nonzeros": nonzeros,
        "values": if are_counts { "counts" } else { "continuous" },
        "bytes": bytes,
        "conditions": conditions,
        "covariates": covariates,
        "splits": {},
        "checksum": Value::Null,
        "obs": covariate_names,
    }))
}

fn conditions_value(table: &ConditionTable, cells_of: &[u64]) -> Value {
    let all = cells_of.iter().enumerate().map(|(at, cells)| (ConditionId::at(at), *cells));
    let there = all.filter(|(_, cells)| *cells > 0).map(|(id, cells)| {
        let perturbations: Vec<&str> =
            table.parts(id).map(|(perturbation, _)| table.perturbations()[perturbation.index()].as_str()).collect();
        json!({
            "name": table.name(id),
            "perturbations": perturbations,
            "doses": table.condition(id).doses,
            "cells": cells,
            "control": id == CONTROL,
        })
    });
    there.collect()
}

fn covariates_value(covariates: &[Covariate], cells: &[Vec<u64>]) -> Value {
    let named = covariates.iter().zip(cells).map(|(covariate, cells)| {
        let counts: Map<String, Value> =
            covariate.values.iter().zip(cells).map(|(value, cells)| (value.clone(), (*cells).into())).collect();
        (covariate.name.clone(), Value::Object(counts))
    });
    Value::Object(named.collect())
}

fn text(path: &Path, value: &Value) -> String {
    let kind = value["kind"].as_str().unwrap_or_default();
    if kind == "model" {
        return format!(
            "{}: a model of {} genes ({}), trained for {} epochs (best: {}) on atlas {}, split `{}`\nperturbations: {}\ncombinations: {}",
            path.display(),
            value["genes"],
            value["gene_selection"]["told"].as_str().unwrap_or_default(),
            value["epochs"],
            value["best"],
            value["atlas"].as_str().unwrap_or_default(),
            value["split"].as_str().unwrap_or_default(),
            value["vocabulary"]["perturbations"].as_array().map_or(0, Vec::len),
            value["vocabulary"]["combinations"].as_array().map_or(0, Vec::len),
        );
    }
    let mut lines = vec![format!(
        "{}: {kind} of {} cells × {} genes, {} non-zero {}",
        path.display(),
        value["cells"],
        value["genes"],
        value["nonzeros"],
        value["values"].as_str().unwrap_or_default(),
    )];
    for (name, values) in value["covariates"].as_object().into_iter().flatten() {
        let shown: Vec<String> =
            values.as_object().into_iter().flatten().map(|(value, cells)| format!("{value} {cells}")).collect();
        lines.push(format!("{name}: {}", shown.join(", ")));
    }
    for (name, parts) in value["splits"].as_object().into_iter().flatten() {
        lines.push(format!("split {name}: train {}, valid {}, ood {}", parts["train"], parts["valid"], parts["ood"]));
    }
    let conditions = value["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    if let Some(table) = conditions_table(&conditions[..conditions.len().min(SHOWN_CONDITIONS)]) {
        lines.push(draw(&table));
    }
    if conditions.len() > SHOWN_CONDITIONS {
        lines.push(format!("and {} more conditions (--json shows all)", conditions.len() - SHOWN_CONDITIONS));
    }
    let groups = value["statistics"].as_array().map(Vec::as_slice).unwrap_or_default();
    if let Some(table) = groups_table(&groups[..groups.len().min(SHOWN_CONDITIONS)]).filter(|_| !groups.is_empty()) {
        lines.push(draw(&table));
    }
    if groups.len() > SHOWN_CONDITIONS {
        lines.push(format!("and {} more groups (--json shows all)", groups.len() - SHOWN_CONDITIONS));
    }
    lines.join("\n")
}

fn groups_table(groups: &[Value]) -> Option<DataFrame> {
    let texts = |text_of: &dyn Fn(&Value) -> String| groups.iter().map(text_of).collect::<Vec<String>>();
    let text = |name: &'static str| texts(&move |group| group[name].as_str().unwrap_or_default().to_owned());
    let numbers = |name: &str| groups.iter().map(|group| group[name].as_f64()).collect::<Vec<_>>();
    let values = |group: &Value| {
        let values = group["covariates"].as_object().into_iter().flatten();
        values.filter_map(|(_, value)| value.as_str()).collect::<Vec<_>>().join(", ")
    };
    let genes = |group: &Value| {
        let genes = group["differential"].as_array().into_iter().flatten().take(NAMED_GENES);
        genes.filter_map(|gene| gene["gene"].as_str()).collect::<Vec<_>>().join(" ")
    };
    let columns = vec![
        Column::new("condition".into(), text("condition")),
        Column::new("dose".into(), text("dose")),
        Column::new("covariates".into(), texts(&values)),
        Column::new("cells".into(), groups.iter().map(|group| group["cells"].as_u64()).collect::<Vec<_>>()),
        Column::new("library".into(), numbers("library_mean")),
        Column::new("detected genes".into(), numbers("detected_genes")),
        Column::new("differential genes".into(), texts(&genes)),
    ];
    DataFrame::new(groups.len(), columns).ok()
}

fn conditions_table(conditions: &[Value]) -> Option<DataFrame> {
    let texts = |text_of: &dyn Fn(&Value) -> String| conditions.iter().map(text_of).collect::<Vec<String>>();
    let doses = |condition: &Value| {
        let doses = condition["doses"].as_array().map(Vec::as_slice).unwrap_or_default();
        doses.iter().map(ToString::to_string).collect::<Vec<_>>().join("+")
    };
    let columns = vec![
        Column::new("condition".into(), texts(&|condition| condition["name"].as_str().unwrap_or_default().to_owned())),
        Column::new("dose".into(), texts(&doses)),
        Column::new("cells".into(), conditions.iter().map(|condition| condition["cells"].as_u64()).collect::<Vec<_>>()),
        Column::new(
            "control".into(),
            conditions.iter().map(|condition| condition["control"].as_bool()).collect::<Vec<_>>(),
        ),
    ];
    DataFrame::new(conditions.len(), columns).ok()
}
