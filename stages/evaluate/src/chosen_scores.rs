//! Which scores to compute: so that nothing is done for the others.

use std::str::FromStr;

use schemas::Error;

use crate::scores::PredictionScores;

/// The score that decides which baseline is the best: it is always computed.
const DECIDING: &str = "pearson_delta";

/// The scores that compare cells as points.
const OF_CELLS: [&str; 2] = ["e_distance", "mmd"];

/// The first score by tests of cells; all that follow are such too.
const FIRST_BY_TESTS: &str = "overlap_at_n";

/// The scores that identify a prediction among other conditions.
const IDENTIFYING: [&str; 5] =
    ["rank", "centroid_accuracy", "discrimination_score_l1", "discrimination_score_l2", "discrimination_score_cosine"];

/// Some of the scores; `pearson_delta`, which verdicts are by, is always among them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChosenScores(Vec<&'static str>);

impl Default for ChosenScores {
    fn default() -> Self {
        Self::from_fn(|_| true)
    }
}

impl ChosenScores {
    fn from_fn(is_chosen: impl Fn(&str) -> bool) -> Self {
        Self(PredictionScores::NAMES.into_iter().filter(|name| *name == DECIDING || is_chosen(name)).collect())
    }

    /// Their names, in the order of [`PredictionScores::NAMES`].
    #[must_use]
    pub fn names(&self) -> &[&'static str] {
        &self.0
    }

    /// Whether these are all scores.
    #[must_use]
    pub fn is_all(&self) -> bool {
        self.0.len() == PredictionScores::NAMES.len()
    }

    /// Whether a score is among them.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.0.contains(&name)
    }

    /// Whether one of them compares cells as points.
    #[must_use]
    pub fn need_points(&self) -> bool {
        OF_CELLS.iter().any(|name| self.has(name))
    }

    /// Whether one of them identifies predictions among other conditions.
    #[must_use]
    pub fn need_others(&self) -> bool {
        IDENTIFYING.iter().any(|name| self.has(name))
    }

    /// Whether one of them is by tests of cells.
    #[must_use]
    pub fn need_tests(&self) -> bool {
        self.0.iter().any(|name| is_by_tests(name))
    }

    /// These scores; the others are undefined.
    #[must_use]
    pub fn only(&self, scores: PredictionScores) -> PredictionScores {
        match self.is_all() {
            true => scores,
            false => PredictionScores::from_fn(|name| scores.named(name).filter(|_| self.has(name))),
        }
    }
}

fn is_by_tests(name: &str) -> bool {
    let place = |name: &str| PredictionScores::NAMES.iter().position(|other| *other == name);
    place(name) >= place(FIRST_BY_TESTS)
}

impl FromStr for ChosenScores {
    type Err = Error;

    /// Parses names of scores, or of kinds of them, with commas between.
    fn from_str(text: &str) -> Result<Self, Error> {
        let names: Vec<&str> = text.split(',').map(str::trim).collect();
        let is_of = |name: &str, wanted: &str| match wanted {
            "all" => true,
            "means" => !OF_CELLS.contains(&name) && !is_by_tests(name),
            "cells" => OF_CELLS.contains(&name),
            "tests" => is_by_tests(name),
            _ => name == wanted,
        };
        let is_known = |wanted: &&str| PredictionScores::NAMES.iter().any(|name| is_of(name, wanted));
        if let Some(unknown) = names.iter().find(|wanted| !is_known(wanted)) {
            let hint = "name scores as in JSON, or all, means, cells or tests, with commas between";
            return Err(Error::usage(format!("`{unknown}` is not a score"), hint));
        }
        Ok(Self::from_fn(|name| names.iter().any(|wanted| is_of(name, wanted))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(text: &str) -> ChosenScores {
        text.parse().expect("known scores")
    }

    #[test]
    fn scores_are_chosen_by_name_or_by_kind() {
        assert_eq!(chosen("mse_delta, rank").names(), ["pearson_delta", "mse_delta", "rank"]);
        assert_eq!(chosen("cells").names(), ["pearson_delta", "e_distance", "mmd"]);
        assert_eq!(chosen("all"), ChosenScores::default());
        assert_eq!(chosen("means,cells,tests"), ChosenScores::default());
        assert_eq!((chosen("means").names().len(), chosen("tests").names().len()), (32, 18));
        let error = "mse_delta,mse".parse::<ChosenScores>().expect_err("no such score").to_string();
        assert!(error.contains("`mse` is not a score"), "{error}");
    }

    #[test]
    fn only_what_they_need_is_computed() {
        let needs = |text: &str| {
            let chosen = chosen(text);
            (chosen.need_points(), chosen.need_others(), chosen.need_tests())
        };
        assert_eq!(needs("mse_delta"), (false, false, false));
        assert_eq!(needs("means"), (false, true, false));
        assert_eq!((needs("cells"), needs("gene_dependence")), ((true, false, false), (false, false, true)));
    }

    #[test]
    fn what_is_not_chosen_is_undefined() {
        let scores = PredictionScores { rank: Some(1.0), mmd: Some(2.0), ..PredictionScores::default() };
        assert_eq!(chosen("rank").only(scores), PredictionScores { mmd: None, ..scores });
        assert_eq!(chosen("all").only(scores), scores);
    }
}
