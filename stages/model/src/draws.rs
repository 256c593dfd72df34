//! Random draws of a step other than dropout: pairs of cells to mix, and the noise of a variational encoder.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use schemas::numbers::to_i64;
use tch::Tensor;

use super::mixing::Mixup;

/// The draws of a step.
#[derive(Debug, Default)]
pub struct StepDraws {
    /// The dropout seed of custom kernels; libtorch's operations use its generator.
    pub seed: u64,
    /// The pairs of mixed cells; `None`: no mixup.
    pub mixup: Option<Mixup>,
    /// Standard normal numbers `[cells, latent]`; `None`: from libtorch's generator.
    pub noise: Option<Tensor>,
}

impl StepDraws {
    /// The draws of the step with this `seed`: mixed with a share from Beta(alpha, alpha) if alpha is above 0.
    #[must_use]
    pub fn from_seed(seed: u64, alpha: f64, cells: usize) -> Self {
        if alpha <= 0.0 {
            return Self { seed, ..Self::default() };
        }
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let share = beta(&mut random, alpha);
        let mut partners: Vec<i64> = (0..to_i64(cells)).collect();
        for last in (1..partners.len()).rev() {
            partners.swap(last, random.random_range(0..=last));
        }
        let mixup = Mixup { partners, share };
        Self { seed, mixup: Some(mixup), noise: None }
    }
}

/// A number from Beta(alpha, alpha): for two uniform numbers to the power of 1/alpha whose sum is at most 1, the share of
/// the first (Jöhnk 1964). Computed in logarithms, so that small alphas don't give 0/0.
fn beta(random: &mut impl RngExt, alpha: f64) -> f64 {
    loop {
        let mut logarithm = || (1.0 - random.random::<f64>()).ln() / alpha;
        let (a, b) = (logarithm(), logarithm());
        let largest = a.max(b);
        let log_sum = largest + ((a - largest).exp() + (b - largest).exp()).ln();
        if log_sum <= 0.0 {
            return (a - log_sum).exp();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_have_the_moments_of_their_distribution() {
        for alpha in [0.1, 1.0, 4.0] {
            let mut random = ChaCha8Rng::seed_from_u64(1);
            let shares: Vec<f64> = (0..20_000).map(|_| beta(&mut random, alpha)).collect();
            let mean = shares.iter().sum::<f64>() / 20_000.0;
            let variance = shares.iter().map(|share| (share - mean).powi(2)).sum::<f64>() / 20_000.0;
            let expected = 0.25 / (2.0 * alpha + 1.0);
            assert!((mean - 0.5).abs() < 0.015, "mean {mean} at {alpha}");
            assert!((variance / expected - 1.0).abs() < 0.05, "variance {variance} at {alpha}, not {expected}");
        }
    }

    #[test]
    fn a_seed_gives_the_same_pairs_and_every_cell_is_a_partner_once() {
        let draws = |seed| StepDraws::from_seed(seed, 0.4, 50).mixup.expect("alpha is above 0");
        assert_eq!(draws(3).partners, draws(3).partners);
        assert_ne!(draws(3).partners, draws(4).partners);
        let mut partners = draws(3).partners;
        partners.sort_unstable();
        assert_eq!(partners, (0..50).collect::<Vec<_>>());
        assert!(StepDraws::from_seed(3, 0.0, 50).mixup.is_none());
    }
}
