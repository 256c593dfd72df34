//! The doses at which a curve is drawn, by those of the data.

use schemas::vocabulary::Vocabulary;

/// Number of evenly spaced doses of a curve, in addition to those of the data.
const DOSES: u32 = 10;
/// Number of doses between two of the data, where these span decades.
const DOSES_BETWEEN: u32 = 3;
/// Doses of the data span decades if the largest is this many times the smallest.
const DECADES: f64 = 20.0;

/// The doses of a curve of a perturbation, by those at which it was trained, alone or in combinations; of one that was not trained,
/// only the dose 0.
pub(super) fn trained_grid(vocabulary: &Vocabulary, perturbation: &str) -> Vec<f64> {
    let code = vocabulary.perturbation(perturbation);
    let parts = vocabulary.trained.iter().flat_map(|group| group.perturbations.iter().zip(&group.doses));
    let trained: Vec<f64> = parts.filter(|(known, _)| Some(**known) == code).map(|(_, dose)| *dose).collect();
    grid(&trained, &[])
}

/// The doses of a curve, in ascending order: those of the data, and some between them.
pub(super) fn grid(trained: &[f64], of_atlas: &[f64]) -> Vec<f64> {
    let mut known: Vec<f64> = trained.iter().chain(of_atlas).copied().filter(|dose| *dose > 0.0).collect();
    known.sort_by(f64::total_cmp);
    known.dedup();
    let mut doses = vec![0.0];
    if let ([smallest, ..], [.., largest]) = (&known[..], &known[..]) {
        if *largest >= DECADES * smallest {
            for pair in known.windows(2) {
                let ratio = (pair[1] / pair[0]).ln() / f64::from(DOSES_BETWEEN + 1);
                doses.extend((1..=DOSES_BETWEEN).map(|at| rounded(pair[0] * (ratio * f64::from(at)).exp())));
            }
        } else {
            doses.extend((1..=DOSES).map(|at| rounded(largest * f64::from(at) / f64::from(DOSES))));
        }
    }
    doses.extend(known);
    doses.sort_by(f64::total_cmp);
    doses.dedup();
    doses
}

/// Three digits of a dose, which is shown to people.
fn rounded(dose: f64) -> f64 {
    format!("{dose:.2e}").parse().unwrap_or(dose)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_has_the_doses_of_the_data_and_some_between() {
        let near = grid(&[0.5, 1.0], &[0.5, 2.0]);
        assert_eq!(near, [0.0, 0.2, 0.4, 0.5, 0.6, 0.8, 1.0, 1.2, 1.4, 1.6, 1.8, 2.0]);
        let far = grid(&[10.0, 1000.0], &[]);
        assert_eq!(far, [0.0, 10.0, 31.6, 100.0, 316.0, 1000.0]);
    }
}
