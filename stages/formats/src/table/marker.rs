//! Lists whose first entry is not a gene's but marks the cell, as in the releases of Tahoe-100M: number 1,
//! value -2, in every cell.

use arrow::{
    array::{Array, AsArray},
    datatypes::{DataType, Float32Type, Int64Type},
};
use schemas::Result;

use super::{
    super::choice::ListStart,
    casts::{cast, lists_of, row_of},
    file::TableFile,
    genes::Numbering,
};

/// Maximum number of cells that are examined.
const LOOKED_AT: usize = 1024;

/// Which first entries are markers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Marker {
    /// No first entry.
    Never,
    /// Every first entry.
    Always,
    /// First entries with this number and value.
    Entry { number: i64, value: f32 },
}

/// The lists of one part of a file.
#[derive(Clone, Copy, Debug)]
pub(super) struct ListColumns {
    pub(super) part: usize,
    /// The column of genes.
    pub(super) genes: usize,
    /// The column of values.
    pub(super) values: usize,
    /// Number of rows.
    pub(super) rows: usize,
}

impl Marker {
    /// Whether the first entry of a list is a marker.
    pub(super) fn is(self, number: i64, value: f32) -> bool {
        match self {
            Self::Never => false,
            Self::Always => true,
            Self::Entry { number: marker, value: of_marker } => number == marker && value == of_marker,
        }
    }

    /// The user's choice, or what the first cells show: a marker is a negative entry with which every list
    /// begins, and whose number occurs nowhere else. The first rows of `lists` are examined.
    pub(super) fn detect(
        list_start: ListStart,
        file: &TableFile,
        lists: ListColumns,
        numbering: &Numbering,
    ) -> Result<Self> {
        match list_start {
            ListStart::Marker => return Ok(Self::Always),
            ListStart::Gene => return Ok(Self::Never),
            ListStart::Auto => {}
        }
        let batch = file.read(lists.part, &[lists.genes, lists.values], 0..lists.rows.min(LOOKED_AT))?;
        let genes = cast(file, batch.column(0), &lists_of(DataType::Int64))?;
        let values = cast(file, batch.column(1), &lists_of(DataType::Float32))?;
        let (mut found, mut cells): (Option<(i64, f32)>, usize) = (None, 0);
        for row in 0..batch.num_rows() {
            let (genes, values) = (row_of(&genes, row), row_of(&values, row));
            if genes.is_empty() || values.is_empty() {
                continue;
            }
            let (genes, values) = (genes.as_primitive::<Int64Type>().values(), values.as_primitive::<Float32Type>());
            let first = (genes[0], values.value(0));
            let is_same = found.is_none_or(|found| found == first);
            if !is_same || first.1 >= 0.0 || first.1.is_nan() || genes[1..].contains(&first.0) {
                return Ok(Self::Never);
            }
            found = Some(first);
            cells += 1;
        }
        match found {
            // A single cell is not evidence, but a number that is not a gene's is.
            Some((number, value)) if cells > 1 || numbering.gene(number).is_none() => Ok(Self::Entry { number, value }),
            _ => Ok(Self::Never),
        }
    }
}
