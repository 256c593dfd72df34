//! Rows become slabs of whole blocks, so that blocks can be laid out on many threads.

use std::{ops::Range, sync::Arc};

use reader::records::{Record, Records};
use schemas::{
    ByteSize,
    atlas::BLOCK_ROWS,
    ids::{CellIndex, RowIndex},
};
use stage::{BoxError, Stage, pool::Pooled};

use super::annotate::Rows;

/// Rows of a slab: 32 blocks.
const SLAB_ROWS: usize = 32 * BLOCK_ROWS as usize;

/// Successive rows of the matrix, a whole number of blocks (but for the last slab).
#[derive(Debug)]
pub struct Slab {
    /// The first row.
    pub first: RowIndex,
    parts: Vec<(Arc<Pooled<Records>>, Range<usize>)>,
}

impl Slab {
    /// Each row's cell and record.
    pub fn rows(&self) -> impl Iterator<Item = (CellIndex, Record<'_>)> {
        self.parts.iter().flat_map(|(records, rows)| rows.clone().map(|row| (records.cell(row), records.record(row))))
    }
}

impl ByteSize for Slab {
    fn byte_size(&self) -> usize {
        let share = |(records, rows): &(Arc<Pooled<Records>>, Range<usize>)| {
            records.byte_size() / records.rows().max(1) * rows.len()
        };
        self.parts.iter().map(share).sum()
    }
}

/// Cuts rows into slabs, without copying them.
#[derive(Debug, Default)]
pub struct CutSlabs {
    parts: Vec<(Arc<Pooled<Records>>, Range<usize>)>,
    held: usize,
    first: u64,
}

impl CutSlabs {
    fn emit(&mut self, emit: &mut dyn FnMut(Slab)) {
        let first = RowIndex(self.first);
        self.first += self.held as u64;
        self.held = 0;
        emit(Slab { first, parts: std::mem::take(&mut self.parts) });
    }
}

impl Stage for CutSlabs {
    type In = Rows;
    type Out = Slab;

    fn push(&mut self, Rows(records): Rows, emit: &mut dyn FnMut(Slab)) -> Result<(), BoxError> {
        let records = Arc::new(records);
        let mut taken = 0;
        while taken < records.rows() {
            let rows = (SLAB_ROWS - self.held).min(records.rows() - taken);
            self.parts.push((Arc::clone(&records), taken..taken + rows));
            (taken, self.held) = (taken + rows, self.held + rows);
            if self.held == SLAB_ROWS {
                self.emit(emit);
            }
        }
        Ok(())
    }

    fn finish(&mut self, emit: &mut dyn FnMut(Slab)) -> Result<(), BoxError> {
        if 0 < self.held {
            self.emit(emit);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use reader::records::RowValues;
    use schemas::atlas::GeneWidth;
    use stage::pool::Pool;

    use super::*;

    fn rows(first: u64, rows: u64) -> Rows {
        let mut records = Pool::default().take(|| Records::new(GeneWidth::U16));
        for row in 0..rows {
            #[expect(clippy::cast_precision_loss, reason = "small numbers")]
            let value = [(row % 200) as f32 + 1.0];
            records.push(&[0], &value, RowValues::of(&value));
        }
        records.number_from(first);
        Rows(records)
    }

    #[test]
    fn rows_in_pieces_of_any_length_become_slabs_of_whole_blocks_in_order() {
        let mut stage = CutSlabs::default();
        let mut slabs = Vec::new();
        let mut first = 0;
        for count in [5000, 0, 1, 700, 2048] {
            stage.push(rows(first, count), &mut |slab| slabs.push(slab)).expect("pushed");
            first += count;
        }
        stage.finish(&mut |slab| slabs.push(slab)).expect("finished");
        let counts: Vec<usize> = slabs.iter().map(|slab| slab.rows().count()).collect();
        assert_eq!(counts, [1024, 1024, 1024, 1024, 1024, 1024, 1024, 581]);
        assert_eq!(slabs[3].first, RowIndex(3072));
        let cells: Vec<u64> = slabs.iter().flat_map(Slab::rows).map(|(cell, _)| cell.0).collect();
        assert!(cells.into_iter().eq(0..first));
    }
}
