//! Random draws of a step other than dropout: pairs of cells to mix, and the noise of a variational encoder.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use schemas::numbers::to_i64;
use tch::{Device, Kind, Tensor};

use super::{
    input::{Cells, Input},
    mixing::mixed,
    network::Network,
};

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

/// How the cells of a batch are mixed: each with one other cell.
#[derive(Debug)]
pub struct Mixup {
    /// The partner of each cell.
    pub partners: Vec<i64>,
    /// A cell's own share in the mixture.
    pub share: f64,
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

impl StepDraws {
    /// Draws that make a variational encoder return its means.
    #[must_use]
    pub fn points(network: &Network, input: &Input) -> Self {
        let shape = [input.cells.shape[0], network.width()];
        let noise = Tensor::zeros(shape, (network.parameters.kind(), network.parameters.device()));
        Self { noise: Some(noise), ..Self::default() }
    }
}

impl Mixup {
    /// Each row mixed with its partner's.
    pub fn mixed(&self, rows: &Tensor) -> Tensor {
        rows * self.share + self.of_partners(rows) * (1.0 - self.share)
    }

    /// The rows of each cell's partner.
    pub fn of_partners(&self, rows: &Tensor) -> Tensor {
        rows.index_select(0, &Tensor::from_slice(&self.partners).to_device(rows.device()))
    }

    /// A batch with mixed expression; labels remain those of the first cell of each pair.
    #[must_use]
    pub fn of_input(&self, input: &Input) -> Input {
        let cells = match (input.cells.values.device(), input.cells.values.kind()) {
            (Device::Cpu, Kind::Float) => mixed::<f32>(&input.cells, self),
            (Device::Cpu, Kind::Double) => mixed::<f64>(&input.cells, self),
            _ => Cells::from_dense(&self.mixed(&input.cells.dense())),
        };
        let offset = input.offset.as_ref().map(|offset| self.mixed(offset));
        Input { cells, offset, ..input.shallow_clone() }
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
