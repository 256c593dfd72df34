//! A request to end work that runs before there is a pipeline, or that no pipeline can stop. Such work holds
//! a handle and checks it from time to time; helper processes are killed.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use schemas::{Error, Result};

/// A handle that requests the end of some work; clones refer to the same work.
#[derive(Clone, Debug, Default)]
pub struct Interrupt(Arc<InterruptState>);

#[derive(Debug, Default)]
struct InterruptState {
    requested: AtomicBool,
    helpers: Mutex<Vec<rustix::process::Pid>>,
}

impl Interrupt {
    /// Requests the end. This takes a lock, so a signal handler has to leave the call to a thread.
    pub fn request(&self) {
        self.0.requested.store(true, Ordering::Release);
        for helper in self.helpers().drain(..) {
            // It may have ended already.
            let _ = rustix::process::kill_process(helper, rustix::process::Signal::KILL);
        }
    }

    /// Whether the end was requested.
    #[must_use]
    pub fn requested(&self) -> bool {
        self.0.requested.load(Ordering::Acquire)
    }

    /// Checks for a request; long-running work calls this from time to time.
    ///
    /// # Errors
    /// [`Error::Stopped`], if the end was requested.
    pub fn check(&self) -> Result<()> {
        match self.requested() {
            true => Err(Error::Stopped { resume: "run the same command again".into() }),
            false => Ok(()),
        }
    }

    fn helpers(&self) -> MutexGuard<'_, Vec<rustix::process::Pid>> {
        self.0.helpers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A helper process; a request kills it as long as this value exists.
#[derive(Debug)]
pub struct ChildGuard(rustix::process::Pid, Interrupt);

impl ChildGuard {
    /// Kills `child` when the end of the work is requested.
    #[must_use]
    pub fn new(child: &std::process::Child, interrupt: &Interrupt) -> Self {
        let pid = rustix::process::Pid::from_child(child);
        interrupt.helpers().push(pid);
        // A request may have come before the process was registered.
        if interrupt.requested() {
            interrupt.request();
        }
        Self(pid, interrupt.clone())
    }
}

impl Drop for ChildGuard {
    fn drop(&mut self) {
        // This happens before anyone waits for the process, after which its id may belong to another one.
        self.1.helpers().retain(|helper| *helper != self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_for_those_who_were_given_the_handle() {
        let (one, other) = (Interrupt::default(), Interrupt::default());
        let held = one.clone();
        one.request();
        assert!(held.check().is_err() && other.check().is_ok());
    }

    #[cfg(unix)]
    #[test]
    fn a_request_ends_its_own_helpers_and_those_that_come_late() {
        use std::{os::unix::process::ExitStatusExt, process::Command};

        let sleeper = || Command::new("sleep").arg("60").spawn().expect("a process");
        let (one, other) = (Interrupt::default(), Interrupt::default());
        let mut sleepers = [sleeper(), sleeper(), sleeper()];
        let _kept = [ChildGuard::new(&sleepers[0], &one), ChildGuard::new(&sleepers[1], &other)];
        one.request();
        let _late = ChildGuard::new(&sleepers[2], &one);
        for ended in [0, 2] {
            assert_eq!(sleepers[ended].wait().expect("it ends").signal(), Some(9));
        }
        assert!(sleepers[1].try_wait().expect("it can be asked").is_none(), "another's work goes on");
        sleepers[1].kill().and_then(|()| sleepers[1].wait()).expect("it ends");
    }
}
