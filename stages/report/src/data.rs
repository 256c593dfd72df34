//! The parts of a page, as plain structs.

use std::collections::BTreeMap;

use evaluate::{Evaluation, GeneChanges};

/// Everything that a page shows; sections of empty parts are left out.
#[derive(Clone, Debug, Default)]
pub struct ReportInput {
    /// The page's title.
    pub title: String,
    /// The model's description: names and values, in display order.
    pub model_card: Vec<(String, String)>,
    /// Measurements of training, epoch by epoch.
    pub history: Vec<HistoryRow>,
    /// The evaluation of the model's predictions.
    pub evaluation: Option<Evaluation>,
    /// The data of training and evaluation.
    pub data: Option<DataOverview>,
    /// The real and predicted change of genes, one condition each.
    pub changes: Vec<GeneChanges>,
    /// How alike perturbations are.
    pub similarity: Option<PerturbationSimilarity>,
    /// The cells in the latent.
    pub latents: Option<Latents>,
    /// How the predicted change grows with the dose.
    pub responses: Vec<DoseResponse>,
    /// The measurements of each edge of the pipeline.
    pub pipeline: TextTable,
    /// The command lines that made it, each with the version of the program.
    pub commands: Vec<CommandRun>,
}

/// A command that was run.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct CommandRun {
    /// The command line as typed.
    pub line: String,
    /// The program and its version.
    pub program: String,
}

/// The cells of an atlas, and what they were used for.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct DataOverview {
    /// The files that the atlas was made of.
    pub sources: Vec<String>,
    /// Number of cells.
    pub cells: u64,
    /// Number of genes.
    pub genes: u64,
    /// The scale of the numbers.
    pub values: String,
    /// The name of the split.
    pub split: String,
    /// The covariates that define a context.
    pub covariates: Vec<String>,
    /// The cells of each condition in each context; control comes first.
    pub groups: Vec<CellsByPart>,
}

/// The cells of a condition in a context.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct CellsByPart {
    /// The condition.
    pub condition: String,
    /// Its doses; empty if the atlas has none.
    pub dose: String,
    /// The covariate values.
    pub context: String,
    /// Whether these are controls.
    pub is_control: bool,
    /// Number of cells for training.
    pub train: u64,
    /// Number of cells for validation.
    pub valid: u64,
    /// Number of cells held out.
    pub held_out: u64,
    /// Number of controls set apart, from which real changes are measured.
    pub reference: u64,
}

impl CellsByPart {
    /// Number of cells.
    #[must_use]
    pub fn cells(&self) -> u64 {
        self.train + self.valid + self.held_out + self.reference
    }
}

/// How alike the predicted changes of perturbations are.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct PerturbationSimilarity {
    /// The context whose controls the predictions start from.
    pub context: String,
    /// The perturbations.
    pub names: Vec<String>,
    /// The cosine of each pair of predicted changes, row by row.
    pub cosines: Vec<f32>,
    /// Number of further perturbations, with fewer training cells.
    pub left_out: usize,
}

/// One epoch of training.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HistoryRow {
    /// The epoch.
    pub epoch: u32,
    /// Its measurements; `train.NAME` and `valid.NAME` share a chart.
    pub values: BTreeMap<String, f64>,
}

/// A sample of cells in the plane of the two largest principal components of their latents.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Latents {
    /// Names of the conditions.
    pub conditions: Vec<String>,
    /// Names of the covariate combinations.
    pub contexts: Vec<String>,
    /// The condition of each cell, as an index.
    pub condition_of: Vec<u32>,
    /// The covariate combination of each cell, as an index.
    pub context_of: Vec<u32>,
    /// The basal latent, and the decoded one.
    pub maps: Vec<LatentMap>,
}

/// One latent of the cells.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct LatentMap {
    /// Its name.
    pub name: String,
    /// The share of the variance that each component explains.
    pub explained: [f64; 2],
    /// The position of each cell.
    pub points: Vec<[f32; 2]>,
}

/// How the predicted change of one perturbation grows with its dose.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct DoseResponse {
    /// The perturbation.
    pub perturbation: String,
    /// Doses at which it was trained, in any context, in ascending order.
    pub trained: Vec<f64>,
    /// One curve per covariate combination, at most eight.
    pub curves: Vec<ResponseCurve>,
}

/// The response curve of one covariate combination.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct ResponseCurve {
    /// Its name.
    pub context: String,
    /// The points, by dose.
    pub points: Vec<DosePoint>,
}

/// The response to one dose.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct DosePoint {
    /// The dose.
    pub dose: f64,
    /// The Euclidean length of the predicted change.
    pub effect_size: f64,
    /// The expected error, or the distance from the training data, if known.
    pub distance: Option<f64>,
    /// Whether this dose was trained in this context.
    #[serde(default)]
    pub trained: bool,
}

/// Rows of text under a header.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TextTable {
    /// The header.
    pub columns: Vec<String>,
    /// The rows, each as long as the header.
    pub rows: Vec<Vec<String>>,
}
