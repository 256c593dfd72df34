//! Which cells are for training, for validation, or held out.

mod folds;
mod label_hashes;
mod list;
mod reference;
mod stored;

use std::{collections::HashMap, fmt, path::Path};

use arrays::text::as_text;
use arrow::array::AsArray;
use rand::{RngExt, SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use schemas::{
    Error, Result,
    atlas::files,
    conditions::{CONTROL, ConditionTable},
    ids::{CellIndex, CombinationId, ConditionId, PerturbationId},
    quoting::unquoted,
};

pub use self::{folds::Folds, stored::training_cells};
use crate::{atlas::Atlas, selector::Selector};

/// The role of a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SplitPart {
    /// For learning.
    Train,
    /// For choosing the best epoch.
    Valid,
    /// Held out; only `evaluate` uses it.
    Ood,
    /// A control that is held out to measure real changes from it.
    Reference,
}

impl SplitPart {
    /// Its name in files: reference controls are held-out cells, which another column marks.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Valid => "valid",
            Self::Ood | Self::Reference => "ood",
        }
    }
}

/// A part for every cell, in the atlas's order.
#[derive(Clone, Debug, PartialEq)]
pub struct Split {
    name: String,
    parts: Vec<SplitPart>,
    /// The column of `obs` from which it was imported.
    column: Option<String>,
}

/// The shares of cells that are not held out by the scheme, but not trained on either.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SplitShares {
    /// Share of the remaining cells for validation.
    pub valid: f64,
    /// Share of each context's remaining controls that are set apart as references, within bounds: at least 20 (half
    /// of the controls, if there are fewer than 40), at most 2,000.
    pub reference: f64,
}

impl Default for SplitShares {
    fn default() -> Self {
        Self { valid: 0.15, reference: 0.25 }
    }
}

impl SplitShares {
    fn check(self) -> Result<()> {
        for (share, name) in [(self.valid, "validation"), (self.reference, "reference")] {
            if !(0.0..1.0).contains(&share) {
                return Err(Error::usage(
                    format!("{share} is not a {name} share"),
                    "give a number of at least 0 and less than 1",
                ));
            }
        }
        Ok(())
    }
}

/// How a split is made.
#[derive(Clone, Debug, PartialEq)]
pub enum Scheme {
    /// Hold out the cells selected by any of these.
    HoldOut(Vec<Selector>),
    /// Hold out this share of the cells.
    Random(f64),
    /// Hold out the perturbed cells of one value of this covariate; the value is drawn from the seed.
    LeaveOut(String),
    /// Hold out this share of the combinations of two or more perturbations.
    Combinations(f64),
    /// Hold out every condition that contains one of this share of the perturbations.
    Perturbations(f64),
    /// Hold out nothing.
    Nothing,
}

impl Scheme {
    /// Reads `random:F`, `leave-out:KEY`, `combos:F` or `perturbations:F`.
    ///
    /// # Errors
    /// Any other text.
    pub fn parse(text: &str) -> Result<Self> {
        let hint = "write random:0.2, leave-out:cell_type, combos:0.3 or perturbations:0.1";
        let bad = || Error::usage(format!("`{text}` is not a scheme"), hint);
        let (name, value) = text.split_once(':').ok_or_else(bad)?;
        let share = || match value.parse() {
            Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
            _ => Err(Error::usage(format!("`{value}` is not a share from 0 to 1"), hint)),
        };
        match name {
            "random" => share().map(Self::Random),
            "combos" => share().map(Self::Combinations),
            "perturbations" => share().map(Self::Perturbations),
            "leave-out" if !value.is_empty() => Ok(Self::LeaveOut(unquoted(value))),
            _ => Err(bad()),
        }
    }
}

/// The text that [`Scheme::parse`] reads.
impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HoldOut(selectors) => {
                let selectors: Vec<String> = selectors.iter().map(Selector::to_string).collect();
                write!(f, "hold-out:{}", selectors.join(";"))
            }
            Self::Random(share) => write!(f, "random:{share}"),
            Self::LeaveOut(key) => write!(f, "leave-out:{key}"),
            Self::Combinations(share) => write!(f, "combos:{share}"),
            Self::Perturbations(share) => write!(f, "perturbations:{share}"),
            Self::Nothing => f.write_str("nothing"),
        }
    }
}

impl Split {
    /// Makes a split: the scheme decides which cells are held out; of the others, a share is for validation, and
    /// controls are set apart as references. All draws depend on the seed.
    ///
    /// # Errors
    /// Names that the atlas does not know, shares out of range, or a split that leaves nothing to train on.
    pub fn make(atlas: &Atlas, name: &str, scheme: &Scheme, shares: SplitShares, seed: u64) -> Result<Self> {
        // Where nothing is held out, references would be controls that training lacks without need.
        let reference = if *scheme == Scheme::Nothing { 0.0 } else { shares.reference };
        let shares = SplitShares { reference, ..shares };
        let split = Self::holding_out(atlas, name, &held_out(atlas, scheme, seed)?, shares, seed)?;
        if *scheme != Scheme::Nothing && !split.parts.contains(&SplitPart::Ood) {
            return Err(Error::usage(
                "the scheme holds nothing out",
                "hold out a larger share, or check that the atlas has such conditions",
            ));
        }
        Ok(split)
    }

    fn holding_out(
        atlas: &Atlas,
        name: &str,
        held_out: &dyn Fn(CellIndex) -> bool,
        shares: SplitShares,
        seed: u64,
    ) -> Result<Self> {
        shares.check()?;
        let mut random = ChaCha8Rng::seed_from_u64(seed ^ 0x5011_7a11);
        let mut parts = Vec::new();
        for cell in (0..atlas.cells()).map(CellIndex) {
            let draw: f64 = random.random();
            parts.push(match held_out(cell) {
                true => SplitPart::Ood,
                false if draw < shares.valid => SplitPart::Valid,
                false => SplitPart::Train,
            });
        }
        reference::set_apart(atlas, &mut parts, shares.reference, seed);
        let split = Self { name: name.to_owned(), parts, column: None };
        split.check()?;
        Ok(split)
    }

    /// Holds out every cell of an atlas: nothing is known of what a model was trained on.
    #[must_use]
    pub fn holding_out_all(atlas: &Atlas) -> Self {
        let parts = vec![SplitPart::Ood; schemas::numbers::to_usize(atlas.cells())];
        Self { name: "none".into(), parts, column: None }
    }

    /// Takes the parts from a column of `obs`, where `test` means `valid`, as in the original; also returns
    /// whether `test` occurred. Errors name the atlas `shown`: its own path may still be that of a hidden folder.
    ///
    /// # Errors
    /// A column that does not exist, values that are not names of parts, or `reference` of a cell that is not a control.
    pub fn from_obs(atlas: &Atlas, shown: &Path, name: &str, column: &str) -> Result<(Self, bool)> {
        let mut parts = Vec::new();
        let mut said_test = false;
        for batch in atlas.obs(&[column])? {
            let batch = batch.map_err(|error| Error::damaged(atlas.path().join(files::CELLS), error.to_string()))?;
            let values = as_text(batch.column(0)).map_err(|error| Error::Bug(error.to_string()))?;
            for value in values.as_string::<i32>() {
                said_test |= value == Some("test");
                let part = value.and_then(part_named).ok_or_else(|| {
                    let place = format!("{}, obs column `{column}`, row {}", shown.display(), parts.len());
                    let message = value.map_or_else(
                        || "the value is missing".to_owned(),
                        |value| format!("`{value}` is not a part of a split"),
                    );
                    Error::data(place, message, "use train, valid (or test), ood and reference")
                })?;
                let condition = atlas.condition(CellIndex(parts.len() as u64));
                if part == SplitPart::Reference && condition != CONTROL {
                    let place = format!("{}, obs column `{column}`, row {}", shown.display(), parts.len());
                    let condition = atlas.manifest().conditions.name(condition);
                    let message = format!("`{condition}` is not a control, and references are controls");
                    return Err(Error::data(place, message, "write ood for cells to predict"));
                }
                parts.push(part);
            }
        }
        let split = Self { name: name.to_owned(), parts, column: Some(column.to_owned()) };
        split.check()?;
        Ok((split, said_test))
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The role of a cell.
    #[must_use]
    pub fn part(&self, cell: CellIndex) -> SplitPart {
        self.parts[cell.index()]
    }

    /// Number of cells in each part.
    #[must_use]
    pub fn counts(&self) -> HashMap<SplitPart, u64> {
        let parts = [SplitPart::Train, SplitPart::Valid, SplitPart::Ood, SplitPart::Reference];
        let mut counts = HashMap::from(parts.map(|part| (part, 0)));
        for part in &self.parts {
            *counts.entry(*part).or_default() += 1;
        }
        counts
    }

    fn check(&self) -> Result<()> {
        if self.parts.contains(&SplitPart::Train) {
            return Ok(());
        }
        Err(Error::usage("the split leaves no cell to train on", "hold out less, or lower --valid"))
    }
}

fn part_named(name: &str) -> Option<SplitPart> {
    match name {
        "train" => Some(SplitPart::Train),
        "valid" | "test" => Some(SplitPart::Valid),
        "ood" => Some(SplitPart::Ood),
        "reference" => Some(SplitPart::Reference),
        _ => None,
    }
}

type HeldOut<'a> = Box<dyn Fn(CellIndex) -> bool + 'a>;

fn held_out<'a>(atlas: &'a Atlas, scheme: &Scheme, seed: u64) -> Result<HeldOut<'a>> {
    let table = &atlas.manifest().conditions;
    let mut random = ChaCha8Rng::seed_from_u64(seed ^ 0x0ff_0ff);
    Ok(match scheme {
        Scheme::Nothing => Box::new(|_| false),
        Scheme::HoldOut(selectors) => {
            let matchers = selectors.iter().map(|selector| selector.on(atlas)).collect::<Result<Vec<_>>>()?;
            for (selector, matches) in selectors.iter().zip(&matchers) {
                if !(0..atlas.cells()).map(CellIndex).any(|cell| matches(atlas.codes(cell))) {
                    let place = atlas.path().display().to_string();
                    let hint = "`perturbine inspect` shows how many cells each condition has";
                    return Err(Error::data(place, format!("no cell is `{selector}`"), hint));
                }
            }
            Box::new(move |cell| matchers.iter().any(|matches| matches(atlas.codes(cell))))
        }
        Scheme::Random(share) => {
            let share = *share;
            Box::new(move |cell| {
                let mut random = ChaCha8Rng::seed_from_u64(seed);
                random.set_stream(cell.0);
                random.random::<f64>() < share
            })
        }
        Scheme::LeaveOut(key) => {
            let at = atlas.covariate_named(key)?;
            let left_out = random.random_range(0..atlas.manifest().covariates[at].values.len().max(1));
            Box::new(move |cell| atlas.condition(cell) != CONTROL && atlas.covariates(cell)[at] as usize == left_out)
        }
        Scheme::Combinations(share) => {
            let drawn = draw(combinations_of_several(table), *share, &mut random);
            let held: Vec<bool> = of_each(table, |id| drawn.contains(&table.condition(id).combination));
            Box::new(move |cell| held[atlas.condition(cell).index()])
        }
        Scheme::Perturbations(share) => {
            let drawn = draw((0..table.perturbations().len()).map(PerturbationId::at).collect(), *share, &mut random);
            let held: Vec<bool> =
                of_each(table, |id| table.parts(id).any(|(perturbation, _)| drawn.contains(&perturbation)));
            Box::new(move |cell| held[atlas.condition(cell).index()])
        }
    })
}

/// The combinations of two or more perturbations.
fn combinations_of_several(table: &ConditionTable) -> Vec<CombinationId> {
    let combinations = table.combinations().iter().enumerate();
    combinations.filter(|(_, one)| one.perturbations.len() > 1).map(|(id, _)| CombinationId::at(id)).collect()
}

fn of_each(table: &ConditionTable, f: impl Fn(ConditionId) -> bool) -> Vec<bool> {
    (0..table.conditions().len()).map(|id| f(ConditionId::at(id))).collect()
}

/// Draws a share of `all`: at least one, if there is one.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a share of a table's length fits its length"
)]
fn draw<T>(mut all: Vec<T>, share: f64, random: &mut ChaCha8Rng) -> Vec<T> {
    all.shuffle(random);
    let drawn = (all.len() as f64 * share).round() as usize;
    all.truncate(drawn.max(1));
    all
}
