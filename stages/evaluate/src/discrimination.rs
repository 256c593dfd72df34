//! Whether a prediction can be identified: which real condition is nearest to it.

use std::cmp::Ordering;

/// 1 − r / (n − 1), where r of the n − 1 other conditions are nearer to a predicted profile than its own, by the L1
/// distance, and those that are as near count half: 1 if none is nearer, one half on average by chance. cell-eval's
/// `discrimination_score_l1` is 1 − r / n.
///
/// `own` is the index of the condition among all of them, and genes that are `left_out` (those that a
/// condition targets) are ignored in distances. Undefined with fewer than two conditions, and if the
/// prediction is not finite.
#[must_use]
pub fn rank(own: usize, conditions: &[&[f32]], predicted: &[f32], left_out: &[usize]) -> Option<f64> {
    if conditions.len() < 2 || predicted.iter().any(|value| !value.is_finite()) {
        return None;
    }
    let of_own = distance(conditions[own], predicted, left_out);
    let others = conditions.iter().enumerate().filter(|(at, _)| *at != own);
    let nearer: f64 = others
        .map(|(_, other)| match distance(other, predicted, left_out).total_cmp(&of_own) {
            Ordering::Less => 1.0,
            Ordering::Equal => 0.5,
            Ordering::Greater => 0.0,
        })
        .sum();
    Some(1.0 - nearer / (conditions.len() - 1) as f64)
}

/// The sum of absolute differences, over all genes except those left out.
fn distance(a: &[f32], b: &[f32], left_out: &[usize]) -> f32 {
    /// Number of sums computed side by side: a processor adds this many at once.
    const LANES: usize = 16;
    let mut sums = [0.0_f32; LANES];
    let (a_lanes, b_lanes) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest = a_lanes.remainder().iter().zip(b_lanes.remainder());
    let rest: f32 = rest.map(|(a, b)| (a - b).abs()).sum();
    for (a, b) in a_lanes.zip(b_lanes) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += (a - b).abs();
        }
    }
    let without: f32 = left_out.iter().map(|gene| (a[*gene] - b[*gene]).abs()).sum();
    sums.iter().sum::<f32>() + rest - without
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prediction_ranks_by_how_many_conditions_are_nearer() {
        let conditions: [&[f32]; 4] = [&[0.0, 0.0], &[1.0, 0.0], &[0.0, 3.0], &[5.0, 5.0]];
        let rank = |own, predicted| rank(own, &conditions, predicted, &[]);
        assert_eq!(rank(0, &[0.1, 0.1]), Some(1.0));
        assert_eq!(rank(1, &[0.1, 0.1]), Some(1.0 - 1.0 / 3.0));
        assert_eq!(rank(3, &[0.1, 0.1]), Some(0.0));
        assert_eq!(rank(1, &[0.5, 0.0]), Some(1.0 - 0.5 / 3.0), "a condition that is as near counts half");
        assert_eq!(rank(1, &[f32::NAN, 0.0]), None);
    }

    #[test]
    fn a_gene_that_is_left_out_has_no_say() {
        let conditions: [&[f32]; 2] = [&[0.0, 0.0], &[1.0, 0.2]];
        assert_eq!(rank(0, &conditions, &[1.0, 0.0], &[]), Some(0.0));
        assert_eq!(rank(0, &conditions, &[1.0, 0.0], &[0]), Some(1.0));
    }

    #[test]
    fn one_condition_can_not_be_confused() {
        assert_eq!(rank(0, &[&[1.0]], &[1.0], &[]), None);
    }

    #[test]
    fn a_distance_sums_over_every_gene() {
        let (a, b): (Vec<f32>, Vec<f32>) = (vec![1.0; 37], vec![0.0; 37]);
        assert!((distance(&a, &b, &[36, 3]) - 35.0).abs() < 1e-6);
    }
}
