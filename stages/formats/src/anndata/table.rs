//! A data frame of a file, `obs` or `var`: its index and its columns, read by slices.

use std::{ops::Range, sync::Arc};

use arrays::place::ObjectPlace;
use arrow::{
    array::{ArrayRef, RecordBatch, RecordBatchOptions},
    compute,
    datatypes::{DataType, Field, Schema, SchemaRef},
};
use schemas::{Error, Result};

use super::{
    column,
    group::{Column, MemberKind, StoredGroup, UnwrittenParts},
};
use crate::source::annotation;

/// A data frame whose columns all have the same length.
#[derive(Debug)]
pub(super) struct CheckedDataFrame {
    place: ObjectPlace,
    rows: usize,
    schema: SchemaRef,
    columns: Vec<Box<dyn Column>>,
}

impl CheckedDataFrame {
    /// Opens the data frame `name` of a group; its index becomes the first column, named `index_name`.
    pub(super) fn open(parent: &dyn StoredGroup, name: &str, index_name: &str) -> Result<Self> {
        let place = parent.place().child(name);
        let columns = match parent.member(name)? {
            MemberKind::Group => group_columns(&*parent.group(name)?)?,
            MemberKind::Array => parent.records(name)?,
            MemberKind::Missing => {
                return Err(place.error("is missing", "AnnData has `X`, `obs` and `var`; check that this is one"));
            }
            MemberKind::Other => {
                return Err(place.error("is neither a group nor an array", "write the file again with anndata"));
            }
        };
        let rows = columns.first().map_or(0, |(_, index)| index.len());
        let mut fields = Vec::new();
        let names: Vec<&str> = columns.iter().skip(1).map(|(name, _)| name.as_str()).collect();
        for (own_name, column) in &columns {
            if column.len() != rows {
                let message = format!("has {} rows, but the index has {rows}", column.len());
                return Err(place.child(own_name).error(message, "the file may be cut short; write it again"));
            }
            fields.push(match fields.is_empty() {
                true => Field::new(index_name, DataType::Utf8, true),
                false => annotation((name, index_name), own_name, &names, column.data_type()),
            });
        }
        let columns = columns.into_iter().map(|(_, column)| column).collect();
        Ok(Self { place, rows, schema: Arc::new(Schema::new(fields)), columns })
    }

    pub(super) fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    /// Checks that the frame matches the matrix that it belongs to.
    pub(super) fn expect_rows(&self, rows: u64, axis: &str) -> Result<()> {
        if self.rows as u64 == rows {
            return Ok(());
        }
        let message = format!("has {} rows, but the matrix has {rows} {axis}", self.rows);
        Err(self.place.error(message, "the file is inconsistent; write it again with anndata"))
    }

    /// Some rows of all columns.
    pub(super) fn read_all(&self, rows: Range<usize>) -> Result<RecordBatch> {
        let columns: Vec<usize> = (0..self.columns.len()).collect();
        self.read(rows, &columns)
    }

    /// Some rows of some columns.
    pub(super) fn read(&self, rows: Range<usize>, columns: &[usize]) -> Result<RecordBatch> {
        let bug = |error: arrow::error::ArrowError| Error::Bug(error.to_string());
        let schema = Arc::new(self.schema.project(columns).map_err(bug)?);
        let arrays = columns.iter().zip(schema.fields()).map(|(column, field)| {
            let array = self.columns[*column].read(rows.clone())?;
            // As in pandas, an index of numbers becomes text.
            compute::cast(&array, field.data_type()).map_err(bug)
        });
        let arrays: Vec<ArrayRef> = arrays.collect::<Result<_>>()?;
        let rows = RecordBatchOptions::new().with_row_count(Some(rows.len()));
        RecordBatch::try_new_with_options(schema, arrays, &rows).map_err(bug)
    }
}

/// The columns of a data frame that is a group, by name; the index comes first. Columns of an unknown kind
/// are left out, with a warning.
fn group_columns(frame: &dyn StoredGroup) -> Result<Vec<(String, Box<dyn Column>)>> {
    let place = frame.place();
    // Files of other programs may lack the attributes with the index's name and the order of the columns.
    let mut index = frame.text("_index");
    for name in ["_index", "index"] {
        if index.is_none() && frame.member(name)? != MemberKind::Missing {
            index = Some(name.to_owned());
        }
    }
    let Some(index) = index else {
        return Err(place.error("has no attribute `_index`, which names its index column", "write the file again"));
    };
    // Names are never empty, so an unwritten part is lost.
    let Some(index_column) = column::open(frame, &index, UnwrittenParts::Lost)? else {
        let place = place.child(&index);
        return Err(place.error("the index has an unsupported type", "make it text: `adata.obs_names.astype(str)`"));
    };
    let names = match frame.texts("column-order") {
        Some(names) => names,
        None => frame.names()?,
    };
    let mut columns = vec![(index.clone(), index_column)];
    for name in names.into_iter().filter(|name| *name != index && name != "__categories") {
        match column::open(frame, &name, UnwrittenParts::Filled)? {
            Some(column) => columns.push((name, column)),
            None => tracing::warn!("{place}: column `{name}` has an unsupported type and is left out"),
        }
    }
    Ok(columns)
}
