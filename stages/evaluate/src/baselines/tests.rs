//! The baselines on data small enough to compute by hand, and compared with NumPy if a matrix is inverted.

use super::*;

const A: PerturbationId = PerturbationId(0);
const B: PerturbationId = PerturbationId(1);
const C: PerturbationId = PerturbationId(2);

fn profile(parts: &[PerturbationDose], context: usize, mean: &[f64]) -> TrainingProfile {
    TrainingProfile { parts: parts.into(), context, cells: 10, mean: mean.into(), control: None }
}

fn near(found: Option<Vec<f64>>, expected: &[f64]) {
    let found = found.expect("the baseline is defined");
    assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-9), "{found:?} is not {expected:?}");
}

/// Two contexts with controls [1, 1] and [2, 0]; A was seen in both, B in the first, A+B in neither.
fn two_contexts() -> TrainingProfiles {
    TrainingProfiles::new(vec![
        profile(&[], 0, &[1.0, 1.0]),
        profile(&[], 1, &[2.0, 0.0]),
        profile(&[(A, 1.0)], 0, &[2.0, 1.0]),
        profile(&[(A, 1.0)], 1, &[5.0, 0.0]),
        profile(&[(B, 1.0)], 0, &[1.0, 3.0]),
    ])
}

#[test]
fn control_leaves_the_start_as_it_is() {
    let target = BaselineTarget { parts: &[(A, 1.0)], context: 0, start: &[7.0, 8.0] };
    near(two_contexts().predict(Baseline::Control, target), &[7.0, 8.0]);
}

#[test]
fn every_shift_of_control_itself_is_nothing() {
    for baseline in [Baseline::Additive, Baseline::AdditiveSimilar, Baseline::Linear] {
        near(
            two_contexts().predict(baseline, BaselineTarget { parts: &[], context: 5, start: &[7.0, 8.0] }),
            &[7.0, 8.0],
        );
    }
}

#[test]
fn the_mean_shift_is_of_the_context_or_else_of_all() {
    let target = |context| BaselineTarget { parts: &[(C, 1.0)], context, start: &[0.0, 0.0] };
    near(two_contexts().predict(Baseline::PerturbedMean, target(0)), &[0.5, 1.0]);
    near(two_contexts().predict(Baseline::PerturbedMean, target(9)), &[4.0 / 3.0, 2.0 / 3.0]);
    let control_only = TrainingProfiles::new(vec![profile(&[], 0, &[1.0, 1.0])]);
    assert_eq!(control_only.predict(Baseline::PerturbedMean, target(0)), None);
}

#[test]
fn additive_sums_the_shifts_of_the_context() {
    let target = BaselineTarget { parts: &[(B, 1.0), (A, 1.0)], context: 0, start: &[1.0, 1.0] };
    near(two_contexts().predict(Baseline::Additive, target), &[2.0, 3.0]);
}

#[test]
fn a_single_that_a_context_never_saw_shifts_as_it_does_elsewhere_on_average() {
    let new_context = BaselineTarget { parts: &[(A, 1.0)], context: 2, start: &[10.0, 10.0] };
    near(two_contexts().predict(Baseline::Additive, new_context), &[12.0, 10.0]);
    let half_known = BaselineTarget { parts: &[(A, 1.0), (B, 1.0)], context: 1, start: &[2.0, 0.0] };
    near(two_contexts().predict(Baseline::Additive, half_known), &[5.0, 2.0]);
}

#[test]
fn a_perturbation_never_seen_alone_has_no_additive_prediction() {
    let mut profiles = two_contexts().profiles;
    profiles.push(profile(&[(A, 1.0), (C, 1.0)], 0, &[3.0, 3.0]));
    let profiles = TrainingProfiles::new(profiles);
    let target = BaselineTarget { parts: &[(C, 1.0)], context: 0, start: &[1.0, 1.0] };
    assert_eq!(profiles.predict(Baseline::Additive, target), None);
    assert!(profiles.predict(Baseline::Linear, target).is_some());
}

#[test]
fn a_dose_that_was_not_trained_lies_between_its_neighbours() {
    let profiles = TrainingProfiles::new(vec![
        profile(&[], 0, &[0.0]),
        profile(&[(A, 100.0)], 0, &[2.0]),
        profile(&[(A, 10_000.0)], 0, &[3.0]),
    ]);
    let at =
        |dose| profiles.predict(Baseline::Additive, BaselineTarget { parts: &[(A, dose)], context: 0, start: &[0.0] });
    near(at(100.0), &[2.0]);
    near(at(1000.0), &[2.5]);
    near(at(50.0), &[1.0]);
    near(at(0.0), &[0.0]);
    near(at(20_000.0), &[3.0]);
}

#[test]
fn a_combination_takes_the_shift_at_the_nearest_doses_by_factor() {
    let of = |dose: f64| [(A, dose), (B, 1.0)];
    let profiles = TrainingProfiles::new(vec![
        profile(&[], 0, &[0.0]),
        profile(&of(100.0), 0, &[2.0]),
        profile(&of(1000.0), 0, &[3.0]),
    ]);
    let at = |dose| profiles.predict(Baseline::Linear, BaselineTarget { parts: &of(dose), context: 0, start: &[0.0] });
    near(at(500.0), &[3.0]);
    near(at(1.0), &[2.0]);
}

/// Three contexts over three genes, all of which saw A.
fn three_contexts() -> TrainingProfiles {
    let controls = [[1.0, 2.0, 0.0], [1.0, 2.2, 1.0], [1.5, 2.0, 0.5]];
    let shifts = [[0.5, 0.0, 1.0], [1.0, 0.2, 0.4], [-0.3, 0.1, 2.0]];
    let mut profiles = Vec::new();
    for (context, (control, shift)) in controls.iter().zip(&shifts).enumerate() {
        let perturbed: Vec<f64> = control.iter().zip(shift).map(|(control, shift)| control + shift).collect();
        profiles.push(profile(&[], context, control));
        profiles.push(profile(&[(A, 1.0)], context, &perturbed));
    }
    TrainingProfiles::new(profiles)
}

const FOURTH: BaselineTarget<'_> = BaselineTarget { parts: &[(A, 1.0)], context: 3, start: &[1.0, 2.1, 0.2] };

/// Expected: NumPy's `corrcoef` of each control with the start, `exp(20 * r)` normalised, times the shifts.
#[test]
fn additive_similar_listens_to_contexts_whose_controls_are_alike() {
    near(
        three_contexts().predict(Baseline::AdditiveSimilar, FOURTH),
        &[1.313801886589, 2.150342089332, 1.435325482255],
    );
}

/// Expected: `y_mean + (a - a_mean) @ A.T @ numpy.linalg.solve(A @ A.T + 10 * I, Y - y_mean)`.
#[test]
fn linear_regresses_the_shift_on_the_control_profile() {
    near(three_contexts().predict(Baseline::Linear, FOURTH), &[1.399008938861, 2.197210577133, 1.33429470209]);
}

/// Expected: `t @ numpy.linalg.solve(A.T @ A + 0.1 * I, A.T @ Y)` with the rows of A and Y for A, B and A+C.
#[test]
fn linear_regresses_a_new_combination_on_the_doses_given_in_its_context() {
    let profiles = TrainingProfiles::new(vec![
        profile(&[], 0, &[1.0, 1.0, 1.0]),
        profile(&[(A, 1.0)], 0, &[2.0, 1.0, 1.5]),
        profile(&[(B, 1.0)], 0, &[1.0, 3.0, 0.5]),
        profile(&[(C, 1.0), (A, 1.0)], 0, &[2.5, 1.5, 2.0]),
    ]);
    let target = BaselineTarget { parts: &[(B, 1.0), (C, 1.0)], context: 0, start: &[1.0, 1.0, 1.0] };
    near(profiles.predict(Baseline::Linear, target), &[1.496183206107, 3.238029146426, 1.00346981263]);
    let unseen = BaselineTarget { parts: &[(B, 1.0), (PerturbationId(9), 1.0)], ..target };
    assert_eq!(profiles.predict(Baseline::Linear, unseen), None);
    let elsewhere = BaselineTarget { context: 4, ..target };
    assert_eq!(profiles.predict(Baseline::Linear, elsewhere), None);
}

#[test]
fn a_context_without_controls_has_no_shift_to_give() {
    let profiles = TrainingProfiles::new(vec![profile(&[(A, 1.0)], 0, &[2.0]), profile(&[(A, 1.0)], 1, &[5.0])]);
    let target = BaselineTarget { parts: &[(A, 1.0)], context: 1, start: &[1.0] };
    for baseline in [Baseline::Additive, Baseline::AdditiveSimilar, Baseline::Linear] {
        assert_eq!(profiles.predict(baseline, target), None);
    }
}
