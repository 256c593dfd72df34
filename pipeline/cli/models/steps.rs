//! Progress with its rate and the remaining time.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use indicatif::ProgressBar;

use crate::cli::show::{OutputStyle, say};

impl OutputStyle {
    /// A bar on a terminal, and occasional lines elsewhere.
    pub(super) fn steps(&self, steps: u64, unit: &'static str) -> Steps {
        let bar = self.bar(steps, unit);
        let lines = !self.quiet && bar.is_hidden();
        Steps { last_line_at: Arc::new(Mutex::new(Duration::ZERO)), started: Instant::now(), bar, unit, lines }
    }
}

/// Progress, drawn on a terminal or printed as lines.
#[derive(Clone)]
pub(super) struct Steps {
    bar: ProgressBar,
    unit: &'static str,
    lines: bool,
    started: Instant,
    /// The time of the last line.
    last_line_at: Arc<Mutex<Duration>>,
}

impl Steps {
    /// Time between two lines.
    const PAUSE: Duration = Duration::from_secs(10);

    /// Reports that this many steps are done; may be called from any thread.
    pub(super) fn reached(&self, position: u64) {
        // Threads may report in a different order than they counted.
        if position <= self.bar.position() {
            return;
        }
        self.bar.set_position(position);
        let elapsed = self.started.elapsed();
        let Ok(mut last_line_at) = self.last_line_at.lock() else { return };
        if self.lines && *last_line_at + Self::PAUSE <= elapsed {
            *last_line_at = elapsed;
            say(self.line(position, elapsed));
        }
    }

    /// Stops drawing.
    pub(super) fn end(&self) {
        self.bar.finish_and_clear();
    }

    fn line(&self, position: u64, elapsed: Duration) -> String {
        let steps = self.bar.length().unwrap_or(0).max(position);
        #[expect(clippy::cast_precision_loss, reason = "a rate needs no more than 52 bits")]
        let (done, all) = (position as f64, steps as f64);
        let rate = done / elapsed.as_secs_f64();
        let (unit, left) = (self.unit, (all - done) / rate);
        format!("{position} of {steps} {unit} ({:.0}%), {rate:.0} {unit}/s, {left:.0} s left", 100.0 * done / all)
    }
}
