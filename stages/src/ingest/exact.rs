//! Whole numbers that are too large to be kept: values are float32, which holds every whole number up to 2^24 and not all beyond.

use std::fmt::Display;

/// Up to here float32 holds every whole number.
const LARGEST: f32 = 16_777_216.0;
/// From here on, float64 can't represent every integer either.
const LARGEST_OF_DOUBLES: f64 = 9_007_199_254_740_992.0;

/// The hint about a file with such a number.
pub(super) const HINT: &str = "values are kept as float32, which holds every whole number up to 16777216; check that these are counts of molecules";

/// Whether any of some values is so large that it may not be what is stored.
pub(super) fn may_be_rounded(kept: &[f32]) -> bool {
    kept.iter().fold(false, |so_far, value| so_far | (LARGEST <= value.abs()))
}

/// Whether a whole number became another one when it was kept.
pub(super) fn is_rounded(stored: f64, kept: f32) -> bool {
    f64::from(kept) != stored && stored.fract() == 0.0 && stored.abs() < LARGEST_OF_DOUBLES
}

/// The first of some whole numbers that became others when they were kept, and its place.
pub(super) fn first_rounded(stored: &[f64], kept: &[f32]) -> Option<(usize, f64)> {
    let mut pairs = stored.iter().zip(kept).enumerate();
    pairs.find(|(_, (stored, kept))| is_rounded(**stored, **kept)).map(|(at, (stored, _))| (at, *stored))
}

/// The message about such a number.
pub(super) fn message(value: impl Display) -> String {
    format!("{value} is a whole number that float32 can't hold")
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
