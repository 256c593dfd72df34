//! Promises of the estimator, whatever the data: it finds effects that exist, predicts nothing where nothing is, does not
//! depend on order or units, and answers or refuses everything.

mod support {
    pub(crate) mod drawn;
}

use std::collections::BTreeMap;

use schemas::numbers::bounded;
use shrinkage::{AdaptiveShrinkage, DosedPart, ShiftTarget};

use self::support::drawn::{Drawn, at_dose, root_mean_square, single};

const GENES: usize = 60;

fn fitted(drawn: &Drawn) -> AdaptiveShrinkage {
    AdaptiveShrinkage::fit(drawn.measurements().expect("the sums are sound")).expect("the shifts are sound")
}

fn shift(estimator: &AdaptiveShrinkage, parts: &[DosedPart], context: usize) -> Vec<f64> {
    let target = ShiftTarget { parts, context };
    estimator.predict(&target, 0..estimator.genes()).expect("the target is sound")
}

fn difference(one: &[f64], other: &[f64]) -> f64 {
    root_mean_square(one.iter().zip(other).map(|(one, other)| one - other))
}

#[test]
fn where_nothing_has_an_effect_shifts_are_far_below_their_noise() {
    let mut drawn = Drawn::new(GENES, 3);
    for context in 0..3 {
        drawn.add(&[], context, 200, |_| 0.0);
        for perturbation in 0..8 {
            drawn.add(&single(perturbation), context, 50, |_| 0.0);
        }
        drawn.add(&[single(0), single(1)].concat(), context, 50, |_| 0.0);
    }
    let estimator = fitted(&drawn);
    // The mean of 50 cells of deviation 0.5 errs by 0.07.
    for parts in [single(0), single(5), [single(0), single(1)].concat(), [single(2), single(3)].concat()] {
        let size = root_mean_square(shift(&estimator, &parts, 1).into_iter());
        assert!(size < 0.015, "{parts:?} shifts by {size}");
    }
}

#[test]
fn one_perturbation_in_one_context_with_many_cells_has_the_shift_that_was_measured() {
    let mut drawn = Drawn::new(GENES, 1);
    drawn.add(&[], 0, 100_000, |_| 0.0);
    drawn.add(&single(0), 0, 100_000, effect);
    let found = shift(&fitted(&drawn), &single(0), 0);
    // The difference of two means of 100,000 cells of deviation 0.5 errs by 0.0022.
    assert!(difference(&found, &drawn.measured(0)) < 0.0022, "{found:?}");
}

#[test]
fn a_context_left_out_has_the_effect_that_all_others_share() {
    let mut drawn = Drawn::new(GENES, 4);
    for context in 0..4 {
        drawn.add(&[], context, 500, |_| 0.0);
        for perturbation in (0..4).filter(|perturbation| *perturbation != context) {
            drawn.add(&single(bounded(perturbation)), context, 200, |gene| effect(gene + perturbation));
        }
    }
    let estimator = fitted(&drawn);
    for context in 0..4 {
        let truth: Vec<f64> = (0..GENES).map(|gene| effect(gene + context)).collect();
        let found = shift(&estimator, &single(bounded(context)), context);
        assert!(difference(&found, &truth) < 0.1 * root_mean_square(truth.into_iter()));
    }
}

#[test]
fn a_shared_response_counts_once_in_a_context_with_few_perturbations_too() {
    let mut drawn = Drawn::new(GENES, 3);
    let shared = |gene: usize| effect(gene + 3) + effect(gene);
    for context in 0..3 {
        drawn.add(&[], context, 2_000, |_| 0.0);
        let perturbations = if context == 0 { 2 } else { 12 };
        for perturbation in 0..perturbations {
            drawn.add(&single(perturbation), context, 100, shared);
        }
    }
    let found = shift(&fitted(&drawn), &single(1), 0);
    let truth: Vec<f64> = (0..GENES).map(shared).collect();
    assert!(difference(&found, &truth) < 0.3 * root_mean_square(truth.into_iter()), "{found:?}");
}

#[test]
fn far_below_and_far_beyond_trained_doses_a_response_that_all_share_follows_its_curve() {
    let mut drawn = Drawn::new(GENES, 1);
    drawn.add(&[], 0, 2_000, |_| 0.0);
    let curve = |dose: f64| dose / (dose + 0.5);
    for perturbation in 0..8 {
        for dose in [0.1, 1.0, 10.0] {
            drawn.add(&at_dose(perturbation, dose), 0, 200, |gene| effect(gene) * curve(dose));
        }
    }
    // One that was seen at one dose.
    drawn.add(&at_dose(8, 1.0), 0, 200, |gene| effect(gene) * curve(1.0));
    let estimator = fitted(&drawn);
    let full = root_mean_square((0..GENES).map(effect));
    // The last was not seen at all.
    for (perturbation, flat_from) in [(1, 100.0), (8, 1.0), (99, 10.0)] {
        for dose in [1e-4, 0.03, 1.0, 100.0] {
            let size = root_mean_square(shift(&estimator, &at_dose(perturbation, dose), 0).into_iter()) / full;
            let expected = curve(dose.min(flat_from));
            assert!(
                (size - expected).abs() < 0.1,
                "{perturbation} at {dose} has {size} of the full effect, not {expected}"
            );
        }
    }
    let variance = |perturbation: u32, dose: f64| {
        estimator.variance(&ShiftTarget { parts: &at_dose(perturbation, dose), context: 0 }).expect("it is sound")
    };
    assert!(variance(8, 10.0) > 2.0 * variance(8, 1.0), "an effect may grow beyond the only dose");
    assert!(variance(99, 0.01) < 0.01 * variance(99, 10.0), "a small dose does little, whatever it is of");
}

#[test]
fn where_all_doses_are_one_others_have_less_of_the_effect_and_are_less_certain() {
    let mut drawn = Drawn::new(GENES, 1);
    drawn.add(&[], 0, 500, |_| 0.0);
    for perturbation in 0..6 {
        drawn.add(&at_dose(perturbation, 5.0), 0, 200, |gene| effect(gene * (1 + perturbation as usize)));
    }
    let estimator = fitted(&drawn);
    let size = |dose: f64| root_mean_square(shift(&estimator, &at_dose(1, dose), 0).into_iter());
    let variance = |dose: f64| {
        estimator.variance(&ShiftTarget { parts: &at_dose(1, dose), context: 0 }).expect("the target is sound")
    };
    assert!(size(1e-6) < 1e-4 * size(5.0) && size(1.0) < 0.5 * size(5.0) && size(50.0) == size(5.0));
    assert!(variance(2.0) > 2.0 * variance(5.0) && variance(50.0) > 2.0 * variance(5.0));
}

#[test]
fn effects_add_up_in_combinations_and_parts_never_seen_alone_are_known() {
    let mut drawn = Drawn::new(GENES, 2);
    let of = |perturbation: usize| move |gene: usize| effect(gene + 7 * perturbation);
    for context in 0..2 {
        drawn.add(&[], context, 1_000, |_| 0.0);
        for perturbation in 0..3 {
            drawn.add(&single(bounded(perturbation)), context, 300, of(perturbation));
        }
        for alone in 0..2 {
            let pair = [single(bounded(alone)), single(3)].concat();
            drawn.add(&pair, context, 300, |gene| of(alone)(gene) + of(3)(gene));
        }
    }
    let estimator = fitted(&drawn);
    for (parts, members) in [
        (single(3), vec![3]),
        ([single(0), single(2)].concat(), vec![0, 2]),
        ([single(3), single(2)].concat(), vec![2, 3]),
    ] {
        let truth: Vec<f64> = (0..GENES).map(|gene| members.iter().map(|member| of(*member)(gene)).sum()).collect();
        let error = difference(&shift(&estimator, &parts, 1), &truth) / root_mean_square(truth.into_iter());
        assert!(error < 0.3, "{parts:?}: {error}");
    }
}

#[test]
fn a_dose_between_has_an_effect_between() {
    let mut drawn = Drawn::new(GENES, 1);
    drawn.add(&[], 0, 1_000, |_| 0.0);
    for perturbation in 0..3 {
        for dose in [1.0, 3.0, 30.0] {
            drawn.add(&at_dose(perturbation, dose), 0, 300, |gene| effect(gene) * dose / (dose + 4.0));
        }
    }
    let estimator = fitted(&drawn);
    let size = |dose: f64| root_mean_square(shift(&estimator, &at_dose(1, dose), 0).into_iter());
    let truth = |dose: f64| root_mean_square((0..GENES).map(effect)) * dose / (dose + 4.0);
    for dose in [1.0, 2.0, 3.0, 8.0, 30.0] {
        assert!((size(dose) / truth(dose) - 1.0).abs() < 0.15, "{dose}: {} for {}", size(dose), truth(dose));
    }
}

/// Several contexts, doses, pairs and sizes of groups.
fn mixed(order: impl Fn(usize) -> usize) -> Drawn {
    let mut drawn = Drawn::with_order(GENES, 3, order);
    for context in 0..3 {
        drawn.add(&[], context, 40 + 100 * context as u64, |_| 0.0);
        for perturbation in 0..6 {
            let cells = [1, 2, 30, 200][(perturbation + context) % 4];
            let dose = (1 + perturbation % 2 * context) as f64;
            drawn.add(&at_dose(bounded(perturbation), dose), context, cells, |gene| {
                dose * effect(gene * (1 + perturbation))
            });
        }
        drawn.add(&[single(0), single(2)].concat(), context, 20, |gene| effect(gene) + effect(3 * gene));
        drawn.add(&[single(4), single(7)].concat(), context, 20, effect);
    }
    drawn
}

fn asked() -> Vec<(Vec<DosedPart>, usize)> {
    let pair = |one, other| [single(one), single(other)].concat();
    vec![(single(0), 0), (at_dose(1, 2.5), 1), (pair(0, 2), 2), (pair(2, 0), 2), (pair(7, 3), 1), (single(99), 0)]
}

#[test]
fn the_order_of_genes_of_groups_and_of_perturbations_does_not_matter() {
    let turned = |gene: usize| (gene * 7 + 3) % GENES;
    let (plain, permuted) = (mixed(|gene| gene), mixed(turned));
    let (one, other) = (fitted(&plain), fitted(&permuted));
    let mut reversed = plain.measurements().expect("the sums are sound");
    reversed.shifts.reverse();
    reversed.shifts.iter_mut().for_each(|shift| shift.parts.reverse());
    let reversed = AdaptiveShrinkage::fit(reversed).expect("the sums are sound");
    let renamed = |part: &DosedPart| DosedPart { perturbation: 1_000 - part.perturbation, ..*part };
    let mut others = plain.measurements().expect("the sums are sound");
    others.shifts.iter_mut().for_each(|shift| shift.parts = shift.parts.iter().map(renamed).collect());
    let others = AdaptiveShrinkage::fit(others).expect("the sums are sound");
    for (parts, context) in asked() {
        let expected = shift(&one, &parts, context);
        let found = shift(&other, &parts, context);
        assert!((0..GENES).all(|gene| (found[gene] - expected[turned(gene)]).abs() < 1e-9), "{parts:?}");
        assert_eq!(shift(&reversed, &parts, context), expected, "{parts:?}");
        let found = shift(&others, &parts.iter().map(renamed).collect::<Vec<_>>(), context);
        assert!(difference(&found, &expected) < 1e-8, "{parts:?} under other names");
    }
}

#[test]
fn values_in_another_unit_shift_in_that_unit() {
    let plain = mixed(|gene| gene);
    let mut scaled = plain.clone();
    scaled.scale_by(1e3);
    let (one, other) = (fitted(&plain), fitted(&scaled));
    for (parts, context) in asked() {
        let expected: Vec<f64> = shift(&one, &parts, context).into_iter().map(|shift| 1e3 * shift).collect();
        let found = shift(&other, &parts, context);
        assert!(difference(&found, &expected) <= 1e-6 * root_mean_square(expected.into_iter()), "{parts:?}");
    }
}

#[test]
fn a_range_of_genes_has_the_shifts_that_all_genes_have() {
    let estimator = fitted(&mixed(|gene| gene));
    for (parts, context) in asked() {
        let all = shift(&estimator, &parts, context);
        let target = ShiftTarget { parts: &parts, context };
        for genes in [0..0, 0..1, 13..40, 59..60] {
            let some = estimator.predict(&target, genes.clone()).expect("the target is sound");
            assert_eq!(some, all[genes]);
        }
    }
}

/// Four numbers of each of 40 perturbations, the last ten of them not measured.
fn vector(perturbation: u32) -> Vec<f64> {
    (1..=4).map(|at| f64::from(perturbation * 7 + 3).sin() * f64::from(perturbation * at + at).cos() * 3.0).collect()
}

#[test]
fn effects_of_perturbations_that_were_not_measured_follow_from_vectors_that_say_something() {
    let by_vector = |perturbation: u32, gene: usize| {
        let weight = |at: usize| if (gene + at).is_multiple_of(3) { ((gene * 5 + at * 11) as f64).sin() } else { 0.0 };
        vector(perturbation).iter().enumerate().map(|(at, number)| 0.4 * number * weight(at)).sum::<f64>()
    };
    let mut drawn = Drawn::new(GENES, 1);
    drawn.add(&[], 0, 500, |_| 0.0);
    for perturbation in 0..30 {
        drawn.add(&single(perturbation), 0, 40, |gene| by_vector(perturbation, gene));
    }
    let fit = |vectors: BTreeMap<u32, Vec<f64>>| {
        let measured = drawn.measurements().expect("the sums are sound");
        AdaptiveShrinkage::fit_with_vectors(measured, &vectors).expect("so are the vectors")
    };
    let true_vectors = fit((0..40).map(|code| (code, vector(code))).collect());
    // Each vector is another perturbation's.
    let others = fit((0..40).map(|code| (code, vector((code * 17 + 5) % 40))).collect());
    let square = |numbers: Vec<f64>| root_mean_square(numbers.into_iter()).powi(2);
    let (mut sizes, mut errors, mut expected, mut found) = (0.0, 0.0, 0.0, 0.0);
    for perturbation in 30..40 {
        let truth: Vec<f64> = (0..GENES).map(|gene| by_vector(perturbation, gene)).collect();
        errors += difference(&shift(&true_vectors, &single(perturbation), 0), &truth).powi(2);
        sizes += square(truth);
        expected += true_vectors
            .variance(&ShiftTarget { parts: &single(perturbation), context: 0 })
            .expect("the target is sound");
        found += square(shift(&others, &single(perturbation), 0));
    }
    assert!(errors < 0.05 * sizes, "shifts of mean square {sizes} are estimated with errors of {errors}");
    assert!((0.4..4.0).contains(&(expected / errors)), "errors of {errors} instead of {expected}");
    assert!(found < 0.02 * sizes, "vectors that say nothing predict {found}, where shifts have {sizes}");
    // Vectors do not change the shifts of measured perturbations.
    assert_eq!(shift(&true_vectors, &single(3), 0), shift(&others, &single(3), 0));
}

#[test]
fn what_training_did_not_have_has_an_answer() {
    let drawn = mixed(|gene| gene);
    let mut measured = drawn.measurements().expect("the sums are sound");
    // A context without controls, whose shifts are left out.
    measured.controls.push(None);
    let mut foreign = measured.shifts[0].clone();
    foreign.context = 3;
    measured.shifts.push(foreign);
    let estimator = AdaptiveShrinkage::fit(measured).expect("the sums are sound");
    let all = |parts: &[DosedPart], context| {
        estimator.predict(&ShiftTarget { parts, context }, 0..GENES).expect("it is answered")
    };
    let here = all(&single(2), 2);
    for context in [3, 4, usize::MAX] {
        let elsewhere = all(&single(2), context);
        assert_eq!(elsewhere, all(&single(2), 3), "of these contexts, as much is known");
        let product: f64 = here.iter().zip(&elsewhere).map(|(here, there)| here * there).sum();
        assert!(product > 0.0, "an effect is the same elsewhere, and smaller");
        assert!(root_mean_square(elsewhere.into_iter()) < root_mean_square(here.iter().copied()));
    }
    let [unknown, twice] = [all(&single(50), 0), all(&[single(50), single(51)].concat(), 0)];
    // The shared response counts once for each part.
    assert!(unknown.iter().zip(&twice).all(|(one, two)| (2.0 * one - two).abs() < 1e-12));
}

type Change = &'static dyn Fn(&mut Drawn);

#[test]
fn what_cannot_be_estimated_is_refused() {
    let refused = |change: Change| {
        let mut drawn = mixed(|gene| gene);
        change(&mut drawn);
        drawn.measurements().and_then(AdaptiveShrinkage::fit).expect_err("it is refused").to_string()
    };
    let cases: [(&str, Change); 7] = [
        ("no cells", &|drawn| drawn.groups[3].cells = 0),
        ("not of 60 genes", &|drawn| drawn.groups[3].values.truncate(59)),
        ("not finite", &|drawn| drawn.groups[3].squares[7] = f64::NAN),
        ("twice", &|drawn| drawn.groups.push(drawn.groups[3].clone())),
        ("is not positive", &|drawn| drawn.groups[3].parts[0].dose = 0.0),
        ("no group has two cells", &|drawn| drawn.groups.iter_mut().for_each(|group| group.cells = 1)),
        ("both controls and perturbed", &|drawn| drawn.groups.retain(|group| group.parts.is_empty())),
    ];
    for (reason, change) in cases {
        let message = refused(change);
        assert!(message.contains(reason), "{message} does not say `{reason}`");
    }
    let estimator = fitted(&mixed(|gene| gene));
    let target = |parts: &[DosedPart], genes| estimator.predict(&ShiftTarget { parts, context: 0 }, genes);
    assert!(target(&[], 0..1).is_err());
    assert!(target(&[single(0), single(0)].concat(), 0..1).is_err());
    assert!(target(&at_dose(0, f64::NAN), 0..1).is_err());
    assert!(target(&single(0), 0..61).is_err());
}

/// An effect on a third of the genes.
fn effect(gene: usize) -> f64 {
    [0.8, 0.0, 0.0, -0.5, 0.0, 0.0, 0.3, 0.0, 0.0, 0.0][gene % 10]
}
