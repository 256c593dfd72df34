//! A matrix that is stored by columns, one gene after another: it is transposed on disk before its first row
//! is read.

use std::sync::{Arc, Mutex, PoisonError};

use arrays::{
    place::ObjectPlace,
    sparse::{Major, bounds},
};
use schemas::Result;
use stage::interrupt::Interrupt;

use super::{
    super::transpose::{Transposed, Transposer},
    group::StoredGroup,
    sparse::SparseVectors,
};

/// Number of columns whose pointers are read at once.
const COLUMNS_AT_ONCE: u32 = 1 << 14;
/// Number of entries read at once.
const ENTRIES_AT_ONCE: u64 = 1 << 17;

/// A matrix stored by columns, whose structure has been checked.
#[derive(Debug)]
pub(crate) struct Csc {
    place: ObjectPlace,
    rows: u64,
    genes: u32,
    vectors: SparseVectors,
    interrupt: Interrupt,
    /// Created by the first thread that requests a row.
    transposed: Mutex<Option<Arc<Transposed>>>,
}

/// Buffers for entries, which are reused.
#[derive(Default)]
struct Entries {
    rows: Vec<i64>,
    values: Vec<f32>,
}

impl Csc {
    /// Opens a matrix whose vectors are in a group.
    pub(super) fn open(group: &dyn StoredGroup, rows: u64, genes: u32, interrupt: &Interrupt) -> Result<Self> {
        let vectors = SparseVectors::open(group, Major::Columns, genes.into())?;
        let (place, interrupt) = (group.place().clone(), interrupt.clone());
        Ok(Self { place, rows, genes, vectors, interrupt, transposed: Mutex::default() })
    }

    pub(super) fn rows(&self) -> u64 {
        self.rows
    }

    pub(super) fn genes(&self) -> u32 {
        self.genes
    }

    pub(super) fn entries(&self) -> u64 {
        self.vectors.data.rows()
    }

    /// The matrix by rows. The first call reads all of it; other threads wait meanwhile.
    pub(super) fn transposed(&self) -> Result<Arc<Transposed>> {
        let mut transposed = self.transposed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(transposed) = &*transposed {
            return Ok(Arc::clone(transposed));
        }
        let matrix = Arc::new(self.transpose()?);
        *transposed = Some(Arc::clone(&matrix));
        Ok(matrix)
    }

    fn transpose(&self) -> Result<Transposed> {
        tracing::info!("{}: stored by gene (CSC); sorting its {} entries by cell", self.place, self.entries());
        let place = self.place.to_string();
        let mut by_rows = Transposer::create(place, self.rows, self.genes, self.entries(), &self.interrupt)?;
        let SparseVectors { pointers, data, .. } = &self.vectors;
        let (mut first, mut read) = (0, Entries::default());
        while first < self.genes {
            let end = self.genes.min(first + COLUMNS_AT_ONCE);
            let bounds = bounds(&**pointers, first.into()..end.into(), data.rows(), Major::Columns, &self.place)?;
            self.push_columns(first, &bounds, &mut read, &mut by_rows)?;
            first = end;
        }
        by_rows.finish()
    }

    /// Pushes columns, starting with `first`; `bounds` are their pointers.
    fn push_columns(&self, first: u32, bounds: &[u64], read: &mut Entries, by_rows: &mut Transposer) -> Result<()> {
        let (mut at, end) = (bounds[0], bounds[bounds.len() - 1]);
        // Columns without entries end where they start.
        let mut ends = (first..).zip(&bounds[1..]).peekable();
        while at < end {
            let range = at..end.min(at + ENTRIES_AT_ONCE);
            read.rows.clear();
            read.values.clear();
            self.vectors.indices.integers(range.clone(), &mut read.rows)?;
            self.vectors.data.floats(range, &mut read.values)?;
            for (row, value) in read.rows.iter().zip(&read.values) {
                while ends.next_if(|(_, end)| **end <= at).is_some() {}
                let gene = ends.peek().map_or(self.genes, |(gene, _)| *gene);
                let row = u64::try_from(*row).ok().filter(|row| *row < self.rows).ok_or_else(|| {
                    let message = format!("row index {row} at column {gene}, but there are {} rows", self.rows);
                    self.place.child("indices").error(message, "check how the file was written")
                })?;
                by_rows.push(row, gene, *value)?;
                at += 1;
            }
        }
        Ok(())
    }
}
