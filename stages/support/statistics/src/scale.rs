//! The scale of profiles, and whether predicted ones are anchored to real controls.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The scale of a profile's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scale {
    /// Means over cells of log1p of counts.
    Log1p,
    /// log1p of means over cells of counts scaled to a common sum.
    Pseudobulk,
    /// Means over cells of the atlas's own continuous values.
    Values,
}

impl fmt::Display for Scale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
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
