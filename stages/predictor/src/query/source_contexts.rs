//! The covariate combinations of source cells, and which of them a target may start from.

use std::collections::HashMap;

use reader::atlas::Atlas;
use schemas::ids::CellIndex;

use super::{OnNoControl, target::IsSource};

/// A covariate combination that has source cells.
pub(super) struct SourceContext {
    pub(super) codes: Vec<u32>,
    pub(super) values: Vec<String>,
    pub(super) cells: u64,
}

/// All contexts, in the order of their first cells.
pub(super) struct SourceContexts {
    pub(super) all: Vec<SourceContext>,
    /// Indices of the covariates that source cells must share with a target.
    pub(super) matching: Vec<usize>,
    by_codes: HashMap<Vec<u32>, usize>,
    /// Indices of the contexts found for covariate values.
    found: HashMap<Vec<String>, Vec<usize>>,
}

impl SourceContexts {
    /// The contexts of an atlas's source cells, which must share all `covariates` with a target.
    pub(super) fn of_atlas(atlas: &Atlas, is_source: &IsSource, covariates: usize) -> Self {
        let mut all: Vec<SourceContext> = Vec::new();
        let mut by_codes: HashMap<Vec<u32>, usize> = HashMap::new();
        for cell in (0..atlas.cells()).map(CellIndex).filter(|cell| is_source(*cell)) {
            let codes = atlas.covariates(cell);
            match by_codes.get(codes) {
                Some(at) => all[*at].cells += 1,
                None => {
                    by_codes.insert(codes.to_vec(), all.len());
                    all.push(SourceContext { codes: codes.to_vec(), values: atlas.covariate_values(codes), cells: 1 });
                }
            }
        }
        Self { all, matching: (0..covariates).collect(), by_codes, found: HashMap::new() }
    }

    /// The index of a covariate combination; `None` if it has no source cells.
    pub(super) fn place(&self, codes: &[u32]) -> Option<usize> {
        self.by_codes.get(codes).copied()
    }

    /// Indices of the contexts whose cells match covariate values. If there are none, and cells are to be
    /// borrowed, indices of those that share the most values with them.
    pub(super) fn sources(&mut self, values: &[String], no_control: OnNoControl) -> Vec<usize> {
        if let Some(known) = self.found.get(values) {
            return known.clone();
        }
        let found = self.look_for_sources(values, no_control);
        self.found.insert(values.to_vec(), found.clone());
        found
    }

    /// The same, without storing the result.
    pub(super) fn look_for_sources(&self, values: &[String], no_control: OnNoControl) -> Vec<usize> {
        let shared =
            |context: &SourceContext| context.values.iter().zip(values).filter(|(own, value)| own == value).count();
        let matching = self.sharing(values, &[]);
        if !matching.is_empty() || no_control != OnNoControl::Borrow {
            return matching;
        }
        let most = self.all.iter().map(shared).max().unwrap_or(0);
        (0..self.all.len()).filter(|at| shared(&self.all[*at]) == most).collect()
    }

    /// Indices of the contexts that share the values of all covariates that must match, but for those that are replaced.
    pub(super) fn sharing(&self, values: &[String], replaced: &[usize]) -> Vec<usize> {
        let must_match = || self.matching.iter().filter(|at| !replaced.contains(at));
        let is_shared = |context: &SourceContext| must_match().all(|at| context.values[*at] == values[*at]);
        (0..self.all.len()).filter(|at| is_shared(&self.all[*at])).collect()
    }
}
