//! Output for the user: progress on stderr, results on stdout.

use std::{
    io::{self, Write},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use crate::{Error, Result};

/// Writes a line to stderr, ignoring failures: work continues even if nobody can read messages.
pub(crate) fn say(line: impl std::fmt::Display) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// How to show output.
#[derive(Clone, Copy)]
pub(super) struct OutputStyle {
    /// Whether results are printed as one JSON object.
    pub(super) json: bool,
    /// Whether progress and notes are omitted.
    pub(super) quiet: bool,
}

impl OutputStyle {
    /// Prints a result: as JSON if requested, otherwise as text.
    pub(super) fn result(&self, value: &impl Serialize, text: impl FnOnce() -> String) -> Result<()> {
        let shown = match self.json {
            true => serde_json::to_string(value).map_err(|error| Error::Bug(error.to_string()))?,
            false => text().trim_end().to_owned(),
        };
        match writeln!(io::stdout(), "{shown}") {
            // The reader, such as `head`, has closed the pipe.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            written => written.map_err(Error::io("write", "stdout")),
        }
    }

    /// Prints a message that is not a result.
    pub(super) fn note(&self, text: &str) {
        if !self.quiet {
            say(text);
        }
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

/// Formats a number of bytes for people.
pub(super) fn bytes(count: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{count} B") } else { format!("{value:.1} {}", units[unit]) }
}
