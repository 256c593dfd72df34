//! `report`: a page about a model, out of what lies in its folder.

use std::path::Path;

use perturbine::{Error, Result, flows::training::PIPELINE_REPORT};
use serde_json::json;
use stages::{
    evaluate::Evaluation,
    report::{HistoryRow, ReportInput, Scatter, Table, page},
    saved::{self, files},
    train::EpochReport,
};

use super::{Context, args::model::ReportArgs};

/// The file in a model's folder that holds its last evaluation.
pub(super) const EVALUATION: &str = "evaluation.json";

pub(super) fn report(args: &ReportArgs, context: &Context) -> Result<()> {
    let card = saved::read_card(&args.model)?;
    let (evaluation, scatters) = kept_evaluation(&args.model)?;
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
        pipeline: pipeline_table(&args.model.join(PIPELINE_REPORT))?,
    };
    stages::disk::write_atomically(&args.out, page(&input).as_bytes())?;
    context.show.result(&json!({ "file": args.out }), || format!("report in {}", args.out.display()))
}

fn kept_evaluation(model: &Path) -> Result<(Option<Evaluation>, Vec<Scatter>)> {
    #[derive(serde::Deserialize)]
    struct Kept {
        evaluation: Evaluation,
        scatters: Vec<Scatter>,
    }
    let path = model.join(EVALUATION);
    if !path.exists() {
        return Ok((None, Vec::new()));
    }
    let text = std::fs::read_to_string(&path).map_err(Error::io("read", &path))?;
    let kept: Kept = serde_json::from_str(&text).map_err(|error| Error::damaged(&path, error.to_string()))?;
    Ok((Some(kept.evaluation), kept.scatters))
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

/// What each edge measured, as rows of text.
fn pipeline_table(path: &Path) -> Result<Table> {
    if !path.exists() {
        return Ok(Table::default());
    }
    let text = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
    let report: serde_json::Value =
        serde_json::from_str(&text).map_err(|error| Error::damaged(path, error.to_string()))?;
    let edges = report["edges"].as_array().cloned().unwrap_or_default();
    let columns: Vec<String> =
        edges.first().and_then(|edge| edge.as_object()).map(|edge| edge.keys().cloned().collect()).unwrap_or_default();
    let cell = |value: &serde_json::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let rows = edges.iter().map(|edge| columns.iter().map(|column| cell(&edge[column])).collect());
    Ok(Table { rows: rows.collect(), columns })
}
