//! Which cells are in which batch: the order of [`batcher`], from the arguments of a loader.

use std::{collections::BTreeMap, sync::Arc};

use batcher::{
    order::{Order, OrderSettings, default_window},
    sample::{CellPredicate, Sampling},
};
use pyo3::prelude::*;
use reader::{
    atlas::Atlas as OpenAtlas,
    split::{Scheme, Split, SplitPart, SplitShares},
};
use schemas::{
    Error, Result,
    batch::BatchPlan,
    ids::CellIndex,
    numbers::{to_i64, to_usize},
};
use storage::disk::hex;
use xxhash_rust::xxh3::Xxh3;

use crate::{atlas::Atlas, error::OrRaise};

/// The parts of a split, as loaders name them.
const PARTS: [(&str, SplitPart); 4] = [
    ("train", SplitPart::Train),
    ("valid", SplitPart::Valid),
    ("ood", SplitPart::Ood),
    ("reference", SplitPart::Reference),
];

/// The batches of one process: a pure function of the atlas, these arguments, epoch and position.
#[pyclass(frozen, module = "perturbine._native", name = "Order")]
pub(crate) struct BatchOrder {
    order: Arc<Order>,
    /// Number of batches of an epoch.
    batches: u64,
    cells: u64,
    checksum: String,
}

/// The arguments, as Python gives them.
#[derive(FromPyObject)]
struct Request {
    split: Option<String>,
    part: Option<String>,
    batch_size: i64,
    seed: u64,
    sampling: String,
    match_keys: Vec<String>,
    condition_weights: BTreeMap<String, f64>,
    shuffle: Option<bool>,
    drop_last: bool,
    window: Option<u32>,
    rank: i64,
    world_size: i64,
}

#[pymethods]
impl BatchOrder {
    #[new]
    fn new(py: Python<'_>, atlas: &Bound<'_, Atlas>, request: &Bound<'_, PyAny>) -> PyResult<Self> {
        let request: Request = request.extract()?;
        let atlas = &atlas.get().open;
        py.detach(|| request.order(atlas)).or_raise(py)
    }

    /// Number of batches of an epoch.
    #[getter]
    fn batches(&self) -> u64 {
        self.batches
    }

    /// Number of cells that an epoch of all processes draws from; with pairs, of perturbed ones.
    #[getter]
    fn cells(&self) -> u64 {
        self.cells
    }

    /// A checksum of which cells these are.
    #[getter]
    fn checksum(&self) -> String {
        self.checksum.clone()
    }
}

impl BatchOrder {
    /// The batches of an epoch from a position on; of several workers, those of one.
    pub(crate) fn plans(
        &self,
        epoch: u32,
        position: u64,
        worker: u64,
        workers: u64,
    ) -> impl Iterator<Item = BatchPlan> + Send + use<> {
        let left = self.batches.saturating_sub(position);
        let plans = self.order.epoch(epoch, position).take(to_usize(left));
        plans.filter(move |plan| plan.index % workers.max(1) == worker)
    }
}

impl Request {
    fn order(self, atlas: &OpenAtlas) -> Result<BatchOrder> {
        let settings = self.settings(atlas)?;
        let part = self.part()?;
        let split = Arc::new(match &self.split {
            Some(name) => Split::read(atlas, name)?,
            None => Split::make(atlas, "all", &Scheme::Nothing, SplitShares { valid: 0.0, reference: 0.0 }, 0)?,
        });
        let sampling = self.sampling()?;
        let is_shuffled = self.shuffle.unwrap_or(matches!(part, None | Some(SplitPart::Train)));
        let chosen: CellPredicate = {
            let split = Arc::clone(&split);
            Arc::new(move |cell| part.is_none_or(|part| split.part(cell) == part))
        };
        let cell_sum = checksum(atlas, &chosen);
        let order = match sampling {
            Sampling::Uniform => {
                // Cells of any part are shuffled as training cells are, or walked as those for validation.
                let walk = if is_shuffled { SplitPart::Train } else { SplitPart::Valid };
                Order::of_cells(atlas, walk, settings, chosen)
            }
            _ if !is_shuffled || part.is_some_and(|part| part != SplitPart::Train) => {
                return Err(Error::usage(
                    format!("sampling=\"{}\" draws from training cells, in random order", self.sampling),
                    "write sampling=\"uniform\" for other parts, and for the order of the atlas",
                ));
            }
            sampling => {
                let split = match part {
                    Some(_) => split,
                    None => Arc::new(Split::make(
                        atlas,
                        "all",
                        &Scheme::Nothing,
                        SplitShares { valid: 0.0, reference: 0.0 },
                        0,
                    )?),
                };
                Order::sampled(atlas, split, settings, &sampling)?
            }
        };
        if order.cell_count() == 0 {
            let name = self.split.as_deref().unwrap_or("all");
            return Err(Error::usage(
                format!("split `{name}` has no such cell in part `{}`", self.part.as_deref().unwrap_or("all")),
                "atlas.splits has the number of cells in each part",
            ));
        }
        let batches = if self.drop_last { self.whole_batches(&order, settings, is_shuffled) } else { order.batches() };
        Ok(BatchOrder { cells: order.cell_count(), checksum: cell_sum, batches, order: Arc::new(order) })
    }

    fn settings(&self, atlas: &OpenAtlas) -> Result<OrderSettings> {
        let batch_size = usize::try_from(self.batch_size).ok().filter(|size| 0 < *size);
        let batch_size = batch_size
            .ok_or_else(|| Error::usage(format!("{} is not a batch size", self.batch_size), "give at least 1 cell"))?;
        let (rank, ranks) = (u32::try_from(self.rank), u32::try_from(self.world_size));
        let (Ok(rank), Ok(ranks)) = (rank, ranks) else { return Err(self.bad_rank()) };
        if ranks <= rank {
            return Err(self.bad_rank());
        }
        let window = to_usize(self.window.unwrap_or_else(|| default_window(atlas.manifest().order)));
        Ok(OrderSettings { rank, ranks, ..OrderSettings::new(self.seed, batch_size, window) })
    }

    fn bad_rank(&self) -> Error {
        Error::usage(
            format!("rank {} is not one of {} processes", self.rank, self.world_size),
            "ranks count from 0: write rank=0 to world_size - 1, or set RANK and WORLD_SIZE as torchrun does",
        )
    }

    fn part(&self) -> Result<Option<SplitPart>> {
        let Some(name) = &self.part else { return Ok(None) };
        let found = PARTS.iter().find(|(known, _)| known == name).map(|(_, part)| *part);
        let part = found.ok_or_else(|| Error::unknown("part of a split", name, PARTS.map(|(name, _)| name)))?;
        if self.split.is_none() {
            return Err(Error::usage(
                format!("part=\"{name}\" is a part of a split, but there is none"),
                "write split=NAME as well; atlas.splits lists them",
            ));
        }
        Ok(Some(part))
    }

    fn sampling(&self) -> Result<Sampling> {
        let unused = |name: &str, of: &str| {
            let message = format!("{name} does nothing with sampling=\"{}\"", self.sampling);
            Err(Error::usage(message, format!("write sampling=\"{of}\", or leave it out")))
        };
        if !self.match_keys.is_empty() && self.sampling != "paired" {
            return unused("match_keys", "paired");
        }
        if !self.condition_weights.is_empty() && self.sampling != "weighted" {
            return unused("condition_weights", "weighted");
        }
        match self.sampling.as_str() {
            "uniform" => Ok(Sampling::Uniform),
            "balanced" => Ok(Sampling::Balanced),
            "weighted" => Ok(Sampling::Weighted(self.condition_weights.clone())),
            "paired" => Ok(Sampling::Paired(self.match_keys.clone())),
            other => Err(Error::unknown("sampling", other, ["uniform", "balanced", "weighted", "paired"])),
        }
    }

    /// Number of batches of this process that are full.
    fn whole_batches(&self, order: &Order, settings: OrderSettings, is_shuffled: bool) -> u64 {
        let size = if self.sampling == "paired" { (settings.batch_size / 2).max(1) } else { settings.batch_size };
        let (whole, rank, ranks) =
            (order.cell_count() / size as u64, u64::from(settings.rank), u64::from(settings.ranks));
        if is_shuffled { whole / ranks } else { (whole + ranks - 1).saturating_sub(rank) / ranks }
    }
}

/// A checksum of which cells of the atlas are chosen.
fn checksum(atlas: &OpenAtlas, chosen: &CellPredicate) -> String {
    let mut hash = Xxh3::new();
    let mut bits = Vec::with_capacity(1 << 12);
    for cell in (0..atlas.cells()).map(CellIndex) {
        bits.push(u8::from(chosen(cell)));
        if bits.len() == bits.capacity() {
            hash.update(&bits);
            bits.clear();
        }
    }
    hash.update(&bits);
    hex(hash.digest())
}

/// Cells of a plan as Python counts them.
pub(crate) fn indices(cells: &[CellIndex]) -> Vec<i64> {
    cells.iter().map(|cell| to_i64(cell.index())).collect()
}
