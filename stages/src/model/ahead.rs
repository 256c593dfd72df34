//! Limits how far the host runs ahead of a GPU, which works asynchronously.

use std::collections::VecDeque;

use schemas::Result;

use crate::libtorch::{Event, Stream};

/// Maximum number of pieces of work ahead: enough to keep a GPU busy, but each holds a batch there.
pub const AHEAD: usize = 4;

/// End events of the last pieces of work given to a GPU.
#[derive(Debug, Default)]
pub struct Ahead {
    given: VecDeque<Event>,
}

impl Ahead {
    /// Records the end of a stream's work so far, and waits for the piece of work that is the limit behind.
    ///
    /// # Errors
    /// A lost device.
    pub fn given(&mut self, stream: &Stream) -> Result<()> {
        self.given.push_back(stream.event()?);
        if AHEAD < self.given.len()
            && let Some(event) = self.given.pop_front()
        {
            event.wait()?;
        }
        Ok(())
    }
}
