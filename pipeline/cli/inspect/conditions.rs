//! The conditions of cells or predictions: control first, then by name, doses as numbers.

use polars::prelude::DataFrame;
use schemas::{
    conditions::{CONTROL, ConditionTable},
    ids::ConditionId,
};
use serde_json::{Value, json};

use super::{column, table_of};
use schemas::Result;

/// The conditions that some cells have, as JSON.
pub(super) fn conditions_value(table: &ConditionTable, cells_of: &[u64]) -> Value {
    let all = cells_of.iter().enumerate().map(|(at, cells)| (ConditionId::at(at), *cells));
    let mut present: Vec<(ConditionId, u64)> = all.filter(|(_, cells)| *cells > 0).collect();
    present.sort_by(|(one, _), (other, _)| table.listing_order(*one, *other));
    let shown = present.into_iter().map(|(id, cells)| {
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
    shown.collect()
}

/// The same as a table.
pub(super) fn conditions_table(value: &Value) -> Result<DataFrame> {
    let conditions = value.as_array().map(Vec::as_slice).unwrap_or_default();
    let doses = |condition: &Value| {
        let doses = condition["doses"].as_array().map(Vec::as_slice).unwrap_or_default();
        doses.iter().filter_map(Value::as_f64).map(|dose| dose.to_string()).collect::<Vec<_>>().join("+")
    };
    let name = |condition: &Value| condition["name"].as_str().unwrap_or_default().to_owned();
    table_of(vec![
        column("condition", conditions.iter().map(name).collect::<Vec<_>>()),
        column("dose", conditions.iter().map(doses).collect::<Vec<_>>()),
        column("cells", conditions.iter().map(|condition| condition["cells"].as_u64()).collect::<Vec<_>>()),
        column("control", conditions.iter().map(|condition| condition["control"].as_bool()).collect::<Vec<_>>()),
    ])
}
