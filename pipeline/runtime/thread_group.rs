//! The threads of one run, which end together and are joined together.
#![expect(clippy::disallowed_methods, reason = "threads are started here")]

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    thread::{Builder, JoinHandle},
};

use stage::BoxError;
use tracing::{dispatcher, info_span};

use super::{
    edge::{Receiver, Sender, edge},
    end::End,
    error::RunError,
    halt::{Close, Halt, Stop},
    limiter::{CapacityLimiter, EdgeMeasurements},
    plan::Capacity,
};

/// Named threads and the edges between them; dropping the group ends the run and joins them.
pub(super) struct ThreadGroup {
    threads: Vec<JoinHandle<()>>,
    limiters: Vec<Arc<CapacityLimiter>>,
    ending: Arc<RunEnd>,
}

/// How the run ends: the first one to raise the halt decides, and later failures are its consequences.
#[derive(Default)]
struct RunEnd {
    halt: Arc<Halt>,
    failure: Mutex<Option<RunError>>,
}

impl ThreadGroup {
    /// Creates a group that ends when `stop` is requested.
    pub(super) fn new(stop: &Stop) -> Self {
        let ending = Arc::new(RunEnd::default());
        stop.watch(&ending.halt);
        Self { threads: Vec::new(), limiters: Vec::new(), ending }
    }

    /// Opens an edge that closes when the run is halted.
    pub(super) fn edge<T: Send + 'static>(&mut self, capacity: Capacity) -> (Sender<T>, Receiver<T>) {
        let (sender, receiver) = edge(capacity);
        let closes: Weak<dyn Close> = Arc::downgrade(sender.shared()) as _;
        self.ending.halt.watch(closes);
        self.limiters.push(Arc::clone(sender.limiter()));
        (sender, receiver)
    }

    /// Starts a thread named after its stage, within the caller's tracing span.
    pub(super) fn spawn(&mut self, stage: &'static str, work: impl FnOnce() -> Result<(), BoxError> + Send + 'static) {
        let ending = Arc::clone(&self.ending);
        let span = info_span!("stage", name = stage);
        let dispatch = dispatcher::get_default(Clone::clone);
        let body = move || {
            let outcome = dispatcher::with_default(&dispatch, || span.in_scope(|| guarded(stage, work)));
            if let Err(error) = outcome {
                ending.fail(error);
            }
        };
        match Builder::new().name(stage.to_owned()).spawn(body) {
            Ok(thread) => self.threads.push(thread),
            Err(refused) => self.ending.fail(RunError::at(stage, refused.into())),
        }
    }

    /// Ends the run, whatever it is doing.
    pub(super) fn halt(&self) {
        self.ending.halt.raise(End::Stopped);
    }

    /// The cause that ended the run early, if there was one.
    pub(super) fn halted(&self) -> Option<End> {
        self.ending.halt.raised()
    }

    /// Waits for every thread to end, and takes the failure that ended them, if there was one.
    pub(super) fn join(&mut self) -> Option<RunError> {
        for thread in self.threads.drain(..) {
            // Panics were caught where they happened.
            let _ = thread.join();
        }
        self.ending.failure.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The measurements of each edge so far, starting at the source.
    pub(super) fn measured(&self) -> impl Iterator<Item = EdgeMeasurements> {
        self.limiters.iter().map(|limiter| limiter.measured())
    }
}

impl Drop for ThreadGroup {
    fn drop(&mut self) {
        self.halt();
        self.join();
    }
}

impl RunEnd {
    fn fail(&self, error: RunError) {
        if matches!(error, RunError::Stopped) {
            self.halt.raise(End::Stopped);
        } else if self.halt.raise(End::Cut) {
            *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
        }
    }
}

/// Whether a stage has panicked, in any run of this process.
static PANICKED: AtomicBool = AtomicBool::new(false);

/// Whether a stage has panicked in any run of this process: this is a bug, even if something else ended the
/// run before.
#[must_use]
pub fn panicked() -> bool {
    PANICKED.load(Ordering::Relaxed)
}

/// Runs the work of a stage, and turns its errors and panics into the stage's failure.
pub(super) fn guarded<R>(stage: &'static str, work: impl FnOnce() -> Result<R, BoxError>) -> Result<R, RunError> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(outcome) => outcome.map_err(|cause| RunError::at(stage, cause)),
        Err(panic) => {
            PANICKED.store(true, Ordering::Relaxed);
            let bug = schemas::Error::Bug(format!("panicked: {}", message(&*panic)));
            Err(RunError::at(stage, bug.into()))
        }
    }
}

fn message(panic: &(dyn Any + Send)) -> &str {
    if let Some(text) = panic.downcast_ref::<&str>() {
        return text;
    }
    panic.downcast_ref::<String>().map_or("no message", String::as_str)
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn a_failure_in_the_wake_of_another_is_not_reported() {
        let mut threads = ThreadGroup::new(&Stop::default());
        threads.spawn("encode", || Err("bad row".into()));
        while threads.ending.halt.raised().is_none() {
            thread::yield_now();
        }
        threads.spawn("write", || Err("an echo".into()));
        let failure = threads.join().expect("the first failure");
        assert_eq!(failure.stage(), Some("encode"));
    }

    #[test]
    fn a_failure_in_the_wake_of_a_stop_is_not_reported() {
        let stop = Stop::default();
        let mut threads = ThreadGroup::new(&stop);
        stop.request();
        threads.spawn("read", || Err("the socket was closed".into()));
        assert!(threads.join().is_none());
    }
}
