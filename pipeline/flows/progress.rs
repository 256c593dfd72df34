//! Progress of a run, for display.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// Counts processed items on any thread, and reports the sum.
#[derive(Clone, Default)]
pub struct ProgressCounter(Option<Arc<ProgressListener>>);

struct ProgressListener {
    sum: AtomicU64,
    report: Box<dyn Fn(u64) + Send + Sync>,
}

impl ProgressCounter {
    /// Passes each sum to `report`, from a thread of the run.
    pub fn to(report: impl Fn(u64) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(ProgressListener { sum: AtomicU64::new(0), report: Box::new(report) })))
    }

    /// Adds to the sum.
    pub fn add(&self, count: u64) {
        if let Some(listener) = &self.0 {
            (listener.report)(listener.sum.fetch_add(count, Ordering::Relaxed) + count);
        }
    }
}

impl std::fmt::Debug for ProgressCounter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Progress")
    }
}
