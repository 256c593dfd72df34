//! Rows become runs of whole blocks, so that blocks can be laid out on many threads.

use std::{ops::Range, sync::Arc};

use reader::records::{RowRecord, RowRecords};
use schemas::{
    ByteSize,
    atlas::BLOCK_ROWS,
    ids::{CellIndex, RowIndex},
};
use stage::{BoxError, Stage, pool::Pooled};

use super::annotate::RowBatch;

/// Rows of a run of blocks: 32 blocks.
const RUN_ROWS: usize = 32 * BLOCK_ROWS as usize;

/// Successive rows of the matrix, a whole number of blocks (but for the last run of blocks).
#[derive(Debug)]
pub struct BlockRun {
    /// The first row.
    pub first: RowIndex,
    parts: Vec<(Arc<Pooled<RowRecords>>, Range<usize>)>,
}

impl BlockRun {
    /// Each row's cell and record.
    pub fn rows(&self) -> impl Iterator<Item = (CellIndex, RowRecord<'_>)> {
        self.parts.iter().flat_map(|(records, rows)| rows.clone().map(|row| (records.cell(row), records.record(row))))
    }
}

impl ByteSize for BlockRun {
    fn byte_size(&self) -> usize {
        let share = |(records, rows): &(Arc<Pooled<RowRecords>>, Range<usize>)| {
            records.byte_size() / records.rows().max(1) * rows.len()
        };
        self.parts.iter().map(share).sum()
    }
}

/// Cuts rows into runs of blocks, without copying them.
#[derive(Debug, Default)]
pub struct CutBlockRuns {
    parts: Vec<(Arc<Pooled<RowRecords>>, Range<usize>)>,
    held: usize,
    first: u64,
}

impl CutBlockRuns {
    fn emit(&mut self, emit: &mut dyn FnMut(BlockRun)) {
        let first = RowIndex(self.first);
        self.first += self.held as u64;
        self.held = 0;
        emit(BlockRun { first, parts: std::mem::take(&mut self.parts) });
    }
}

impl Stage for CutBlockRuns {
    type In = RowBatch;
    type Out = BlockRun;

    fn push(&mut self, RowBatch(records): RowBatch, emit: &mut dyn FnMut(BlockRun)) -> Result<(), BoxError> {
        let records = Arc::new(records);
        let mut taken = 0;
        while taken < records.rows() {
            let rows = (RUN_ROWS - self.held).min(records.rows() - taken);
            self.parts.push((Arc::clone(&records), taken..taken + rows));
            (taken, self.held) = (taken + rows, self.held + rows);
            if self.held == RUN_ROWS {
                self.emit(emit);
            }
        }
        Ok(())
    }

    fn finish(&mut self, emit: &mut dyn FnMut(BlockRun)) -> Result<(), BoxError> {
        if self.held > 0 {
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

    fn rows(first: u64, rows: u64) -> RowBatch {
        let mut records = Pool::default().take(|| RowRecords::new(GeneWidth::U16));
        for row in 0..rows {
            #[expect(clippy::cast_precision_loss, reason = "small numbers")]
            let value = [(row % 200) as f32 + 1.0];
            records.push(&[0], &value, RowValues::detect(&value));
        }
        records.number_from(first);
        RowBatch(records)
    }

    #[test]
    fn rows_in_pieces_of_any_length_become_runs_of_whole_blocks_in_order() {
        let mut stage = CutBlockRuns::default();
        let mut runs = Vec::new();
        let mut first = 0;
        for count in [5000, 0, 1, 700, 2048] {
            stage.push(rows(first, count), &mut |run| runs.push(run)).expect("pushed");
            first += count;
        }
        stage.finish(&mut |run| runs.push(run)).expect("finished");
        let counts: Vec<usize> = runs.iter().map(|run| run.rows().count()).collect();
        assert_eq!(counts, [1024, 1024, 1024, 1024, 1024, 1024, 1024, 581]);
        assert_eq!(runs[3].first, RowIndex(3072));
        let cells: Vec<u64> = runs.iter().flat_map(BlockRun::rows).map(|(cell, _)| cell.0).collect();
        assert!(cells.into_iter().eq(0..first));
    }
}
