//! Sizes in the form that users write: 512MiB, 2GiB.

use schemas::{Error, Result};

/// The memory for data that waits between stages.
pub(super) fn parse_bytes(text: &str) -> Result<usize> {
    let bytes = parse_size(text)?;
    if bytes < 1 << 20 {
        return Err(Error::usage(format!("{text} is too little memory for a batch"), "give at least 1MiB"));
    }
    Ok(bytes)
}

/// A number of bytes.
pub fn parse_size(text: &str) -> Result<usize> {
    let bad = || Error::usage(format!("`{text}` is not a number of bytes"), "write it as in 512MiB or 2GiB");
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor: usize = match unit.trim() {
        "" | "B" => 1,
        "KiB" | "K" => 1 << 10,
        "MiB" | "M" => 1 << 20,
        "GiB" | "G" => 1 << 30,
        "TiB" | "T" => 1 << 40,
        "KB" => 1000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        _ => return Err(bad()),
    };
    number.parse::<usize>().ok().and_then(|number| number.checked_mul(factor)).ok_or_else(bad)
}
