//! How a training run spends its time.

use std::time::{Duration, Instant};

/// Time between two checkpoints at the ends of epochs.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(60);
/// Time after which a checkpoint is written within an epoch.
const CHECKPOINT_WITHIN: Duration = Duration::from_secs(300);

/// Clocks of a run and of its epoch.
#[derive(Debug)]
pub(super) struct RunClocks {
    last_checkpoint: Instant,
    epoch_started: Instant,
    batch_ended: Instant,
    waited: Duration,
    epoch_waited: Duration,
    busy: Duration,
    writing: Duration,
}

impl RunClocks {
    pub(super) fn start() -> Self {
        let now = Instant::now();
        let zero = Duration::ZERO;
        Self {
            last_checkpoint: now,
            epoch_started: now,
            batch_ended: now,
            waited: zero,
            epoch_waited: zero,
            busy: zero,
            writing: zero,
        }
    }

    /// Records that a batch arrived: the time since the end of the previous one was spent waiting.
    pub(super) fn batch_comes(&mut self) -> Instant {
        let now = Instant::now();
        let waited = now - self.batch_ended;
        self.waited += waited;
        self.epoch_waited += waited;
        now
    }

    /// Records that the batch that arrived at this time is finished.
    pub(super) fn batch_ends(&mut self, came: Instant) {
        self.batch_ended = Instant::now();
        self.busy += self.batch_ended - came;
    }

    /// Records that the write that began at this time is finished.
    pub(super) fn wrote(&mut self, begun: Instant) {
        self.writing += begun.elapsed();
    }

    /// Records that the checkpoint that began at this time is finished.
    pub(super) fn wrote_checkpoint(&mut self, begun: Instant) {
        self.wrote(begun);
        self.last_checkpoint = Instant::now();
    }

    pub(super) fn checkpoint_is_due(&self) -> bool {
        self.last_checkpoint.elapsed() >= CHECKPOINT_EVERY
    }

    pub(super) fn checkpoint_is_due_within_an_epoch(&self) -> bool {
        self.last_checkpoint.elapsed() >= CHECKPOINT_WITHIN
    }

    /// Seconds of the epoch so far, and how many of them were spent waiting for batches.
    pub(super) fn of_epoch(&self) -> (f64, f64) {
        (self.epoch_started.elapsed().as_secs_f64().max(1e-9), self.epoch_waited.as_secs_f64())
    }

    pub(super) fn next_epoch(&mut self) {
        (self.epoch_waited, self.epoch_started) = (Duration::ZERO, Instant::now());
    }

    /// Shares of the run that were spent waiting for batches, and writing files.
    pub(super) fn shares(&self) -> (f64, f64) {
        let all = (self.waited + self.busy).as_secs_f64().max(1e-9);
        (self.waited.as_secs_f64() / all, self.writing.as_secs_f64() / all)
    }
}
