//! A running pipeline, read as an iterator or by a sink.

use std::{
    iter::FusedIterator,
    ops::ControlFlow,
    task::Poll,
    time::{Duration, Instant},
};

use stage::Sink;
use tracing::{info_span, trace_span};

use super::{
    edge::Receiver,
    end::End,
    error::RunError,
    halt::Stop,
    plan::PipelinePlan,
    primitives::TimeIsUp,
    report::Report,
    thread_group::{ThreadGroup, guarded},
};

/// A running pipeline, read as an iterator; dropping it ends the run and joins its threads.
///
/// A complete stream ends with `None`. A failed or stopped stream yields its [`RunError`] before the `None`, so
/// that neither a loop nor an outer pipeline can mistake it for a complete one.
#[must_use = "a stream that is dropped ends its run"]
pub struct Stream<T: Send + 'static> {
    /// `None` after the end.
    output: Option<Receiver<T>>,
    threads: ThreadGroup,
    stop: Stop,
    plan: PipelinePlan,
    started: Instant,
    end: Option<End>,
}

/// The result of a run that did not fail.
#[derive(Clone, Debug)]
pub struct Run<S> {
    /// Whether it completed.
    pub outcome: Outcome<S>,
    /// The run's measurements.
    pub report: Report,
}

/// Whether a run completed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome<S> {
    /// Completed: the sink committed and returned this summary.
    Complete(S),
    /// Stopped on request: the sink was suspended.
    Stopped,
}

impl<S> Outcome<S> {
    /// The summary of a completed run.
    ///
    /// # Errors
    /// [`RunError::Stopped`] if it was stopped.
    pub fn complete(self) -> Result<S, RunError> {
        match self {
            Self::Complete(summary) => Ok(summary),
            Self::Stopped => Err(RunError::Stopped),
        }
    }
}

impl<T: Send + 'static> Stream<T> {
    pub(super) fn new(output: Receiver<T>, threads: ThreadGroup, stop: Stop, plan: PipelinePlan) -> Self {
        Self { output: Some(output), threads, stop, plan, started: Instant::now(), end: None }
    }

    /// A handle that stops this run.
    #[must_use]
    pub fn stop(&self) -> Stop {
        self.stop.clone()
    }

    /// Like [`next`](Iterator::next), but waits no longer than `longest`: pending if nothing came by then. The run
    /// goes on, so that a caller can look for signals between two calls.
    pub fn next_within(&mut self, longest: Duration) -> Poll<Option<Result<T, RunError>>> {
        let Some(output) = self.output.as_mut() else { return Poll::Ready(None) };
        match output.recv_within(longest) {
            Ok(Ok(item)) => Poll::Ready(Some(Ok(item))),
            Ok(Err(end)) => Poll::Ready(self.ended(end)),
            Err(TimeIsUp) => Poll::Pending,
        }
    }

    /// How the stream ended, if it has.
    #[must_use]
    pub fn end(&self) -> Option<End> {
        self.end
    }

    /// The measurements so far.
    #[must_use]
    pub fn report(&self) -> Report {
        Report::new(&self.plan, self.threads.measured(), self.started.elapsed())
    }

    /// Drives a sink to the end of the stream.
    pub(super) fn into_sink<S: Sink<In = T>>(
        mut self,
        name: &'static str,
        mut sink: S,
    ) -> Result<Run<S::Summary>, RunError> {
        let _span = info_span!("stage", name).entered();
        let stopped = loop {
            let item = match self.next() {
                None => break false,
                Some(Err(RunError::Stopped)) => break true,
                Some(item) => item?,
            };
            match trace_span!("item").in_scope(|| guarded(name, || sink.push(item))) {
                Ok(ControlFlow::Continue(())) => {}
                Ok(ControlFlow::Break(())) => break false,
                Err(error) => return Err(self.end_early().unwrap_or(error)),
            }
        };
        // Upstream stages free their memory and files before the sink commits.
        self.end_early();
        let outcome = if stopped {
            guarded(name, || sink.suspend())?;
            Outcome::Stopped
        } else {
            Outcome::Complete(guarded(name, || sink.finish())?)
        };
        Ok(Run { outcome, report: self.report() })
    }

    /// Ends the run and joins its threads; returns the failure that had ended it before.
    fn end_early(&mut self) -> Option<RunError> {
        self.threads.halt();
        self.output = None;
        self.threads.join()
    }
}

impl<T: Send + 'static> Iterator for Stream<T> {
    type Item = Result<T, RunError>;

    fn next(&mut self) -> Option<Self::Item> {
        let end = match self.output.as_mut()?.recv() {
            Ok(item) => return Some(Ok(item)),
            Err(end) => end,
        };
        self.ended(end)
    }
}

impl<T: Send + 'static> Stream<T> {
    /// Joins the threads of a stream whose edge has ended; the last item of a stream that is not complete is its failure.
    fn ended(&mut self, end: End) -> Option<Result<T, RunError>> {
        self.output = None;
        // Every thread now ends by itself: its stream has ended, or its edges are closed.
        let failure = self.threads.join();
        // A thread that leaves drops its edge, which means *cut*, before the group knows why it left. Once all have
        // left, the group knows more than the last message.
        let end = match (end, &failure) {
            (End::Complete, None) => End::Complete,
            _ => self.threads.halted().unwrap_or(End::Cut),
        };
        self.end = Some(end);
        match end {
            End::Complete => None,
            End::Stopped => Some(Err(RunError::Stopped)),
            End::Cut => Some(Err(failure.unwrap_or_else(cut_without_cause))),
        }
    }
}

impl<T: Send + 'static> FusedIterator for Stream<T> {}

fn cut_without_cause() -> RunError {
    RunError::at("runtime", schemas::Error::Bug("a stream ended early, but no stage failed".into()).into())
}
