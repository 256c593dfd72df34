//! The page about several predictions of the same cells.

use evaluate::{Evaluation, GeneChanges};

use super::{
    CommandRun,
    chart::pairs,
    genes::change_charts,
    glossary::glossary,
    names,
    page::{commands, details, document, score_note, section},
    score_tables::{NamedEvaluation, condition_table, mean_table, range_table},
    verdict_box::named_box,
};

/// A prediction on the page.
#[derive(Clone, Copy, Debug)]
pub struct PredictionOnPage<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its scores.
    pub evaluation: &'a Evaluation,
    /// The real and predicted change of genes, one condition each.
    pub changes: &'a [GeneChanges],
}

/// The whole page, as HTML; all predictions are of the same conditions.
#[must_use]
pub fn judged_page(title: &str, predictions: &[PredictionOnPage<'_>], runs: &[CommandRun]) -> String {
    let Some(first) = predictions.first() else {
        return document(title, r#"<div class="verdict none"><p class="said">Nothing was compared.</p></div>"#);
    };
    let named: Vec<NamedEvaluation<'_>> = predictions.iter().map(|one| (one.name, one.evaluation)).collect();
    let verdicts: String = named.iter().map(|(name, evaluation)| named_box(name, evaluation)).collect();
    let by_condition = |technical: &str| {
        section(
            &format!("{}, by condition", names::capitalised(names::score(technical).0)),
            "",
            &condition_table(&named, technical).html(),
        )
    };
    let charts = predictions.iter().map(|one| {
        section(
            &format!("Genes that change: {}", one.name),
            "The genes whose real change is the most significant, in the conditions with the largest changes; then change against change, a dot each gene.",
            &pairs(&change_charts(one.changes)),
        )
    });
    let sections = [
        section("Mean scores", &score_note(first.evaluation), &mean_table(&named).html()),
        by_condition("pearson_delta"),
        by_condition("mse_delta"),
        section(
            "Scores as shares of their range",
            "0 is a prediction that knows nothing, the better of no change and the mean response; 1 is an interpolated duplicate of the \
             real cells. A score without a range shows nothing.",
            &range_table(&named).html(),
        ),
    ];
    let behind = details("Glossary", &glossary(first.evaluation)) + &commands(runs);
    let body = [verdicts].into_iter().chain(sections).chain(charts).chain([section("Behind the page", "", &behind)]);
    document(title, &body.collect::<String>())
}
