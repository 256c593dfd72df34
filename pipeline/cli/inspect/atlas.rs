//! An atlas: its cells, covariates, splits and conditions, or the statistics of its groups.

use polars::prelude::DataFrame;
use reader::{group_statistics::summaries, groups::Groups, split::Split};
use schemas::{
    conditions::Covariate,
    counting::{counted, grouped},
};
use serde_json::{Map, Value, json};

use super::{
    Inspected, column,
    conditions::{conditions_table, conditions_value},
    shown_rows, table_of,
};
use crate::{
    CommandContext,
    args::InspectArgs,
    show::{bytes, non_zero},
    splits::counts,
};
use reader::atlas::Atlas;
use schemas::{Error, Result};

/// Number of differential genes per group, in JSON and in the text.
const LISTED_GENES: usize = 20;
const NAMED_GENES: usize = 5;

pub(super) fn inspected(args: &InspectArgs, context: &CommandContext) -> Result<Inspected> {
    let atlas = context.open(&args.path)?;
    let mut value = atlas_value(&atlas)?;
    let conditions = conditions_table(&value["conditions"])?;
    let mut text = format!("an atlas of {}", size_text(&value));
    text += &labels_text(&value);
    text += &shown_rows(&conditions, "condition", context);
    let mut table = conditions;
    if args.statistics {
        let groups = summaries(&atlas, LISTED_GENES)?;
        if groups.is_none() {
            context.show.note("the atlas has no statistics: it has too many groups, or an earlier version made it");
        }
        value["statistics"] = serde_json::to_value(groups).map_err(|error| Error::Bug(error.to_string()))?;
        table = groups_table(&value["statistics"])?;
        text += &shown_rows(&table, "group", context);
    }
    Ok(Inspected { value, table, text })
}

/// An atlas as JSON.
pub(crate) fn atlas_value(atlas: &Atlas) -> Result<Value> {
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

pub(super) fn covariates_value(covariates: &[Covariate], cells: &[Vec<u64>]) -> Value {
    let named = covariates.iter().zip(cells).map(|(covariate, cells)| {
        let counts: Map<String, Value> =
            covariate.values.iter().zip(cells).map(|(value, cells)| (value.clone(), (*cells).into())).collect();
        (covariate.name.clone(), Value::Object(counts))
    });
    Value::Object(named.collect())
}

/// Cells, genes, values and bytes, in words.
pub(super) fn size_text(value: &Value) -> String {
    let count = |key: &str| grouped(value[key].as_u64().unwrap_or(0));
    format!(
        "{} cells × {} genes, {} ({})\n",
        count("cells"),
        count("genes"),
        non_zero(value["nonzeros"].as_u64().unwrap_or(0), value["values"].as_str().unwrap_or_default()),
        bytes(value["bytes"].as_u64().unwrap_or(0)),
    )
}

/// Covariates and splits, a line each.
pub(super) fn labels_text(value: &Value) -> String {
    let mut text = String::new();
    for (name, values) in value["covariates"].as_object().into_iter().flatten() {
        let values = values.as_object().into_iter().flatten();
        let shown: Vec<String> =
            values.map(|(value, cells)| format!("{value} {}", grouped(cells.as_u64().unwrap_or(0)))).collect();
        text += &format!("{name}: {}\n", shown.join(", "));
    }
    for (name, parts) in value["splits"].as_object().into_iter().flatten() {
        let part = |part: &str| grouped(parts[part].as_u64().unwrap_or(0));
        text += &format!("split {name}: train {}, valid {}, ood {}\n", part("train"), part("valid"), part("ood"));
    }
    if let Some(conditions) = value["conditions"].as_array().filter(|conditions| !conditions.is_empty()) {
        text += &format!("{}:\n", counted(conditions.len() as u64, "condition"));
    }
    text
}

fn groups_table(groups: &Value) -> Result<DataFrame> {
    let groups = groups.as_array().map(Vec::as_slice).unwrap_or_default();
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
    table_of(vec![
        column("condition", text("condition")),
        column("dose", text("dose")),
        column("covariates", texts(&values)),
        column("cells", groups.iter().map(|group| group["cells"].as_u64()).collect::<Vec<_>>()),
        column("library", numbers("library_mean")),
        column("detected genes", numbers("detected_genes")),
        column("differential genes", texts(&genes)),
    ])
}
