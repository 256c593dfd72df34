//! The page: its sections, in the order of a reader's questions.

use evaluate::{Baseline, ConditionScores, Evaluation, PredictionScores};

use super::{
    ReportInput, TextTable,
    charts::{scatter, score_dots, training_curves},
    latents::latent_maps,
    responses::dose_responses,
    svg::escape,
};

/// The whole page, as HTML.
#[must_use]
pub fn page(input: &ReportInput) -> String {
    let summary = input.evaluation.as_ref().map_or("Not evaluated yet.", |evaluation| &evaluation.summary);
    let scatters: String = input.scatters.iter().filter_map(scatter).collect();
    let sections = [
        input.evaluation.as_ref().map(scores).unwrap_or_default(),
        section(
            "Predicted against real means",
            "Each dot is a gene. The genes that changed most are marked, and named if there is room; a line leads \
             to each from the position of its control.",
            &charts("charts pairs", &scatters),
        ),
        section(
            "Latents",
            "Each dot is a cell, on the first two principal components of the latents. The basal latent should not separate \
             conditions; the decoded latent, after adding perturbation and covariates, should.",
            &charts("charts pairs", &input.latents.as_ref().map(latent_maps).unwrap_or_default()),
        ),
        section(
            "Dose responses",
            "The size of the predicted change of all genes, relative to the prediction for control. Dotted lines are trained \
             doses; an open circle is a prediction beyond the training data, which is less certain the larger its distance.",
            &charts("charts pairs", &dose_responses(&input.responses)),
        ),
        section("Training", "", &charts("charts", &training_curves(&input.history))),
        section(
            "Pipeline",
            "The slow stage is the one after a full edge and before an empty one.",
            &table(&input.pipeline),
        ),
        section("Model", "", &definitions(&input.model_card)),
    ];
    document(&input.title, &sentence(summary), &sections.concat())
}

/// A page with a title, a sentence that introduces it, and sections as HTML.
pub(super) fn document(title: &str, lead: &str, sections: &str) -> String {
    let (title, lead, style) = (escape(title), escape(lead), include_str!("style.css"));
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{title}</title>\n<style>\n{style}</style>\n</head>\n<body>\n\
         <header><h1>{title}</h1><p class=\"lead\">{lead}</p></header>\n{sections}</body>\n</html>\n",
    )
}

/// A section, or nothing if it would be empty.
pub(super) fn section(title: &str, note: &str, body: &str) -> String {
    if body.is_empty() {
        return String::new();
    }
    let note = if note.is_empty() { String::new() } else { format!(r#"<p class="note">{note}</p>"#) };
    format!("<section><h2>{title}</h2>{note}{body}</section>\n")
}

pub(super) fn charts(class: &str, figures: &str) -> String {
    if figures.is_empty() { String::new() } else { format!(r#"<div class="{class}">{figures}</div>"#) }
}

/// The model and the baselines: a chart of all scores, then a table.
fn scores(evaluation: &Evaluation) -> String {
    if evaluation.conditions.is_empty() {
        return String::new();
    }
    let note = format!(
        "Scale: {}. A large dot is the mean over the evaluated conditions, a faint dot is one of them; the ceiling is half \
         of the real cells evaluated against the other half.",
        evaluation.scale
    );
    let correlation = condition_table(evaluation, 4);
    let more = [
        (0, "R² of the means"),
        (2, "R² of the means, 20 most changed genes"),
        (5, "Mean squared error of the change"),
    ]
    .map(|(score, title)| {
        format!("<details><summary>{title}</summary>{}</details>", condition_table(evaluation, score))
    });
    let body = format!(
        "{}<h3>Pearson correlation of the change, by condition</h3>{correlation}{}",
        charts("charts pairs", &score_dots(evaluation)),
        more.concat()
    );
    section("Model and baselines", &note, &body)
}

/// One row per condition: the model's score next to those of the baselines.
fn condition_table(evaluation: &Evaluation, score: usize) -> String {
    let mut header: Vec<(&str, &str)> =
        vec![("", "condition"), ("", "dose"), ("", "covariates"), ("", "split"), ("number", "cells")];
    header.extend([("number", "genes changed"), ("number", "model")]);
    header.extend(Baseline::ALL.map(|baseline| ("number", baseline.name())));
    header.push(("number", "ceiling"));
    let rows = evaluation.conditions.iter().map(|condition| condition_row(condition, score));
    rows_of_cells(&header, rows)
}

fn condition_row(condition: &ConditionScores, score: usize) -> Vec<(&'static str, String)> {
    let number = |scores: &PredictionScores| {
        ("number", scores.values()[score].map_or("–".into(), |value| format!("{value:.3}")))
    };
    let mut cells = vec![
        ("", condition.condition.clone()),
        ("", condition.dose.clone()),
        ("", condition.covariates.values().cloned().collect::<Vec<_>>().join(", ")),
        ("", condition.split.clone()),
        ("number", condition.cells.to_string()),
        ("number", condition.n_de.map_or("–".into(), |genes| genes.to_string())),
        ("number ours", number(&condition.scores).1),
    ];
    cells.extend(Baseline::ALL.map(|baseline| number(condition.baselines.get(baseline))));
    cells.push(number(&condition.ceiling));
    cells
}

/// A table of text, with numeric columns aligned to the right.
fn table(table: &TextTable) -> String {
    if table.rows.is_empty() {
        return String::new();
    }
    let numeric = |column: usize| {
        let mut cells = table.rows.iter().filter_map(|row| row.get(column));
        cells.all(|cell| cell.starts_with(|first: char| first.is_ascii_digit() || "-–".contains(first)))
    };
    let classes: Vec<&str> =
        (0..table.columns.len()).map(|column| if numeric(column) { "number" } else { "" }).collect();
    let class = |column: usize| classes.get(column).copied().unwrap_or_default();
    let header: Vec<(&str, &str)> =
        table.columns.iter().enumerate().map(|(column, name)| (class(column), name.as_str())).collect();
    let row = |row: &Vec<String>| row.iter().enumerate().map(|(column, cell)| (class(column), cell.clone())).collect();
    rows_of_cells(&header, table.rows.iter().map(row))
}

/// A table of cells, each with its CSS class.
pub(super) fn rows_of_cells<'a>(header: &[(&str, &str)], rows: impl Iterator<Item = Vec<(&'a str, String)>>) -> String {
    let cell = |tag: &str, class: &str, text: &str| format!(r#"<{tag} class="{class}">{}</{tag}>"#, escape(text));
    let header: String = header.iter().map(|(class, text)| cell("th", class, text)).collect();
    let row = |row: Vec<(&str, String)>| row.iter().map(|(class, text)| cell("td", class, text)).collect::<String>();
    let rows: String = rows.map(|cells| format!("<tr>{}</tr>", row(cells))).collect();
    format!(r#"<div class="scroll"><table><thead><tr>{header}</tr></thead><tbody>{rows}</tbody></table></div>"#)
}

fn definitions(entries: &[(String, String)]) -> String {
    if entries.is_empty() {
        return String::new();
    }
    let entry = |(name, value): &(String, String)| format!("<dt>{}</dt><dd>{}</dd>", escape(name), escape(value));
    format!("<dl>{}</dl>", entries.iter().map(entry).collect::<String>())
}

/// The text as a sentence: with a capital letter at the start and a full stop at the end.
fn sentence(text: &str) -> String {
    let mut characters = text.chars();
    let first: String = characters.next().map(|first| first.to_uppercase().collect()).unwrap_or_default();
    let stop = if text.ends_with('.') { "" } else { "." };
    format!("{first}{}{stop}", characters.as_str())
}

#[cfg(test)]
mod tests;
