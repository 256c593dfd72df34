//! `report`: creates a page about a model, from the files in its folder.

use std::path::{Path, PathBuf};

use schemas::model_files as files;
use serde_json::{Value, json};
use stages::{
    evaluate::{Evaluation, GeneChanges},
    model_card,
    report::{self, ChartPainter, CommandRun, DataOverview, HistoryRow, NamedText, ReportInput, TextTable, page},
    storage::disk::{StagedFolder, refuse_existing, write_atomically},
    trainer::train::EpochReport,
};

use cli::{
    CommandContext,
    output::{OutputKind, OutputPlace, marked, write_at},
};
use cli::{model_args::ReportArgs, typed_command::typed_command};
use perturbine::{Error, Result, flows::figures::Figures};

pub(super) fn report(args: &ReportArgs, context: &CommandContext) -> Result<()> {
    let place = OutputPlace::new("--out", &args.out, OutputKind::Page, args.force)?.afresh()?;
    place.check_free()?;
    args.figures.iter().chain(&args.tables).try_for_each(|path| refuse_existing(path))?;
    let targets: Vec<&PathBuf> = [&args.out].into_iter().chain(&args.figures).chain(&args.tables).collect();
    if (1..targets.len()).any(|at| targets[..at].contains(&targets[at])) {
        return Err(Error::usage("two of --out, --figures and --tables name one path", "give each a name of its own"));
    }
    let input = input(&args.model, context)?;
    // The folders are complete before anything is visible.
    let figures = args.figures.as_deref().map(|path| staged(path, &figures(&input)?)).transpose()?;
    let tables = args.tables.as_deref().map(|path| staged(path, &in_bytes(report::tables(&input)))).transpose()?;
    write_at(&place, marked(&page(&input)).as_bytes())?;
    figures.into_iter().chain(tables).try_for_each(StagedFolder::commit)?;
    let shown = |path: &PathBuf| path.display().to_string();
    let mut value = json!({ "file": shown(&args.out) });
    let mut lines = vec![format!("report in {}", shown(&args.out))];
    for (key, path) in [("figures", &args.figures), ("tables", &args.tables)] {
        if let Some(path) = path {
            value[key] = Value::from(shown(path));
            lines.push(format!("{key} in {}", shown(path)));
        }
    }
    context.show.result(&value, || lines.join("\n"))
}

/// A file: its name, and its bytes.
type NamedBytes = (String, Vec<u8>);

/// Every chart as SVG, and as PNG if there are fonts.
fn figures(input: &ReportInput) -> Result<Vec<NamedBytes>> {
    let charts = report::figures(input);
    let pictures = match ChartPainter::with_system_fonts() {
        Some(painter) => painter.draw(&charts)?,
        None => {
            tracing::warn!(
                "this system has no fonts, so charts are written as SVG only; install one (apt install fonts-dejavu-core) for PNG"
            );
            Vec::new()
        }
    };
    Ok(in_bytes(charts).into_iter().chain(pictures).collect())
}

fn in_bytes(texts: Vec<NamedText>) -> Vec<NamedBytes> {
    texts.into_iter().map(|(name, text)| (name, text.into_bytes())).collect()
}

/// A folder of files that is not visible yet.
fn staged(path: &Path, files: &[NamedBytes]) -> Result<StagedFolder> {
    let folder = StagedFolder::create(path)?;
    files.iter().try_for_each(|(name, bytes)| write_atomically(&folder.file(name), bytes))?;
    Ok(folder)
}

/// Everything that the page shows, from the files in a model's folder.
fn input(model: &Path, context: &CommandContext) -> Result<ReportInput> {
    let card = model_card::read(model)?;
    let StoredEvaluation { evaluation, changes, data, pictures, command, .. } = kept_evaluation(model, &card.weights)?;
    if evaluation.is_none() {
        context.show.note("the page has no evaluation: run `perturbine evaluate` first");
    }
    let line = |name: &str, value: String| (name.to_owned(), value);
    let Figures { latents, responses, similarity } = pictures.clone().unwrap_or_default();
    Ok(ReportInput {
        title: model.display().to_string(),
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
        history: history(&model.join(files::HISTORY))?,
        evaluation,
        data,
        changes,
        similarity,
        latents: pictures.map(|_| latents),
        responses,
        pipeline: pipeline_table(&model.join(files::PIPELINE))?,
        commands: command.into_iter().chain([typed_command()]).collect(),
    })
}

/// The last evaluation in a model's folder. Evaluations of earlier versions lack parts of it.
#[derive(Default, serde::Deserialize)]
struct StoredEvaluation {
    evaluation: Option<Evaluation>,
    #[serde(default)]
    changes: Vec<GeneChanges>,
    #[serde(default)]
    data: Option<DataOverview>,
    #[serde(default)]
    pictures: Option<Figures>,
    #[serde(default)]
    command: Option<CommandRun>,
    /// Checksum of the weights that were evaluated.
    #[serde(default)]
    weights: Option<String>,
}

/// The stored evaluation, if it is of these weights.
fn kept_evaluation(model: &Path, weights: &str) -> Result<StoredEvaluation> {
    let path = model.join(files::EVALUATION);
    if !path.exists() {
        return Ok(StoredEvaluation::default());
    }
    let text = std::fs::read_to_string(&path).map_err(Error::io("read", &path))?;
    let stored: StoredEvaluation =
        serde_json::from_str(&text).map_err(|error| Error::damaged(&path, error.to_string()))?;
    let is_of_another = stored.weights.as_deref().is_some_and(|own| own != weights);
    Ok(if is_of_another { StoredEvaluation::default() } else { stored })
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
