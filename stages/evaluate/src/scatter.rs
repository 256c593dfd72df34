//! Predicted means beside real ones, one point a gene: the data of a scatter plot.

use serde::{Deserialize, Serialize};

/// The mean of each gene in real and in predicted cells; every list but `top` has one entry a gene.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Scatter {
    /// Which condition, in which cells.
    pub title: String,
    /// The names of the genes.
    pub genes: Vec<String>,
    /// The means of the real cells.
    pub truth: Vec<f32>,
    /// The means predicted for them.
    pub predicted: Vec<f32>,
    /// The means of the controls that the prediction started from.
    pub control: Vec<f32>,
    /// The genes to name, most changed first.
    pub top: Vec<usize>,
}
