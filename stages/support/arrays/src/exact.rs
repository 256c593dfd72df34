//! Whole numbers that are too large to store: values are float32, which holds every whole number up to 2^24
//! but not every larger one.

use std::fmt::Display;

use schemas::{
    Error,
    chunk::{BadRows, is_rounded},
};

/// float32 holds every whole number up to this one.
const LARGEST: f32 = 16_777_216.0;

/// The hint about a file with such a number.
pub const HINT: &str = "values are kept as float32, which holds every whole number up to 16777216; check that these are counts of molecules";

/// Whether any of these values is so large that it may differ from the one in the file.
pub fn may_be_rounded(kept: &[f32]) -> bool {
    kept.iter().fold(false, |so_far, value| so_far | (value.abs() >= LARGEST))
}

/// The first of some whole numbers that float32 changed, and its index.
pub fn first_rounded(stored: &[f64], kept: &[f32]) -> Option<(usize, f64)> {
    let mut pairs = stored.iter().zip(kept).enumerate();
    pairs.find(|(_, (stored, kept))| is_rounded(**stored, **kept)).map(|(at, (stored, _))| (at, *stored))
}

/// The message about such a number.
pub fn message(value: impl Display) -> String {
    format!("{value} is a whole number that float32 can't hold")
}

/// The error for invalid rows, the first of which is row `first`: entries that add up to such a number, or
/// else a bug.
pub fn bad_rows(bad: &BadRows, place: impl Into<String>, first: u64) -> Error {
    let BadRows::Sum { row, gene, sum } = bad else { return Error::Bug(bad.to_string()) };
    let cell = first + *row as u64;
    let message = format!(
        "the entries of cell {cell} and gene {gene} (both counted from 0) add up to {sum}, which float32 can't hold"
    );
    Error::data(place, message, HINT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_that_change_are_found_and_others_are_not() {
        let stored = [16_777_216.0, 16_777_218.0, 20_000_000.5, 16_777_217.0, 3.0];
        let kept = [16_777_216.0, 16_777_218.0, 20_000_000.0, 16_777_216.0, 3.0];
        assert!(may_be_rounded(&kept) && !may_be_rounded(&[3.0, -16_777_215.0]));
        assert_eq!(first_rounded(&stored, &kept), Some((3, 16_777_217.0)));
        assert_eq!(first_rounded(&stored[..3], &kept[..3]), None);
    }
}
