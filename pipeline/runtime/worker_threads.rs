//! Threads for the pieces of a stage's own computations.
#![expect(clippy::disallowed_methods, reason = "threads are started here")]

use std::{
    io,
    thread::{Builder, JoinHandle},
};

use stage::workers::Workers;

/// Threads that serve [`Workers`]; they end, and are joined, when this is dropped.
///
/// ```
/// let threads = runtime::WorkerThreads::start(2)?;
/// assert_eq!(threads.workers().map(vec![1, 2, 3], |number: u32| number + 1), [2, 3, 4]);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct WorkerThreads {
    workers: Workers,
    threads: Vec<JoinHandle<()>>,
}

impl WorkerThreads {
    /// Starts this many threads, besides the one that will ask for results.
    ///
    /// # Errors
    /// Too many threads for the system.
    pub fn start(count: usize) -> io::Result<Self> {
        let mut started = Self { workers: Workers::default(), threads: Vec::with_capacity(count) };
        for _ in 0..count {
            let workers = started.workers.clone();
            started.threads.push(Builder::new().name("worker".into()).spawn(move || workers.serve())?);
        }
        Ok(started)
    }

    /// The handle by which stages use the threads.
    #[must_use]
    pub fn workers(&self) -> Workers {
        self.workers.clone()
    }
}

impl Drop for WorkerThreads {
    fn drop(&mut self) {
        self.workers.close();
        for thread in self.threads.drain(..) {
            // Panics of pieces were passed on to the thread that asked for them.
            let _ = thread.join();
        }
    }
}
