//! A matrix that is stored by columns, one gene after another: transposed out of core before its first row is read.

use std::sync::{Arc, Mutex, PoisonError};

use hdf5_metno::Group;
use schemas::Result;

use super::{
    super::transpose::{Transposed, Transposer},
    sparse::{Major, Vectors, bounds},
    values::read_slice,
};
use crate::h5::Place;

/// Columns whose pointers are read at once.
const COLUMNS_AT_ONCE: usize = 1 << 14;
/// Entries that are read at once.
const ENTRIES_AT_ONCE: usize = 1 << 17;

/// A checked matrix by columns.
#[derive(Debug)]
pub(super) struct Csc {
    place: Place,
    rows: u64,
    genes: u32,
    vectors: Vectors,
    /// Made by whoever first asks for a row.
    transposed: Mutex<Option<Arc<Transposed>>>,
}

impl Csc {
    /// Opens a matrix whose vectors lie in a group.
    pub(super) fn open(group: &Group, place: Place, rows: u64, genes: u32) -> Result<Self> {
        let vectors = Vectors::open(group, &place, Major::Columns, genes.into())?;
        Ok(Self { place, rows, genes, vectors, transposed: Mutex::default() })
    }

    pub(super) fn rows(&self) -> u64 {
        self.rows
    }

    pub(super) fn genes(&self) -> u32 {
        self.genes
    }

    pub(super) fn entries(&self) -> u64 {
        self.vectors.data.size() as u64
    }

    /// The matrix by rows. The first call reads all of it; others wait meanwhile.
    pub(super) fn transposed(&self) -> Result<Arc<Transposed>> {
        let mut transposed = self.transposed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(transposed) = &*transposed {
            return Ok(Arc::clone(transposed));
        }
        let made = Arc::new(self.transpose()?);
        *transposed = Some(Arc::clone(&made));
        Ok(made)
    }

    fn transpose(&self) -> Result<Transposed> {
        tracing::info!(
            "{}: is stored by genes (CSC); its {} entries are put in the order of cells",
            self.place,
            self.entries()
        );
        let mut by_rows = Transposer::create(self.rows, self.genes, self.entries())?;
        let columns = self.genes as usize;
        for start in (0..columns).step_by(COLUMNS_AT_ONCE) {
            let end = columns.min(start + COLUMNS_AT_ONCE);
            let Vectors { pointers, .. } = &self.vectors;
            let bounds = bounds(pointers, start..end, self.vectors.data.size(), Major::Columns, &self.place)?;
            self.push_columns(start, &bounds, &mut by_rows)?;
        }
        by_rows.finish()
    }

    /// Pushes the columns from `first` on, whose bounds these are.
    fn push_columns(&self, first: usize, bounds: &[usize], by_rows: &mut Transposer) -> Result<()> {
        let (place, last) = (self.place.child("indices"), bounds[bounds.len() - 1]);
        let mut column = 0;
        for start in (bounds[0]..last).step_by(ENTRIES_AT_ONCE) {
            let end = last.min(start + ENTRIES_AT_ONCE);
            let rows: Vec<i64> = read_slice(&self.vectors.indices, start..end, &place)?;
            let values: Vec<f32> = read_slice(&self.vectors.data, start..end, &self.place.child("data"))?;
            for (at, (row, value)) in (start..).zip(rows.into_iter().zip(values)) {
                // Columns without entries end where they start.
                while bounds[column + 1] <= at {
                    column += 1;
                }
                let gene = first + column;
                let row = u64::try_from(row).ok().filter(|row| *row < self.rows).ok_or_else(|| {
                    let message = format!("row index {row} at column {gene}, but there are {} rows", self.rows);
                    place.error(message, "check how the file was written")
                })?;
                by_rows.push(row, u32::try_from(gene).unwrap_or(u32::MAX), value)?;
            }
        }
        Ok(())
    }
}
