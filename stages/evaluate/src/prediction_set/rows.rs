//! Turns rows of a prediction set into profiles of groups.

use std::{
    collections::{HashMap, VecDeque},
    path::{Path, PathBuf},
};

use arrow::{
    array::{Array, AsArray, RecordBatch},
    compute::cast,
    datatypes::{DataType, Float32Type, Float64Type, SchemaRef},
};
use schemas::{
    Error, Result,
    arrow::{GENES_KEY, SCALE_KEY},
};
use statistics::scale::{Scale, TARGET_SUM};

use super::PredictionSelection;
use crate::evaluator::ModelProfiles;

/// The kind of a file's rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RowKind {
    Wide,
    Long,
    Cells,
}

/// The scale of a file's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FileScale {
    Counts,
    Normalised,
    LogNormalised,
    Values,
}

/// The layout of a file.
#[derive(Clone, Debug)]
pub(super) struct FileLayout {
    path: PathBuf,
    kind: RowKind,
    scale: FileScale,
    /// The index of each evaluated gene in the file's lists; empty for long files, which name genes row by row.
    places: Vec<usize>,
}

impl FileLayout {
    pub(super) fn new(path: &Path, schema: &SchemaRef, selection: &PredictionSelection<'_>) -> Result<Self> {
        let bad = |message: String, hint: &str| Error::data(path.display().to_string(), message, hint);
        let has = |name: &str| schema.field_with_name(name).is_ok();
        if has("log2_fold_change") {
            let message =
                "it is a table of changes (`predict --output changes`), without the variances that are evaluated";
            return Err(bad(message.into(), "predict with --output means or --output cells, and evaluate that"));
        }
        let kind = if has("expression") {
            RowKind::Cells
        } else if has("mean") {
            if has("gene") { RowKind::Long } else { RowKind::Wide }
        } else {
            let hint = "give the output of `perturbine predict --output means` or `--output cells`";
            return Err(bad("it has neither means nor cells: no column `mean` or `expression`".into(), hint));
        };
        let covariates = context_names(selection);
        if let Some(missing) = ["condition", "dose"].into_iter().chain(covariates).find(|name| !has(name)) {
            let hint = "rows are matched by condition, dose and covariates, in columns or in folders named after them";
            return Err(bad(format!("it has no column `{missing}`"), hint));
        }
        let scale = match schema.metadata().get(SCALE_KEY).map(String::as_str) {
            Some("counts") => FileScale::Counts,
            Some("cp10k") => FileScale::Normalised,
            Some("log1p_cp10k") => FileScale::LogNormalised,
            Some("values") => FileScale::Values,
            other => {
                let fault = other.map_or("does not say which scale its numbers are on".into(), |other| {
                    format!("calls the scale of its numbers `{other}`")
                });
                return Err(bad(format!("its metadata {fault}"), "`scale` is counts, cp10k, log1p_cp10k or values"));
            }
        };
        check_scale(path, kind, scale, selection.scale)?;
        let places = if kind == RowKind::Long { Vec::new() } else { places(path, schema, selection.genes)? };
        Ok(Self { path: path.to_path_buf(), kind, scale, places })
    }

    /// Number of rows to read at once: a row with a list of all genes is large.
    pub(super) fn rows_at_once(&self) -> usize {
        if self.kind == RowKind::Long { 8192 } else { 64 }
    }
}

/// Refuses numbers that can't be converted to the scale of the evaluation.
fn check_scale(path: &Path, kind: RowKind, found: FileScale, requested: Scale) -> Result<()> {
    let fits = match requested {
        Scale::Values => found == FileScale::Values,
        Scale::Log1p => kind == RowKind::Cells && found == FileScale::Counts,
        Scale::LogNormalised => match found {
            FileScale::Counts | FileScale::Normalised => kind == RowKind::Cells,
            FileScale::LogNormalised => true,
            FileScale::Values => false,
        },
        Scale::Pseudobulk => match found {
            FileScale::Counts | FileScale::Normalised => true,
            FileScale::LogNormalised => kind == RowKind::Cells,
            FileScale::Values => false,
        },
    };
    if fits {
        return Ok(());
    }
    let why = match (requested, kind) {
        (Scale::Log1p | Scale::LogNormalised, RowKind::Wide | RowKind::Long) if found != FileScale::Values => {
            "a mean of counts does not determine the mean of their logarithms"
        }
        (Scale::Pseudobulk, RowKind::Wide | RowKind::Long) => {
            "a mean of logarithms does not determine the mean of counts"
        }
        _ => "its numbers are on another scale",
    };
    let hint = "evaluate means of counts with --scale pseudobulk, or predict cells, as counts for log1p";
    Err(Error::data(path.display().to_string(), format!("it can't be evaluated on the scale {requested}: {why}"), hint))
}

/// The index of each evaluated gene in a file's lists.
fn places(path: &Path, schema: &SchemaRef, genes: &[String]) -> Result<Vec<usize>> {
    let named = schema.metadata().get(GENES_KEY).and_then(|text| serde_json::from_str::<Vec<String>>(text).ok());
    let named = named.ok_or_else(|| {
        let hint = "`genes` is a JSON list with the name of each entry of the lists";
        Error::data(path.display().to_string(), "its metadata names no genes", hint)
    })?;
    // Among genes with the same name, the first in the file is the first in the atlas, and so on.
    let mut at: HashMap<&str, VecDeque<usize>> = HashMap::new();
    for (place, gene) in named.iter().enumerate() {
        at.entry(gene).or_default().push_back(place);
    }
    let (mut places, mut missing) = (Vec::with_capacity(genes.len()), Vec::new());
    for gene in genes {
        match at.get_mut(gene.as_str()).and_then(VecDeque::pop_front) {
            Some(place) => places.push(place),
            None => missing.push(gene),
        }
    }
    if missing.is_empty() { Ok(places) } else { Err(lacks_genes(path, &missing)) }
}

/// The covariates by which rows are matched: all but the batch.
fn context_names<'a>(selection: &PredictionSelection<'a>) -> impl Iterator<Item = &'a str> {
    let manifest = selection.atlas.manifest();
    let names = manifest.covariates.iter().map(|covariate| covariate.name.as_str());
    names.filter(|name| manifest.keys.batch.as_deref() != Some(name))
}

fn lacks_genes(path: &Path, missing: &[&String]) -> Error {
    const MOST_NAMED: usize = 5;
    let named: Vec<&str> = missing.iter().take(MOST_NAMED).map(|gene| gene.as_str()).collect();
    let more = if missing.len() > MOST_NAMED { ", ..." } else { "" };
    let message = format!("it lacks {} of the compared genes: {}{more}", missing.len(), named.join(", "));
    Error::data(path.display().to_string(), message, "predict all genes: leave out `--genes` and `--top`")
}

/// Sums over the rows of a group.
struct GroupRowSums {
    /// Number of cells, or 1 for means.
    rows: f64,
    first: Vec<f64>,
    second: Vec<f64>,
}

/// The profiles of the wanted groups, collected row by row.
pub(super) struct GatheredProfiles<'a> {
    selection: &'a PredictionSelection<'a>,
    is_judged: Vec<bool>,
    /// Indices of the compared genes with each name.
    genes_at: HashMap<&'a str, Vec<usize>>,
    /// The group for a row's labels, one of its batches if the row names none; `None` if it is not evaluated.
    labels: HashMap<Vec<String>, Option<usize>>,
    sums: HashMap<usize, GroupRowSums>,
    kind: Option<RowKind>,
    scale: FileScale,
}

impl<'a> GatheredProfiles<'a> {
    pub(super) fn new(selection: &'a PredictionSelection<'a>) -> Self {
        let mut is_judged = vec![false; selection.groups.all().len()];
        selection.judged.iter().for_each(|group| is_judged[*group] = true);
        let mut genes_at: HashMap<&str, Vec<usize>> = HashMap::new();
        for (at, gene) in selection.genes.iter().enumerate() {
            genes_at.entry(gene).or_default().push(at);
        }
        let (labels, sums) = (HashMap::new(), HashMap::new());
        Self { selection, is_judged, genes_at, labels, sums, kind: None, scale: FileScale::Counts }
    }

    pub(super) fn add(&mut self, layout: &FileLayout, batch: &RecordBatch) -> Result<()> {
        if self.kind.is_some_and(|kind| kind != layout.kind || self.scale != layout.scale) {
            let hint = "give one prediction set, not a folder of several";
            return Err(Error::data(
                layout.path.display().to_string(),
                "its rows have another form than those before",
                hint,
            ));
        }
        (self.kind, self.scale) = (Some(layout.kind), layout.scale);
        let groups = self.groups_of(layout, batch)?;
        match layout.kind {
            RowKind::Wide => self.add_wide(layout, batch, &groups),
            RowKind::Long => self.add_long(layout, batch, &groups),
            RowKind::Cells => self.add_cells(layout, batch, &groups),
        }
    }

    /// The evaluated group of each row; `None` if it is not evaluated.
    fn groups_of(&mut self, layout: &FileLayout, batch: &RecordBatch) -> Result<Vec<Option<usize>>> {
        let batch_key = self.selection.atlas.manifest().keys.batch.as_deref();
        let batch_key = batch_key.filter(|name| batch.column_by_name(name).is_some());
        let columns = ["condition", "dose"].into_iter().chain(context_names(self.selection)).chain(batch_key);
        let columns: Vec<_> = columns.map(|name| texts(layout, batch, name)).collect::<Result<_>>()?;
        let mut groups = Vec::with_capacity(batch.num_rows());
        for row in 0..batch.num_rows() {
            let labels: Vec<String> = columns.iter().map(|column| column[row].clone()).collect();
            let known = self.labels.get(&labels).copied();
            let group = known.unwrap_or_else(|| self.find(&labels));
            if known.is_none() {
                self.labels.insert(labels, group);
            }
            groups.push(group.filter(|group| self.is_judged[self.selection.groups.of_group(*group)]));
        }
        Ok(groups)
    }

    fn find(&self, labels: &[String]) -> Option<usize> {
        let manifest = self.selection.atlas.manifest();
        let condition = manifest.conditions.find(&labels[0], Some(&labels[1])).ok().flatten()?;
        let named = manifest.covariates.iter().zip(&labels[2..]);
        let codes = named.map(|(covariate, value)| covariate.code(value)).collect::<Option<Vec<u32>>>()?;
        let mut groups = self.selection.batch_groups.all().iter();
        groups.position(|group| group.condition == condition && group.covariates.starts_with(&codes))
    }

    fn add_wide(&mut self, layout: &FileLayout, batch: &RecordBatch, groups: &[Option<usize>]) -> Result<()> {
        let (means, variances) = (lists(layout, batch, "mean")?, lists(layout, batch, "variance")?);
        for (row, group) in groups.iter().enumerate() {
            let Some(group) = *group else { continue };
            let pick = |values: &[f64]| -> Vec<f64> { layout.places.iter().map(|place| values[*place]).collect() };
            let sums = GroupRowSums { rows: 1.0, first: pick(&means[row]), second: pick(&variances[row]) };
            if self.sums.insert(group, sums).is_some() {
                return Err(twice(layout, batch, row));
            }
        }
        Ok(())
    }

    fn add_long(&mut self, layout: &FileLayout, batch: &RecordBatch, groups: &[Option<usize>]) -> Result<()> {
        let genes = texts(layout, batch, "gene")?;
        let (means, variances) = (numbers(layout, batch, "mean")?, numbers(layout, batch, "variance")?);
        let width = self.selection.genes.len();
        for (row, group) in groups.iter().enumerate() {
            let (Some(group), Some(places)) = (*group, self.genes_at.get(genes[row].as_str())) else { continue };
            // Values not seen yet are NaN.
            let unseen = || vec![f64::NAN; width];
            let sums =
                self.sums.entry(group).or_insert_with(|| GroupRowSums { rows: 1.0, first: unseen(), second: unseen() });
            let free = places.iter().find(|gene| sums.second[**gene].is_nan());
            let gene = *free.ok_or_else(|| twice(layout, batch, row))?;
            (sums.first[gene], sums.second[gene]) = (means[row], variances[row]);
        }
        Ok(())
    }

    fn add_cells(&mut self, layout: &FileLayout, batch: &RecordBatch, groups: &[Option<usize>]) -> Result<()> {
        let cells = lists(layout, batch, "expression")?;
        let genes = self.selection.genes.len();
        for (group, values) in groups.iter().zip(&cells).filter_map(|(group, values)| Some((group.as_ref()?, values))) {
            let mut values: Vec<f64> = layout.places.iter().map(|place| values[*place]).collect();
            match (layout.scale, self.selection.scale) {
                (FileScale::Counts, scale) => scale.convert_cell(&mut values),
                (FileScale::Normalised, Scale::LogNormalised) => {
                    values.iter_mut().for_each(|value| *value = value.ln_1p())
                }
                (FileScale::LogNormalised, Scale::Pseudobulk) => {
                    values.iter_mut().for_each(|value| *value = value.exp_m1())
                }
                (FileScale::Normalised | FileScale::LogNormalised | FileScale::Values, _) => {}
            }
            let empty = || GroupRowSums { rows: 0.0, first: vec![0.0; genes], second: vec![0.0; genes] };
            let sums = self.sums.entry(*group).or_insert_with(empty);
            sums.rows += 1.0;
            for ((first, second), value) in sums.first.iter_mut().zip(&mut sums.second).zip(&values) {
                *first += value;
                *second += value * value;
            }
        }
        Ok(())
    }

    pub(super) fn finish(self, path: &Path) -> Result<HashMap<usize, ModelProfiles>> {
        let genes = self.selection.genes;
        let profile = |(group, sums): (usize, GroupRowSums)| {
            let (mut mean, mut variance) = (sums.first, sums.second);
            if self.kind == Some(RowKind::Long) {
                let missing: Vec<&String> =
                    genes.iter().zip(&mean).filter(|(_, mean)| mean.is_nan()).map(|(gene, _)| gene).collect();
                if !missing.is_empty() {
                    return Err(lacks_genes(path, &missing));
                }
            }
            if self.kind == Some(RowKind::Cells) {
                for (first, second) in mean.iter_mut().zip(&mut variance) {
                    *first /= sums.rows;
                    *second = (*second / sums.rows - *first * *first).max(0.0);
                }
            } else if self.selection.scale == Scale::Pseudobulk {
                let library: f64 = if self.scale == FileScale::Counts { mean.iter().sum() } else { TARGET_SUM };
                let factor = if library > 0.0 { TARGET_SUM / library } else { 0.0 };
                mean.iter_mut().for_each(|mean| *mean *= factor);
                variance.iter_mut().for_each(|variance| *variance *= factor * factor);
            }
            Ok((
                group,
                ModelProfiles {
                    group,
                    condition: mean,
                    variance: Some(variance),
                    points: None,
                    offset: None,
                    control: None,
                    distance: None,
                    tests: None,
                },
            ))
        };
        self.sums.into_iter().map(profile).collect()
    }
}

fn twice(layout: &FileLayout, batch: &RecordBatch, row: usize) -> Error {
    let label = |name: &str| texts(layout, batch, name).map(|texts| texts[row].clone()).unwrap_or_default();
    let message = format!("`{}` at {} appears twice", label("condition"), label("dose"));
    Error::data(
        layout.path.display().to_string(),
        message,
        "give a prediction set with one row per condition, dose and covariates",
    )
}

fn column(layout: &FileLayout, batch: &RecordBatch, name: &str, kind: &DataType) -> Result<arrow::array::ArrayRef> {
    let bad = |message: String| Error::data(layout.path.display().to_string(), message, "it is not a prediction set");
    let found = batch.column_by_name(name).ok_or_else(|| bad(format!("it has no column `{name}`")))?;
    let found = cast(found, kind).map_err(|error| bad(format!("column `{name}`: {error}")))?;
    match found.null_count() {
        0 => Ok(found),
        nulls => Err(bad(format!("column `{name}` has {nulls} empty rows"))),
    }
}

fn texts(layout: &FileLayout, batch: &RecordBatch, name: &str) -> Result<Vec<String>> {
    let found = column(layout, batch, name, &DataType::Utf8)?;
    Ok(found.as_string::<i32>().iter().flatten().map(str::to_owned).collect())
}

fn numbers(layout: &FileLayout, batch: &RecordBatch, name: &str) -> Result<Vec<f64>> {
    let found = column(layout, batch, name, &DataType::Float64)?;
    let values = found.as_primitive::<Float64Type>().values();
    match values.iter().position(|value| !value.is_finite()) {
        Some(row) => Err(not_finite(layout, name, row, values[row])),
        None => Ok(values.to_vec()),
    }
}

fn not_finite(layout: &FileLayout, column: &str, row: usize, value: f64) -> Error {
    let message = format!("row {row} of column `{column}` is {value}, which is not a prediction");
    Error::data(layout.path.display().to_string(), message, "predict a number for every gene")
}

/// One list of numbers per row, with as many numbers as the file names genes.
fn lists(layout: &FileLayout, batch: &RecordBatch, name: &str) -> Result<Vec<Vec<f64>>> {
    let item = std::sync::Arc::new(schemas::arrow::list_item().with_nullable(true));
    let found = column(layout, batch, name, &DataType::List(item))?;
    let needed = layout.places.iter().max().map_or(0, |place| place + 1);
    let row = |row: usize| {
        let values = found.as_list::<i32>().value(row);
        if values.len() < needed || values.null_count() > 0 {
            let message = format!("row {row} of column `{name}` has {} numbers, but {needed} are needed", values.len());
            return Err(Error::data(layout.path.display().to_string(), message, "it is not a prediction set"));
        }
        let values = values.as_primitive::<Float32Type>().values();
        match values.iter().find(|value| !value.is_finite()) {
            Some(value) => Err(not_finite(layout, name, row, f64::from(*value))),
            None => Ok(values.iter().map(|value| f64::from(*value)).collect()),
        }
    };
    (0..batch.num_rows()).map(row).collect()
}
