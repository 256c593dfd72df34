//! How much memory the process holds: anonymous pages, since mapped files are the kernel's to take back.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

/// Time between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Watches the process's anonymous memory until it is asked.
#[derive(Debug)]
pub struct PeakMemory {
    peak: Arc<AtomicU64>,
    done: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl PeakMemory {
    /// Starts to watch.
    #[must_use]
    pub fn watch() -> Self {
        let (peak, done) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (seen, stop) = (Arc::clone(&peak), Arc::clone(&done));
        let look = move || {
            while !stop.load(Ordering::Relaxed) {
                seen.fetch_max(anonymous_bytes().unwrap_or(0), Ordering::Relaxed);
                std::thread::sleep(LOOK_EVERY);
            }
        };
        let thread = std::thread::Builder::new().name("memory".into()).spawn(look).ok();
        Self { peak, done, thread }
    }

    /// The most that was held since, in bytes; 0 where the system does not tell.
    #[must_use]
    pub fn bytes(mut self) -> u64 {
        self.end();
        self.peak.load(Ordering::Relaxed).max(anonymous_bytes().unwrap_or(0))
    }

    fn end(&mut self) {
        self.done.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for PeakMemory {
    fn drop(&mut self) {
        self.end();
    }
}

/// `RssAnon` of this process, in bytes.
#[must_use]
pub fn anonymous_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(1024 * kilobytes)
}
