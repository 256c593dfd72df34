//! The uncertainty of a difference: the same sum over conditions, resampled with replacement.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Number of times that conditions are resampled.
pub const CONDITION_DRAWS: usize = 1000;

/// The share of draws beyond each end of an interval: it holds 95% of them.
const TAIL: f64 = 0.025;

/// Seed of the draws; the same for every run.
const SEED: u64 = 0x5eed_b007;

/// Lower end, estimate and upper end of a difference: its 2.5th percentile over draws, the difference itself,
/// its 97.5th percentile.
pub type Interval = [f64; 3];

/// How often each item is drawn, draw by draw: every draw draws as many items as there are.
#[derive(Clone, Debug)]
pub struct BootstrapDraws {
    things: usize,
    counts: Vec<u16>,
}

impl BootstrapDraws {
    /// Draws from `things` items; the same draws in every run.
    #[must_use]
    pub fn new(things: usize, draws: usize) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(SEED ^ things as u64);
        let mut counts = vec![0_u16; things * draws];
        for draw in counts.chunks_exact_mut(things.max(1)) {
            for _ in 0..things {
                let drawn: &mut u16 = &mut draw[random.random_range(0..things)];
                *drawn = drawn.saturating_add(1);
            }
        }
        Self { things, counts }
    }

    /// How often each item is drawn, draw by draw.
    pub fn all(&self) -> impl Iterator<Item = &[u16]> {
        self.counts.chunks_exact(self.things.max(1))
    }
}

/// The interval around a difference, given its draws; undefined if the difference is, or if half of the draws
/// or more are.
#[must_use]
pub fn interval(difference: Option<f64>, draws: impl IntoIterator<Item = Option<f64>>) -> Option<Interval> {
    let difference = difference?;
    let (mut drawn, mut undefined) = (Vec::new(), 0);
    for draw in draws {
        match draw {
            Some(draw) if draw.is_finite() => drawn.push(draw),
            _ => undefined += 1,
        }
    }
    if drawn.len() <= undefined {
        return None;
    }
    drawn.sort_by(f64::total_cmp);
    Some([percentile(&drawn, TAIL), difference, percentile(&drawn, 1.0 - TAIL)])
}

/// The interval around the mean of some numbers, which are resampled; undefined with fewer than two.
#[must_use]
pub fn interval_of_mean(numbers: &[f64]) -> Option<Interval> {
    if numbers.len() < 2 {
        return None;
    }
    let count = numbers.len() as f64;
    let draws = BootstrapDraws::new(numbers.len(), CONDITION_DRAWS);
    let mean = |draw: &[u16]| numbers.iter().zip(draw).map(|(x, times)| x * f64::from(*times)).sum::<f64>() / count;
    interval(Some(numbers.iter().sum::<f64>() / count), draws.all().map(|draw| Some(mean(draw))))
}

/// A percentile of sorted numbers, interpolated linearly between neighbours, as in NumPy.
fn percentile(sorted: &[f64], share: f64) -> f64 {
    let at = share * (sorted.len() - 1) as f64;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a place among the numbers")]
    let below = at.floor() as usize;
    let above = (below + 1).min(sorted.len() - 1);
    sorted[below] + (sorted[above] - sorted[below]) * at.fract()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_draw_has_as_many_as_there_are_and_every_run_the_same() {
        let draws = BootstrapDraws::new(7, 50);
        assert_eq!(draws.all().count(), 50);
        assert!(draws.all().all(|draw| draw.iter().sum::<u16>() == 7));
        assert_eq!(draws.counts, BootstrapDraws::new(7, 50).counts);
        let mut distinct: Vec<&[u16]> = draws.all().collect();
        distinct.dedup();
        assert!(distinct.len() > 40);
    }

    /// The percentiles are equal to NumPy's.
    #[test]
    fn percentiles_lie_between_neighbours() {
        let sorted = [1.0, 2.0, 4.0, 8.0];
        assert_eq!(percentile(&sorted, 0.0), 1.0);
        assert!((percentile(&sorted, 0.025) - 1.075).abs() < 1e-12);
        assert!((percentile(&sorted, 0.975) - 7.7).abs() < 1e-12);
        assert_eq!(percentile(&[3.0], 0.5), 3.0);
    }

    #[test]
    fn the_interval_of_a_mean_holds_it_and_narrows_with_more_numbers() {
        let numbers: Vec<f64> = (0..400).map(|at| f64::from(at % 20)).collect();
        let [low, mid, high] = interval_of_mean(&numbers).expect("many numbers");
        assert!((mid - 9.5).abs() < 1e-12 && low < mid && mid < high);
        // The standard error of the mean is √(33.25 / 400), and the interval extends 1.96 times as far to each side.
        assert!((high - low - 2.0 * 1.96 * (33.25_f64 / 400.0).sqrt()).abs() < 0.1);
        let [few_low, _, few_high] = interval_of_mean(&numbers[..20]).expect("twenty numbers");
        assert!(high - low < few_high - few_low);
    }

    #[test]
    fn what_is_not_there_has_no_interval() {
        assert_eq!(interval_of_mean(&[1.0]), None);
        assert_eq!(interval(None, [Some(1.0)]), None);
        assert_eq!(interval(Some(1.0), [None, Some(1.0)]), None);
        assert_eq!(interval(Some(1.0), [None, Some(2.0), Some(2.0)]), Some([2.0, 1.0, 2.0]));
    }
}
