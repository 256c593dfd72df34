//! Output for the user: progress on stderr, results on stdout.

use std::{
    io::{self, Write},
    path::Path,
};

use serde::Serialize;

use schemas::{Error, Result, counting::counted};

/// Writes a line to stderr, ignoring failures: work continues even if nobody can read messages.
pub fn say(line: impl std::fmt::Display) {
    let _ = writeln!(io::stderr(), "{line}");
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
