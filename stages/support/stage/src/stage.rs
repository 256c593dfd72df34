//! The interface of every stage.
//!
//! A stage owns no thread and no channel, and does not know its caller: a test drives it with a closure.

use std::ops::ControlFlow;

/// Any error that can be sent to another thread.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Turns a stream of `In` into a stream of `Out`, in order, on one thread.
pub trait Stage: Send + 'static {
    /// The input type.
    type In;
    /// The output type.
    type Out;

    /// Takes one item and emits any number of items.
    ///
    /// # Errors
    /// Any problem that makes the rest of the stream pointless.
    fn push(&mut self, item: Self::In, emit: &mut dyn FnMut(Self::Out)) -> Result<(), BoxError>;

    /// Emits whatever is still held; called once, and only after a complete stream.
    ///
    /// # Errors
    /// Any problem that makes what was emitted so far incomplete.
    fn finish(&mut self, emit: &mut dyn FnMut(Self::Out)) -> Result<(), BoxError> {
        let _ = emit;
        Ok(())
    }
}

/// Ends a stream, on the caller's thread, and returns a summary.
pub trait Sink: Sized {
    /// The input type.
    type In;
    /// The summary type.
    type Summary;

    /// Takes one item; `Break` means that no more are needed, and counts as a complete stream.
    ///
    /// # Errors
    /// Any problem that makes the rest of the stream pointless.
    fn push(&mut self, item: Self::In) -> Result<ControlFlow<()>, BoxError>;

    /// Commits the result; called once, and only if the stream was complete.
    ///
    /// # Errors
    /// The reason why it could not commit.
    fn finish(self) -> Result<Self::Summary, BoxError>;

    /// Handles a run that was stopped on request: records a position to resume from, if possible, and publishes
    /// nothing.
    ///
    /// # Errors
    /// The reason why it could not record its position.
    fn suspend(self) -> Result<(), BoxError> {
        Ok(())
    }
}
