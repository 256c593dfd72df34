//! The width of what is printed.

use std::env;

use terminal_size::terminal_size_of;

/// The width where stdout is not a terminal, and nothing else is known.
const DEFAULT_WIDTH: usize = 80;

/// Number of columns that text may take: `COLUMNS` if it is set, otherwise the terminal's, otherwise 80.
pub(super) fn width() -> usize {
    let asked = env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok()).filter(|columns| *columns > 0);
    let of_terminal = || terminal_size_of(std::io::stdout()).map(|(width, _)| usize::from(width.0));
    asked.or_else(of_terminal).filter(|width| *width > 0).unwrap_or(DEFAULT_WIDTH)
}
