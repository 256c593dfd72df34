//! The errors of single genes: as large as the estimator errs, and tests that find nothing where nothing is.

mod support {
    #[expect(dead_code, reason = "other tests use more of it")]
    pub(crate) mod drawn;
}

use shrinkage::{AdaptiveShrinkage, DosedPart, GeneErrors, ShiftTarget};

use self::support::drawn::{Drawn, at_dose, root_mean_square, single};

const GENES: usize = 400;

fn fitted(drawn: &Drawn) -> AdaptiveShrinkage {
    AdaptiveShrinkage::fit(drawn.measurements().expect("the sums are sound")).expect("the shifts are sound")
}

fn errors(estimator: &AdaptiveShrinkage, parts: &[DosedPart], context: usize) -> Option<GeneErrors> {
    estimator.gene_errors(&ShiftTarget { parts, context }).expect("the target is sound")
}

/// An effect on every eighth gene.
fn effect(seed: usize) -> impl Fn(usize) -> f64 {
    move |gene| if (gene + seed).is_multiple_of(8) { 0.2 * ((gene * 7 + seed * 3) % 11) as f64 - 1.0 } else { 0.0 }
}

/// Three contexts and twelve perturbations; the last was not given in the last context, and only even ones do anything.
fn screen() -> Drawn {
    let mut drawn = Drawn::new(GENES, 3);
    for context in 0..3 {
        drawn.add(&[], context, 300, |_| 0.0);
        for perturbation in (0..12).filter(|perturbation| (context, *perturbation) != (2, 11)) {
            let of = effect(perturbation as usize);
            drawn.add(
                &single(perturbation),
                context,
                60,
                |gene| if perturbation.is_multiple_of(2) { of(gene) } else { 0.0 },
            );
        }
        drawn.add(&[single(0), single(2)].concat(), context, 60, |gene| effect(0)(gene) + effect(2)(gene));
        drawn.add(&[single(4), single(99)].concat(), context, 60, effect(4));
    }
    drawn
}

#[test]
fn where_nothing_is_shifted_z_is_standard_normal() {
    let estimator = fitted(&screen());
    let mut z: Vec<f64> = Vec::new();
    for perturbation in (1..12).step_by(2) {
        for context in 0..3 {
            z.extend(errors(&estimator, &single(perturbation), context).and_then(|of| of.z).expect("it was measured"));
        }
    }
    let deviation = root_mean_square(z.iter().copied());
    assert!((0.9..1.05).contains(&deviation), "{deviation}");
    // Shares of two-sided p-values below 0.5, 0.05 and 0.01. Noise is inflated by a tenth, which makes the last one 0.007, and sums of
    // twelve uniform numbers have thinner tails than a normal number.
    for (limit, share) in [(0.674, 0.5), (1.960, 0.05), (2.576, 0.01)] {
        let found = z.iter().filter(|z| z.abs() > limit).count() as f64 / z.len() as f64;
        assert!((0.5 * share..1.15 * share).contains(&found), "{found} beyond {limit}, not {share}");
    }
}

#[test]
fn shifts_are_found() {
    let estimator = fitted(&screen());
    for parts in [single(6), [single(0), single(2)].concat(), [single(6), single(8)].concat()] {
        let truth = |gene: usize| parts.iter().map(|part| effect(part.perturbation as usize)(gene)).sum::<f64>();
        let z = errors(&estimator, &parts, 1).and_then(|of| of.z).expect("all parts were measured alone");
        let large: Vec<usize> = (0..GENES).filter(|gene| truth(*gene).abs() > 0.35).collect();
        assert!(large.len() > 20 && large.iter().all(|gene| z[*gene].abs() > 3.0 && z[*gene] * truth(*gene) > 0.0));
    }
}

#[test]
fn standard_errors_are_those_of_the_estimates() {
    let estimator = fitted(&screen());
    for (parts, context) in [(single(4), 0), (single(3), 1), (single(11), 2), ([single(6), single(8)].concat(), 0)] {
        let target = ShiftTarget { parts: &parts, context };
        let estimate = estimator.predict(&target, 0..GENES).expect("the target is sound");
        let does = |part: &&DosedPart| part.perturbation.is_multiple_of(2);
        let truth =
            |gene: usize| parts.iter().filter(does).map(|part| effect(part.perturbation as usize)(gene)).sum::<f64>();
        let found = errors(&estimator, &parts, context).expect("it was measured").standard_error;
        let error = root_mean_square(estimate.iter().enumerate().map(|(gene, of)| of - truth(gene)));
        let expected = root_mean_square(found.iter().copied());
        assert!((0.6..1.7).contains(&(expected / error)), "{parts:?}: {expected} expected, {error} found");
        // Averaged over genes, they are the expected error of the whole shift.
        let whole = estimator.variance(&target).expect("the target is sound").sqrt();
        assert!((0.8..1.25).contains(&(expected / whole)), "{parts:?}: {expected} over genes, {whole} as a whole");
    }
}

#[test]
fn what_was_not_measured_has_no_errors_and_what_was_not_measured_alone_no_test() {
    let estimator = fitted(&screen());
    assert_eq!(errors(&estimator, &single(50), 0), None);
    assert_eq!(errors(&estimator, &[single(0), single(50)].concat(), 0), None);
    assert!(errors(&estimator, &single(99), 0).is_some_and(|of| of.z.is_none()));
    assert!(errors(&estimator, &[single(4), single(99)].concat(), 0).is_some_and(|of| of.z.is_some()));
    assert!(estimator.gene_errors(&ShiftTarget { parts: &at_dose(0, -1.0), context: 0 }).is_err());
    // A context without controls has what the others have in common.
    assert!(errors(&estimator, &single(4), 9).is_some_and(|of| of.standard_error.iter().all(|error| *error > 0.0)));
}
