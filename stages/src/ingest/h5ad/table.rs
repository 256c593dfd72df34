//! A data frame of a file, `obs` or `var`: its index and its columns, read by slices.

use std::{ops::Range, sync::Arc};

use arrow::{
    array::{ArrayRef, RecordBatch, RecordBatchOptions},
    compute,
    datatypes::{DataType, Field, Schema, SchemaRef},
};
use hdf5_metno::{Group, LocationType};
use schemas::{Error, Result};

use super::{
    column::Column,
    values::{text_attribute, text_list_attribute},
};
use crate::h5::Place;

/// A data frame whose columns all have the same length.
#[derive(Debug)]
pub(super) struct Table {
    place: Place,
    rows: usize,
    schema: SchemaRef,
    columns: Vec<Column>,
}

impl Table {
    /// Opens the data frame `name` of a group; its index becomes the first column, called `index_name`.
    pub(super) fn open(parent: &Group, name: &str, index_name: &str, place: &Place) -> Result<Self> {
        let place = place.child(name);
        let frame = frame(parent, name, &place)?;
        let Some(index) = text_attribute(&frame, "_index") else {
            return Err(place.error("has no attribute `_index`, which names its index column", "write the file again"));
        };
        let index_place = place.child(&index);
        let Some(index_column) = Column::open(&frame, &index, &index_place)? else {
            return Err(
                index_place.error("the index is of an unknown kind", "make it text: `adata.obs_names.astype(str)`")
            );
        };
        let mut fields = vec![Field::new(index_name, DataType::Utf8, true)];
        let mut columns = vec![index_column];
        let order = text_list_attribute(&frame, "column-order").unwrap_or_default();
        for column_name in order.iter().filter(|column_name| **column_name != index) {
            let Some(column) = Column::open(&frame, column_name, &place.child(column_name))? else {
                tracing::warn!("{place}: column `{column_name}` is of an unknown kind and left out");
                continue;
            };
            let shown = if column_name == index_name { format!("{name}_{column_name}") } else { column_name.clone() };
            fields.push(Field::new(shown, column.data_type(), true));
            columns.push(column);
        }
        let rows = columns[0].len();
        for (field, column) in fields.iter().zip(&columns) {
            if column.len() != rows {
                let message = format!("has {} rows, but the index has {rows}", column.len());
                return Err(place.child(field.name()).error(message, "the file may be cut short; write it again"));
            }
        }
        Ok(Self { place, rows, schema: Arc::new(Schema::new(fields)), columns })
    }

    pub(super) fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    /// Checks that the frame describes the matrix that stands beside it.
    pub(super) fn expect_rows(&self, rows: u64, of: &str) -> Result<()> {
        if self.rows as u64 == rows {
            return Ok(());
        }
        let message = format!("has {} rows, but the matrix has {rows} {of}", self.rows);
        Err(self.place.error(message, "the file does not fit together; write it again with anndata"))
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
            // An index of numbers is text, as it is in pandas.
            compute::cast(&array, field.data_type()).map_err(bug)
        });
        let arrays: Vec<ArrayRef> = arrays.collect::<Result<_>>()?;
        let rows = RecordBatchOptions::new().with_row_count(Some(rows.len()));
        RecordBatch::try_new_with_options(schema, arrays, &rows).map_err(bug)
    }
}

fn frame(parent: &Group, name: &str, place: &Place) -> Result<Group> {
    if !parent.link_exists(name) {
        return Err(place.error("is missing", "an .h5ad file has `X`, `obs` and `var`; check that this is one"));
    }
    match parent.loc_type_by_name(name).map_err(|error| place.unreadable(error))? {
        LocationType::Group => parent.group(name).map_err(|error| place.unreadable(error)),
        _ => Err(place.error(
            "is stored as one compound table, as anndata did before 0.7",
            "open the file with a newer anndata and write it again: `anndata.read_h5ad(...).write_h5ad(...)`",
        )),
    }
}
