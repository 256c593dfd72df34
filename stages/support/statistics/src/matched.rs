//! The mean of controls as it would be if they were divided among batches like the cells that they are compared
//! with.

use crate::moments::{MeanProfile, Moments};

/// The controls of a context, batch by batch.
#[derive(Clone, Debug)]
pub struct BatchControls {
    /// The batch of each part of the controls; all 0 without batches.
    batches: Vec<u32>,
    parts: Vec<Moments>,
    all: Moments,
    /// The variance between batches as a multiple of that within them: 0 if batches differ no more than chance.
    ratio: f64,
}

impl BatchControls {
    /// Takes the controls of each batch; `None` without controls.
    #[must_use]
    pub fn new(controls: Vec<(u32, Moments)>) -> Option<Self> {
        let (batches, parts): (Vec<u32>, Vec<Moments>) =
            controls.into_iter().filter(|(_, moments)| moments.cells() > 0).unzip();
        let mut all = parts.first()?.clone();
        parts[1..].iter().for_each(|part| all.merge(part));
        let ratio = variance_ratio(&parts, &all);
        Some(Self { batches, parts, all, ratio })
    }

    /// The sums over all controls.
    #[must_use]
    pub fn moments(&self) -> &Moments {
        &self.all
    }

    /// The profile of all controls.
    #[must_use]
    pub fn all(&self) -> MeanProfile {
        MeanProfile::from(&self.all)
    }

    /// Whether batches differ more than by chance, so that their share of the cells matters.
    #[must_use]
    pub fn differ(&self) -> bool {
        self.ratio > 0.0
    }

    /// The profile for cells that are divided among batches like this.
    ///
    /// The mean of each batch is drawn towards that of all controls, by n r / (n r + 1) for n controls and a ratio r
    /// of the variances between and within batches. So batches that change nothing change nothing here, and few
    /// controls in a batch don't count for more than they are worth. A batch without controls counts as an average
    /// one.
    #[must_use]
    pub fn matched(&self, cells: &[(u32, u64)]) -> MeanProfile {
        let mut profile = self.all();
        let total: u64 = cells.iter().map(|(_, count)| count).sum();
        if self.ratio == 0.0 || total == 0 {
            return profile;
        }
        let all = profile.mean.clone();
        for (batch, part) in self.batches.iter().zip(&self.parts) {
            let count: u64 = cells.iter().filter(|(other, _)| other == batch).map(|(_, count)| count).sum();
            let weight = part.cells() as f64 * self.ratio;
            let share = count as f64 / total as f64 * weight / (weight + 1.0);
            for ((mean, of_part), all) in profile.mean.iter_mut().zip(part.mean()).zip(&all) {
                *mean += share * (of_part - all);
            }
        }
        profile
    }
}

/// The variance between batches as a multiple of the variance within them, estimated from the mean over genes of the
/// F statistic of a one-way analysis of variance.
fn variance_ratio(parts: &[Moments], all: &Moments) -> f64 {
    let (batches, cells) = (parts.len() as f64, all.cells() as f64);
    if parts.len() < 2 || all.cells() <= parts.len() as u64 {
        return 0.0;
    }
    let genes = all.mean().len();
    let (mut within, mut between) = (vec![0.0; genes], vec![0.0; genes]);
    for part in parts {
        let count = part.cells() as f64;
        within.iter_mut().zip(part.variance()).for_each(|(sum, variance)| *sum += count * variance);
        for ((sum, mean), of_all) in between.iter_mut().zip(part.mean()).zip(all.mean()) {
            *sum += count * (mean - of_all).powi(2);
        }
    }
    let varying: Vec<f64> = between
        .iter()
        .zip(&within)
        .filter(|(_, within)| **within > 0.0)
        .map(|(between, within)| between / (batches - 1.0) / (within / (cells - batches)))
        .collect();
    if varying.is_empty() {
        return 0.0;
    }
    let mean = varying.iter().sum::<f64>() / varying.len() as f64;
    let squares: f64 = parts.iter().map(|part| (part.cells() as f64).powi(2)).sum();
    ((mean - 1.0) * (batches - 1.0) / (cells - squares / cells)).max(0.0)
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    /// Controls in two batches, of which the second is shifted.
    fn controls(shift: f32) -> BatchControls {
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let mut batch = |cells: usize, shift: f32| {
            let mut moments = Moments::new(200);
            for _ in 0..cells {
                moments.push_dense(&std::array::from_fn::<f32, 200, _>(|_| random.random::<f32>() + shift));
            }
            moments
        };
        BatchControls::new(vec![(3, batch(60, 0.0)), (5, batch(20, shift))]).expect("there are controls")
    }

    fn mean(profile: &MeanProfile) -> f64 {
        profile.mean.iter().sum::<f64>() / profile.mean.len() as f64
    }

    #[test]
    fn controls_are_divided_among_batches_like_the_cells() {
        let shifted = controls(2.0);
        assert!((mean(&shifted.all()) - 1.0).abs() < 0.02, "a quarter of the controls are shifted by 2");
        assert!((mean(&shifted.matched(&[(5, 10)])) - 2.5).abs() < 0.05);
        assert!((mean(&shifted.matched(&[(3, 10)])) - 0.5).abs() < 0.05);
        assert!((mean(&shifted.matched(&[(3, 5), (5, 5)])) - 1.5).abs() < 0.05);
        assert_eq!(shifted.matched(&[(9, 10)]), shifted.all(), "nothing is known about other batches");
    }

    #[test]
    fn a_batch_that_changes_nothing_changes_nothing() {
        let same = controls(0.0);
        let moved = mean(&same.matched(&[(5, 10)])) - mean(&same.all());
        assert!(moved.abs() < 1e-3, "{moved}");
        assert!(BatchControls::new(Vec::new()).is_none());
    }
}
