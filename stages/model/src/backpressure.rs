//! Limits how far the host runs ahead of a GPU, which works asynchronously.

use std::collections::VecDeque;

use schemas::Result;
use torch::{CudaEvent, CudaStream};

/// Maximum number of pieces of work that a GPU has not finished: enough to keep it busy, but not more,
/// because each holds a batch in pinned memory.
const LIMIT: usize = 4;

/// End events of the last pieces of work given to a GPU.
#[derive(Debug, Default)]
pub struct Backpressure {
    pending: VecDeque<CudaEvent>,
}

impl Backpressure {
    /// Records the end of a stream's work so far, and waits until at most `LIMIT` pieces of work are unfinished.
    ///
    /// # Errors
    /// A lost device.
    pub fn given(&mut self, stream: &CudaStream) -> Result<()> {
        self.pending.push_back(stream.event()?);
        if self.pending.len() > LIMIT
            && let Some(event) = self.pending.pop_front()
        {
            event.wait()?;
        }
        Ok(())
    }
}
