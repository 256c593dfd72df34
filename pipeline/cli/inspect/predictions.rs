//! Predictions, latents and dose curves that this program wrote as Parquet or CSV.

use std::path::Path;

use polars::prelude::DataFrame;
use serde_json::{Value, json};
use sink::written::WrittenPredictions;

use super::{Inspected, column, columns::type_name, shown_rows, table_of};
use crate::{CommandContext, output::is_written_csv, show::bytes};
use schemas::{Result, conditions::listing_order, counting::counted};

/// Labels of control, which is listed first.
const CONTROLS: [&str; 2] = ["ctrl", "control"];

pub(super) fn inspected(path: &Path, context: &CommandContext) -> Result<Inspected> {
    let mut found = match is_written_csv(path) {
        true => WrittenPredictions::read_csv(path)?,
        false => WrittenPredictions::read(path)?,
    };
    found.conditions.sort_by(|one, other| {
        let is_perturbed = |(condition, ..): &(String, Option<String>, u64)| !CONTROLS.contains(&condition.as_str());
        let dose = |(_, dose, _): &(String, Option<String>, u64)| dose.clone().unwrap_or_default();
        is_perturbed(one)
            .cmp(&is_perturbed(other))
            .then_with(|| listing_order((&one.0, &dose(one)), (&other.0, &dose(other))))
    });
    let form = form_of(&found);
    let table = conditions_table(&found)?;
    let genes = found.genes.as_ref().map(Vec::len);
    let mut text = format!(
        "predictions: {form}, {} in {} ({})\n",
        counted(found.rows, "row"),
        counted(found.files as u64, "file"),
        bytes(found.bytes)
    );
    if let Some(genes) = genes {
        text += &format!("genes: {genes}\n");
    }
    for (key, value) in &found.metadata {
        text += &format!("{key}: {value}\n");
    }
    let names = found.columns.iter().map(|(name, data_type)| match found.partitions.contains(name) {
        true => format!("{name} (folder)"),
        false => format!("{name} ({})", short_type(&type_name(data_type, None))),
    });
    text += &format!("columns: {}\n", names.collect::<Vec<_>>().join(", "));
    if !found.conditions.is_empty() {
        text += &format!("{}:\n", counted(found.conditions.len() as u64, "condition"));
    }
    text += &shown_rows(&table, "condition", context);
    let value = json!({
        "kind": "predictions",
        "format": 1,
        "layout": form,
        "rows": found.rows,
        "files": found.files,
        "bytes": found.bytes,
        "genes": genes,
        "scale": found.metadata.get("scale"),
        "metadata": found.metadata,
        "columns": found.columns.iter().map(|(name, data_type)| json!({ "name": name, "dtype": short_type(&type_name(data_type, None)) })).collect::<Value>(),
        "conditions": found.conditions.iter().map(|(name, dose, rows)| json!({ "name": name, "dose": dose, "rows": rows })).collect::<Value>(),
    });
    Ok(Inspected { value, table, text })
}

/// The kind of a row.
fn form_of(found: &WrittenPredictions) -> &'static str {
    let has = |name: &str| found.columns.iter().any(|(column, _)| column == name);
    match () {
        () if has("log2_fold_change") => "changes, a row for each condition and gene",
        () if has("change") => "dose curves",
        () if has("gene") => "means, a row for each condition and gene",
        () if has("mean") => "means, a row for each condition",
        () if has("expression") => "cells",
        () if has("basal") || has("basal_1") => "latents of cells",
        () => "embeddings",
    }
}

/// `list of float32` for lists of any length.
fn short_type(name: &str) -> String {
    if name.contains("list") { "list".to_owned() } else { name.to_owned() }
}

fn conditions_table(found: &WrittenPredictions) -> Result<DataFrame> {
    let conditions = &found.conditions;
    table_of(vec![
        column("condition", conditions.iter().map(|(name, ..)| name.clone()).collect::<Vec<_>>()),
        column("dose", conditions.iter().map(|(_, dose, _)| dose.clone().unwrap_or_default()).collect::<Vec<_>>()),
        column("rows", conditions.iter().map(|(.., rows)| *rows).collect::<Vec<_>>()),
    ])
}
