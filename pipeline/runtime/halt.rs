//! A request to stop, or a failure, reaches every edge at once.
//!
//! A [`Halt`] is raised once, and closes everything that watches it: the halt of a run closes the run's
//! edges, so that no thread is left waiting; a [`Stop`] closes the halts of the runs that it was given to.

use std::{
    fmt, mem,
    sync::{Arc, Weak},
};

use stage::interrupt::Interrupt;

use super::{
    end::End,
    primitives::{Monitor, Native, Primitives},
};

/// Something that can be ended from outside.
pub(super) trait Close: Send + Sync {
    /// Ends it; calls after the first have no effect.
    fn close(&self, end: End);
}

/// Ends everything that watches it, once.
pub(super) struct Halt<P: Primitives = Native>(P::Monitor<HaltState>);

#[derive(Default)]
struct HaltState {
    raised: Option<End>,
    watchers: Vec<Weak<dyn Close>>,
}

impl<P: Primitives> Default for Halt<P> {
    fn default() -> Self {
        Self(P::Monitor::new(HaltState::default()))
    }
}

impl<P: Primitives> Halt<P> {
    /// Closes every watcher; returns whether this was the first call.
    pub(super) fn raise(&self, end: End) -> bool {
        let watchers = self.0.update(|state| {
            if state.raised.is_some() {
                return None;
            }
            state.raised = Some(end);
            Some(mem::take(&mut state.watchers))
        });
        let Some(watchers) = watchers else { return false };
        for watcher in watchers.iter().filter_map(Weak::upgrade) {
            watcher.close(end);
        }
        true
    }

    /// Closes `watcher` when raised, or now if it already was.
    pub(super) fn watch(&self, watcher: Weak<dyn Close>) {
        let raised = self.0.update(|state| {
            if state.raised.is_none() {
                // A stop may outlive many runs.
                state.watchers.retain(|watcher| watcher.strong_count() > 0);
                state.watchers.push(Weak::clone(&watcher));
            }
            state.raised
        });
        if let (Some(end), Some(watcher)) = (raised, watcher.upgrade()) {
            watcher.close(end);
        }
    }

    /// How it was raised, if it was.
    pub(super) fn raised(&self) -> Option<End> {
        self.0.update(|state| state.raised)
    }
}

impl<P: Primitives> Close for Halt<P> {
    fn close(&self, end: End) {
        self.raise(end);
    }
}

/// A handle for a caller (or Ctrl-C) to stop runs; clones stop the same runs.
///
/// A stopped run drops queued items, lets its sink finish the current item and
/// [suspend](stage::Sink::suspend), and joins its threads. Stopping takes locks, so a signal handler must
/// leave it to a thread.
#[derive(Clone, Default)]
pub struct Stop {
    halt: Arc<Halt>,
    interrupt: Interrupt,
}

impl Stop {
    /// Stops every run that was given this handle, or its [`interrupt`](Self::interrupt), now and later.
    pub fn request(&self) {
        self.halt.raise(End::Stopped);
        self.interrupt.request();
    }

    /// A handle for work that happens before there is a run, such as opening a source: the same request ends it.
    #[must_use]
    pub fn interrupt(&self) -> Interrupt {
        self.interrupt.clone()
    }

    /// Whether a stop was requested.
    #[must_use]
    pub fn requested(&self) -> bool {
        self.halt.raised().is_some()
    }

    pub(super) fn watch(&self, run: &Arc<Halt>) {
        let run: Weak<Halt> = Arc::downgrade(run);
        self.halt.watch(run);
    }
}

impl fmt::Debug for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stop").field("requested", &self.requested()).finish()
    }
}
