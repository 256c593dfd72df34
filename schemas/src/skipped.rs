//! Conditions that could not be predicted or scored.

use std::{collections::BTreeMap, fmt};

use serde::Serialize;

/// A condition that could not be predicted or scored.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Skipped {
    /// The condition.
    pub condition: String,
    /// Its covariates, by name.
    pub covariates: BTreeMap<String, String>,
    /// The reason.
    pub why: String,
}

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "skipped {}", self.condition)?;
        if !self.covariates.is_empty() {
            let pairs: Vec<String> = self.covariates.iter().map(|(name, value)| format!("{name}={value}")).collect();
            write!(f, " ({})", pairs.join(", "))?;
        }
        write!(f, ": {}", self.why)
    }
}
