//! The blocking primitives of the runtime, abstracted so that a model checker can replace the operating system.
#![expect(clippy::disallowed_methods, reason = "channels are created here")]

use std::{
    sync::{Condvar, Mutex, PoisonError},
    time::Duration,
};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

/// A family of blocking primitives: [`Native`] in a program, and in the model tests a scheduler that tries
/// every interleaving.
pub(super) trait Primitives: 'static {
    /// A value that threads change and wait for.
    type Monitor<S: Send + 'static>: Monitor<S> + 'static;
    /// The sending end of a channel.
    type Outlet<T: Send + 'static>: Outlet<T> + 'static;
    /// The receiving end of a channel.
    type Inlet<T: Send + 'static>: Inlet<T> + 'static;

    /// Opens a channel with a fixed number of slots.
    fn channel<T: Send + 'static>(slots: usize) -> (Self::Outlet<T>, Self::Inlet<T>);
}

/// A value that threads change and wait for.
pub(super) trait Monitor<S>: Send + Sync {
    /// Guards `state`.
    fn new(state: S) -> Self;

    /// Changes the state once it is `ready`, and wakes everyone who waits for a change.
    fn update_when<R>(&self, ready: impl Fn(&S) -> bool, change: impl FnOnce(&mut S) -> R) -> R;

    /// Changes the state at once, and wakes everyone who waits for a change.
    fn update<R>(&self, change: impl FnOnce(&mut S) -> R) -> R {
        self.update_when(|_| true, change)
    }
}

/// The sending end of a channel.
pub(super) trait Outlet<T>: Send + Sync {
    /// Sends a value without blocking: the caller ensures that a slot is free. A value without a receiver is
    /// dropped.
    fn put(&self, value: T);
}

/// The receiving end of a channel.
pub(super) trait Inlet<T>: Send {
    /// Waits for a value; `None` once every sender is gone and the channel is empty.
    fn take(&self) -> Option<T>;

    /// The same, but gives up after `longest`.
    fn take_within(&self, longest: Duration) -> Result<Option<T>, TimeIsUp>;
}

/// Nothing came within the time that a receiver was willing to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TimeIsUp;

/// The operating system's locks, and crossbeam's channels.
pub(super) struct Native;

impl Primitives for Native {
    type Monitor<S: Send + 'static> = NativeMonitor<S>;
    type Outlet<T: Send + 'static> = Sender<T>;
    type Inlet<T: Send + 'static> = Receiver<T>;

    fn channel<T: Send + 'static>(slots: usize) -> (Sender<T>, Receiver<T>) {
        bounded(slots)
    }
}

/// A lock and the condition that its state has changed.
pub(super) struct NativeMonitor<S> {
    watched: Mutex<MonitorState<S>>,
    changed: Condvar,
}

/// A state with the number of its waiters, which avoids system calls that wake nobody.
struct MonitorState<S> {
    state: S,
    waiting: usize,
}

impl<S: Send> Monitor<S> for NativeMonitor<S> {
    fn new(state: S) -> Self {
        Self { watched: Mutex::new(MonitorState { state, waiting: 0 }), changed: Condvar::new() }
    }

    fn update_when<R>(&self, ready: impl Fn(&S) -> bool, change: impl FnOnce(&mut S) -> R) -> R {
        // A panic in a change is the failure of its stage, and ends the run: its partial change is never committed.
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        while !ready(&watched.state) {
            watched.waiting += 1;
            watched = self.changed.wait(watched).unwrap_or_else(PoisonError::into_inner);
            watched.waiting -= 1;
        }
        let result = change(&mut watched.state);
        if watched.waiting > 0 {
            self.changed.notify_all();
        }
        result
    }
}

impl<T: Send> Outlet<T> for Sender<T> {
    fn put(&self, value: T) {
        let refused = self.try_send(value).err();
        debug_assert!(!refused.is_some_and(|error| error.is_full()), "a slot was promised");
    }
}

impl<T: Send> Inlet<T> for Receiver<T> {
    fn take(&self) -> Option<T> {
        self.recv().ok()
    }

    fn take_within(&self, longest: Duration) -> Result<Option<T>, TimeIsUp> {
        match self.recv_timeout(longest) {
            Ok(value) => Ok(Some(value)),
            Err(RecvTimeoutError::Disconnected) => Ok(None),
            Err(RecvTimeoutError::Timeout) => Err(TimeIsUp),
        }
    }
}
