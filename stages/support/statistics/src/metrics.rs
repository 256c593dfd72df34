//! Similarity of two vectors over genes.
//!
//! Every metric is `None` where it is undefined: without genes, for a constant vector, for a value that is
//! not finite. Vectors have the same length; genes are given by their index.

/// The coefficient of determination, 1 − Σ (truth − prediction)² / Σ (truth − its mean)², as in scikit-learn.
///
/// 1 is perfect, 0 is no better than one number for every gene, and there is no lower bound. Undefined if the
/// truth is the same for every gene.
#[must_use]
pub fn r2(truth: &[f64], prediction: &[f64]) -> Option<f64> {
    let residual: f64 = truth.iter().zip(prediction).map(|(truth, prediction)| (truth - prediction).powi(2)).sum();
    defined(1.0 - residual / total(truth)?)
}

/// [`r2`] over some of the genes.
#[must_use]
pub fn r2_of(genes: &[usize], truth: &[f64], prediction: &[f64]) -> Option<f64> {
    let pick = |values: &[f64]| -> Vec<f64> { genes.iter().map(|gene| values[*gene]).collect() };
    r2(&pick(truth), &pick(prediction))
}

/// Pearson's correlation. Undefined if one of the two is constant.
#[must_use]
pub fn pearson(a: &[f64], b: &[f64]) -> Option<f64> {
    let (total_a, total_b) = (total(a)?, total(b)?);
    let (mean_a, mean_b) = (mean(a), mean(b));
    let shared: f64 = a.iter().zip(b).map(|(a, b)| (a - mean_a) * (b - mean_b)).sum();
    // Rounding must not take a perfect correlation beyond 1.
    defined(shared / (total_a * total_b).sqrt()).map(|correlation| correlation.clamp(-1.0, 1.0))
}

/// The mean squared difference. Undefined without genes.
#[must_use]
pub fn mean_squared_error(truth: &[f64], prediction: &[f64]) -> Option<f64> {
    let squares: f64 = truth.iter().zip(prediction).map(|(truth, prediction)| (truth - prediction).powi(2)).sum();
    defined(squares / truth.len() as f64)
}

/// The mean absolute difference. Undefined without genes.
#[must_use]
pub fn mean_absolute_error(truth: &[f64], prediction: &[f64]) -> Option<f64> {
    let sum: f64 = truth.iter().zip(prediction).map(|(truth, prediction)| (truth - prediction).abs()).sum();
    defined(sum / truth.len() as f64)
}

/// The Euclidean distance between two profiles.
#[must_use]
pub fn distance(a: &[f64], b: &[f64]) -> Option<f64> {
    defined(a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt())
}

/// `a` − `b`, gene by gene.
#[must_use]
pub fn difference(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a - b).collect()
}

/// The sum of squared deviations from the mean; `None` for a constant vector.
fn total(values: &[f64]) -> Option<f64> {
    // Values are compared with the first one: the mean of equal numbers may be rounded, and then their deviations
    // are not zero.
    let first = values.first()?;
    if values.iter().all(|value| value == first) {
        return None;
    }
    let mean = mean(values);
    defined(values.iter().map(|value| (value - mean).powi(2)).sum()).filter(|total| *total > 0.0)
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn defined(value: f64) -> Option<f64> {
    value.is_finite().then_some(value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TRUTH: [f64; 6] = [0.1, 2.4, 0.0, 1.3, 0.7, 3.2];
    const PREDICTION: [f64; 6] = [0.3, 1.9, 0.1, 1.1, 1.2, 2.6];

    fn near(found: Option<f64>, expected: f64) -> bool {
        found.is_some_and(|found| (found - expected).abs() < 1e-12)
    }

    /// The expected values are those of scikit-learn's `r2_score` and `mean_squared_error`, and of SciPy's
    /// `pearsonr`.
    #[test]
    fn the_metrics_agree_with_scikit_learn_and_scipy() {
        assert!(near(r2(&TRUTH, &PREDICTION), 0.885_656_970_912_738_2));
        assert!(near(r2_of(&[0, 3, 5], &TRUTH, &PREDICTION), 0.909_959_072_305_593_5));
        assert!(near(pearson(&TRUTH, &PREDICTION), 0.973_622_231_319_410_1));
        assert!(near(mean_squared_error(&TRUTH, &PREDICTION), 0.158_333_333_333_333_35));
        assert!(near(mean_absolute_error(&TRUTH, &PREDICTION), 0.35));
    }

    #[test]
    fn a_small_case_by_hand() {
        assert_eq!(r2(&[1.0, 2.0, 3.0], &[1.0, 2.0, 4.0]), Some(0.5));
        assert_eq!(r2(&[1.0, 2.0, 3.0], &[3.0, 2.0, 1.0]), Some(-3.0));
        assert_eq!(pearson(&[1.0, 2.0, 3.0], &[3.0, 2.0, 1.0]), Some(-1.0));
        assert_eq!(distance(&[0.0, 3.0], &[4.0, 0.0]), Some(5.0));
    }

    #[test]
    fn what_does_not_vary_has_neither_r2_nor_correlation() {
        let constant = [0.1; 6];
        assert_eq!(r2(&constant, &PREDICTION), None);
        assert_eq!(pearson(&constant, &PREDICTION), None);
        assert_eq!(pearson(&TRUTH, &constant), None);
        assert_eq!((r2(&[], &[]), mean_squared_error(&[], &[])), (None, None));
    }

    #[test]
    fn nan_is_undefined_and_not_a_score() {
        let broken = [f64::NAN, 1.0, 2.0, 3.0, 4.0, 5.0];
        assert_eq!(r2(&TRUTH, &broken), None);
        assert_eq!(r2(&broken, &TRUTH), None);
        assert_eq!(pearson(&TRUTH, &broken), None);
        assert_eq!(mean_squared_error(&TRUTH, &broken), None);
    }

    proptest! {
        #[test]
        fn a_vector_explains_itself(values in prop::collection::vec(-5.0..5.0_f64, 2..40)) {
            prop_assume!(values.iter().any(|value| *value != values[0]));
            prop_assert_eq!(r2(&values, &values), Some(1.0));
        }

        #[test]
        fn correlation_knows_neither_scale_nor_origin(
            pairs in prop::collection::vec((-5.0..5.0_f64, -5.0..5.0_f64), 3..40),
            scale in 0.1..10.0_f64,
            shift in -10.0..10.0_f64,
        ) {
            let (a, b): (Vec<f64>, Vec<f64>) = pairs.into_iter().unzip();
            let moved: Vec<f64> = b.iter().map(|value| value * scale + shift).collect();
            let (plain, moved) = (pearson(&a, &b), pearson(&a, &moved));
            prop_assert!(plain.zip(moved).is_some_and(|(plain, moved)| (plain - moved).abs() < 1e-9));
        }
    }
}
