//! The data of a scatter plot: predicted and real means, one point per gene.

use serde::{Deserialize, Serialize};

/// The mean of each gene in real and in predicted cells; every list except `top` has one entry per gene.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Scatter {
    /// The condition and its covariates.
    pub title: String,
    /// The names of the genes.
    pub genes: Vec<String>,
    /// The means of the real cells.
    pub truth: Vec<f32>,
    /// The predicted means.
    pub predicted: Vec<f32>,
    /// The means of the controls from which the prediction started.
    pub control: Vec<f32>,
    /// Indices of the genes to label, most changed first.
    pub top: Vec<usize>,
}
