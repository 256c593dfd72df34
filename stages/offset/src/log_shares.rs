//! The mean logarithm of a gene's scaled count as a function of its share of the library, and its inverse.

use statistics::{counted_log, scale::TARGET_SUM};

/// The grid of shares, evenly spaced in their logarithm.
const SMALLEST_SHARE: f64 = 1e-9;
const STEP: f64 = 0.02;

/// E ln(1 + 10,000 x / ℓ) of counts x with mean f ℓ and counting noise, averaged over library sizes ℓ, for shares f on a grid.
#[derive(Debug)]
pub(super) struct LogShares {
    /// Ascending.
    expected: Vec<f64>,
}

impl LogShares {
    /// The function of these library sizes; `None` if one of them is not positive.
    pub(super) fn new(libraries: &[f64]) -> Option<Self> {
        if libraries.is_empty() || !libraries.iter().all(|library| *library > 0.0) {
            return None;
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a thousand points")]
        let points = (-SMALLEST_SHARE.ln() / STEP).ceil() as u32;
        let at = |point: u32| {
            let share = SMALLEST_SHARE * (STEP * f64::from(point)).exp();
            let of = |library: &f64| counted_log::expectation(share * library, TARGET_SUM / library);
            libraries.iter().map(of).sum::<f64>() / libraries.len() as f64
        };
        Some(Self { expected: (0..=points).map(at).collect() })
    }

    /// The mean logarithm at a share of the library.
    pub(super) fn expected(&self, share: f64) -> f64 {
        let place = (share / SMALLEST_SHARE).ln() / STEP;
        if place < 0.0 {
            return self.expected[0] * share / SMALLEST_SHARE;
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "not below 0, and at most the grid"
        )]
        let below = (place as usize).min(self.expected.len() - 2);
        let [low, high] = [self.expected[below], self.expected[below + 1]];
        low + (high - low) * (place - below as f64)
    }

    /// The share of the library at which the mean logarithm is this; 0 if there is none so small.
    pub(super) fn share(&self, expected: f64) -> f64 {
        let above = self.expected.partition_point(|at| *at <= expected);
        if above == 0 {
            return SMALLEST_SHARE * (expected / self.expected[0]).max(0.0);
        }
        let below = (above - 1).min(self.expected.len() - 2);
        let [low, high] = [self.expected[below], self.expected[below + 1]];
        SMALLEST_SHARE * (STEP * (below as f64 + (expected - low) / (high - low))).exp()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_of_a_mean_logarithm_has_that_mean_logarithm() {
        let shares = LogShares::new(&[300.0, 2_000.0, 90_000.0]).expect("libraries are positive");
        for share in [1e-12, 3e-9, 2e-6, 1e-4, 0.07, 0.9] {
            let back = shares.share(shares.expected(share));
            assert!((back / share - 1.0).abs() < 1e-9, "{share} comes back as {back}");
        }
        assert_eq!(shares.share(-0.5), 0.0);
        assert!(LogShares::new(&[0.0]).is_none() && LogShares::new(&[]).is_none());
    }

    #[test]
    fn the_mean_logarithm_of_one_library_is_the_expectation() {
        let shares = LogShares::new(&[5_000.0]).expect("it is positive");
        let expected = counted_log::expectation(3.0, 2.0);
        assert!((shares.expected(3.0 / 5_000.0) / expected - 1.0).abs() < 1e-4);
    }
}
