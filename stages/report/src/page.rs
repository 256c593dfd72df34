//! The page: its sections, in the order of a reader's questions.

use evaluate::Evaluation;

use super::{
    CommandRun, ReportInput,
    chart::{Chart, column, grid, pairs},
    data_section::data_section,
    genes::{change_charts, gene_table},
    glossary::glossary,
    latents::latent_charts,
    names,
    pipeline::pipeline_table,
    responses::dose_charts,
    score_dots::score_charts,
    score_tables::{condition_table, mean_table, range_table, strata_table},
    similarity::similarity_chart,
    svg::escape,
    training::training_charts,
    verdict_box::verdict_box,
};

/// Scores with a table of conditions each.
pub(super) const BY_CONDITION: [&str; 4] = ["pearson_delta", "mse_delta", "de_direction", "r2_mean"];

/// The whole page, as HTML.
#[must_use]
pub fn page(input: &ReportInput) -> String {
    let changes = &input.changes;
    let unit = input
        .evaluation
        .as_ref()
        .map(|one| format!("Changes are of the {}.", names::scale(one.scale)))
        .unwrap_or_default();
    let genes = match &change_charts(changes)[..] {
        [] => String::new(),
        charts => pairs(charts) + &details("Table: the 50 genes that changed most", &gene_table(changes, false).html()),
    };
    let scores = input.evaluation.as_ref().filter(|one| !one.conditions.is_empty());
    let similarity: Vec<Chart> = input.similarity.iter().filter_map(similarity_chart).collect();
    let body = [
        verdict_box(input.evaluation.as_ref()),
        section("The data", "", &input.data.as_ref().map(data_section).unwrap_or_default()),
        section(
            "Genes that change",
            &format!(
                "The genes whose real change is the most significant, in the conditions with the largest changes; then change against \
                 change, a dot each gene. {unit} A bar is the 95% interval of the real change, from the standard error over cells; genes \
                 that were chosen for their change lie a little too far out. On the dashed line, the predicted change is the real one; a \
                 prediction without any change lies on the horizontal line."
            ),
            &genes,
        ),
        section("Scores", &scores.map(dot_note).unwrap_or_default(), &scores.map(score_section).unwrap_or_default()),
        section(
            "Similarity of perturbations",
            "The cosine of the predicted changes of each pair of trained perturbations, from the same control cells; columns are in the order of rows.",
            &column(&similarity),
        ),
        section(
            "Dose curves",
            "The size of the predicted change of all genes. A filled circle is a dose that was trained in this context; an open one is \
             interpolated, or extrapolated where the line is dashed. Dotted lines are the trained doses.",
            &grid(&dose_charts(&input.responses)),
        ),
        section("Behind the page", "", &folded(input)),
    ];
    document(&input.title, &body.concat())
}

/// The sections that a reader seldom needs: training, latents, pipeline, model, commands, and the glossary.
fn folded(input: &ReportInput) -> String {
    let latents = input.latents.as_ref().map(latent_charts).unwrap_or_default();
    let cells = "<p class=\"note\">Each dot is a cell, on the first two principal components. The latent before the perturbation should not separate conditions.</p>";
    let pipeline = "<p class=\"note\">The slow stage is the one after a full edge and before an empty one.</p>";
    let with_note = |note: &str, body: String| if body.is_empty() { body } else { note.to_owned() + &body };
    [
        details("Training", &grid(&training_charts(&input.history))),
        details("Cells in the latent", &with_note(cells, grid(&latents))),
        details("Pipeline", &with_note(pipeline, pipeline_table(&input.pipeline).html())),
        details("Model", &definitions(&input.model_card)),
        details("Glossary", &input.evaluation.as_ref().map(glossary).unwrap_or_default()),
        commands(&input.commands),
    ]
    .concat()
}

/// The command lines and the versions, unfolded: a page is to be made again.
pub(super) fn commands(runs: &[CommandRun]) -> String {
    if runs.is_empty() {
        return String::new();
    }
    let line =
        |run: &CommandRun| format!("{}  <span class=\"quiet\"># {}</span>\n", escape(&run.line), escape(&run.program));
    format!("<h3>Made by</h3><pre tabindex=\"0\">{}</pre>", runs.iter().map(line).collect::<String>())
}

/// A page with a title and a body as HTML.
pub(super) fn document(title: &str, body: &str) -> String {
    let (title, style, script) = (escape(title), include_str!("style.css"), include_str!("sort.js"));
    let charts = include_str!("chart.css");
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{title}</title>\n<style>\n{charts}{style}</style>\n</head>\n<body>\n\
         <header><h1>{title}</h1></header>\n<main>\n{body}</main>\n<script>\n{script}</script>\n</body>\n</html>\n",
    )
}

/// A section, or nothing if it would be empty.
pub(super) fn section(title: &str, note: &str, body: &str) -> String {
    if body.is_empty() {
        return String::new();
    }
    let note = if note.is_empty() { String::new() } else { format!(r#"<p class="note">{}</p>"#, escape(note)) };
    format!("<section><h2>{}</h2>{note}{body}</section>\n", escape(title))
}

/// A part that is folded away, or nothing if it would be empty.
pub(super) fn details(title: &str, body: &str) -> String {
    if body.is_empty() {
        return String::new();
    }
    format!("<details><summary>{}</summary>{body}</details>", escape(title))
}

/// The scale of the numbers, and how tables are read.
pub(super) fn score_note(evaluation: &Evaluation) -> String {
    let scale = names::scale(evaluation.scale);
    format!("Profiles are the {scale}. A click on a column sorts by it; a pointer on a name shows what it means.")
}

/// The same, with what the dots are.
fn dot_note(evaluation: &Evaluation) -> String {
    format!("A large dot is the mean over conditions, a faint one a condition. {}", score_note(evaluation))
}

/// The model and the baselines: charts of some scores, then tables.
fn score_section(evaluation: &Evaluation) -> String {
    let named = [("model", evaluation)];
    let mut body = grid(&score_charts(evaluation)) + "<h3>Correlation of the change, by condition</h3>";
    body += &condition_table(&named, BY_CONDITION[0]).html();
    body += "<h3>All scores, means over conditions</h3>";
    body += &mean_table(&named).html();
    for technical in &BY_CONDITION[1..] {
        let (title, _) = names::score(technical);
        body += &details(
            &format!("{}, by condition", names::capitalised(title)),
            &condition_table(&named, technical).html(),
        );
    }
    body += &details(
        "Scores between those of a prediction that knows nothing and a duplicate of the experiment",
        &range_table(&named).html(),
    );
    body + &details("Groups of conditions", &strata_table(evaluation).html())
}

fn definitions(entries: &[(String, String)]) -> String {
    if entries.is_empty() {
        return String::new();
    }
    let entry = |(name, value): &(String, String)| format!("<dt>{}</dt><dd>{}</dd>", escape(name), escape(value));
    format!("<dl>{}</dl>", entries.iter().map(entry).collect::<String>())
}

#[cfg(test)]
mod tests;
