//! Charts and tables of a page as files of their own.

use std::collections::BTreeSet;

use super::{
    ReportInput,
    chart::Chart,
    data_section::data_table,
    genes::{change_charts, gene_table},
    latents::latent_charts,
    page::BY_CONDITION,
    pipeline::pipeline_table,
    responses::{dose_charts, dose_table},
    score_dots::{score_charts, verdict_chart},
    score_tables::{condition_table, mean_table, range_table, score_table, strata_table},
    similarity::{similarity_chart, similarity_table},
    table::PageTable,
    training::{training_charts, training_table},
};

/// A file: its name, and its text.
pub type NamedText = (String, String);

/// Every chart of the page as an SVG file with its own colours.
#[must_use]
pub fn figures(input: &ReportInput) -> Vec<NamedText> {
    let mut charts: Vec<Chart> = Vec::new();
    if let Some(evaluation) = &input.evaluation {
        charts.extend(verdict_chart(evaluation));
        charts.extend(score_charts(evaluation));
    }
    charts.extend(change_charts(&input.changes));
    charts.extend(input.similarity.iter().filter_map(similarity_chart));
    charts.extend(dose_charts(&input.responses));
    charts.extend(training_charts(&input.history));
    charts.extend(input.latents.iter().flat_map(latent_charts));
    named(charts.iter().map(|chart| (chart.name.as_str(), chart.file())), "svg")
}

/// Every table of the page as a CSV file, with technical names and all digits; `gene-changes.csv` has all genes, and `scores.csv`
/// all scores.
#[must_use]
pub fn tables(input: &ReportInput) -> Vec<NamedText> {
    let mut tables: Vec<PageTable> = Vec::new();
    if let Some(evaluation) = &input.evaluation {
        let model = [("model", evaluation)];
        tables.extend([mean_table(&model), range_table(&model), strata_table(evaluation), score_table(evaluation)]);
        tables.extend(BY_CONDITION.map(|technical| condition_table(&model, technical)));
    }
    tables.extend(input.data.as_ref().map(data_table));
    tables.push(gene_table(&input.changes, true));
    tables.extend(input.similarity.as_ref().map(similarity_table));
    tables.extend([dose_table(&input.responses), training_table(&input.history), pipeline_table(&input.pipeline)]);
    named(tables.iter().filter(|table| !table.rows.is_empty()).map(|table| (table.name.as_str(), table.csv())), "csv")
}

/// Files with names that differ: a number follows a name that was there before.
fn named<'a>(files: impl Iterator<Item = (&'a str, String)>, ending: &str) -> Vec<NamedText> {
    let mut taken: BTreeSet<String> = BTreeSet::new();
    let name = |name: &str| {
        let numbered = (2_u32..).map(|number| format!("{name}-{number}.{ending}"));
        [format!("{name}.{ending}")].into_iter().chain(numbered).find(|name| taken.insert(name.clone()))
    };
    let mut name = name;
    files.filter_map(|(stem, text)| Some((name(stem)?, text))).collect()
}
