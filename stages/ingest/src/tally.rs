//! Sums the statistics of each group of cells while the cells stream through.

use std::sync::{Arc, Mutex, PoisonError};

use schemas::{ByteSize, Result};
use stage::{BoxError, Stage};

use super::{
    annotate::{Labelled, RowBatch},
    group_sums::GroupSums,
};

/// Where [`Tally`] stores its sums, once its stream is complete.
#[derive(Clone, Debug, Default)]
pub struct TallyResult(Arc<Mutex<Option<GroupSums>>>);

impl TallyResult {
    /// The sums; `None` before the stream is complete.
    #[must_use]
    pub fn take(&self) -> Option<GroupSums> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Adds every row to the sums of its group, and passes it on. Cells are summed in the order of the source,
/// whatever the number of workers, so that two runs agree to the last bit.
#[derive(Debug)]
pub struct Tally {
    sums: Option<GroupSums>,
    tallied: TallyResult,
}

impl Tally {
    /// Creates a stage that adds to these sums.
    #[must_use]
    pub fn new(sums: GroupSums) -> (Self, TallyResult) {
        let tallied = TallyResult::default();
        (Self { sums: Some(sums), tallied: tallied.clone() }, tallied)
    }
}

impl Stage for Tally {
    type In = Labelled;
    type Out = RowBatch;

    fn push(&mut self, Labelled { rows, codes }: Labelled, emit: &mut dyn FnMut(RowBatch)) -> Result<(), BoxError> {
        let sums = self.sums.as_mut().ok_or("the stream has ended")?;
        let width = codes.len().checked_div(rows.0.rows()).unwrap_or(0);
        for row in 0..rows.0.rows() {
            sums.add(&codes[row * width..(row + 1) * width], rows.0.record(row), rows.0.gene_width())?;
        }
        emit(rows);
        Ok(())
    }

    fn finish(&mut self, _: &mut dyn FnMut(RowBatch)) -> Result<(), BoxError> {
        *self.tallied.0.lock().unwrap_or_else(PoisonError::into_inner) = self.sums.take();
        Ok(())
    }
}

impl ByteSize for Labelled {
    fn byte_size(&self) -> usize {
        self.rows.byte_size() + self.codes.byte_size()
    }
}
