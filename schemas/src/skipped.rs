//! Conditions that could not be predicted or scored.

use std::{collections::BTreeMap, fmt};

use serde::Serialize;

use crate::counting::counted;

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

/// A sentence for each of these conditions, one for those that differ in nothing but their dose.
#[must_use]
pub fn sentences(skipped: &[Skipped]) -> Vec<String> {
    let mut found: Vec<(String, u64)> = Vec::new();
    for sentence in skipped.iter().map(Skipped::to_string) {
        match found.iter_mut().find(|(known, _)| *known == sentence) {
            Some((_, doses)) => *doses += 1,
            None => found.push((sentence, 1)),
        }
    }
    let with_doses =
        |(sentence, doses)| if doses > 1 { format!("{sentence} ({})", counted(doses, "dose")) } else { sentence };
    found.into_iter().map(with_doses).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doses_of_a_condition_have_one_sentence() {
        let one = |condition: &str| Skipped {
            condition: condition.into(),
            covariates: BTreeMap::new(),
            why: "not trained".into(),
        };
        let found = sentences(&[one("A"), one("B"), one("A")]);
        assert_eq!(found, ["skipped A: not trained (2 doses)", "skipped B: not trained"]);
    }
}
