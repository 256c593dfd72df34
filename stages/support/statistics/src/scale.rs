//! The scale of profiles, and whether predicted ones are anchored to real controls.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::axes::CellScale;

/// The sum that a cell's counts are scaled to on the scales that normalise for depth.
pub const TARGET_SUM: f64 = 1e4;

/// The scale of a profile's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scale {
    /// Means over cells of log1p of counts scaled to the sum [`TARGET_SUM`].
    #[serde(rename = "log1p_cp10k")]
    LogNormalised,
    /// Means over cells of log1p of counts.
    Log1p,
    /// log1p of means over cells of counts scaled to the sum [`TARGET_SUM`].
    Pseudobulk,
    /// Means over cells of the atlas's own continuous values.
    Values,
}

impl Scale {
    /// Converts a cell's values of all genes, counts or values as the atlas stores them, to those whose mean is its group's
    /// profile; on the scale `pseudobulk`, to those whose mean's logarithm is.
    pub fn convert_cell(self, values: &mut [f64]) {
        let factor = || TARGET_SUM / values.iter().sum::<f64>().max(1.0);
        match self {
            Self::LogNormalised => {
                let factor = factor();
                values.iter_mut().for_each(|value| *value = (*value * factor).ln_1p());
            }
            Self::Log1p => values.iter_mut().for_each(|value| *value = value.ln_1p()),
            Self::Pseudobulk => {
                let factor = factor();
                values.iter_mut().for_each(|value| *value *= factor);
            }
            Self::Values => {}
        }
    }

    /// The scale of a cell in tests of single genes: one of logarithms, for counts.
    #[must_use]
    pub fn of_tests(self) -> Self {
        if self == Self::Pseudobulk { Self::LogNormalised } else { self }
    }

    /// The scale of a cell as a point, for comparisons of cells.
    #[must_use]
    pub fn of_cells(self) -> CellScale {
        match self {
            Self::LogNormalised | Self::Pseudobulk => CellScale::Scaled(TARGET_SUM),
            Self::Log1p => CellScale::Log1p,
            Self::Values => CellScale::Values,
        }
    }
}

impl fmt::Display for Scale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LogNormalised => "log1p_cp10k",
            Self::Log1p => "log1p",
            Self::Pseudobulk => "pseudobulk",
            Self::Values => "values",
        })
    }
}

/// How a prediction is interpreted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Anchor {
    /// The real controls' mean plus the predicted change: errors that the decoder makes in control and condition
    /// alike cancel out.
    #[default]
    Anchored,
    /// The prediction itself.
    Raw,
}
