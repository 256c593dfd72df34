//! Splits that together hold each item out once: the folds of a cross-validation.

use std::collections::HashSet;

use rand::{RngExt, SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use schemas::{
    Error, Result,
    conditions::{CONTROL, ConditionTable},
    ids::{CellIndex, PerturbationId},
    numbers::to_usize,
};

use super::{Scheme, Split, SplitShares, combinations_of_several, of_each};
use crate::atlas::Atlas;

/// The hint that lists the schemes for folds.
const HINT: &str =
    "write leave-out:cell_type, combos:0.2, perturbations:0.2 or random:0.2: a share of 0.2 makes five folds";

/// The folds of an atlas under a scheme: each item is held out by exactly one of them.
///
/// | scheme | items | what a fold holds out |
/// |---|---|---|
/// | `leave-out:KEY` | the values of perturbed cells, one fold each | the value's perturbed cells |
/// | `combos:F` | combinations of two or more perturbations | their cells, at every dose |
/// | `perturbations:F` | perturbations | the cells of every condition that has one of them |
/// | `random:F` | cells | the cells themselves, perturbed or not |
///
/// A share of F makes round(1/F) folds, but no more than there are items. A condition with two perturbations
/// of different folds is held out twice: it is the perturbation that is held out once.
#[derive(Clone, Debug)]
pub struct Folds {
    atlas: Atlas,
    names: Vec<String>,
    seed: u64,
    held: HeldOutItems,
}

/// The items that each fold holds out.
#[derive(Clone, Debug)]
enum HeldOutItems {
    /// For each fold, a code of the covariate with this index.
    Values { covariate: usize, codes: Vec<u32> },
    /// For each fold, whether it holds out each condition.
    Conditions(Vec<Vec<bool>>),
    /// Each cell is held out by the fold drawn for it.
    Cells,
}

impl Folds {
    /// Divides an atlas into folds; all draws, including that of validation cells, depend on the seed.
    ///
    /// # Errors
    /// A scheme that makes fewer than two folds, or a covariate that the atlas does not have.
    pub fn new(atlas: &Atlas, scheme: &Scheme, seed: u64) -> Result<Self> {
        let table = &atlas.manifest().conditions;
        let mut random = ChaCha8Rng::seed_from_u64(seed ^ 0xf01d);
        let (names, held) = match scheme {
            Scheme::HoldOut(_) | Scheme::Nothing => {
                return Err(Error::usage(format!("`{scheme}` makes no folds"), HINT));
            }
            Scheme::LeaveOut(key) => values(atlas, atlas.covariate_named(key)?),
            Scheme::Combinations(share) => {
                let folds = dealt(combinations_of_several(table), count(scheme, *share)?, &mut random);
                let held = folds.iter().map(|fold| {
                    let held: HashSet<_> = fold.iter().collect();
                    of_each(table, |id| held.contains(&table.condition(id).combination))
                });
                (numbered(folds.len()), HeldOutItems::Conditions(held.collect()))
            }
            Scheme::Perturbations(share) => {
                let all = (0..table.perturbations().len()).map(PerturbationId::at).collect();
                let folds = dealt(all, count(scheme, *share)?, &mut random);
                let held = folds.iter().map(|fold| conditions_with(table, fold));
                (numbered(folds.len()), HeldOutItems::Conditions(held.collect()))
            }
            Scheme::Random(share) => {
                let cells = to_usize(atlas.cells());
                (numbered(count(scheme, *share)?.min(cells)), HeldOutItems::Cells)
            }
        };
        if names.len() < 2 {
            let message = format!("`{scheme}` makes {} of {}", fold_count(names.len()), atlas.path().display());
            return Err(Error::usage(
                message,
                "at least two are needed; `perturbine inspect` shows what the atlas has",
            ));
        }
        Ok(Self { atlas: atlas.clone(), names, seed, held })
    }

    /// The names of the folds: values of the covariate, or numbers from 1.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Whether a fold holds a cell out.
    #[must_use]
    pub fn holds_out(&self, fold: usize, cell: CellIndex) -> bool {
        let atlas = &self.atlas;
        match &self.held {
            HeldOutItems::Values { covariate, codes } => {
                atlas.condition(cell) != CONTROL && atlas.covariates(cell)[*covariate] == codes[fold]
            }
            HeldOutItems::Conditions(held) => held[fold][atlas.condition(cell).index()],
            HeldOutItems::Cells => {
                let mut random = ChaCha8Rng::seed_from_u64(self.seed);
                random.set_stream(cell.0);
                random.random_range(0..self.names.len()) == fold
            }
        }
    }

    /// The split of a fold, which has the fold's name.
    ///
    /// # Errors
    /// Shares that are out of range, or a fold that leaves nothing to train on.
    pub fn split(&self, fold: usize, shares: SplitShares) -> Result<Split> {
        Split::holding_out(&self.atlas, &self.names[fold], &|cell| self.holds_out(fold, cell), shares, self.seed)
    }
}

/// One fold for each value of a covariate that perturbed cells have.
fn values(atlas: &Atlas, covariate: usize) -> (Vec<String>, HeldOutItems) {
    let all = &atlas.manifest().covariates[covariate].values;
    let perturbed = (0..atlas.cells()).map(CellIndex).filter(|cell| atlas.condition(*cell) != CONTROL);
    let perturbed_codes: HashSet<u32> = perturbed.map(|cell| atlas.covariates(cell)[covariate]).collect();
    let mut folds: Vec<(&String, u32)> =
        all.iter().zip(0..).filter(|(_, code)| perturbed_codes.contains(code)).collect();
    folds.sort();
    let (names, codes) = folds.into_iter().map(|(name, code)| (name.clone(), code)).unzip();
    (names, HeldOutItems::Values { covariate, codes })
}

fn conditions_with(table: &ConditionTable, perturbations: &[PerturbationId]) -> Vec<bool> {
    let held: HashSet<_> = perturbations.iter().collect();
    of_each(table, |id| table.parts(id).any(|(perturbation, _)| held.contains(&perturbation)))
}

/// The number of folds that a share makes.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the cast saturates at the largest count")]
fn count(scheme: &Scheme, share: f64) -> Result<usize> {
    let folds = (1.0 / share).round();
    if share <= 0.0 || folds < 2.0 {
        return Err(Error::usage(format!("`{scheme}` makes fewer than two folds"), HINT));
    }
    Ok(folds as usize)
}

/// Shuffles items and distributes them over folds; if there are fewer items than folds, each item gets a
/// fold.
fn dealt<T: Copy>(mut items: Vec<T>, folds: usize, random: &mut ChaCha8Rng) -> Vec<Vec<T>> {
    items.shuffle(random);
    let folds = folds.min(items.len());
    (0..folds).map(|fold| items.iter().skip(fold).step_by(folds).copied().collect()).collect()
}

fn numbered(folds: usize) -> Vec<String> {
    (1..=folds).map(|number| number.to_string()).collect()
}

fn fold_count(count: usize) -> String {
    if count == 1 { "1 fold".into() } else { format!("{count} folds") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_is_dealt_once_into_folds_of_nearly_one_size() {
        let mut random = ChaCha8Rng::seed_from_u64(3);
        let folds = dealt((0..23).collect(), 5, &mut random);
        let sizes: Vec<usize> = folds.iter().map(Vec::len).collect();
        assert_eq!(sizes, [5, 5, 5, 4, 4]);
        let mut all: Vec<i32> = folds.concat();
        assert_ne!(all, (0..23).collect::<Vec<_>>(), "they are shuffled");
        all.sort_unstable();
        assert_eq!(all, (0..23).collect::<Vec<_>>());
        assert_eq!(dealt(vec![1, 2], 5, &mut random).len(), 2);
        assert!(dealt(Vec::<u8>::new(), 5, &mut random).is_empty());
    }

    #[test]
    fn a_share_makes_as_many_folds_as_it_goes_into_one() {
        let folds = |share| count(&Scheme::Combinations(share), share).ok();
        assert_eq!([0.2, 0.25, 0.3, 0.5].map(folds), [Some(5), Some(4), Some(3), Some(2)]);
        assert_eq!([0.0, 0.7, 1.0].map(folds), [None; 3]);
    }

    #[test]
    fn a_scheme_is_shown_as_it_is_read() {
        for text in ["random:0.2", "leave-out:cell_type", "combos:0.3", "perturbations:0.1"] {
            assert_eq!(Scheme::parse(text).expect("a scheme").to_string(), text);
        }
        assert_eq!(Scheme::parse("leave-out:\"a,b\"").expect("a scheme"), Scheme::LeaveOut("a,b".into()));
    }
}
