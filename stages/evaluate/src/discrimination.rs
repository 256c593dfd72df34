//! Whether a prediction can be identified: which real condition of its context is nearest to it.

use std::cmp::Ordering;

use simd::{InstructionSet, Kernel, widest};

/// The real conditions among which a prediction is identified; each profile has one number per gene.
#[derive(Clone, Copy, Debug)]
pub struct RealConditions<'a> {
    /// The mean profiles of the context's other conditions.
    pub others: &'a [&'a [f32]],
    /// The mean profile of the controls that real changes are measured from.
    pub reference: &'a [f32],
    /// Genes that the condition targets: they are ignored by all scores but `centroid_accuracy`.
    pub left_out: &'a [usize],
}

/// A prediction and its distances from the other conditions.
#[derive(Clone, Debug)]
pub struct PredictionDistances<'a> {
    real: RealConditions<'a>,
    profile: Vec<f32>,
    /// The reference plus the predicted change, and its difference from the reference.
    anchored: Vec<f32>,
    change: Vec<f32>,
    /// Σ of the squared change.
    length: f32,
    others: Vec<Distances>,
}

/// How well a prediction is identified. 1 is best everywhere; a prediction at random has one half on average.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct DiscriminationScores {
    /// 1 − r / (n − 1), where r of the n − 1 other conditions have a change that is nearer to the predicted one than the
    /// condition's own is, by the sum of absolute differences; one that is as near counts half.
    pub rank: Option<f64>,
    /// The share of the other conditions whose profile is farther from the predicted one than the condition's own is, by
    /// the Euclidean distance: Systema's `centroid_accuracy`.
    pub centroid_accuracy: Option<f64>,
    /// 1 − r / n with the r of `rank`: cell-eval's `discrimination_score_l1`.
    pub l1: Option<f64>,
    /// The same by the Euclidean distance: cell-eval's `discrimination_score_l2`.
    pub l2: Option<f64>,
    /// The same by the cosine distance: cell-eval's `discrimination_score_cosine`; undefined for a prediction of no change.
    pub cosine: Option<f64>,
}

/// Distances between a prediction and a real condition.
#[derive(Clone, Copy, Debug)]
struct Distances {
    /// Σ |difference of the changes|.
    l1: f32,
    /// Σ (difference of the changes)².
    l2: f32,
    /// 1 − the cosine of the angle between the changes.
    cosine: f32,
    /// Σ (difference of the profiles)².
    centroid: f32,
}

impl<'a> RealConditions<'a> {
    /// The distances of predictions from the other conditions, given the profile of each and its change from the controls that it
    /// starts from. Profiles of conditions, which are many, are read once for all predictions.
    #[must_use]
    pub fn distances(
        self,
        predictions: impl IntoIterator<Item = (Vec<f32>, Vec<f32>)>,
    ) -> Vec<PredictionDistances<'a>> {
        let of_one = |(profile, change): (Vec<f32>, Vec<f32>)| {
            let anchored: Vec<f32> =
                change.iter().zip(self.reference).map(|(change, reference)| change + reference).collect();
            let change: Vec<f32> =
                anchored.iter().zip(self.reference).map(|(value, reference)| value - reference).collect();
            let length = squared_length(&change, self.left_out);
            let others = Vec::with_capacity(self.others.len());
            PredictionDistances { real: self, profile, anchored, change, length, others }
        };
        let mut predictions: Vec<_> = predictions.into_iter().map(of_one).collect();
        widest(DistancesTo { predictions: &mut predictions, real: self.others });
        predictions
    }
}

impl PredictionDistances<'_> {
    /// How well the prediction is identified if this is the mean profile of the condition's own real cells.
    ///
    /// Undefined without other conditions, and if the prediction is not finite.
    #[must_use]
    pub fn scores(&self, own: &[f32]) -> DiscriminationScores {
        let is_finite = |values: &[f32]| values.iter().all(|value| value.is_finite());
        if self.others.is_empty() || !is_finite(&self.profile) || !is_finite(&self.anchored) {
            return DiscriminationScores::default();
        }
        let own = self.to(own);
        let others = self.others.len() as f64;
        // The number of conditions that are nearer than the own one, and half of those that are as near.
        let nearer = |distance: fn(&Distances) -> f32| -> f64 {
            let compared = self.others.iter().map(|other| match distance(other).total_cmp(&distance(&own)) {
                Ordering::Less => 1.0,
                Ordering::Equal => 0.5,
                Ordering::Greater => 0.0,
            });
            compared.sum()
        };
        let among_all = |nearer: f64| 1.0 - nearer / (others + 1.0);
        let farther = self.others.iter().filter(|other| other.centroid > own.centroid).count();
        let changes = self.anchored.iter().zip(self.real.reference).any(|(anchored, reference)| anchored != reference);
        DiscriminationScores {
            rank: Some(1.0 - nearer(|one| one.l1) / others),
            centroid_accuracy: Some(farther as f64 / others),
            l1: Some(among_all(nearer(|one| one.l1))),
            l2: Some(among_all(nearer(|one| one.l2))),
            cosine: changes.then(|| among_all(nearer(|one| one.cosine))),
        }
    }

    /// The distances from a real profile.
    #[inline(always)]
    fn to(&self, real: &[f32]) -> Distances {
        let columns = [real, &self.anchored, &self.profile, self.real.reference, &self.change];
        let (mut lanes, mut sums) = (Sums::<LANES>::default(), Sums::<1>::default());
        let [
            (reals, rest),
            (anchored, rest_anchored),
            (profiles, rest_profiles),
            (references, rest_references),
            (changes, rest_changes),
        ] = columns.map(<[f32]>::as_chunks::<LANES>);
        let chunks = reals.iter().zip(anchored).zip(profiles).zip(references).zip(changes);
        for ((((real, anchored), profile), reference), change) in chunks {
            lanes.add([real, anchored, profile, reference, change], 1.0);
        }
        let rests = rest.iter().zip(rest_anchored).zip(rest_profiles).zip(rest_references).zip(rest_changes);
        for ((((real, anchored), profile), reference), change) in rests {
            sums.add([real, anchored, profile, reference, change].map(std::array::from_ref), 1.0);
        }
        let total = |of: fn(&Sums<LANES>) -> [f32; LANES], rest: [f32; 1]| of(&lanes).iter().sum::<f32>() + rest[0];
        let centroid = total(|sums| sums.centroid, sums.centroid);
        for gene in self.real.left_out {
            sums.add(columns.map(|column| std::array::from_ref(&column[*gene])), -1.0);
        }
        let product = total(|sums| sums.product, sums.product);
        let lengths = (total(|sums| sums.real, sums.real) * self.length).sqrt();
        let cosine = if lengths > 0.0 { 1.0 - product / lengths } else { 1.0 };
        Distances { l1: total(|sums| sums.l1, sums.l1), l2: total(|sums| sums.l2, sums.l2), cosine, centroid }
    }
}

/// Records the distances of predictions from some real profiles, computed with the widest instructions.
struct DistancesTo<'p, 'a> {
    predictions: &'p mut [PredictionDistances<'a>],
    real: &'a [&'a [f32]],
}

impl Kernel for DistancesTo<'_, '_> {
    type Out = ();

    #[inline(always)]
    fn run<W: InstructionSet>(self) {
        // An iterator's closure would not be compiled with these instructions.
        for real in self.real {
            for prediction in &mut *self.predictions {
                let distances = prediction.to(real);
                prediction.others.push(distances);
            }
        }
    }
}

/// Σ of the squares of a change without some genes, in the order of [`Sums`].
fn squared_length(change: &[f32], left_out: &[usize]) -> f32 {
    let (chunks, rest) = change.as_chunks::<LANES>();
    let mut lanes = [0.0_f32; LANES];
    for chunk in chunks {
        lanes.iter_mut().zip(chunk).for_each(|(sum, value)| *sum += value * value);
    }
    let mut last = rest.iter().map(|value| value * value).sum::<f32>();
    left_out.iter().for_each(|gene| last -= change[*gene] * change[*gene]);
    lanes.iter().sum::<f32>() + last
}

/// Number of sums computed side by side. Compilers use vector instructions for 16, but not for 8.
const LANES: usize = 16;

/// Sums over genes, several side by side.
#[derive(Clone, Copy)]
struct Sums<const N: usize> {
    l1: [f32; N],
    l2: [f32; N],
    centroid: [f32; N],
    /// Σ of the product of both changes, and of the square of the real one.
    product: [f32; N],
    real: [f32; N],
}

impl<const N: usize> Default for Sums<N> {
    fn default() -> Self {
        let zero = [0.0; N];
        Self { l1: zero, l2: zero, centroid: zero, product: zero, real: zero }
    }
}

impl<const N: usize> Sums<N> {
    /// Adds genes, or with a sign of −1 removes them. Nothing is fused, so that every processor finds the same distances.
    #[inline(always)]
    fn add(&mut self, [reals, anchored, profiles, references, changes]: [&[f32; N]; 5], sign: f32) {
        for at in 0..N {
            let (real, anchored) = (reals[at], anchored[at]);
            let (apart, from_profile) = (real - anchored, real - profiles[at]);
            let (real_change, change) = (real - references[at], changes[at]);
            self.l1[at] += sign * apart.abs();
            self.l2[at] += sign * apart * apart;
            self.centroid[at] += sign * from_profile * from_profile;
            self.product[at] += sign * real_change * change;
            self.real[at] += sign * real_change * real_change;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The scores of a prediction whose change is relative to a reference of 0.
    fn scores(own: usize, conditions: &[&[f32]], predicted: &[f32], left_out: &[usize]) -> DiscriminationScores {
        let mut others = conditions.to_vec();
        let own = others.remove(own);
        let reference = vec![0.0; predicted.len()];
        RealConditions { others: &others, reference: &reference, left_out }
            .distances([(predicted.to_vec(), predicted.to_vec())])[0]
            .scores(own)
    }

    #[test]
    fn a_prediction_ranks_by_how_many_conditions_are_nearer() {
        let conditions: [&[f32]; 4] = [&[0.0, 0.0], &[1.0, 0.0], &[0.0, 3.0], &[5.0, 5.0]];
        let rank = |own, predicted| scores(own, &conditions, predicted, &[]).rank;
        assert_eq!(rank(0, &[0.1, 0.1]), Some(1.0));
        assert_eq!(rank(1, &[0.1, 0.1]), Some(1.0 - 1.0 / 3.0));
        assert_eq!(rank(3, &[0.1, 0.1]), Some(0.0));
        assert_eq!(rank(1, &[0.5, 0.0]), Some(1.0 - 0.5 / 3.0), "a condition that is as near counts half");
        assert_eq!(rank(1, &[f32::NAN, 0.0]), None);
    }

    #[test]
    fn every_distance_has_its_own_nearest_condition() {
        // From (2, 2): the first is nearest by the sum, the second by the square, the third by the angle.
        let conditions: [&[f32]; 3] = [&[2.0, 4.4], &[3.5, 3.5], &[9.0, 9.5]];
        let of = |own| scores(own, &conditions, &[2.0, 2.0], &[]);
        assert_eq!((of(0).rank, of(0).l1, of(0).l2), (Some(1.0), Some(1.0), Some(1.0 - 1.0 / 3.0)));
        assert_eq!((of(1).l1, of(1).l2, of(1).cosine), (Some(1.0 - 1.0 / 3.0), Some(1.0), Some(1.0)));
        assert_eq!((of(1).centroid_accuracy, of(2).centroid_accuracy), (Some(1.0), Some(0.0)));
        assert_eq!((of(2).l1, of(2).cosine), (Some(1.0 - 2.0 / 3.0), Some(1.0 - 1.0 / 3.0)));
        assert_eq!(scores(0, &conditions, &[0.0, 0.0], &[]).cosine, None, "no change has no direction");
    }

    #[test]
    fn profiles_are_compared_for_centroids_and_changes_for_the_rest() {
        let others: [&[f32]; 1] = [&[2.0, 2.0]];
        let real = RealConditions { others: &others, reference: &[1.0, 1.0], left_out: &[] };
        // The prediction starts from controls that are higher by 1; its own condition is (1, 1).
        let found = real.distances([(vec![2.0, 2.0], vec![0.0, 0.1])])[0].scores(&[1.0, 1.0]);
        assert_eq!((found.rank, found.centroid_accuracy), (Some(1.0), Some(0.0)));
    }

    #[test]
    fn a_gene_that_is_left_out_has_no_say_but_in_centroids() {
        let conditions: [&[f32]; 2] = [&[0.0, 0.0], &[1.0, 0.2]];
        assert_eq!(scores(0, &conditions, &[1.0, 0.0], &[]).rank, Some(0.0));
        let without = scores(0, &conditions, &[1.0, 0.0], &[0]);
        assert_eq!((without.rank, without.l2, without.centroid_accuracy), (Some(1.0), Some(1.0), Some(0.0)));
    }

    #[test]
    fn one_condition_can_not_be_confused() {
        assert_eq!(scores(0, &[&[1.0]], &[1.0], &[]), DiscriminationScores::default());
    }

    #[test]
    fn a_distance_sums_over_every_gene() {
        let (others, reference): ([&[f32]; 0], _) = ([], vec![0.0; 37]);
        let real = RealConditions { others: &others, reference: &reference, left_out: &[36, 3] };
        let distances = real.distances([(vec![2.0; 37], vec![1.0; 37])])[0].to(&[0.0; 37]);
        assert!((distances.l1 - 35.0).abs() < 1e-6 && (distances.l2 - 35.0).abs() < 1e-6, "{distances:?}");
        assert!((distances.centroid - 148.0).abs() < 1e-6, "{distances:?}");
    }
}
