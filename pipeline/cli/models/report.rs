//! `report`: creates a page about a model, from the files in its folder.

use std::path::Path;

use serde_json::json;
use stages::{
    evaluate::{Evaluation, Scatter},
    model::saved::{self, files},
    report::{HistoryRow, ReportInput, TextTable, page},
    trainer::train::EpochReport,
};

use super::args::ReportArgs;
use crate::{
    Error, Result,
    cli::{
        CommandContext,
        output::{OutputKind, OutputPlace, marked, write_at},
    },
    flows::{figures::Figures, training::PIPELINE_REPORT},
};

/// The file in a model's folder with its last evaluation.
pub(super) const EVALUATION: &str = "evaluation.json";

pub(super) fn report(args: &ReportArgs, context: &CommandContext) -> Result<()> {
    let place = OutputPlace::new("--out", &args.out, OutputKind::Page, args.force)?.afresh()?;
    place.check_free()?;
    let card = saved::read_card(&args.model)?;
    let StoredEvaluation { evaluation, scatters, pictures } = kept_evaluation(&args.model)?;
    if evaluation.is_none() {
        context.show.note("the page has no evaluation: run `perturbine evaluate` first");
    }
    let line = |name: &str, value: String| (name.to_owned(), value);
    let input = ReportInput {
        title: args.model.display().to_string(),
        model_card: vec![
            line("genes", format!("{} ({})", card.genes.len(), card.gene_selection)),
            line("values", card.values.to_string()),
            line("training cells", card.vocabulary.combination_cells.iter().sum::<u64>().to_string()),
            line("combinations", card.vocabulary.combinations.len().to_string()),
            line("epochs", card.epochs.to_string()),
            line("best epoch", card.best.map_or("none".into(), |best| best.epoch.to_string())),
            line("split", card.split.clone()),
            line("atlas", card.atlas.clone()),
            line("seed", card.config.seed.to_string()),
            line("written by", card.written_by.clone()),
        ],
        history: history(&args.model.join(files::HISTORY))?,
        evaluation,
        scatters,
        latents: pictures.as_ref().map(|pictures| pictures.latents.clone()),
        responses: pictures.map(|pictures| pictures.responses).unwrap_or_default(),
        pipeline: pipeline_table(&args.model.join(PIPELINE_REPORT))?,
    };
    write_at(&place, marked(&page(&input)).as_bytes())?;
    context
        .show
        .result(&json!({ "file": args.out.display().to_string() }), || format!("report in {}", args.out.display()))
}

/// The last evaluation in a model's folder.
#[derive(Default, serde::Deserialize)]
struct StoredEvaluation {
    evaluation: Option<Evaluation>,
    scatters: Vec<Scatter>,
    /// The pictures; `None` in evaluations of earlier versions.
    #[serde(default)]
    pictures: Option<Figures>,
}

fn kept_evaluation(model: &Path) -> Result<StoredEvaluation> {
    let path = model.join(EVALUATION);
    if !path.exists() {
        return Ok(StoredEvaluation::default());
    }
    let text = std::fs::read_to_string(&path).map_err(Error::io("read", &path))?;
    serde_json::from_str(&text).map_err(|error| Error::damaged(&path, error.to_string()))
}

fn history(path: &Path) -> Result<Vec<HistoryRow>> {
    let text = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
    let rows = text.lines().map(|line| {
        let report: EpochReport =
            serde_json::from_str(line).map_err(|error| Error::damaged(path, error.to_string()))?;
        Ok(HistoryRow { epoch: report.epoch, values: report.values })
    });
    rows.collect()
}

/// The measurements of each edge, as rows of text.
fn pipeline_table(path: &Path) -> Result<TextTable> {
    if !path.exists() {
        return Ok(TextTable::default());
    }
    let text = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
    let report: serde_json::Value =
        serde_json::from_str(&text).map_err(|error| Error::damaged(path, error.to_string()))?;
    let edges = report["edges"].as_array().cloned().unwrap_or_default();
    let columns: Vec<String> =
        edges.first().and_then(|edge| edge.as_object()).map(|edge| edge.keys().cloned().collect()).unwrap_or_default();
    let cell = |value: &serde_json::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let rows = edges.iter().map(|edge| columns.iter().map(|column| cell(&edge[column])).collect());
    Ok(TextTable { rows: rows.collect(), columns })
}
