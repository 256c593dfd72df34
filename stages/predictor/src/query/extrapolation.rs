//! How far a prediction goes beyond the training data.

use std::collections::HashSet;

use schemas::vocabulary::Vocabulary;

/// How far a prediction goes beyond the training data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Extrapolation {
    /// Condition, doses and covariates were trained together.
    Seen,
    /// The combination was trained with these covariates, at other doses.
    Dose,
    /// All of its perturbations were trained, but not together.
    Combination,
    /// Everything was trained, but not this condition with these covariates.
    CovariateCombination,
    /// These covariate values were never trained together.
    Covariate,
    /// One of its perturbations was never trained.
    Perturbation,
}

impl Extrapolation {
    /// Its name in tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Seen => "seen",
            Self::Dose => "dose",
            Self::Combination => "combination",
            Self::CovariateCombination => "covariate_combination",
            Self::Covariate => "covariate",
            Self::Perturbation => "perturbation",
        }
    }
}

/// The training data, for look-up.
#[derive(Debug)]
pub(super) struct TrainingCoverage {
    /// Perturbation codes, the bits of their doses, and covariate values.
    groups: HashSet<(Vec<u32>, Vec<u64>, Vec<String>)>,
    /// Perturbation codes and covariate values.
    combinations_here: HashSet<(Vec<u32>, Vec<String>)>,
    combinations: HashSet<Vec<u32>>,
    contexts: HashSet<Vec<String>>,
    /// This code and larger ones are of perturbations that were never trained.
    first_unseen: usize,
}

impl TrainingCoverage {
    pub(super) fn new(vocabulary: &Vocabulary) -> Self {
        let all = || vocabulary.trained.iter();
        Self {
            groups: all()
                .map(|group| (group.perturbations.clone(), bits(&group.doses), group.covariates.clone()))
                .collect(),
            combinations_here: all().map(|group| (group.perturbations.clone(), group.covariates.clone())).collect(),
            combinations: all().map(|group| group.perturbations.clone()).collect(),
            contexts: all().map(|group| group.covariates.clone()).collect(),
            first_unseen: vocabulary.perturbations.len(),
        }
    }

    /// How far perturbations at doses, sorted by code, with these covariates go beyond the training data.
    pub(super) fn distance(&self, parts: &[(u32, f64)], covariates: &[String]) -> Extrapolation {
        let (codes, doses): (Vec<u32>, Vec<f64>) = parts.iter().copied().unzip();
        let covariates = covariates.to_vec();
        if self.groups.contains(&(codes.clone(), bits(&doses), covariates.clone())) {
            Extrapolation::Seen
        } else if codes.iter().any(|code| self.first_unseen <= *code as usize) {
            Extrapolation::Perturbation
        } else if !self.contexts.contains(&covariates) {
            Extrapolation::Covariate
        } else if self.combinations_here.contains(&(codes.clone(), covariates)) {
            Extrapolation::Dose
        } else if self.combinations.contains(&codes) {
            Extrapolation::CovariateCombination
        } else {
            Extrapolation::Combination
        }
    }
}

fn bits(doses: &[f64]) -> Vec<u64> {
    doses.iter().map(|dose| dose.to_bits()).collect()
}

#[cfg(test)]
mod tests {
    use schemas::vocabulary::TrainedGroup;

    use super::*;

    #[test]
    fn the_distance_tells_what_is_new() {
        let group = |perturbations: &[u32], doses: &[f64], covariate: &str| TrainedGroup {
            perturbations: perturbations.into(),
            doses: doses.into(),
            covariates: vec![covariate.into()],
            cells: 10,
        };
        let vocabulary = Vocabulary {
            perturbations: vec![String::new(); 4],
            trained: vec![group(&[2], &[1.0], "T"), group(&[3], &[1.0], "B"), group(&[], &[], "B")],
            ..Vocabulary::default()
        };
        let trained = TrainingCoverage::new(&vocabulary);
        let at = |parts: &[(u32, f64)], covariate: &str| trained.distance(parts, &[covariate.into()]);
        assert_eq!(at(&[(2, 1.0)], "T"), Extrapolation::Seen);
        assert_eq!(at(&[(2, 0.5)], "T"), Extrapolation::Dose);
        assert_eq!(at(&[(2, 1.0)], "B"), Extrapolation::CovariateCombination);
        assert_eq!(at(&[(2, 1.0), (3, 1.0)], "T"), Extrapolation::Combination);
        assert_eq!(at(&[(2, 1.0)], "NK"), Extrapolation::Covariate);
        assert_eq!(at(&[(2, 1.0), (4, 1.0)], "NK"), Extrapolation::Perturbation);
        assert_eq!(at(&[], "B"), Extrapolation::Seen);
    }
}
