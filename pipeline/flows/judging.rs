//! Compares predictions of any model with real cells: for each file, `source → convert → sum` over its rows, and then
//! `conditions → judge → table`.

use std::{
    collections::{BTreeSet, HashSet},
    path::{Path, PathBuf},
    sync::Arc,
};

use evaluate::{
    ChosenScores,
    evaluator::{EvaluationEvidence, Evaluator, ModelProfiles, Tabulate},
    predicted_cells::{
        PredictedCells, PredictionColumns, PredictionScale, PredictionTargets, RowConverter, SumPredictedRows,
    },
    prediction_set::{self, PredictionSelection},
    sampled::{SampledCells, cells_per_group},
};
use formats::{
    format::{Choice, open, text_in_uns},
    source::{RowRange, RowRanges},
};
use reader::{
    atlas::Atlas,
    split::{Split, SplitPart},
};
use schemas::skipped::Skipped;
use schemas::{
    Error, Result,
    arrow::{PROVENANCE_KEY, SCALE_KEY},
    atlas::ValueKind,
    ids::CellIndex,
};
use statistics::{
    compared::ComparedGenes,
    scale::{Anchor, Scale, TARGET_SUM},
};

use super::{
    AGAIN,
    cell_testing::{CellTesting, PredictedTestCells},
    truth::{RealGroups, Truth, as_skipped, scale_of, scored},
};
use crate::{Resources, completed};
use runtime::Pipeline;

/// Bytes that are kept of a gene of a group: sums of its real cells, in halves and in blocks, and of predicted ones.
const GROUP_BYTES: usize = 128;

/// The largest ratio between the sums of predicted and real means that is taken for the same scale.
const MOST_APART: f64 = 3.0;

/// Options of a judgement.
#[derive(Clone, Debug, Default)]
pub struct JudgeOptions {
    /// The scale of the comparison; by default that of the atlas's values.
    pub scale: Option<Scale>,
    /// The cells to compare with; by default the held-out ones, or the valid ones if there are none.
    pub on: Option<SplitPart>,
    /// The columns that label the rows of predictions.
    pub columns: PredictionColumns,
    /// The scale of the predictions' numbers; by default counts if the first are whole numbers, and the scale of the
    /// comparison otherwise.
    pub values: Option<PredictionScale>,
    /// Which matrix of a file to read, and how.
    pub choice: Choice,
    /// The scores to compute.
    pub scores: ChosenScores,
}

/// Scores of several predictions of the same cells.
#[derive(Debug)]
pub struct Judgement {
    /// Each prediction with its scores.
    pub predictions: Vec<JudgedPrediction>,
    /// Conditions that could not be compared, and the reasons.
    pub skipped: Vec<Skipped>,
    /// The scale of the comparison.
    pub scale: Scale,
    /// Rows and genes that were left out, and how numbers are read, in sentences.
    pub notes: Vec<String>,
}

/// A prediction and its scores.
#[derive(Debug)]
pub struct JudgedPrediction {
    /// The file or folder.
    pub path: PathBuf,
    /// Its scores, and pictures.
    pub evidence: EvaluationEvidence,
}

/// A prediction that was opened.
enum OpenedPrediction {
    /// A prediction set, with the names of its genes if they are known.
    Set { genes: Option<Vec<String>> },
    /// Rows in another format, and the scale of their numbers if it is stated.
    Rows(Arc<PredictedCells>, Option<PredictionScale>),
}

/// Compares predictions with the cells of a split, each of whose conditions they must have; without a split, with the cells of all
/// conditions that every file has.
///
/// # Errors
/// Predictions that can't be read, lack conditions or share no genes with the atlas, or numbers on another scale.
pub fn judge(
    atlas: &Atlas,
    split: Option<Split>,
    paths: &[PathBuf],
    options: &JudgeOptions,
    resources: &Resources,
) -> Result<Judgement> {
    let needs_all = split.is_some();
    let truth = Truth::new(atlas, split.unwrap_or_else(|| Split::holding_out_all(atlas)), options.on)?;
    let mut judged = truth.judged_groups();
    // The memory is for edges and for what is kept of the groups, together.
    let of_groups = judged.len() * atlas.genes().len() * GROUP_BYTES;
    let memory = resources.memory.saturating_sub(of_groups).max(resources.memory / 8);
    let resources = &Resources { memory, ..resources.clone() };
    if let Some(twice) = (1..paths.len()).find(|at| paths[..*at].contains(&paths[*at])) {
        return Err(Error::usage(format!("{} is given twice", paths[twice].display()), "name each prediction once"));
    }
    let mut opened = Vec::new();
    for path in paths {
        let targets = PredictionTargets { atlas, groups: &truth.groups, judged: &judged };
        opened.push(OpenedPrediction::open(path, options, &targets, needs_all)?);
    }
    let mut skipped = Vec::new();
    for (path, prediction) in paths.iter().zip(&opened) {
        judged.retain(|group| {
            let is_there = prediction.has(*group);
            if !is_there {
                skipped.push(truth.skipped(*group, format!("{} does not predict it", path.display())));
            }
            is_there
        });
    }
    if judged.is_empty() {
        let message = "no condition of the atlas is in every prediction";
        return Err(Error::data(
            paths[0].display().to_string(),
            message,
            "compare the labels with `perturbine inspect`",
        ));
    }
    let (atlas_genes, mut notes) = (atlas.genes().len(), Vec::new());
    opened.iter().for_each(|prediction| notes.extend(prediction.notes()));
    let compared = compared_genes(atlas, paths, &opened)?;
    if compared.chosen().len() < atlas_genes {
        let count = compared.chosen().len();
        notes.push(format!(
            "{count} of the atlas's {atlas_genes} genes are compared: the others are not in every prediction"
        ));
    }
    let scale = scale_for(atlas, paths, &opened, options)?;
    let real = truth.read(judged.into_iter().collect(), scale, compared, &options.scores, resources)?;
    let (mut all, mut cells) = (Vec::new(), Vec::new());
    for (path, prediction) in paths.iter().zip(&opened) {
        let (profiles, tested) = match prediction {
            OpenedPrediction::Set { genes } => {
                let some = genes.as_ref().is_some_and(|genes| genes.len() < atlas_genes);
                if some && scale != Scale::Log1p && prediction_set::holds_counts(path)? {
                    return Err(counts_of_some_genes(&path.display().to_string()));
                }
                (profiles_of_set(path, &truth, &real)?, None)
            }
            OpenedPrediction::Rows(rows, stated) => {
                let values = values_of(rows, *stated, &truth)?;
                notes.push(format!("{}: its numbers are read as {values}; --values says otherwise", path.display()));
                let converter = converter_of(rows, values, &truth, &real)?.with_guessed_scale(stated.is_none());
                let (groups, genes) = (truth.groups.all().len(), real.compared.chosen().len());
                let tested = options.scores.need_tests().then(|| PredictedTestCells::choose(&converter, groups, genes));
                let tested = tested.flatten();
                (profiles_of_rows(converter, &real, resources)?, tested)
            }
        };
        all.push(profiles.into_iter().map(|profiles| profiles.on_scale(scale)).collect::<Vec<_>>());
        cells.push(tested);
    }
    let tests = CellTesting::new(&truth, &real, resources).scores(&cells)?;
    for (profiles, mut tests) in all.iter_mut().zip(tests) {
        profiles.iter_mut().for_each(|one| one.tests = tests.remove(&one.group));
    }
    let is_strict = truth.is_strict(&real.judged);
    let evaluator = Arc::new(truth.evaluator(real));
    let mut predictions = Vec::new();
    for (path, profiles) in paths.iter().zip(all) {
        check_scale(path, scale, &evaluator, &profiles)?;
        let evidence = scored(&evaluator, profiles, Tabulate::new(scale, Anchor::Raw, is_strict), resources)?;
        predictions.push(JudgedPrediction { path: path.clone(), evidence });
    }
    if let Some(first) = predictions.first() {
        skipped.extend(first.evidence.unscored.iter().map(as_skipped));
    }
    Ok(Judgement { predictions, skipped, scale, notes })
}

impl OpenedPrediction {
    fn open(path: &Path, options: &JudgeOptions, targets: &PredictionTargets<'_>, needs_all: bool) -> Result<Self> {
        if prediction_set::is_one(path)? {
            return Ok(Self::Set { genes: prediction_set::genes_of(path)? });
        }
        let rows = PredictedCells::read(open(path, &options.choice)?, &options.columns, targets)?;
        if needs_all {
            rows.check_complete(targets)?;
        }
        Ok(Self::Rows(Arc::new(rows), stated_scale(path, options)?))
    }

    /// Whether a group is predicted; a prediction set is asked when it is read.
    fn has(&self, group: usize) -> bool {
        match self {
            Self::Set { .. } => true,
            Self::Rows(rows, _) => rows.rows_of(group) > 0,
        }
    }

    fn notes(&self) -> Vec<String> {
        match self {
            Self::Set { .. } => Vec::new(),
            Self::Rows(rows, _) => rows.notes(),
        }
    }

    /// Indices of the atlas's genes that are predicted.
    fn genes(&self, atlas: &Atlas) -> BTreeSet<usize> {
        match self {
            Self::Set { genes: None } => (0..atlas.genes().len()).collect(),
            Self::Set { genes: Some(names) } => {
                let names: HashSet<&String> = names.iter().collect();
                (0..atlas.genes().len()).filter(|gene| names.contains(&atlas.genes()[*gene])).collect()
            }
            Self::Rows(rows, _) => rows.genes().collect(),
        }
    }
}

/// The genes that every prediction has.
fn compared_genes(atlas: &Atlas, paths: &[PathBuf], opened: &[OpenedPrediction]) -> Result<ComparedGenes> {
    let mut compared: BTreeSet<usize> = (0..atlas.genes().len()).collect();
    for (path, prediction) in paths.iter().zip(opened) {
        let own = prediction.genes(atlas);
        compared = compared.intersection(&own).copied().collect();
        if compared.is_empty() {
            let example = atlas.genes().first().map_or("", String::as_str);
            let message =
                format!("it predicts none of the genes to compare; the atlas calls its genes like `{example}`");
            let hint = "name the genes in var as in the atlas";
            return Err(Error::data(path.display().to_string(), message, hint));
        }
    }
    Ok(ComparedGenes::new(atlas.genes().len(), compared.into_iter().collect()))
}

/// The scale of the comparison: means of counts can only be compared as `pseudobulk`.
fn scale_for(atlas: &Atlas, paths: &[PathBuf], opened: &[OpenedPrediction], options: &JudgeOptions) -> Result<Scale> {
    let mut needs_pseudobulk = false;
    for (path, prediction) in paths.iter().zip(opened) {
        needs_pseudobulk |= match prediction {
            OpenedPrediction::Set { .. } => prediction_set::holds_means_of_counts(path)?,
            OpenedPrediction::Rows(rows, stated) => {
                rows.holds_means() && atlas.manifest().values == ValueKind::Counts && is_counts(rows, *stated)?
            }
        };
    }
    scale_of(atlas, options.scale.or(needs_pseudobulk.then_some(Scale::Pseudobulk)))
}

fn is_counts(rows: &PredictedCells, stated: Option<PredictionScale>) -> Result<bool> {
    match stated {
        Some(values) => Ok(values == PredictionScale::Counts),
        None => rows.begins_with_counts(),
    }
}

/// Which numbers a file holds, as the user says, or else as `predict` has written into it.
fn stated_scale(path: &Path, options: &JudgeOptions) -> Result<Option<PredictionScale>> {
    if options.values.is_some() {
        return Ok(options.values);
    }
    Ok(match text_in_uns(path, PROVENANCE_KEY, SCALE_KEY)?.as_deref() {
        // Values scaled to ten thousand are read like counts with this sum.
        Some("counts" | "cp10k") => Some(PredictionScale::Counts),
        Some("log1p_cp10k") => Some(PredictionScale::LogNormalised(TARGET_SUM)),
        Some("values") => Some(PredictionScale::Values),
        _ => None,
    })
}

fn profiles_of_set(path: &Path, truth: &Truth, real: &RealGroups) -> Result<Vec<ModelProfiles>> {
    let genes: Vec<String> = real.compared.chosen().iter().map(|gene| truth.atlas.genes()[*gene].clone()).collect();
    let selection = PredictionSelection {
        atlas: &truth.atlas,
        genes: &genes,
        batch_groups: &truth.batch_groups,
        groups: &truth.groups,
        judged: &real.judged,
        scale: real.scale,
    };
    Ok(truth.joined(prediction_set::read(path, &selection)?))
}

/// Which numbers a file holds.
fn values_of(rows: &PredictedCells, stated: Option<PredictionScale>, truth: &Truth) -> Result<PredictionScale> {
    let path = &rows.source().origin().path;
    Ok(match (truth.atlas.manifest().values, is_counts(rows, stated)?) {
        (ValueKind::Counts, true) => PredictionScale::Counts,
        (ValueKind::Continuous, true) if stated.is_none() => {
            let message = "its values are whole numbers, but the atlas does not hold counts";
            return Err(Error::data(
                path,
                message,
                "if they are on the atlas's scale all the same, say --values values",
            ));
        }
        (ValueKind::Continuous, true) => {
            return Err(Error::usage("the atlas does not hold counts", "leave out --values"));
        }
        (ValueKind::Counts, false) => stated.unwrap_or(PredictionScale::LogNormalised(TARGET_SUM)),
        (ValueKind::Continuous, false) => stated.unwrap_or(PredictionScale::Values),
    })
}

/// The converter of a file's rows to the scale of the comparison.
fn converter_of(
    rows: &Arc<PredictedCells>,
    values: PredictionScale,
    truth: &Truth,
    real: &RealGroups,
) -> Result<RowConverter> {
    let source = rows.source();
    let path = &source.origin().path;
    let is_partial = rows.genes().count() < truth.atlas.genes().len();
    if values == PredictionScale::Counts && is_partial && real.scale != Scale::Log1p {
        return Err(counts_of_some_genes(path));
    }
    if rows.holds_means() || !real.scores.need_points() {
        return RowConverter::new(Arc::clone(rows), values, real.scale, Arc::clone(&real.compared), None);
    }
    let judged: BTreeSet<usize> = real.judged.iter().copied().collect();
    let group_of = |row: CellIndex| rows.evaluated_group(row.0).filter(|group| judged.contains(group));
    let most = cells_per_group(judged.len());
    let sampled = SampledCells::choose(source.cells(), truth.groups.all().len(), most, group_of);
    let points = (Arc::new(sampled), Arc::clone(real.cells.axes()));
    RowConverter::new(Arc::clone(rows), values, real.scale, Arc::clone(&real.compared), Some(points))
}

/// The error about counts whose sums are over fewer genes than those of the real cells.
fn counts_of_some_genes(path: &str) -> Error {
    let message = "it holds counts of some of the atlas's genes only, so the sums of its cells are unknown";
    let hint = "normalise it with all genes (predict --output-scale log1p_cp10k, or sc.pp.normalize_total and sc.pp.log1p), use --scale log1p, \
                or judge it with the model that made it: evaluate --predictions";
    Error::data(path, message, hint)
}

/// `source → convert → sum`.
fn profiles_of_rows(converter: RowConverter, real: &RealGroups, resources: &Resources) -> Result<Vec<ModelProfiles>> {
    let judged: BTreeSet<usize> = real.judged.iter().copied().collect();
    let sums = SumPredictedRows::new(&converter);
    let ranges = RowRanges::new(Arc::clone(converter.predicted().source()));
    let run = Pipeline::from_source("source", resources.edge(), ranges)
        .with_stop(resources.stop.clone())
        .map("convert", resources.threads, move |RowRange(range)| Ok(converter.read(range)?))
        .run("sum", sums);
    let profiles = completed(run, AGAIN)?.0;
    Ok(profiles.into_iter().filter(|profiles| judged.contains(&profiles.group)).collect())
}

/// Refuses numbers that are clearly on another scale than the real ones.
fn check_scale(path: &Path, scale: Scale, evaluator: &Evaluator, predictions: &[ModelProfiles]) -> Result<()> {
    // Numbers that were never put on a scale of logarithms differ most after it is undone.
    let sum = |values: &mut dyn Iterator<Item = f64>| values.map(|value| value.exp_m1().abs()).sum::<f64>();
    let predicted: f64 = predictions.iter().map(|one| sum(&mut one.condition.iter().copied())).sum();
    let means = predictions.iter().filter_map(|one| evaluator.real_mean(one.group));
    let real: f64 = means.map(|mean| sum(&mut mean.iter().map(|value| f64::from(*value)))).sum();
    let ratio = predicted / real;
    // Expected values have no zeros, so that their logarithms have a larger mean: up to that of the real cells' sum.
    let largest = match scale {
        Scale::LogNormalised => predictions.iter().map(|_| TARGET_SUM).sum::<f64>().max(real),
        _ => real,
    };
    // A large number that is not a logarithm is infinite after it is undone.
    let is_close = ratio >= 1.0 / MOST_APART && predicted <= MOST_APART * largest;
    if scale == Scale::Values || real == 0.0 || is_close {
        return Ok(());
    }
    let times = if ratio < 1e6 { format!("{ratio:.3} times") } else { "more than a million times".to_owned() };
    let message = format!(
        "its means are {times} the real ones on the scale {scale}, logarithms undone: its numbers are on another scale"
    );
    let hint = "say which numbers these are: --values counts, or --values log1p_cp10k with --target-sum N if cells were scaled to another sum";
    Err(Error::data(path.display().to_string(), message, hint))
}
