//! What a user sees: progress on stderr, results on stdout.

use std::{
    io::{self, Write},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use perturbine::{Error, Result};
use serde::Serialize;

/// How to show things.
#[derive(Clone, Copy)]
pub(super) struct Show {
    /// Results as one JSON object.
    pub(super) json: bool,
    /// No progress, no notes.
    pub(super) quiet: bool,
}

impl Show {
    /// Prints a result: as JSON where that was asked for, else as text.
    pub(super) fn result(&self, value: &impl Serialize, text: impl FnOnce() -> String) -> Result<()> {
        let shown = match self.json {
            true => serde_json::to_string(value).map_err(|error| Error::Bug(error.to_string()))?,
            false => text().trim_end().to_owned(),
        };
        match writeln!(io::stdout(), "{shown}") {
            // Whoever reads it, `head` for one, has seen enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            written => written.map_err(Error::io("write", "stdout")),
        }
    }

    /// Tells something that is no result.
    pub(super) fn note(&self, text: &str) {
        if !self.quiet {
            eprintln!("{text}");
        }
    }

    /// A bar on a terminal, and a line now and then elsewhere.
    pub(super) fn steps(&self, steps: u64, unit: &'static str) -> Steps {
        let bar = self.bar(steps, unit);
        let lines = !self.quiet && bar.is_hidden();
        Steps { told: Arc::new(Mutex::new(Duration::ZERO)), started: Instant::now(), bar, unit, lines }
    }

    /// A bar on a terminal; elsewhere nothing is drawn.
    pub(super) fn bar(&self, steps: u64, unit: &str) -> ProgressBar {
        let target = if self.quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        let bar = ProgressBar::with_draw_target(Some(steps), target);
        let template =
            format!("{{bar:30}} {{human_pos}}/{{human_len}} {unit} {{per_sec}} {{elapsed}} left {{eta}} {{msg}}");
        if let Ok(style) = ProgressStyle::with_template(&template) {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(500));
        bar
    }
}

/// Progress that is drawn on a terminal, and told in lines elsewhere.
#[derive(Clone)]
pub(super) struct Steps {
    bar: ProgressBar,
    unit: &'static str,
    lines: bool,
    started: Instant,
    /// When the last line was written.
    told: Arc<Mutex<Duration>>,
}

impl Steps {
    /// Between two lines.
    const PAUSE: Duration = Duration::from_secs(10);

    /// So many steps were taken; from any thread.
    pub(super) fn reached(&self, position: u64) {
        // Threads may tell in another order than they counted.
        if position <= self.bar.position() {
            return;
        }
        self.bar.set_position(position);
        let elapsed = self.started.elapsed();
        let Ok(mut told) = self.told.lock() else { return };
        if self.lines && *told + Self::PAUSE <= elapsed {
            *told = elapsed;
            eprintln!("{}", self.line(position, elapsed));
        }
    }

    /// Nothing more is drawn.
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

/// Bytes as people say them.
pub(super) fn bytes(count: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    let mut value = count as f64;
    let mut unit = 0;
    while 1024.0 <= value && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{count} B") } else { format!("{value:.1} {}", units[unit]) }
}
