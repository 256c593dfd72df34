//! Predictions of any model as cells, or as one mean per condition, in any format that can be ingested: which group each
//! row belongs to, and sums over the rows of each group.

mod counts;
mod rows;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::Arc,
};

use arrow::array::{Array, AsArray, StringArray};
use formats::source::{Source, column_index, obs_column};
use reader::atlas::Atlas;
use schemas::{
    Error, Result,
    arrow::place_of_column,
    conditions::{CONTROL, Covariate},
    counting::counted,
    ids::ConditionId,
    numbers::{bounded, to_usize},
};

pub use self::rows::{PredictedRows, PredictionScale, RowConverter, SumPredictedRows};
use crate::{ContextGroups, prediction_set::lacks_conditions};

/// Names of perturbation columns that are tried if the atlas's own is missing.
const PERTURBATION_HABITS: [&str; 4] = ["condition", "perturbation", "target_gene", "cond_harm"];
/// Columns that the means of `predict` have together, and its cells don't.
const COLUMNS_OF_MEANS: [&str; 2] = ["extrapolation", "source_cells"];
/// A row of no evaluated group.
const NO_GROUP: u32 = u32::MAX;

/// The columns of a prediction's `obs` that label rows; those that are not given are found by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PredictionColumns {
    /// The column of perturbations; by default the one that the atlas was made from, or one of the usual names.
    pub perturbation: Option<String>,
    /// The column of doses; by default the one that the atlas was made from, if there is one.
    pub dose: Option<String>,
}

/// The atlas and groups that rows are matched with.
#[derive(Clone, Copy, Debug)]
pub struct PredictionTargets<'a> {
    /// The atlas with the real cells.
    pub atlas: &'a Atlas,
    /// Its groups, joined over batches.
    pub groups: &'a ContextGroups,
    /// Indices of the groups to evaluate.
    pub judged: &'a [usize],
}

/// The rows of a file that predict evaluated groups.
#[derive(Debug)]
pub struct PredictedCells {
    source: Arc<dyn Source>,
    /// The group of each row, an evaluated one or the controls of a context.
    group_of: Vec<u32>,
    /// Number of rows of each group.
    rows_of: Vec<u64>,
    /// Whether each group is of controls.
    is_control: Vec<bool>,
    /// For each gene of the file, its index among the atlas's genes.
    genes: Vec<Option<usize>>,
    /// Labels of rows that are not conditions of the atlas, with the number of these rows.
    unknown: BTreeMap<String, u64>,
    /// Number of rows of control.
    controls: u64,
    /// Whether `predict` wrote these rows as means: several of a condition are of its batches.
    are_means: bool,
}

impl PredictedCells {
    /// Reads the labels of all rows.
    ///
    /// # Errors
    /// Columns that are missing, labels that are missing or can't be read, or more genes of one name than the atlas has.
    pub fn read(source: Arc<dyn Source>, columns: &PredictionColumns, targets: &PredictionTargets<'_>) -> Result<Self> {
        let mut labels = RowLabels::new(columns, targets, &*source)?;
        let rows = to_usize(source.cells());
        let mut predicted = Self {
            group_of: Vec::with_capacity(rows),
            rows_of: vec![0; targets.groups.all().len()],
            is_control: targets.groups.all().iter().map(|group| group.condition == CONTROL).collect(),
            genes: genes_in_atlas(&*source, targets.atlas.genes())?,
            unknown: BTreeMap::new(),
            controls: 0,
            are_means: COLUMNS_OF_MEANS.iter().all(|name| place_of_column(&source.obs_schema(), name).is_some()),
            source: Arc::clone(&source),
        };
        let mut readers: Vec<_> =
            labels.columns.iter().map(|name| obs_column(&*source, name)).collect::<Result<Vec<_>>>()?;
        while predicted.group_of.len() < rows {
            let slices: Vec<_> = readers.iter_mut().filter_map(Iterator::next).collect::<Result<Vec<_>>>()?;
            let texts: Vec<&StringArray> = slices.iter().map(|slice| slice.as_string::<i32>()).collect();
            for row in 0..texts[0].len() {
                predicted.add(labels.find(row, predicted.group_of.len(), &texts)?);
            }
        }
        Ok(predicted)
    }

    /// Number of rows of a group.
    #[must_use]
    pub fn rows_of(&self, group: usize) -> u64 {
        self.rows_of[group]
    }

    /// Refuses a file that lacks an evaluated group.
    ///
    /// # Errors
    /// Such groups.
    pub fn check_complete(&self, targets: &PredictionTargets<'_>) -> Result<()> {
        let missing: Vec<usize> = targets.judged.iter().copied().filter(|group| self.rows_of(*group) == 0).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let (path, judged) = (&self.source.origin().path, targets.judged.len());
        Err(lacks_conditions(path, targets.atlas, targets.groups, judged, &missing))
    }

    fn add(&mut self, found: RowLabel) {
        let group = match found {
            RowLabel::Group(group) => {
                self.rows_of[group as usize] += 1;
                group
            }
            RowLabel::Control(group) => {
                self.controls += 1;
                group.inspect(|group| self.rows_of[*group as usize] += 1).unwrap_or(NO_GROUP)
            }
            RowLabel::NotEvaluated => NO_GROUP,
            RowLabel::Unknown(label) => {
                *self.unknown.entry(label).or_default() += 1;
                NO_GROUP
            }
        };
        self.group_of.push(group);
    }

    /// The file.
    #[must_use]
    pub fn source(&self) -> &Arc<dyn Source> {
        &self.source
    }

    /// The group of a row, an evaluated one or the controls of a context.
    #[must_use]
    pub fn group(&self, row: u64) -> Option<usize> {
        let group = self.group_of[to_usize(row)];
        (group != NO_GROUP).then_some(group as usize)
    }

    /// The evaluated group of a row.
    #[must_use]
    pub fn evaluated_group(&self, row: u64) -> Option<usize> {
        self.group(row).filter(|group| !self.is_control[*group])
    }

    /// Whether rows are means, of which those of several batches are averaged: `predict` wrote them as such, or every
    /// evaluated group has one row. Otherwise rows are cells.
    #[must_use]
    pub fn holds_means(&self) -> bool {
        self.are_means || self.rows_of.iter().zip(&self.is_control).all(|(rows, is_control)| *rows <= 1 || *is_control)
    }

    /// Indices of the atlas's genes that the file has.
    pub fn genes(&self) -> impl Iterator<Item = usize> + '_ {
        self.genes.iter().filter_map(|gene| *gene)
    }

    /// Rows that are not evaluated, in sentences.
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        const MOST_NAMED: usize = 5;
        let path = &self.source.origin().path;
        let mut notes = Vec::new();
        if self.controls > 0 {
            let used = if self.holds_means() { "not scored" } else { "what its cells are tested against" };
            let are = if self.controls == 1 { "is" } else { "are" };
            notes.push(format!("{path}: {} of control {are} {used}", counted(self.controls, "row")));
        }
        if !self.unknown.is_empty() {
            let named: Vec<&str> = self.unknown.keys().take(MOST_NAMED).map(String::as_str).collect();
            let more = if self.unknown.len() > MOST_NAMED { ", ..." } else { "" };
            let (labels, named) = (counted(self.unknown.len() as u64, "label"), named.join(", "));
            let rows = counted(self.unknown.values().sum(), "row");
            notes.push(format!("{path}: {rows} with {labels} that the atlas does not have (condition, dose or covariates): {named}{more}"));
        }
        notes
    }
}

/// For each gene of a file, its index among the atlas's; of equally named genes, the first is the first.
///
/// # Errors
/// More genes of one name than the atlas has.
fn genes_in_atlas(source: &dyn Source, atlas: &[String]) -> Result<Vec<Option<usize>>> {
    let mut at: HashMap<&str, VecDeque<usize>> = HashMap::new();
    for (place, gene) in atlas.iter().enumerate() {
        at.entry(gene).or_default().push_back(place);
    }
    let names = source.var().column(0).as_string::<i32>();
    let place = |name: Option<&str>| {
        let Some((name, places)) = name.and_then(|name| Some((name, at.get_mut(name)?))) else { return Ok(None) };
        places.pop_front().map(Some).ok_or_else(|| {
            let message = format!("var has more genes called `{name}` than the atlas");
            Error::data(
                &source.origin().path,
                message,
                "give each gene a name of its own (adata.var_names_make_unique)",
            )
        })
    };
    names.iter().map(place).collect()
}

/// The meaning of a row's labels.
#[derive(Clone, Debug, PartialEq, Eq)]
enum RowLabel {
    /// An evaluated group.
    Group(u32),
    /// Control, and the group of its context's controls if there is one.
    Control(Option<u32>),
    /// A condition of the atlas that is not evaluated in this context.
    NotEvaluated,
    /// No condition or context of the atlas.
    Unknown(String),
}

/// Finds the groups of rows by their labels.
struct RowLabels<'a> {
    targets: PredictionTargets<'a>,
    path: String,
    /// The columns that are read: the perturbation, then the dose if there is one, then covariates.
    columns: Vec<String>,
    has_dose: bool,
    /// For each covariate of a context, its column among those that are read, or its only value.
    covariates: Vec<CovariateSource>,
    groups: HashMap<(ConditionId, Vec<u32>), u32>,
    known: HashMap<String, RowLabel>,
}

/// Where a covariate's value comes from.
enum CovariateSource {
    Column(usize),
    OnlyValue,
}

impl<'a> RowLabels<'a> {
    fn new(requested: &PredictionColumns, targets: &PredictionTargets<'a>, source: &dyn Source) -> Result<Self> {
        let manifest = targets.atlas.manifest();
        let schema = source.obs_schema();
        let has = |name: &str| place_of_column(&schema, name).is_some();
        let path = source.origin().path.clone();
        let habits = manifest.keys.perturbation.as_deref().into_iter().chain(PERTURBATION_HABITS);
        let perturbation = match &requested.perturbation {
            Some(name) => name.clone(),
            None => habits.clone().find(|name| has(name)).map(str::to_owned).ok_or_else(|| {
                let tried: Vec<&str> = habits.collect();
                let message = format!("obs has no column of perturbations: none of {}", tried.join(", "));
                Error::data(&path, message, "name it with --perturbation COLUMN")
            })?,
        };
        let dose = match &requested.dose {
            Some(name) => Some(name.clone()),
            None => {
                // Files of this program call doses `dose`, whatever the atlas calls them.
                let ours = has("extrapolation").then(|| "dose".to_owned());
                manifest
                    .keys
                    .dose
                    .clone()
                    .and_then(|own| [Some(own), ours].into_iter().flatten().find(|name| has(name)))
            }
        };
        let has_dose = dose.is_some();
        let mut columns: Vec<String> = std::iter::once(perturbation).chain(dose).collect();
        let mut covariates = Vec::new();
        for covariate in &manifest.covariates {
            if manifest.keys.batch.as_ref() == Some(&covariate.name) {
                continue;
            }
            if has(&covariate.name) {
                covariates.push(CovariateSource::Column(columns.len()));
                columns.push(covariate.name.clone());
            } else if covariate.values.len() == 1 {
                covariates.push(CovariateSource::OnlyValue);
            } else {
                let message = format!("obs has no column `{}`, a covariate of the atlas", covariate.name);
                let hint = "add it: predictions are compared within each combination of covariate values";
                return Err(Error::data(path, message, hint));
            }
        }
        for column in &columns {
            column_index(source, column)?;
        }
        let is_judged: BTreeSet<usize> = targets.judged.iter().copied().collect();
        let groups = targets.groups.all().iter().enumerate();
        let groups = groups.filter(|(at, group)| group.condition == CONTROL || is_judged.contains(at));
        let groups = groups.map(|(at, group)| ((group.condition, group.context.clone()), bounded(at))).collect();
        Ok(Self { targets: *targets, path, columns, has_dose, covariates, groups, known: HashMap::new() })
    }

    /// The meaning of a row's labels, which are at `at` in these columns.
    fn find(&mut self, at: usize, row: usize, texts: &[&StringArray]) -> Result<RowLabel> {
        if let Some(missing) = texts.iter().position(|text| text.is_null(at)) {
            let is_control =
                missing > 0 && self.targets.atlas.manifest().conditions.rules().means_control(texts[0].value(at));
            if !is_control {
                let place = format!("{}, obs column `{}`, row {row}", self.path, self.columns[missing]);
                return Err(Error::data(place, "the value is missing", "fill the column, or leave out such rows"));
            }
            return Ok(RowLabel::Control(None));
        }
        let key: Vec<&str> = texts.iter().map(|text| text.value(at)).collect();
        let key = key.join("\u{1f}");
        if let Some(known) = self.known.get(&key) {
            return Ok(known.clone());
        }
        let found = self.look_up(at, row, texts)?;
        self.known.insert(key, found.clone());
        Ok(found)
    }

    fn look_up(&self, at: usize, row: usize, texts: &[&StringArray]) -> Result<RowLabel> {
        let manifest = self.targets.atlas.manifest();
        let label = texts[0].value(at);
        let context = self.context(at, texts);
        let of_control = |context: &Vec<u32>| self.groups.get(&(CONTROL, context.clone())).copied();
        let control = || RowLabel::Control(context.as_ref().ok().and_then(of_control));
        if manifest.conditions.rules().means_control(label) {
            return Ok(control());
        }
        let dose = self.has_dose.then(|| texts[1].value(at));
        let condition = manifest.conditions.find(label, dose).map_err(|error| {
            let place = format!("{}, obs column `{}`, row {row}", self.path, self.columns[0]);
            Error::data(place, error.to_string(), "doses are joined like their perturbations, in the same order")
        })?;
        let named = dose.map_or_else(|| label.to_owned(), |dose| format!("{label} at {dose}"));
        let Some(condition) = condition else { return Ok(RowLabel::Unknown(named)) };
        if condition == CONTROL {
            return Ok(control());
        }
        Ok(match context {
            Ok(context) => {
                self.groups.get(&(condition, context)).map_or(RowLabel::NotEvaluated, |at| RowLabel::Group(*at))
            }
            Err(value) => RowLabel::Unknown(format!("{named} ({value})")),
        })
    }

    /// The covariate codes of a row without the batch.
    ///
    /// # Errors
    /// The value that the atlas does not know.
    fn context<'b>(&self, at: usize, texts: &[&'b StringArray]) -> Result<Vec<u32>, &'b str> {
        let manifest = self.targets.atlas.manifest();
        let of_context = manifest.covariates.iter().filter(|one| manifest.keys.batch.as_ref() != Some(&one.name));
        let code = |(covariate, place): (&Covariate, &CovariateSource)| match place {
            CovariateSource::Column(column) => {
                let value = texts[*column].value(at);
                covariate.code(value).ok_or(value)
            }
            CovariateSource::OnlyValue => Ok(0),
        };
        of_context.zip(&self.covariates).map(code).collect()
    }
}
