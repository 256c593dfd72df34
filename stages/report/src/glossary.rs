//! Terms, scores and baselines of a page, explained.

use evaluate::Evaluation;

use super::{
    names::{predictions, scores},
    svg::escape,
};

/// Terms of a page that are not names of scores or predictions.
const TERMS: [(&str, &str); 8] = [
    ("change", "the mean of perturbed cells less that of control cells, for each gene, on the scale named above"),
    ("condition", "a perturbation, or several, at their doses"),
    ("context", "the covariates of cells, such as their cell type, without the batch"),
    ("held out", "not used for training, nor for choosing the best epoch"),
    ("reference controls", "controls that nothing was trained on, from which real changes are measured"),
    (
        "95% interval",
        "would hold the true change in 95 of 100 experiments with other cells: 1.96 standard errors on either side",
    ),
    (
        "share",
        "where a score lies between that of a prediction that knows nothing (0) and that of a duplicate of the experiment (1)",
    ),
    (
        "replicate agreement",
        "the score of one half of the real cells as a prediction of the other half; with few cells, a prediction may be better",
    ),
];

/// The terms, the predictions, and the scores that are defined in this evaluation.
pub(super) fn glossary(evaluation: &Evaluation) -> String {
    let entry = |term: &str, technical: &str, meaning: &str| {
        let technical =
            if technical.is_empty() { String::new() } else { format!(" <code>{}</code>", escape(technical)) };
        format!("<dt>{}{technical}</dt><dd>{}</dd>", escape(term), escape(meaning))
    };
    let terms = TERMS.iter().map(|(term, meaning)| entry(term, "", meaning));
    let predictions = predictions().map(|[technical, name, meaning]| entry(name, technical, meaning));
    let is_shown = |technical: &str| evaluation.mean.named(technical).is_some();
    let scores = scores().filter(|[technical, ..]| is_shown(technical));
    let scores = scores.map(|[technical, name, meaning]| entry(name, technical, meaning));
    format!("<dl>{}</dl>", terms.chain(predictions).chain(scores).collect::<String>())
}
