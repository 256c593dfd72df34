//! A termination request for the whole process, like Ctrl-C: for work outside a pipeline, which can't be stopped by one.
//! Such work checks for it now and then; helper processes are ended.

use std::sync::atomic::{AtomicBool, Ordering};
#[cfg(feature = "hdf5")]
use std::sync::{Mutex, PoisonError};

use schemas::{Error, Result};

static REQUESTED: AtomicBool = AtomicBool::new(false);

/// Asks for the end. It takes a lock, so that a signal handler has to leave it to a thread.
pub fn request() {
    REQUESTED.store(true, Ordering::Release);
    #[cfg(feature = "hdf5")]
    for helper in helpers().drain(..) {
        // One that has ended meanwhile is not there any more.
        let _ = rustix::process::kill_process(helper, rustix::process::Signal::KILL);
    }
}

/// Whether the end was requested.
#[must_use]
pub fn requested() -> bool {
    REQUESTED.load(Ordering::Acquire)
}

/// The error of work that ends because it was asked to.
pub(crate) fn stopped() -> Error {
    Error::Stopped { resume: "run the same command again".into() }
}

/// To be asked by work that takes long.
///
/// # Errors
/// [`Error::Stopped`], if the end was requested.
pub(crate) fn check() -> Result<()> {
    if requested() { Err(stopped()) } else { Ok(()) }
}

#[cfg(feature = "hdf5")]
fn helpers() -> std::sync::MutexGuard<'static, Vec<rustix::process::Pid>> {
    static HELPERS: Mutex<Vec<rustix::process::Pid>> = Mutex::new(Vec::new());
    HELPERS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A process that works for this one: it is ended by a request, as long as this lives.
#[cfg(feature = "hdf5")]
#[derive(Debug)]
pub(crate) struct Helper(rustix::process::Pid);

#[cfg(feature = "hdf5")]
impl Helper {
    pub(crate) fn of(child: &std::process::Child) -> Self {
        let pid = rustix::process::Pid::from_child(child);
        helpers().push(pid);
        Self(pid)
    }
}

#[cfg(feature = "hdf5")]
impl Drop for Helper {
    fn drop(&mut self) {
        // Before the process is waited for, and its number may become another's.
        helpers().retain(|helper| *helper != self.0);
    }
}
