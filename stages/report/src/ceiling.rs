//! The ceiling's name on the page: what noise allows, or, where the model exceeds it, how well few cells agree.

use evaluate::{Evaluation, PredictionScores};

use super::names::prediction;

/// How the ceiling of a score is called.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct CeilingName {
    /// Its name.
    pub(super) name: String,
    /// The numbers of cells it is of, where it is not an upper limit; empty otherwise.
    pub(super) cells: String,
    /// The text that a pointer on it shows.
    pub(super) tooltip: &'static str,
}

impl CeilingName {
    /// The name for a score of these evaluations, whose real cells are the same.
    pub(super) fn of(evaluations: &[&Evaluation], score: &str) -> Self {
        let (name, meaning) = prediction("ceiling");
        let is_exceeded = evaluations.iter().any(|one| exceeds(score, &one.mean, &one.ceiling()));
        if !is_exceeded {
            return Self { name: name.into(), cells: String::new(), tooltip: meaning };
        }
        let of_conditions = evaluations.iter().flat_map(|one| one.judged().map(|condition| condition.cells));
        let range = of_conditions.fold(None, |range: Option<(u64, u64)>, cells| {
            Some(range.map_or((cells, cells), |(low, high)| (low.min(cells), high.max(cells))))
        });
        let cells = match range {
            Some((low, high)) if low == high => format!("n = {low}"),
            Some((low, high)) => format!("n = {low}–{high}"),
            None => String::new(),
        };
        let tooltip =
            "one half of the real cells as a prediction of the other half; with so few cells it is not an upper limit";
        Self { name: "replicate agreement".into(), cells, tooltip }
    }

    /// Name and numbers of cells.
    pub(super) fn whole(&self) -> String {
        // The numbers of cells stay on one line.
        let cells = self.cells.replace(' ', "\u{a0}");
        if cells.is_empty() { self.name.clone() } else { format!("{} ({cells})", self.name) }
    }
}

/// Whether a prediction is better than the ceiling.
fn exceeds(score: &str, model: &PredictionScores, ceiling: &PredictionScores) -> bool {
    match (model.named(score), ceiling.named(score)) {
        (Some(model), Some(ceiling)) if PredictionScores::is_an_error(score) => model < ceiling,
        (Some(model), Some(ceiling)) => model > ceiling,
        _ => false,
    }
}
