//! Names for readers in place of technical names of scores, predictions, measurements and scales.

use statistics::scale::Scale;

/// A technical name, the name on the page, and what it means.
pub(super) type Named = [&'static str; 3];

/// Scores, the most telling first.
const SCORES: &str = include_str!("names/scores.tsv");
/// The model, baselines and the ceiling.
const PREDICTIONS: &str = include_str!("names/predictions.tsv");
/// Measurements of training.
const MEASUREMENTS: &str = include_str!("names/measurements.tsv");

fn named(table: &'static str) -> impl Iterator<Item = Named> {
    table.lines().map(|line| {
        let mut cells = line.split('\t');
        [(); 3].map(|()| cells.next().unwrap_or_default())
    })
}

/// All scores, the most telling first.
pub(super) fn scores() -> impl Iterator<Item = Named> {
    named(SCORES)
}

/// All predictions that are compared.
pub(super) fn predictions() -> impl Iterator<Item = Named> {
    named(PREDICTIONS)
}

/// The name and the meaning of a score; its own name if it has none.
pub(super) fn score(technical: &str) -> (&str, &'static str) {
    found(SCORES, technical)
}

/// The name and the meaning of a baseline, of the model, its offset or the ceiling.
pub(super) fn prediction(technical: &str) -> (&str, &'static str) {
    found(PREDICTIONS, technical)
}

/// The name and the meaning of a measurement of training.
pub(super) fn measurement(technical: &str) -> (&str, &'static str) {
    found(MEASUREMENTS, technical)
}

fn found<'a>(table: &'static str, technical: &'a str) -> (&'a str, &'static str) {
    let known = named(table).find(|[name, ..]| *name == technical);
    known.map_or((technical, ""), |[_, name, meaning]| (name, meaning))
}

/// The text that a pointer on a name shows: what it means, and the technical name.
pub(super) fn tooltip(technical: &str, meaning: &str) -> String {
    if meaning.is_empty() { technical.to_owned() } else { format!("{technical}: {meaning}") }
}

/// Text with a capital letter at its start.
pub(super) fn capitalised(text: &str) -> String {
    let mut characters = text.chars();
    let first: String = characters.next().map(|first| first.to_uppercase().collect()).unwrap_or_default();
    first + characters.as_str()
}

/// The scale of a profile's numbers.
pub(super) fn scale(scale: Scale) -> &'static str {
    match scale {
        Scale::LogNormalised => "mean of ln(1 + counts per 10,000)",
        Scale::Log1p => "mean of ln(1 + counts)",
        Scale::Pseudobulk => "ln(1 + mean of counts per 10,000)",
        Scale::Values => "mean of the atlas's values",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use evaluate::{Baseline, PredictionScores};

    use super::*;

    #[test]
    fn every_score_and_baseline_has_one_name() {
        let technical: BTreeSet<&str> = scores().map(|[technical, ..]| technical).collect();
        assert_eq!(technical, BTreeSet::from(PredictionScores::NAMES));
        let human: BTreeSet<&str> = scores().map(|[_, human, _]| human).collect();
        assert_eq!(human.len(), PredictionScores::NAMES.len(), "two scores have one name");
        let lines = SCORES.lines().chain(PREDICTIONS.lines()).chain(MEASUREMENTS.lines());
        assert!(lines.into_iter().all(|line| line.matches('\t').count() == 2));
        for baseline in Baseline::ALL {
            assert_ne!(prediction(baseline.name()).1, "", "{}", baseline.name());
        }
    }
}
