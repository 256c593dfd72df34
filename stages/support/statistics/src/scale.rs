//! The scale of profiles, and whether predicted ones are anchored to real controls.

use std::fmt;

use serde::{Deserialize, Serialize};

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
                logarithms(values, factor);
            }
            Self::Log1p => logarithms(values, 1.0),
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

/// The scale of a cell's numbers before projection: that of the [`Scale`] on which profiles are compared.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum CellScale {
    /// log(1 + count).
    Log1p,
    /// log(1 + count scaled so that the cell's sum is this).
    Scaled(f64),
    /// The value itself.
    Values,
}

impl CellScale {
    /// A cell's values on the scale.
    pub fn convert(self, values: &mut [f64]) {
        match self {
            Self::Log1p => logarithms(values, 1.0),
            Self::Scaled(target) => {
                let factor = target / values.iter().sum::<f64>().max(1.0);
                logarithms(values, factor);
            }
            Self::Values => {}
        }
    }
}

/// Replaces each value x by ln(1 + factor x). Small counts occur many times in a cell, so each of these is computed once.
fn logarithms(values: &mut [f64], factor: f64) {
    const SMALL: usize = 64;
    let mut known = [f64::NAN; SMALL];
    for value in values {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is compared with the value")]
        let count = *value as usize;
        match known.get_mut(count) {
            Some(known) if count as f64 == *value => {
                if known.is_nan() {
                    *known = (*value * factor).ln_1p();
                }
                *value = *known;
            }
            _ => *value = (*value * factor).ln_1p(),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_becomes_its_logarithm() {
        let values = [0.0, 1.0, 1.0, 2.5, 63.0, 64.0, 1e9, 1.0, -0.5];
        let mut found = values;
        logarithms(&mut found, 0.7);
        assert_eq!(found, values.map(|value: f64| (value * 0.7).ln_1p()));
    }
}
