//! Memory of the process: only anonymous pages, since the kernel can reclaim mapped files.
#![expect(clippy::disallowed_methods, reason = "it measures, whatever the pipeline does")]

mod device;
mod log;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

pub use self::log::{MemoryLog, PhaseMemory};

/// Sampling interval.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A thread that samples until it is ended or dropped.
#[derive(Debug)]
struct Watch {
    done: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    fn start(look: impl Fn() + Send + 'static) -> Self {
        let done = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&done);
        let again = move || {
            while !stop.load(Ordering::Relaxed) {
                look();
                std::thread::park_timeout(LOOK_EVERY);
            }
        };
        let thread = std::thread::Builder::new().name("memory".into()).spawn(again).ok();
        Self { done, thread }
    }

    fn end(&mut self) {
        self.done.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.end();
    }
}

/// Watches the process's anonymous memory until its peak is read.
#[derive(Debug)]
pub struct PeakMemory {
    peak: Arc<AtomicU64>,
    watch: Watch,
}

impl PeakMemory {
    /// Starts watching.
    #[must_use]
    pub fn watch() -> Self {
        let peak = Arc::new(AtomicU64::new(0));
        let watched_peak = Arc::clone(&peak);
        let look = move || {
            watched_peak.fetch_max(anonymous_bytes().unwrap_or(0), Ordering::Relaxed);
        };
        Self { peak, watch: Watch::start(look) }
    }

    /// The peak since then, in bytes; 0 if the system does not report it.
    #[must_use]
    pub fn bytes(mut self) -> u64 {
        self.watch.end();
        self.peak.load(Ordering::Relaxed).max(anonymous_bytes().unwrap_or(0))
    }
}

/// `RssAnon` of this process, in bytes; `None` if the system does not report it.
#[must_use]
pub fn anonymous_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(1024 * kilobytes)
}
