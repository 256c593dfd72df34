//! Output for the user: progress on stderr, results on stdout.

use std::{
    io::{self, Write},
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
};

use serde::Serialize;
use serde_json::json;

use schemas::{Error, Result, counting::counted};

/// Whether messages are JSON objects, one a line. There is one standard error, so there is one answer.
static AS_EVENTS: AtomicBool = AtomicBool::new(false);

/// From now on, writes messages as JSON objects, one a line, for the program that started this one.
pub(crate) fn say_events() {
    AS_EVENTS.store(true, Ordering::Relaxed);
}

/// Whether messages are JSON objects, one a line.
pub(crate) fn says_events() -> bool {
    AS_EVENTS.load(Ordering::Relaxed)
}

/// Writes a line to stderr, ignoring failures: work continues even if nobody can read messages.
pub(crate) fn write_line(line: impl std::fmt::Display) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Writes a message to stderr.
pub fn say(message: impl std::fmt::Display) {
    match says_events() {
        true => write_line(json!({ "event": "note", "message": message.to_string() })),
        false => write_line(message),
    }
}

/// Writes a warning, or another kind of message, to stderr.
pub(crate) fn say_as(kind: &str, message: impl std::fmt::Display) {
    match says_events() {
        true => write_line(json!({ "event": kind, "message": message.to_string() })),
        false => write_line(format_args!("{kind}: {message}")),
    }
}

/// Prints a result on stdout.
pub fn print(text: &str) -> Result<()> {
    match writeln!(io::stdout(), "{text}") {
        // The reader, such as `head`, has closed the pipe.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.map_err(Error::io("write", "stdout")),
    }
}

/// How to show output.
#[derive(Clone, Copy)]
pub struct OutputStyle {
    /// Whether results are printed as one JSON object.
    pub json: bool,
    /// Whether the main table is printed as CSV instead of the result.
    pub csv: bool,
    /// The greatest width of tables, if they have one.
    pub width: Option<usize>,
    /// Whether progress and notes are omitted.
    pub quiet: bool,
}

impl OutputStyle {
    /// Prints a result: as JSON if requested, otherwise as text.
    pub fn result(&self, value: &impl Serialize, text: impl FnOnce() -> String) -> Result<()> {
        match self.json {
            true => print(&serde_json::to_string(value).map_err(|error| Error::Bug(error.to_string()))?),
            false => print(text().trim_end()),
        }
    }

    /// Prints a result whose command writes data to stdout, on stderr.
    ///
    /// # Errors
    /// Those of serialising it.
    pub fn result_beside(&self, value: &impl Serialize, text: impl FnOnce() -> String) -> Result<()> {
        match says_events() {
            true => write_line(json!({ "event": "result", "result": value })),
            false if self.json => {
                write_line(serde_json::to_string(value).map_err(|error| Error::Bug(error.to_string()))?)
            }
            false => self.note(&text()),
        }
        Ok(())
    }

    /// Prints a message that is not a result.
    pub fn note(&self, text: &str) {
        if !self.quiet {
            say(text);
        }
    }
}

/// The message about rows that were written.
pub fn wrote(rows: u64, out: &Path, size: u64) -> String {
    format!("wrote {} to {} ({})", counted(rows, "row"), out.display(), bytes(size))
}

/// A number of stored values, which are `counts` or others.
pub(crate) fn non_zero(count: u64, values: &str) -> String {
    let noun = if values == "counts" { "non-zero count" } else { "non-zero value" };
    counted(count, noun)
}

/// Formats a number of bytes for people.
pub fn bytes(count: u64) -> String {
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
