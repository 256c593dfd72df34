//! Progress on stderr: a bar on a terminal, occasional lines elsewhere, both with the time elapsed and the time left.

use std::{
    fmt::Write,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use super::show::{OutputStyle, say, says_events, write_line};
use schemas::counting::grouped;
use serde_json::json;

/// Time between two lines.
const PAUSE: Duration = Duration::from_secs(10);
/// Time between two events.
const PAUSE_OF_EVENTS: Duration = Duration::from_millis(500);
/// The bar; the message is cut to what is left of the line.
const TEMPLATE: &str = "{bar:16} {percent:>3}%  {times}  {wide_msg}";

impl OutputStyle {
    /// Starts the progress of this many steps.
    pub fn steps(&self, steps: u64, unit: &'static str) -> Steps {
        let target =
            if self.quiet || says_events() { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        let bar = ProgressBar::with_draw_target(Some(steps), target);
        let times = |state: &ProgressState, out: &mut dyn Write| {
            let _ = out.write_str(&times(state.pos(), state.len().unwrap_or(0), state.elapsed()));
        };
        if let Ok(style) = ProgressStyle::with_template(TEMPLATE) {
            bar.set_style(style.with_key("times", times));
        }
        bar.enable_steady_tick(Duration::from_millis(500));
        let lines = !self.quiet && bar.is_hidden();
        Steps { last_line_at: Arc::new(Mutex::new(Duration::ZERO)), started: Instant::now(), bar, unit, lines }
    }
}

/// Progress, drawn on a terminal or printed as lines.
#[derive(Clone)]
pub struct Steps {
    bar: ProgressBar,
    unit: &'static str,
    lines: bool,
    started: Instant,
    /// The time of the last line.
    last_line_at: Arc<Mutex<Duration>>,
}

impl Steps {
    /// Reports that this many steps are done; may be called from any thread.
    pub fn reached(&self, position: u64) {
        self.reached_with(position, |rate| rate);
    }

    /// The same, with a message made of the rate.
    pub fn reached_with(&self, position: u64, message: impl FnOnce(String) -> String) {
        // Threads may report in a different order than they counted.
        if position <= self.bar.position() {
            return;
        }
        self.bar.set_position(position);
        let elapsed = self.started.elapsed();
        let Ok(mut last_line_at) = self.last_line_at.lock() else { return };
        let pause = if says_events() { PAUSE_OF_EVENTS } else { PAUSE };
        let is_due = self.lines && *last_line_at + pause <= elapsed;
        if !is_due && self.bar.is_hidden() {
            return;
        }
        let message = message(format!("{} {}/s", rate(position, elapsed), self.unit));
        if is_due {
            *last_line_at = elapsed;
            let all = self.bar.length().unwrap_or(0).max(position);
            let percent = u128::from(position) * 100 / u128::from(all.max(1));
            match says_events() {
                true => write_line(json!({
                    "event": "progress",
                    "done": position,
                    "of": all,
                    "unit": self.unit,
                    "elapsed_s": elapsed.as_secs_f64(),
                    "message": message,
                })),
                false => say(format_args!("{percent}%  {}  {message}", times(position, all, elapsed))),
            }
        }
        self.bar.set_message(message);
    }

    /// Prints a line where no bar is drawn.
    pub fn line(&self, line: &str) {
        if self.lines {
            say(line);
        }
    }

    /// Stops drawing.
    pub fn end(&self) {
        self.bar.finish_and_clear();
    }
}

/// Steps per second.
fn rate(done: u64, elapsed: Duration) -> String {
    #[expect(clippy::cast_precision_loss, reason = "a rate needs no more than 52 bits")]
    let rate = done as f64 / elapsed.as_secs_f64().max(1e-3);
    per_second(rate)
}

/// A rate as shown: whole from 10 on.
#[must_use]
pub fn per_second(rate: f64) -> String {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole steps are shown")]
    let whole = grouped(rate as u64);
    if rate < 10.0 { format!("{rate:.1}") } else { whole }
}

/// `elapsed 0:27, left 1:05`; what is left is unknown at first.
fn times(done: u64, all: u64, elapsed: Duration) -> String {
    #[expect(clippy::cast_precision_loss, reason = "times need no more than 52 bits")]
    let left = elapsed.as_secs_f64() * all.saturating_sub(done) as f64 / done as f64;
    let left = Duration::try_from_secs_f64(left).map_or("–".to_owned(), clock);
    format!("elapsed {}, left {left}", clock(elapsed))
}

/// A time as a clock shows it: `0:27`, `1:02:03`.
pub fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{seconds:02}") } else { format!("{minutes}:{seconds:02}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_a_clock() {
        assert_eq!(clock(Duration::from_millis(27_900)), "0:27");
        assert_eq!(clock(Duration::from_secs(3723)), "1:02:03");
        assert_eq!(times(300, 1000, Duration::from_secs(27)), "elapsed 0:27, left 1:03");
        assert_eq!(times(0, 1000, Duration::from_secs(1)), "elapsed 0:01, left –");
    }

    #[test]
    fn a_line_fits_80_columns() {
        let bar = 16 + 1 + 4 + 2;
        let longest = times(1, 100_000, Duration::from_secs(3599));
        assert!(bar + longest.len() <= 60, "{longest}");
    }
}
