//! Columns of `obs` beside the batches: one value for each cell, kept in memory.
//!
//! Text becomes codes and categories, as covariates are codes in the atlas; numbers stay numbers.

use std::{collections::HashMap, sync::Arc};

use arrays::text::as_text;
use arrow::{
    array::{Array, AsArray, RecordBatch},
    compute::cast,
    datatypes::{DataType, Float32Type, Float64Type, Int64Type},
    error::ArrowError,
};
use pyo3::prelude::*;
use reader::atlas::Atlas as OpenAtlas;
use runtime::Stop;
use schemas::{Error, Result, atlas::files, ids::CellIndex, numbers::checked};
use stage::interrupt::Interrupt;

use crate::{atlas::Atlas, wait::interruptible};

/// The code of a missing value.
const MISSING: i64 = -1;

/// One value for each of some cells.
#[derive(Clone, Debug)]
pub(crate) enum ColumnValues {
    /// Codes of categories; -1 where the value is missing.
    Codes(Vec<i64>),
    /// Whole numbers.
    Whole(Vec<i64>),
    /// Floats of 32 bits.
    Single(Vec<f32>),
    /// Floats of 64 bits, and whole numbers of which some are missing; missing ones are NaN.
    Double(Vec<f64>),
    /// Truth values.
    Flags(Vec<bool>),
}

/// A column of all cells.
#[derive(Debug)]
enum Column {
    /// A covariate, by its place in the cell's codes.
    Covariate(usize),
    /// Its values.
    InMemory(ColumnValues),
}

#[derive(Debug)]
struct NamedColumn {
    name: String,
    categories: Option<Vec<String>>,
    values: Column,
}

/// The columns that batches come with.
#[pyclass(frozen, module = "perturbine._native")]
#[derive(Clone, Debug)]
pub(crate) struct Columns(Arc<Vec<NamedColumn>>);

#[pymethods]
impl Columns {
    #[new]
    fn new(py: Python<'_>, atlas: &Bound<'_, Atlas>, names: Vec<String>) -> PyResult<Self> {
        let atlas = atlas.get().open.clone();
        let stop = Stop::default();
        let is_stopped = stop.interrupt();
        interruptible(py, &stop, move || {
            let columns: Vec<NamedColumn> =
                names.iter().map(|name| NamedColumn::read(&atlas, name, &is_stopped)).collect::<Result<_>>()?;
            Ok(Self(Arc::new(columns)))
        })
    }

    /// The names, as they were asked for.
    #[getter]
    fn names(&self) -> Vec<String> {
        self.0.iter().map(|column| column.name.clone()).collect()
    }

    /// The categories of a column, by their codes; `None` for numbers.
    fn categories(&self, place: usize) -> Option<Vec<String>> {
        self.0.get(place)?.categories.clone()
    }
}

impl Columns {
    /// The values of some cells, for each column.
    pub(crate) fn of(&self, atlas: &OpenAtlas, cells: &[CellIndex]) -> Vec<ColumnValues> {
        let of_one = |column: &NamedColumn| match &column.values {
            Column::Covariate(place) => {
                ColumnValues::Codes(cells.iter().map(|cell| i64::from(atlas.covariates(*cell)[*place])).collect())
            }
            Column::InMemory(values) => values.of(cells),
        };
        self.0.iter().map(of_one).collect()
    }
}

impl ColumnValues {
    fn of(&self, cells: &[CellIndex]) -> Self {
        fn picked<T: Copy>(values: &[T], cells: &[CellIndex]) -> Vec<T> {
            cells.iter().map(|cell| values[cell.index()]).collect()
        }
        match self {
            Self::Codes(values) => Self::Codes(picked(values, cells)),
            Self::Whole(values) => Self::Whole(picked(values, cells)),
            Self::Single(values) => Self::Single(picked(values, cells)),
            Self::Double(values) => Self::Double(picked(values, cells)),
            Self::Flags(values) => Self::Flags(picked(values, cells)),
        }
    }

    fn count(&self) -> usize {
        match self {
            Self::Codes(values) | Self::Whole(values) => values.len(),
            Self::Single(values) => values.len(),
            Self::Double(values) => values.len(),
            Self::Flags(values) => values.len(),
        }
    }
}

impl NamedColumn {
    fn read(atlas: &OpenAtlas, name: &str, is_stopped: &Interrupt) -> Result<Self> {
        let in_atlas = atlas.name_in_atlas(name)?;
        let covariates = &atlas.manifest().covariates;
        if let Some(place) = covariates.iter().position(|covariate| covariate.name == in_atlas) {
            let categories = Some(covariates[place].values.clone());
            return Ok(Self { name: name.to_owned(), categories, values: Column::Covariate(place) });
        }
        let damaged = |what: String| Error::damaged(atlas.path().join(files::CELLS), what);
        let batches: Vec<RecordBatch> = atlas
            .obs(&[&in_atlas])?
            .map(|batch| {
                is_stopped.check()?;
                batch.map_err(|error| damaged(error.to_string()))
            })
            .collect::<Result<_>>()?;
        let columns: Vec<&dyn Array> = batches.iter().map(|batch| batch.column(0).as_ref()).collect();
        let (values, categories) = values_of(&columns).map_err(|error| {
            Error::data(format!("obs column `{name}`"), error.to_string(), "leave it out of columns=")
        })?;
        let (found, cells) = (values.count() as u64, atlas.cells());
        if found != cells {
            return Err(damaged(format!("`{name}` has {found} values for {cells} cells")));
        }
        Ok(Self { name: name.to_owned(), categories, values: Column::InMemory(values) })
    }
}

/// The values of a column that comes in parts, and its categories if it is text.
fn values_of(parts: &[&dyn Array]) -> std::result::Result<(ColumnValues, Option<Vec<String>>), ArrowError> {
    let has_missing = parts.iter().any(|part| part.null_count() > 0);
    let kind = parts.first().map_or(DataType::Null, |part| part.data_type().clone());
    match kind {
        DataType::Float32 => {
            let number = |number: Option<f32>| number.unwrap_or(f32::NAN);
            let numbers = parts.iter().flat_map(|part| part.as_primitive::<Float32Type>().iter().map(number));
            Ok((ColumnValues::Single(numbers.collect()), None))
        }
        DataType::Boolean if !has_missing => {
            let flags = parts.iter().flat_map(|part| part.as_boolean().iter().map(|flag| flag == Some(true)));
            Ok((ColumnValues::Flags(flags.collect()), None))
        }
        kind if kind.is_integer() && kind != DataType::UInt64 && !has_missing => {
            let mut numbers = Vec::new();
            for part in parts {
                numbers.extend_from_slice(cast(*part, &DataType::Int64)?.as_primitive::<Int64Type>().values());
            }
            Ok((ColumnValues::Whole(numbers), None))
        }
        kind if kind.is_numeric() => {
            let mut numbers = Vec::new();
            for part in parts {
                let part = cast(*part, &DataType::Float64)?;
                numbers.extend(part.as_primitive::<Float64Type>().iter().map(|number| number.unwrap_or(f64::NAN)));
            }
            Ok((ColumnValues::Double(numbers), None))
        }
        _ => codes_of(parts),
    }
}

/// Codes in the order in which values first appear.
fn codes_of(parts: &[&dyn Array]) -> std::result::Result<(ColumnValues, Option<Vec<String>>), ArrowError> {
    let (mut codes, mut categories) = (Vec::new(), Vec::<String>::new());
    let mut known: HashMap<String, i64> = HashMap::new();
    for part in parts {
        let texts = as_text(*part)?;
        for text in texts.as_string::<i32>() {
            let Some(text) = text else {
                codes.push(MISSING);
                continue;
            };
            let code = match known.get(text) {
                Some(code) => *code,
                None => {
                    let code = checked(categories.len(), "categories")
                        .map_err(|error| ArrowError::ExternalError(error.into()))?;
                    categories.push(text.to_owned());
                    known.insert(text.to_owned(), code);
                    code
                }
            };
            codes.push(code);
        }
    }
    Ok((ColumnValues::Codes(codes), Some(categories)))
}
