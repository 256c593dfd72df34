//! Counts with a given mean, and the mean for a given share of zeros.

/// Largest mean that is drawn; real counts of one gene in one cell are far smaller.
const HEAVIEST: f64 = 1e6;

/// A count from a negative binomial with mean `mean` and variance `mean + mean² / shape`, by inversion of `uniform` in [0, 1).
pub(super) fn negative_binomial(mean: f64, shape: f64, uniform: f64) -> u32 {
    // P(0) ≥ exp(-mean) ≥ 1 - mean: for a sparse matrix, this test ends most draws at once.
    if uniform < 1.0 - mean {
        return 0;
    }
    let mean = mean.min(HEAVIEST);
    let ratio = mean / (mean + shape);
    let mut probability = zero_probability(mean, shape);
    let mut cumulative = probability;
    let mut count = 0_u32;
    while cumulative <= uniform {
        let so_far = f64::from(count);
        // Rounding may keep the sum below a uniform number close to 1.
        if mean < so_far && probability < 1e-18 {
            break;
        }
        probability *= ratio * (so_far + shape) / (so_far + 1.0);
        cumulative += probability;
        count += 1;
    }
    count
}

/// The probability of a zero: (shape / (shape + mean))^shape.
fn zero_probability(mean: f64, shape: f64) -> f64 {
    (-shape * (mean / shape).ln_1p()).exp()
}

/// The factor for which the expected share of non-zeros of these (mean, shape) pairs equals `density`, if
/// every mean is also multiplied by a log-normal factor with mean 1 and this spread.
pub(super) fn factor_for_density(genes: &[(f64, f64)], spread: f64, density: f64) -> f64 {
    // Three-point Gauss-Hermite: deviations and weights.
    let nodes = [(-(3.0_f64.sqrt()), 1.0 / 6.0), (0.0, 2.0 / 3.0), (3.0_f64.sqrt(), 1.0 / 6.0)];
    let sizes = nodes.map(|(deviation, weight)| (log_normal(spread, deviation), weight));
    let share = |factor: f64| {
        let nonzero = |(mean, shape): &(f64, f64)| {
            sizes
                .iter()
                .map(|(size, weight)| weight * (1.0 - zero_probability(factor * size * mean, *shape)))
                .sum::<f64>()
        };
        genes.iter().map(nonzero).sum::<f64>() / genes.len() as f64
    };
    let (mut low, mut high) = (-25.0_f64, 25.0_f64);
    for _ in 0..40 {
        let middle = f64::midpoint(low, high);
        if share(middle.exp()) < density { low = middle } else { high = middle }
    }
    high.exp()
}

/// A log-normal number with mean 1, computed from `deviation`, a standard normal one.
pub(super) fn log_normal(spread: f64, deviation: f64) -> f64 {
    (spread * deviation - spread * spread / 2.0).exp()
}

#[cfg(test)]
mod tests {
    use super::super::random::{Purpose, Random};
    use super::*;

    #[test]
    fn counts_have_the_mean_and_variance_of_a_negative_binomial() {
        let mut random = Random::new(5, Purpose::Cells, 0);
        for (mean, shape) in [(0.05, 2.0), (0.9, 0.7), (6.0, 3.0), (80.0, 10.0)] {
            let draws: Vec<f64> =
                (0..40_000).map(|_| negative_binomial(mean, shape, random.uniform()).into()).collect();
            let found = draws.iter().sum::<f64>() / 40_000.0;
            let variance = draws.iter().map(|draw| (draw - found).powi(2)).sum::<f64>() / 40_000.0;
            let expected: f64 = mean + mean * mean / shape;
            let error = 5.0 * (expected / 40_000.0).sqrt();
            assert!((found - mean).abs() < error, "mean {found} for {mean}");
            assert!((variance / expected - 1.0).abs() < 0.1, "variance {variance} for {expected}");
        }
    }

    #[test]
    fn the_largest_uniform_number_ends() {
        assert!(negative_binomial(1000.0, 50.0, 1.0 - f64::EPSILON / 2.0) > 0);
    }
}
