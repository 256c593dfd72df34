//! A realistic synthetic atlas with known truth.
//!
//! Counts are negative binomial around heavy-tailed gene levels, with cell types, library sizes, batches,
//! perturbations that share pathways and act differently on each cell type, combinations that differ from the
//! sum of their parts, and a dose response that saturates. Every cell is a pure function of the seed and its
//! index, so any thread can make any range of cells; nothing that grows with the number of cells is in
//! memory.
//! grows with the number of cells is in memory.
//!
//! ```
//! use simulate::{SimulateSettings, Simulator};
//!
//! let simulator = Simulator::new(SimulateSettings { cells: 100, genes: 50, ..SimulateSettings::default() })?;
//! let chunk = simulator.chunk(0..10)?;
//! assert_eq!(chunk.expression.rows(), 10);
//! # Ok::<(), schemas::Error>(())
//! ```
#![forbid(unsafe_code)]

mod counts;
mod layout;
mod profile;
mod random;
mod truth;

use std::{ops::Range, sync::Arc};

use arrow::{
    array::{ArrayRef, RecordBatch, StringArray},
    datatypes::{DataType, Field, Schema, SchemaRef},
};
use schemas::{
    Error, Result,
    chunk::{Chunk, CsrRows},
    ids::CellIndex,
};

pub use self::profile::Interactions;
use self::{
    counts::{log_normal, negative_binomial},
    layout::CellLayout,
    profile::{AtlasSizes, GeneProfile, InteractionSettings, LIBRARY_SPREAD, Treatment},
    random::{Purpose, Random},
};

/// The label of unperturbed cells.
pub const CONTROL: &str = "ctrl";

/// Approximate maximum number of non-zeros in a chunk.
const ENTRIES_PER_CHUNK: f64 = 2e6;

/// The properties of a simulated atlas.
#[derive(Clone, Debug, PartialEq)]
pub struct SimulateSettings {
    /// Number of cells.
    pub cells: u64,
    /// Number of genes.
    pub genes: u32,
    /// Number of conditions besides control, without counting doses: single perturbations and combinations.
    pub conditions: u32,
    /// Number of conditions that are combinations of two.
    pub combos: u32,
    /// How the interactions of combinations are generated.
    pub interactions: Interactions,
    /// The strength of interactions: 1 changes a hundredth of the genes, each by a factor of about two.
    pub interaction: f64,
    /// Number of cell types.
    pub cell_types: u32,
    /// Number of dose levels at which each condition is seen, equally spaced up to 1. With 1, all doses are 1.
    pub doses: u32,
    /// The expected share of non-zero counts, between 0 and 1.
    pub density: f64,
    /// Number of batches; each has cells of every condition.
    pub batches: u32,
    /// Whether the cells are sorted by condition, as in many files, or shuffled.
    pub sorted: bool,
    /// The seed; equal seeds make equal atlases.
    pub seed: u64,
}

impl Default for SimulateSettings {
    fn default() -> Self {
        Self {
            cells: 20_000,
            genes: 2000,
            conditions: 40,
            combos: 12,
            interactions: Interactions::Own,
            interaction: 1.0,
            cell_types: 3,
            doses: 1,
            density: 0.1,
            batches: 2,
            sorted: true,
            seed: 0,
        }
    }
}

impl SimulateSettings {
    fn singles(&self) -> u32 {
        self.conditions - self.combos
    }

    fn check(&self) -> Result<()> {
        let nothing = |what: &str| Error::usage(format!("a simulated atlas needs at least one {what}"), "ask for more");
        for (count, what) in [
            (self.cells, "cell"),
            (self.genes.into(), "gene"),
            (self.conditions.into(), "condition"),
            (self.cell_types.into(), "cell type"),
            (self.doses.into(), "dose"),
            (self.batches.into(), "batch"),
        ] {
            if count == 0 {
                return Err(nothing(what));
            }
        }
        if i32::try_from(self.genes).is_err() || 1 << 53 < self.cells {
            return Err(Error::usage("that is too many cells or genes for an atlas", "ask for fewer"));
        }
        if !(0.0 < self.density && self.density < 1.0) {
            let message = format!("a density of {} is not between 0 and 1", self.density);
            return Err(Error::usage(message, "0.1 is a usual share of non-zeros"));
        }
        if !(self.interaction.is_finite() && self.interaction >= 0.0) {
            let message = format!("{} is not a size of interactions", self.interaction);
            return Err(Error::usage(message, "give a number of at least 0"));
        }
        let Some(singles) = self.conditions.checked_sub(self.combos) else {
            let message = format!("{} combinations are more than the {} conditions", self.combos, self.conditions);
            return Err(Error::usage(message, "combinations count among the conditions"));
        };
        let pairs = u64::from(singles) * u64::from(singles.saturating_sub(1)) / 2;
        if pairs < self.combos.into() {
            let message = format!("{singles} single perturbations make {pairs} pairs, not {}", self.combos);
            return Err(Error::usage(message, "ask for fewer combinations, or for more conditions"));
        }
        if self.genes < singles {
            let message = format!("{singles} single perturbations need as many genes to act on, not {}", self.genes);
            return Err(Error::usage(message, "ask for more genes, or for fewer conditions"));
        }
        Ok(())
    }
}

/// A condition at its doses.
#[derive(Clone, Debug)]
struct Variant {
    label: String,
    dose: String,
    treatment: Treatment,
}

/// Makes the cells of an atlas, and its ground truth.
#[derive(Clone, Debug)]
pub struct Simulator {
    settings: SimulateSettings,
    genes: Vec<String>,
    cell_types: Vec<String>,
    batches: Vec<String>,
    variants: Vec<Variant>,
    profile: GeneProfile,
    layout: CellLayout,
    obs_schema: SchemaRef,
}

impl Simulator {
    /// Draws everything that does not depend on a cell.
    ///
    /// # Errors
    /// Settings that make no valid atlas: a count of 0, more combinations than pairs, more single perturbations
    /// than genes, a density outside (0, 1).
    pub fn new(settings: SimulateSettings) -> Result<Self> {
        settings.check()?;
        let sizes = AtlasSizes {
            genes: settings.genes as usize,
            cell_types: settings.cell_types as usize,
            batches: settings.batches as usize,
            singles: settings.singles() as usize,
            combinations: settings.combos as usize,
        };
        let beyond = InteractionSettings { from: settings.interactions, size: settings.interaction };
        let profile = GeneProfile::new(settings.seed, sizes, settings.density, beyond);
        let genes: Vec<String> = (1..=settings.genes).map(|gene| format!("G{gene:05}")).collect();
        let variants = variants(&settings, &profile, &genes);
        let layout = CellLayout::new(settings.seed, settings.cells, variants.len(), sizes.cell_types, settings.sorted);
        let columns = ["cell", "condition", "dose", "cell_type", "batch"];
        let fields: Vec<Field> = columns.map(|name| Field::new(name, DataType::Utf8, false)).into();
        Ok(Self {
            cell_types: (0..settings.cell_types).map(|at| format!("type_{at}")).collect(),
            batches: (0..settings.batches).map(|at| format!("batch_{at}")).collect(),
            obs_schema: Arc::new(Schema::new(fields)),
            settings,
            genes,
            variants,
            profile,
            layout,
        })
    }

    /// The requested properties.
    #[must_use]
    pub fn settings(&self) -> &SimulateSettings {
        &self.settings
    }

    /// The names of the genes; a perturbation has the name of the gene on which it acts.
    #[must_use]
    pub fn genes(&self) -> &[String] {
        &self.genes
    }

    /// The columns of each chunk's `obs`, all text: `cell`, `condition`, `dose` (in the order of the condition),
    /// `cell_type`, `batch`.
    #[must_use]
    pub fn obs_schema(&self) -> SchemaRef {
        Arc::clone(&self.obs_schema)
    }

    /// Ranges of a suitable size that together contain all cells.
    pub fn chunks(&self) -> impl Iterator<Item = Range<u64>> + Send + use<> {
        let row = f64::from(self.settings.genes) * self.settings.density;
        let steps: [u32; 7] = [8192, 4096, 2048, 1024, 512, 256, 128];
        let rows = steps.into_iter().find(|rows| f64::from(*rows) * row <= ENTRIES_PER_CHUNK).unwrap_or(64);
        let (cells, rows) = (self.settings.cells, u64::from(rows));
        (0..cells.div_ceil(rows)).map(move |chunk| chunk * rows..cells.min((chunk + 1) * rows))
    }

    /// The cells of a range; they do not depend on the other ranges that are requested.
    ///
    /// # Errors
    /// A range that ends after the last cell, or has more entries than a chunk can count.
    pub fn chunk(&self, range: Range<u64>) -> Result<Chunk> {
        if self.settings.cells < range.end {
            let message = format!("cell {} was requested, but there are {}", range.end, self.settings.cells);
            return Err(Error::Bug(message));
        }
        let too_many = |_| Error::usage("too many cells for one chunk", "ask for shorter ranges");
        let mut obs = ObsRows::default();
        let mut means = Vec::new();
        let (mut pointers, mut genes, mut values) = (vec![0_u32], Vec::new(), Vec::new());
        for cell in range.clone() {
            let mut random = Random::new(self.settings.seed, Purpose::Cells, cell);
            let (variant, cell_type) = self.layout.meaning(self.layout.group_of(cell));
            let variant = &self.variants[variant];
            let batch = random.below(self.batches.len());
            let library = log_normal(LIBRARY_SPREAD, random.normal(1.0));
            self.profile.expect(&variant.treatment, cell_type, &mut means);
            let factors = self.profile.batch(batch).iter().zip(self.profile.shapes());
            for ((gene, mean), (factor, shape)) in (0_u32..).zip(&means).zip(factors) {
                let mean = f64::from(mean * factor) * library;
                let count = negative_binomial(mean, (*shape).into(), random.uniform());
                if count != 0 {
                    genes.push(gene);
                    values.push(count as f32);
                }
            }
            pointers.push(u32::try_from(genes.len()).map_err(too_many)?);
            obs.push(cell, variant, &self.cell_types[cell_type], &self.batches[batch]);
        }
        let expression = CsrRows::canonical(pointers, genes, values, self.settings.genes);
        Ok(Chunk {
            first: CellIndex(range.start),
            expression: expression.map_err(|error| Error::Bug(error.to_string()))?,
            obs: obs.finish(self.obs_schema())?,
        })
    }
}

#[derive(Default)]
struct ObsRows<'a> {
    cells: Vec<String>,
    others: [Vec<&'a str>; 4],
}

impl<'a> ObsRows<'a> {
    fn push(&mut self, cell: u64, variant: &'a Variant, cell_type: &'a str, batch: &'a str) {
        self.cells.push(format!("cell_{cell:08}"));
        let values = [variant.label.as_str(), variant.dose.as_str(), cell_type, batch];
        self.others.iter_mut().zip(values).for_each(|(column, value)| column.push(value));
    }

    fn finish(self, schema: SchemaRef) -> Result<RecordBatch> {
        let others = self.others.into_iter().map(|column| Arc::new(StringArray::from(column)) as ArrayRef);
        let cells = Arc::new(StringArray::from(self.cells)) as ArrayRef;
        let columns = [cells].into_iter().chain(others).collect();
        RecordBatch::try_new(schema, columns).map_err(|error| Error::Bug(error.to_string()))
    }
}

/// Control, then every single perturbation at every dose, then every combination: one part at every dose, the
/// other at the highest.
fn variants(settings: &SimulateSettings, profile: &GeneProfile, genes: &[String]) -> Vec<Variant> {
    let name = |single: usize| genes[profile.target(single)].as_str();
    // Doses are rounded as printed, so that the label gives the exact dose.
    let levels: Vec<f64> = (1..=settings.doses)
        .map(|level| (1000.0 * f64::from(level) / f64::from(settings.doses)).round() / 1000.0)
        .collect();
    let mut variants = vec![Variant { label: CONTROL.into(), dose: "1".into(), treatment: Treatment::default() }];
    for single in 0..settings.singles() as usize {
        variants.extend(levels.iter().map(|dose| Variant {
            label: name(single).into(),
            dose: dose.to_string(),
            treatment: Treatment { parts: vec![(single, *dose)], combination: None },
        }));
    }
    for combination in 0..settings.combos as usize {
        let [first, second] = profile.combination(combination).parts;
        variants.extend(levels.iter().map(|dose| {
            let doses = if combination % 2 == 0 { [*dose, 1.0] } else { [1.0, *dose] };
            Variant {
                label: format!("{}+{}", name(first), name(second)),
                dose: format!("{}+{}", doses[0], doses[1]),
                treatment: Treatment {
                    parts: vec![(first, doses[0]), (second, doses[1])],
                    combination: Some(combination),
                },
            }
        }));
    }
    variants
}

#[cfg(test)]
mod tests;
