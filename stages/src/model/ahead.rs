//! How far the host gets ahead of a GPU, which does what it is given in its own time.

use std::collections::VecDeque;

use schemas::Result;

use crate::libtorch::{Event, Stream};

/// Pieces of work that the host is ahead at most: enough to keep a GPU busy, and each holds a batch there.
pub const AHEAD: usize = 4;

/// The ends of the last pieces of work that a GPU was given.
#[derive(Debug, Default)]
pub struct Ahead {
    given: VecDeque<Event>,
}

impl Ahead {
    /// Notes the end of what a stream was given so far, and waits for the end of the piece that is too far back.
    ///
    /// # Errors
    /// A device that is gone.
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
