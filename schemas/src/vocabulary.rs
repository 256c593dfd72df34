//! A model's vocabulary: perturbations, combinations and covariate values, in the original's order.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::{
    Error, Result,
    conditions::{CONTROL, ConditionTable, Covariate},
    embedding_table::EmbeddingTable,
    ids::ConditionId,
    numbers::bounded,
};

/// Column 0 of every vocabulary, as in the original: its embedding is zero and it is never looked up.
pub const PADDING: &str = "<PAD>";

/// A model's names and their codes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Vocabulary {
    /// Padding, control, then the perturbations, sorted.
    pub perturbations: Vec<String>,
    /// The adversary's classes: trained combinations, sorted.
    pub combinations: Vec<String>,
    /// Number of training cells of each class.
    pub combination_cells: Vec<u64>,
    /// The covariates, batch last; their values are sorted.
    pub covariates: Vec<Covariate>,
    /// The covariate that is the batch, if there is one.
    pub batch: Option<String>,
    /// Whether codes are sorted but their doses are not, as in the original.
    #[serde(default)]
    pub doses_as_written: bool,
    /// Length of the rows in the table of embeddings, if there is one.
    #[serde(default)]
    pub embedding_width: Option<u32>,
    /// Perturbations that were never trained, but have a row in that table; their codes follow those of
    /// `perturbations`.
    #[serde(default)]
    pub unseen: Vec<String>,
    /// Trained (combination, doses, covariate values) with their numbers of cells; they determine how far a
    /// prediction extrapolates.
    pub trained: Vec<TrainedGroup>,
}

/// Training cells with the same condition and covariates.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainedGroup {
    /// Vocabulary codes of the perturbations, ascending; empty for control.
    pub perturbations: Vec<u32>,
    /// The dose of each.
    pub doses: Vec<f64>,
    /// Covariate values, in the order of the covariates.
    pub covariates: Vec<String>,
    /// Number of cells.
    pub cells: u64,
}

/// A group in a model's codes.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupCodes {
    /// Its perturbations and their doses, by ascending code; for control, the code of control with dose 1.
    pub parts: Vec<(u32, f64)>,
    /// The value of each covariate.
    pub covariates: Vec<u32>,
}

/// The latent term of a covariate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CovariateTerm {
    /// The embedding of the value with this code in the model's vocabulary.
    Value(u32),
    /// The mean of the embeddings of all values.
    Mean,
    /// Nothing.
    Nothing,
}

impl Vocabulary {
    /// The covariate that is the batch, if there is one.
    #[must_use]
    pub fn batch_at(&self) -> Option<usize> {
        self.covariates.iter().position(|covariate| Some(&covariate.name) == self.batch.as_ref())
    }

    /// The code of a perturbation; control also has one.
    #[must_use]
    pub fn perturbation(&self, name: &str) -> Option<u32> {
        let at = self.perturbations.iter().skip(1).position(|known| known == name)?;
        Some(bounded(at + 1))
    }

    /// Assigns every perturbation its row in a table. Perturbations that have a row but were not trained become
    /// known as unseen.
    ///
    /// # Errors
    /// A perturbation without a row; the error names it.
    pub fn embed(&mut self, table: &EmbeddingTable) -> Result<()> {
        let named: BTreeSet<&str> = table.names().iter().map(String::as_str).collect();
        let trained = || self.perturbations.iter().skip(2).map(String::as_str);
        let missing: Vec<&str> = trained().filter(|name| !named.contains(name)).collect();
        if let Some(first) = missing.first() {
            let message = format!("{} trained perturbations have no row, among them `{first}`", missing.len());
            let hint = "add their rows, or leave out their cells";
            return Err(Error::data(table.path().display().to_string(), message, hint));
        }
        let known: BTreeSet<&str> = self.perturbations.iter().map(String::as_str).collect();
        self.unseen = named.difference(&known).map(|name| (*name).to_owned()).collect();
        self.embedding_width = Some(bounded(table.width()));
        Ok(())
    }

    /// The code of a perturbation with a row in the table of embeddings, trained or not.
    #[must_use]
    pub fn embedded(&self, name: &str) -> Option<u32> {
        let unseen = || self.unseen.iter().position(|known| known == name).map(|at| self.perturbations.len() + at);
        self.perturbation(name).or_else(|| unseen().map(bounded))
    }

    /// The name of a code.
    #[must_use]
    pub fn name(&self, code: u32) -> &str {
        let at = code as usize;
        self.perturbations.get(at).unwrap_or_else(|| &self.unseen[at - self.perturbations.len()])
    }

    /// Whether any cell was trained at a dose other than 1.
    #[must_use]
    pub fn has_doses(&self) -> bool {
        self.trained.iter().flat_map(|group| &group.doses).any(|dose| *dose != 1.0)
    }

    /// Codes and doses of a condition's perturbations, and the codes of these covariate values; `None` if the
    /// model does not know them.
    #[must_use]
    pub fn coded(&self, table: &ConditionTable, condition: ConditionId, covariates: &[String]) -> Option<GroupCodes> {
        let codes = covariates.iter().zip(&self.covariates).map(|(value, covariate)| covariate.code(value));
        Some(GroupCodes { parts: self.parts(table, condition)?, covariates: codes.collect::<Option<_>>()? })
    }

    /// Codes and doses of a condition, by ascending code; for control, the code of control with dose 1. `None` if
    /// a perturbation was not trained.
    #[must_use]
    pub fn parts(&self, table: &ConditionTable, condition: ConditionId) -> Option<Vec<(u32, f64)>> {
        if self.doses_as_written {
            self.parts_as_the_original(table, condition)
        } else {
            self.parts_in(table, condition)
        }
    }

    /// The same with the original's pairing: codes are sorted but doses are not, so that in `C+B` at `0.3+0.9`,
    /// each perturbation gets the other's dose.
    #[must_use]
    pub fn parts_as_the_original(&self, table: &ConditionTable, condition: ConditionId) -> Option<Vec<(u32, f64)>> {
        let sorted = self.parts_in(table, condition)?;
        if condition == CONTROL {
            return Some(sorted);
        }
        let written = table.parts(condition).map(|(_, dose)| dose);
        Some(sorted.into_iter().zip(written).map(|((code, _), dose)| (code, dose)).collect())
    }

    fn parts_in(&self, table: &ConditionTable, condition: ConditionId) -> Option<Vec<(u32, f64)>> {
        if condition == CONTROL {
            return Some(vec![(1, 1.0)]);
        }
        let mut parts = Vec::new();
        for (perturbation, dose) in table.parts(condition) {
            parts.push((self.perturbation(&table.perturbations()[perturbation.index()])?, dose));
        }
        parts.sort_by_key(|(code, _)| *code);
        Some(parts)
    }
}
