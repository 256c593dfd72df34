//! One HTML page about a model: its training, its predictions, and their scores.
//!
//! The page is self-contained: pictures are inline SVG, there are no scripts, and it follows the reader's
//! light or dark colour scheme. [`page()`] turns plain structs into text; the caller reads files and computes
//! numbers.
//!
//! ```
//! let html = report::page(&report::ReportInput::default());
//! assert!(html.starts_with("<!doctype html>"));
//! ```
#![forbid(unsafe_code)]

mod charts;
mod judged;
mod latents;
mod page;
mod responses;
mod svg;

use std::collections::BTreeMap;

use evaluate::{Evaluation, Scatter};
pub use judged::{PredictionOnPage, judged_page};
pub use page::page;

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
    /// Predicted against real means, one chart each.
    pub scatters: Vec<Scatter>,
    /// The cells in the latent.
    pub latents: Option<Latents>,
    /// How the predicted change grows with the dose.
    pub responses: Vec<DoseResponse>,
    /// The measurements of each edge of the pipeline.
    pub pipeline: TextTable,
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
    /// Doses at which it was trained.
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
    /// The distance from the training data, if known.
    pub distance: Option<f64>,
}

/// Rows of text under a header.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TextTable {
    /// The header.
    pub columns: Vec<String>,
    /// The rows, each as long as the header.
    pub rows: Vec<Vec<String>>,
}
