//! Which cells are in which batch: a pure function of (seed, epoch, position).
//!
//! Blocks are drawn in random order into windows, and cells are shuffled within a window, so that a file that
//! is sorted by condition is read in long runs but still gives mixed batches. The order reads nothing except
//! which part of the split each cell belongs to, so training can resume at any position. The number of
//! workers, prefetching and the kind of access change nothing.

use std::sync::Arc;

use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use reader::{
    atlas::Atlas,
    split::{Split, SplitPart},
};
use schemas::{
    Result,
    atlas::RowOrder,
    batch::{BatchPlan, Position, Role, TrainingLength},
    conditions::CONTROL,
    ids::{BlockIndex, CellIndex, RowIndex},
    numbers::{bounded, to_usize},
};

use crate::sample::{CellPredicate, Sampler, Sampling};

/// A last batch with fewer cells is left out of training: batch norm needs the variance over several cells.
const FEWEST_TRAINING_CELLS: usize = 2;

/// Separates the random numbers for draws from those for shuffles.
const DRAWS: u64 = 0x6472_6177;

/// Default number of cells that are shuffled together.
///
/// If rows are in the source's order, which may be sorted by condition, a batch lacks about (K - 1) / (2 ln 2
/// · W / b) bits of the entropy of K conditions, for windows of W cells in blocks of b; to keep this small, a
/// window needs thousands of blocks. Shuffled rows are mixed anyway, so windows only have to differ between
/// epochs.
#[must_use]
pub fn default_window(order: RowOrder) -> u32 {
    match order {
        RowOrder::Shuffled => 1 << 15,
        RowOrder::Source => 1 << 17,
    }
}

/// How batches are drawn.
#[derive(Clone, Copy, Debug)]
pub struct OrderSettings {
    /// Seed of every shuffle.
    pub seed: u64,
    /// Cells per batch.
    pub batch_size: usize,
    /// Cells that are shuffled together.
    pub window: usize,
    /// Which part of each epoch these batches are: every `ranks`th one, starting with this one.
    pub rank: u32,
    /// Number of parts of an epoch, one for each process that trains together with the others; all get the same
    /// number of training batches, so that up to `ranks - 1` batches of an epoch are left out.
    pub ranks: u32,
}

impl OrderSettings {
    /// Settings for a single process, which gets all of every epoch.
    #[must_use]
    pub fn new(seed: u64, batch_size: usize, window: usize) -> Self {
        Self { seed, batch_size, window, rank: 0, ranks: 1 }
    }
}

/// The cells of one part of a split, as batches.
#[derive(Clone)]
pub struct Order {
    settings: OrderSettings,
    part: SplitPart,
    is_chosen: CellPredicate,
    atlas: Atlas,
    block_rows: u64,
    /// Blocks that hold cells of the part, and how many of them.
    blocks: Vec<(BlockIndex, u32)>,
    sampler: Option<Arc<Sampler>>,
}

impl std::fmt::Debug for Order {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Order").field("settings", &self.settings).field("part", &self.part).finish_non_exhaustive()
    }
}

impl Order {
    /// The order of a part's cells: shuffled for training, in stored order otherwise.
    #[must_use]
    pub fn new(atlas: &Atlas, split: Arc<Split>, part: SplitPart, settings: OrderSettings) -> Self {
        Self::of_cells(atlas, part, settings, Arc::new(move |cell| split.part(cell) == part))
    }

    /// The order of those cells of a part that are needed.
    #[must_use]
    pub fn of_cells(atlas: &Atlas, part: SplitPart, settings: OrderSettings, is_chosen: CellPredicate) -> Self {
        let block_rows = u64::from(atlas.manifest().block_rows);
        let mut order =
            Self { settings, part, is_chosen, atlas: atlas.clone(), block_rows, blocks: Vec::new(), sampler: None };
        for block in (0..to_usize(atlas.manifest().blocks())).map(BlockIndex::at) {
            let count = order.cells_in(block).count();
            if count > 0 {
                order.blocks.push((block, bounded(count)));
            }
        }
        order
    }

    /// The order of training cells that are drawn by `sampling`.
    ///
    /// # Errors
    /// Requests for which the atlas has no cells.
    pub fn sampled(atlas: &Atlas, split: Arc<Split>, settings: OrderSettings, sampling: &Sampling) -> Result<Self> {
        let trains: CellPredicate = Arc::new(move |cell| split.part(cell) == SplitPart::Train);
        let sampler = Sampler::new(atlas, sampling, Arc::clone(&trains))?.map(Arc::new);
        let is_chosen: CellPredicate = match &sampler {
            Some(sampler) if sampler.pairs() => {
                let (atlas, trains) = (atlas.clone(), Arc::clone(&trains));
                Arc::new(move |cell| trains(cell) && atlas.condition(cell) != CONTROL)
            }
            _ => trains,
        };
        Ok(Self { sampler, ..Self::of_cells(atlas, SplitPart::Train, settings, is_chosen) })
    }

    /// Number of cells in the part; if cells are paired, only the perturbed ones.
    #[must_use]
    pub fn cell_count(&self) -> u64 {
        self.blocks.iter().map(|(_, count)| u64::from(*count)).sum()
    }

    /// Number of batches in an epoch.
    #[must_use]
    pub fn batches(&self) -> u64 {
        let size = self.cells_of_a_batch() as u64;
        let (whole, rest) = (self.cell_count() / size, self.cell_count() % size);
        let keeps_rest = if self.part == SplitPart::Train { FEWEST_TRAINING_CELLS as u64 } else { 1 };
        let all = whole + u64::from(keeps_rest <= rest);
        let (rank, ranks) = (u64::from(self.settings.rank), u64::from(self.settings.ranks.max(1)));
        if self.part == SplitPart::Train { all / ranks } else { (all + ranks - 1).saturating_sub(rank) / ranks }
    }

    /// Cells of the part that one batch of every process takes together; the controls of pairs are not included.
    fn cells_of_a_batch(&self) -> usize {
        match &self.sampler {
            Some(sampler) if sampler.pairs() => (self.settings.batch_size / 2).max(1),
            _ => self.settings.batch_size,
        }
    }

    /// The index, among the batches of all ranks, of this rank's batch at a position.
    fn place(&self, position: u64) -> u64 {
        position * u64::from(self.settings.ranks.max(1)) + u64::from(self.settings.rank)
    }

    fn cells_in(&self, block: BlockIndex) -> impl Iterator<Item = CellIndex> + '_ {
        let first = u64::from(block.0) * self.block_rows;
        let rows = (first..self.atlas.cells().min(first + self.block_rows)).map(RowIndex);
        rows.map(|row| self.atlas.cell(row)).filter(|cell| (self.is_chosen)(*cell))
    }

    /// The batches of an epoch, from a position on.
    #[must_use]
    pub fn epoch(self: &Arc<Self>, epoch: u32, position: u64) -> Epoch {
        let mut blocks = self.blocks.clone();
        if self.part == SplitPart::Train {
            blocks.shuffle(&mut self.random(epoch, 0));
        }
        let mut walk = Epoch { order: Arc::clone(self), epoch, blocks, window: 0, cells: Vec::new(), next: position };
        walk.skip_cells(self.place(position) * self.cells_of_a_batch() as u64);
        walk
    }

    fn blocks_per_window(&self) -> usize {
        (self.settings.window / to_usize(self.block_rows)).max(1)
    }

    /// A generator for one shuffle: stream 0 is the epoch's blocks, the others are its windows.
    fn random(&self, epoch: u32, stream: u64) -> ChaCha8Rng {
        let mut random = ChaCha8Rng::seed_from_u64(self.settings.seed);
        random.set_stream((u64::from(epoch) << 32) ^ stream);
        random
    }

    /// A generator for the draws of one batch, given its index among the batches of all ranks.
    fn draws(&self, epoch: u32, place: u64) -> ChaCha8Rng {
        let mut random = ChaCha8Rng::seed_from_u64(self.settings.seed ^ DRAWS);
        random.set_stream((u64::from(epoch) << 32) ^ place);
        random
    }
}

/// Iterates over one epoch.
#[derive(Clone, Debug)]
pub struct Epoch {
    order: Arc<Order>,
    epoch: u32,
    blocks: Vec<(BlockIndex, u32)>,
    /// The next window to open.
    window: usize,
    /// Cells of open windows that are not in a batch yet; the next one is last.
    cells: Vec<CellIndex>,
    next: u64,
}

impl Epoch {
    fn windows(&self) -> usize {
        self.blocks.len().div_ceil(self.order.blocks_per_window())
    }

    fn window_blocks(&self, window: usize) -> &[(BlockIndex, u32)] {
        let size = self.order.blocks_per_window();
        &self.blocks[window * size..self.blocks.len().min((window + 1) * size)]
    }

    fn skip_cells(&mut self, mut cells: u64) {
        let open = self.cells.len() as u64;
        let from_open = to_usize(cells.min(open));
        self.cells.truncate(self.cells.len() - from_open);
        cells -= from_open as u64;
        while self.window < self.windows() {
            let held: u64 = self.window_blocks(self.window).iter().map(|(_, count)| u64::from(*count)).sum();
            if cells < held {
                break;
            }
            cells -= held;
            self.window += 1;
        }
        if cells > 0 && self.window < self.windows() {
            self.open_window();
            let left = self.cells.len() - to_usize(cells).min(self.cells.len());
            self.cells.truncate(left);
        }
    }

    /// Takes the cells of the next batch, skipping those of other ranks.
    fn take_cells(&mut self) -> Vec<CellIndex> {
        let size = self.order.cells_of_a_batch();
        while self.cells.len() < size && self.window < self.windows() {
            self.open_window();
        }
        let left = self.cells.len().saturating_sub(size);
        let mut cells = self.cells.split_off(left);
        cells.reverse();
        self.skip_cells(u64::from(self.order.settings.ranks.max(1) - 1) * size as u64);
        cells
    }

    fn open_window(&mut self) {
        let mut opened: Vec<CellIndex> =
            self.window_blocks(self.window).iter().flat_map(|(block, _)| self.order.cells_in(*block)).collect();
        if self.order.part == SplitPart::Train {
            opened.shuffle(&mut self.order.random(self.epoch, 1 + self.window as u64));
        }
        opened.reverse();
        // The rest of the previous window comes first.
        opened.append(&mut self.cells);
        self.cells = opened;
        self.window += 1;
    }
}

impl Iterator for Epoch {
    type Item = BatchPlan;

    fn next(&mut self) -> Option<BatchPlan> {
        let batches = self.order.batches();
        if batches <= self.next {
            return None;
        }
        let order = Arc::clone(&self.order);
        let index = self.next;
        let random = || order.draws(self.epoch, order.place(index));
        let cells = match &order.sampler {
            None => self.take_cells(),
            Some(sampler) if sampler.pairs() => {
                let mut random = random();
                sampler.with_controls(&self.take_cells(), &mut random)
            }
            Some(sampler) => sampler.draw(order.settings.batch_size, &mut random()),
        };
        self.next += 1;
        let role = match self.order.part {
            SplitPart::Train => Role::Train,
            SplitPart::Valid => Role::Valid,
            SplitPart::Ood | SplitPart::Reference => Role::Source,
        };
        let rows = cells.iter().map(|cell| self.order.atlas.row(*cell)).collect();
        Some(BatchPlan { pass: self.epoch, index, role, last: self.next == batches, cells, rows })
    }
}

/// Epochs of training batches, where every `check_every`th epoch is followed by the validation batches.
#[derive(Clone, Debug)]
pub struct TrainingOrder {
    /// The training cells.
    pub train: Arc<Order>,
    /// The validation cells.
    pub valid: Arc<Order>,
    /// Number of epochs between two validations.
    pub check_every: u32,
    /// Total number of epochs.
    pub epochs: u32,
}

impl TrainingOrder {
    /// How long training takes.
    #[must_use]
    pub fn length(&self) -> TrainingLength {
        TrainingLength {
            epochs: self.epochs,
            batches: self.train.batches(),
            validate_every: (self.valid.cell_count() > 0).then_some(self.check_every),
        }
    }

    /// Number of training cells before a position, counted once per epoch.
    #[must_use]
    pub fn cells_before(&self, position: Position) -> u64 {
        let cells = self.train.cell_count();
        u64::from(position.epoch) * cells + cells.min(position.batch * self.train.cells_of_a_batch() as u64)
    }

    /// All plans from a position on.
    pub fn plans(self, from: Position) -> impl Iterator<Item = BatchPlan> + Send {
        let length = self.length();
        (from.epoch..self.epochs).flat_map(move |epoch| {
            let start = if epoch == from.epoch { from.batch } else { 0 };
            let valid = length.validates(epoch).then(|| self.valid.epoch(epoch, 0));
            self.train.epoch(epoch, start).chain(valid.into_iter().flatten())
        })
    }
}
