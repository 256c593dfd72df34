//! The input of the estimator: sums over the cells of groups.

use schemas::{Error, Result};

/// Sums over the cells of a group.
#[derive(Clone, Copy, Debug)]
pub struct CellSums<'a> {
    /// Number of cells (or wells), at least 1.
    pub cells: u64,
    /// The sum of each gene's values, on the scale on which shifts are measured (for counts, log(1 + normalised
    /// count)).
    pub values: &'a [f64],
    /// The sum of each gene's squared values.
    pub squares: &'a [f64],
}

impl CellSums<'_> {
    /// Number of cells as a real number.
    pub(crate) fn count(&self) -> f64 {
        self.cells as f64
    }

    /// The sum over cells of the squared deviations of a gene from its mean; negative at most by rounding.
    pub(crate) fn scatter(&self, gene: usize) -> f64 {
        self.squares[gene] - self.values[gene] * self.values[gene] / self.count()
    }
}

/// A perturbation at a dose.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DosedPart {
    /// The perturbation's index; any numbering.
    pub perturbation: u32,
    /// The dose, above 0, in any unit that all doses of the perturbation share.
    pub dose: f64,
}

/// The cells of one condition in one context.
#[derive(Clone, Debug)]
pub struct ConditionSums<'a> {
    /// The perturbations and doses, in any order: one part, or several for a combination.
    pub parts: Vec<DosedPart>,
    /// Index of the context, into [`TrainingSums::controls`].
    pub context: usize,
    /// The cells.
    pub cells: CellSums<'a>,
}

/// All groups of training cells.
#[derive(Clone, Debug)]
pub struct TrainingSums<'a> {
    /// Number of genes: the length of every sum.
    pub genes: usize,
    /// The controls of each context; `None` for a context without controls, whose groups count for the noise only.
    pub controls: Vec<Option<CellSums<'a>>>,
    /// The perturbed groups, each condition at most once in a context.
    pub conditions: Vec<ConditionSums<'a>>,
}

/// An error of the sums that are given.
pub(crate) fn refused(message: impl Into<String>, hint: &str) -> Error {
    Error::data("sums of groups", message, hint)
}

/// The parts of a condition in ascending order of their perturbations.
///
/// # Errors
/// No part at all, a perturbation twice, and a dose that is not a positive number.
pub(crate) fn sorted_parts(parts: &[DosedPart]) -> Result<Vec<DosedPart>> {
    if parts.is_empty() {
        return Err(refused("a condition has no part", "give cells without perturbation as controls"));
    }
    if let Some(part) = parts.iter().find(|part| !part.dose.is_finite() || part.dose <= 0.0) {
        let message = format!("the dose {} of perturbation {} is not positive", part.dose, part.perturbation);
        return Err(refused(message, "give cells at dose 0 as controls"));
    }
    let mut parts = parts.to_vec();
    parts.sort_unstable_by_key(|part| part.perturbation);
    match parts.windows(2).find(|pair| pair[0].perturbation == pair[1].perturbation) {
        Some(pair) => {
            let message = format!("a condition has perturbation {} twice", pair[0].perturbation);
            Err(refused(message, "add the doses up"))
        }
        None => Ok(parts),
    }
}

impl<'a> TrainingSums<'a> {
    /// All groups: controls, then conditions.
    pub(crate) fn groups(&self) -> impl Iterator<Item = &CellSums<'a>> {
        self.controls.iter().flatten().chain(self.conditions.iter().map(|condition| &condition.cells))
    }

    /// Checks lengths, numbers and contexts.
    ///
    /// # Errors
    /// Sums that don't allow an estimate.
    pub(crate) fn check(&self) -> Result<()> {
        if self.genes == 0 {
            return Err(refused("there are no genes", "choose genes"));
        }
        for cells in self.groups() {
            if cells.cells == 0 {
                return Err(refused("a group has no cells", "leave empty groups out"));
            }
            if cells.values.len() != self.genes || cells.squares.len() != self.genes {
                return Err(refused(format!("a group's sums are not of {} genes", self.genes), "sum all genes"));
            }
            let largest =
                cells.values.iter().chain(cells.squares).fold(0.0, |largest: f64, sum| {
                    if sum.is_finite() { largest.max(sum.abs()) } else { f64::INFINITY }
                });
            // The square of a sum, over as many cells as there may be, is still a number.
            if largest > 1e100 {
                return Err(refused("a group's sums are not finite numbers", "leave damaged values out"));
            }
        }
        match self.conditions.iter().find(|condition| condition.context >= self.controls.len()) {
            Some(condition) => {
                let message = format!("context {} is not one of {}", condition.context, self.controls.len());
                Err(refused(message, "give the controls of each context, or none"))
            }
            None => Ok(()),
        }
    }

    /// The same groups with ascending parts, in ascending order of parts and context, so that sums over groups do not
    /// depend on the order in which these were given.
    ///
    /// # Errors
    /// Wrong parts, or a condition twice in a context.
    pub(crate) fn in_order(&self) -> Result<Self> {
        let mut sorted = self.clone();
        for condition in &mut sorted.conditions {
            condition.parts = sorted_parts(&condition.parts)?;
        }
        // Doses are positive, so their bits are in their order.
        let key = |condition: &ConditionSums| -> Vec<(u32, u64)> {
            condition.parts.iter().map(|part| (part.perturbation, part.dose.to_bits())).collect()
        };
        sorted.conditions.sort_by_cached_key(|condition| (key(condition), condition.context));
        let same = |pair: &&[ConditionSums]| pair[0].parts == pair[1].parts && pair[0].context == pair[1].context;
        match sorted.conditions.windows(2).find(same) {
            Some(pair) => {
                let message = format!("context {} has a condition twice", pair[0].context);
                Err(refused(message, "add its groups up"))
            }
            None => Ok(sorted),
        }
    }
}
