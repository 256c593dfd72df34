//! Shifts and fitted parameters are those of the numpy prototype on the same sums, which `golden/make.py` asked.
//!
//! Two things can't be compared. Where there are more than 50 perturbations, the prototype draws some at random to
//! choose kernels, and this crate takes them evenly spaced. The prototype fails on parts that were never alone in two
//! or more contexts, and has no answer for perturbations and contexts that training lacks.

#[allow(dead_code, reason = "the promises draw their groups")]
#[path = "support/drawn.rs"]
mod drawn;

use std::collections::BTreeMap;

use serde::Deserialize;
use shrinkage::{AdaptiveShrinkage, CellSums, DosedPart, MeasuredShifts, ShiftTarget};

use self::drawn::{MeasuredGroup, measured};

#[derive(Deserialize)]
struct Cases {
    cases: BTreeMap<String, Case>,
}

#[derive(Deserialize)]
struct Case {
    genes: usize,
    contexts: usize,
    groups: Vec<CaseGroup>,
    targets: Vec<CaseTarget>,
    fitted: Fitted,
}

#[derive(Deserialize)]
struct CaseGroup {
    parts: Vec<(u32, f64)>,
    context: usize,
    cells: u64,
    sums: [Vec<f64>; 2],
}

#[derive(Deserialize)]
struct CaseTarget {
    parts: Vec<(u32, f64)>,
    context: usize,
    shift: Vec<f64>,
}

#[derive(Deserialize)]
struct Fitted {
    variances: Vec<f64>,
    kernel_weights: Vec<f64>,
    half_effects: Vec<(u32, f64)>,
    own_of_doses: f64,
    noise_factor: f64,
    slope: f64,
    misfit: f64,
}

fn parts(parts: &[(u32, f64)]) -> Vec<DosedPart> {
    parts.iter().map(|(perturbation, dose)| DosedPart { perturbation: *perturbation, dose: *dose }).collect()
}

impl Case {
    fn measurements(&self) -> MeasuredShifts {
        let parts: Vec<Vec<DosedPart>> = self.groups.iter().map(|group| parts(&group.parts)).collect();
        let groups = self.groups.iter().zip(&parts).map(|(group, parts)| {
            let [values, squares] = &group.sums;
            MeasuredGroup { parts, context: group.context, cells: CellSums { cells: group.cells, values, squares } }
        });
        measured(self.genes, self.contexts, &groups.collect::<Vec<_>>()).expect("the sums are sound")
    }
}

/// The largest difference, in units of the largest expected number.
fn difference(found: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let scale = expected.iter().fold(f64::MIN_POSITIVE, |most: f64, number| most.max(number.abs()));
    found.iter().zip(expected).fold(0.0, |most: f64, (found, expected)| most.max((found - expected).abs() / scale))
}

#[test]
fn shifts_and_parameters_are_those_of_the_prototype() {
    let cases: Cases = serde_json::from_str(include_str!("golden/cases.json")).expect("the file is whole");
    assert_eq!(cases.cases.len(), 7);
    let mut far = Vec::new();
    for (name, case) in &cases.cases {
        let mut compare = |what: String, found: &[f64], expected: &[f64]| {
            let difference = difference(found, expected);
            if difference.is_nan() || difference > 1e-9 {
                far.push(format!("{name}, {what}: {difference:.1e}"));
            }
        };
        let measurements = case.measurements();
        compare("variances".into(), &measurements.variances, &case.fitted.variances);
        let estimator = AdaptiveShrinkage::fit(measurements).expect("the sums are sound");
        let (found, fitted) = (estimator.parameters(), &case.fitted);
        compare("kernels".into(), &found.kernel_weights, &fitted.kernel_weights);
        let halves: Vec<f64> = found.half_effects.iter().map(|(_, half)| *half).collect();
        compare(
            "half-effect doses".into(),
            &halves,
            &fitted.half_effects.iter().map(|(_, half)| *half).collect::<Vec<_>>(),
        );
        assert!(found.half_effects.iter().zip(&fitted.half_effects).all(|(found, expected)| found.0 == expected.0));
        compare("doses".into(), &[found.own_of_doses], &[fitted.own_of_doses]);
        compare("noise".into(), &[found.noise_factor], &[fitted.noise_factor]);
        compare("slope".into(), &[found.slope], &[fitted.slope]);
        compare("misfit".into(), &[found.misfit], &[fitted.misfit]);
        for target in &case.targets {
            let asked = ShiftTarget { parts: &parts(&target.parts), context: target.context };
            let found = estimator.predict(&asked, 0..case.genes).expect("the target is sound");
            compare(format!("{:?} in {}", target.parts, target.context), &found, &target.shift);
        }
    }
    assert!(far.is_empty(), "{}", far.join("\n"));
}
