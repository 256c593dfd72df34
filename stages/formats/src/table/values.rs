//! The values of a batch of rows, one entry at a time.

use std::sync::Arc;

use arrays::exact;
use arrow::{
    array::{Array, ArrayRef, AsArray, Float32Array, RecordBatch},
    datatypes::{DataType, Float32Type, Float64Type, Int64Type},
};
use schemas::{Error, Result};

use super::{
    casts::{cast, lists_of, row_of},
    file::TableFile,
    genes::Numbering,
    marker::Marker,
};

/// The values of some rows.
pub(super) enum TableValues {
    /// Columns of genes, each with the gene.
    Wide(Vec<(u32, Float32Array)>),
    /// Lists of genes and of their values.
    Lists { genes: ArrayRef, values: ArrayRef, numbering: Arc<Numbering>, marker: Marker },
}

impl TableValues {
    /// Columns of consecutive genes, starting with `first`.
    pub(super) fn wide(file: &TableFile, batch: &RecordBatch, first: u32) -> Result<Self> {
        let columns = (first..).zip(batch.columns()).map(|(gene, column)| {
            let kept = cast(file, column, &DataType::Float32)?;
            check_exact(file, column, &kept, &DataType::Float64)?;
            Ok((gene, kept.as_primitive::<Float32Type>().clone()))
        });
        Ok(Self::Wide(columns.collect::<Result<_>>()?))
    }

    /// A column of lists of genes and one of lists of values.
    pub(super) fn lists(
        file: &TableFile,
        batch: &RecordBatch,
        numbering: &Arc<Numbering>,
        marker: Marker,
    ) -> Result<Self> {
        let genes = cast(file, batch.column(0), &lists_of(DataType::Int64))?;
        let values = cast(file, batch.column(1), &lists_of(DataType::Float32))?;
        check_exact(file, batch.column(1), values.as_list::<i64>().values(), &lists_of(DataType::Float64))?;
        Ok(Self::Lists { genes, values, numbering: Arc::clone(numbering), marker })
    }

    /// Calls `show` with row, gene and value of every entry that is not zero; a missing value is NaN. In lists, a
    /// marker in first position is skipped.
    ///
    /// # Errors
    /// The first row whose lists differ in length or that has a number that is not a gene's, as an error made by
    /// `bad_row`; or errors of `show`.
    pub(super) fn for_each(
        &self,
        bad_row: &dyn Fn(usize, String) -> Error,
        mut show: impl FnMut(usize, u32, f32) -> Result<()>,
    ) -> Result<()> {
        match self {
            Self::Wide(columns) => {
                for (gene, column) in columns {
                    for (row, value) in column.iter().enumerate() {
                        let value = value.unwrap_or(f32::NAN);
                        if value != 0.0 {
                            show(row, *gene, value)?;
                        }
                    }
                }
            }
            Self::Lists { genes, values, numbering, marker } => {
                for row in 0..genes.len() {
                    let (genes, values) = (row_of(genes, row), row_of(values, row));
                    let numbers = genes.as_primitive::<Int64Type>();
                    let values = values.as_primitive::<Float32Type>();
                    if numbers.len() != values.len() {
                        let message = format!("{} genes, but {} values", numbers.len(), values.len());
                        return Err(bad_row(row, message));
                    }
                    let is_marked = !values.is_empty() && marker.is(numbers.value(0), values.value(0));
                    for at in usize::from(is_marked)..values.len() {
                        let number = numbers.value(at);
                        let gene = if numbers.is_null(at) { None } else { numbering.gene(number) };
                        let gene = gene.ok_or_else(|| bad_row(row, format!("no gene has the number {number}")))?;
                        let value = if values.is_null(at) { f32::NAN } else { values.value(at) };
                        show(row, gene, value)?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// Refuses values that contain a whole number that float32 would change.
fn check_exact(file: &TableFile, stored: &ArrayRef, kept: &ArrayRef, wide: &DataType) -> Result<()> {
    let kept = kept.as_primitive::<Float32Type>().values();
    if !exact::may_be_rounded(kept) {
        return Ok(());
    }
    let stored = cast(file, stored, wide)?;
    let stored = stored.as_list_opt::<i64>().map_or(&stored, |lists| lists.values());
    match exact::first_rounded(stored.as_primitive::<Float64Type>().values(), kept) {
        None => Ok(()),
        Some((_, value)) => Err(file.error(exact::message(value), exact::HINT)),
    }
}
