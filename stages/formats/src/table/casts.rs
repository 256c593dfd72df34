//! Columns in the types that are read.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, AsArray},
    compute::{CastOptions, cast_with_options},
    datatypes::{DataType, Field},
};
use schemas::Result;

use super::file::TableFile;

/// Casts a column; a value that does not fit is an error.
pub(super) fn cast(file: &TableFile, array: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
    let strict = CastOptions { safe: false, ..CastOptions::default() };
    cast_with_options(array, to, &strict).map_err(|error| file.unreadable(&error))
}

/// The type of lists with 64-bit offsets.
pub(super) fn lists_of(item: DataType) -> DataType {
    DataType::LargeList(Arc::new(Field::new("item", item, true)))
}

/// The values of one row; empty if it is null.
pub(super) fn row_of(lists: &ArrayRef, row: usize) -> ArrayRef {
    let lists = lists.as_list::<i64>();
    if lists.is_null(row) { lists.values().slice(0, 0) } else { lists.value(row) }
}
