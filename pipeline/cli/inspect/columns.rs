//! The columns of a file's annotations: their types, number of distinct values, and most frequent values.

use std::collections::HashMap;

use arrays::text::as_text;
use arrow::{
    array::{Array, AsArray, RecordBatch},
    compute::cast,
    datatypes::{DataType, Float64Type, Schema},
};
use polars::prelude::DataFrame;
use serde_json::{Value, json};

use super::{column, table_of};
use schemas::{Error, Result, counting::grouped};

/// Number of distinct values up to which they are counted.
const MOST_DISTINCT: usize = 100_000;
/// Number of most frequent values in JSON, and in the text.
const LISTED_VALUES: usize = 20;
const SHOWN_VALUES: usize = 4;

/// The values of the columns of `obs`.
pub(super) struct ColumnSurvey(Vec<SurveyedColumn>);

struct SurveyedColumn {
    name: String,
    data_type: DataType,
    /// Cells of each value; `None` if there are too many values.
    cells_of: Option<HashMap<String, u64>>,
    missing: u64,
    range: Option<[f64; 2]>,
}

impl ColumnSurvey {
    pub(super) fn new(schema: &Schema) -> Self {
        let columns = schema.fields().iter().map(|field| SurveyedColumn {
            name: field.name().clone(),
            data_type: field.data_type().clone(),
            cells_of: Some(HashMap::new()),
            missing: 0,
            range: None,
        });
        Self(columns.collect())
    }

    /// Adds the annotations of some cells.
    pub(super) fn add(&mut self, obs: &RecordBatch) -> Result<()> {
        for (surveyed, values) in self.0.iter_mut().zip(obs.columns()) {
            surveyed.add(values).map_err(|error| Error::Bug(error.to_string()))?;
        }
        Ok(())
    }

    /// The columns as JSON, without the names of cells; the file stores them with the types that the function gives, if it has any.
    pub(super) fn value<'a>(&self, stored_type: impl Fn(&str) -> Option<&'a str>) -> Value {
        self.0.iter().skip(1).map(|column| column.value(stored_type(&column.name))).collect()
    }
}

impl SurveyedColumn {
    fn add(&mut self, values: &dyn Array) -> Result<(), arrow::error::ArrowError> {
        if self.data_type.is_numeric() {
            let numbers = cast(values, &DataType::Float64)?;
            for number in numbers.as_primitive::<Float64Type>().iter().flatten().filter(|number| !number.is_nan()) {
                let [least, largest] = self.range.unwrap_or([number, number]);
                self.range = Some([least.min(number), largest.max(number)]);
            }
        }
        let texts = as_text(values)?;
        let texts = texts.as_string::<i32>();
        self.missing += texts.null_count() as u64;
        let Some(cells_of) = &mut self.cells_of else { return Ok(()) };
        for text in texts.iter().flatten() {
            match cells_of.get_mut(text) {
                Some(cells) => *cells += 1,
                None => _ = cells_of.insert(text.to_owned(), 1),
            }
        }
        if cells_of.len() > MOST_DISTINCT {
            self.cells_of = None;
        }
        Ok(())
    }

    fn value(&self, stored_type: Option<&str>) -> Value {
        let mut frequent: Vec<(&String, &u64)> = self.cells_of.iter().flatten().collect();
        frequent.sort_by(|one, other| other.1.cmp(one.1).then_with(|| one.0.cmp(other.0)));
        let frequent = frequent.into_iter().take(LISTED_VALUES);
        json!({
            "name": self.name,
            "dtype": type_name(&self.data_type, stored_type),
            "distinct": self.cells_of.as_ref().map(HashMap::len),
            "missing": self.missing,
            "min": self.range.map(|range| range[0]),
            "max": self.range.map(|range| range[1]),
            "frequent": frequent.map(|(value, cells)| json!({ "value": value, "cells": cells })).collect::<Value>(),
        })
    }
}

/// The name of a column's type, as NumPy and pandas have it: the one with which a file stores it rather than the one as which it is
/// read.
pub(super) fn type_name(read: &DataType, stored: Option<&str>) -> String {
    match (read, stored) {
        (_, Some(stored @ ("category" | "boolean"))) => stored.to_owned(),
        (DataType::Utf8, _) => "text".to_owned(),
        (DataType::Boolean, _) => "bool".to_owned(),
        (_, Some(stored)) => stored.to_owned(),
        (other, None) => other.to_string().to_lowercase(),
    }
}

/// The columns as a table: a row for each, with its most frequent values, or its range if none comes twice.
pub(super) fn columns_table(columns: &Value) -> Result<DataFrame> {
    let columns = columns.as_array().map(Vec::as_slice).unwrap_or_default();
    let text =
        |key: &str| columns.iter().map(|one| one[key].as_str().unwrap_or_default().to_owned()).collect::<Vec<_>>();
    let distinct = |one: &Value| match one["distinct"].as_u64() {
        Some(distinct) => grouped(distinct),
        None => format!("more than {}", grouped(MOST_DISTINCT as u64)),
    };
    table_of(vec![
        column("obs column", text("name")),
        column("dtype", text("dtype")),
        column("distinct", columns.iter().map(distinct).collect::<Vec<_>>()),
        column("values", columns.iter().map(values_text).collect::<Vec<_>>()),
    ])
}

fn values_text(one: &Value) -> String {
    let frequent = one["frequent"].as_array().map(Vec::as_slice).unwrap_or_default();
    let cells = |value: &Value| value["cells"].as_u64().unwrap_or(0);
    let name = |value: &Value| value["value"].as_str().unwrap_or_default().to_owned();
    let is_label = frequent.first().is_some_and(|first| cells(first) > 1);
    let mut text = match (one["min"].as_f64(), one["max"].as_f64()) {
        (Some(least), Some(largest)) if frequent.len() > SHOWN_VALUES || !is_label => format!("{least} to {largest}"),
        _ => {
            let all = one["distinct"].as_u64().unwrap_or(u64::MAX);
            let shown = frequent.iter().take(SHOWN_VALUES).map(|value| match is_label {
                true => format!("{} ({})", name(value), grouped(cells(value))),
                false => name(value),
            });
            let shown = shown.collect::<Vec<_>>().join(", ");
            if all > SHOWN_VALUES as u64 { shown + ", …" } else { shown }
        }
    };
    let missing = one["missing"].as_u64().unwrap_or(0);
    if missing > 0 {
        text += &format!("; {} missing", grouped(missing));
    }
    text
}
