//! Prefetches the blocks of plans.
//!
//! The order is known in advance, so nothing has to be guessed: plans are drawn early, the kernel is advised
//! of their blocks, and by the time a plan is emitted, its blocks are in memory.

use std::collections::VecDeque;

use schemas::{atlas::files, batch::BatchPlan, ids::BlockIndex, numbers::to_usize};

use crate::{atlas::Atlas, block::place};

/// Number of cells whose blocks are prefetched: as many as a window of the default size has.
const CELLS_AHEAD: usize = 1 << 17;
/// Number of plans drawn for each emitted one, until enough are ahead, so that the first batch has to wait
/// for no more than these.
const DRAWN_AT_ONCE: usize = 2;

/// Plans whose blocks were prefetched.
#[derive(Debug)]
pub struct ReadAhead<I> {
    atlas: Atlas,
    plans: I,
    ahead: VecDeque<BatchPlan>,
    cells_ahead: usize,
    advised: AdvisedBlocks,
}

/// The blocks of which the kernel was advised.
#[derive(Debug)]
struct AdvisedBlocks {
    /// One bit per block.
    bits: Vec<u64>,
    /// Whether blocks that were read may have left memory since.
    forgets: bool,
    /// Number of cells in plans since the bits were last cleared.
    cells: usize,
}

impl<I: Iterator<Item = BatchPlan>> ReadAhead<I> {
    /// Prefetches the blocks of these plans.
    #[must_use]
    pub fn new(atlas: Atlas, plans: I) -> Self {
        let blocks = to_usize(atlas.manifest().blocks());
        let advised =
            AdvisedBlocks { bits: vec![0; blocks.div_ceil(64)], forgets: may_outgrow_memory(&atlas), cells: 0 };
        Self { atlas, plans, ahead: VecDeque::new(), cells_ahead: 0, advised }
    }

    fn ask_for(&mut self, plan: &BatchPlan) {
        let block_rows = self.atlas.manifest().block_rows;
        for row in &plan.rows {
            let (block, _) = place(*row, block_rows);
            if self.advised.is_new(block) {
                self.atlas.will_need(block);
            }
        }
        self.advised.cells += plan.cells.len();
        if self.advised.forgets && self.advised.cells >= CELLS_AHEAD {
            self.advised.bits.fill(0);
            self.advised.cells = 0;
        }
    }
}

impl AdvisedBlocks {
    fn is_new(&mut self, block: BlockIndex) -> bool {
        let (word, bit) = (block.index() / 64, 1 << (block.0 % 64));
        let is_new = self.bits[word] & bit == 0;
        self.bits[word] |= bit;
        is_new
    }
}

impl<I: Iterator<Item = BatchPlan>> Iterator for ReadAhead<I> {
    type Item = BatchPlan;

    fn next(&mut self) -> Option<BatchPlan> {
        for _ in 0..DRAWN_AT_ONCE {
            if self.cells_ahead >= CELLS_AHEAD {
                break;
            }
            let Some(plan) = self.plans.next() else { break };
            self.ask_for(&plan);
            self.cells_ahead += plan.cells.len();
            self.ahead.push_back(plan);
        }
        let plan = self.ahead.pop_front()?;
        self.cells_ahead -= plan.cells.len();
        Some(plan)
    }
}

/// Whether the matrix is so large that blocks may leave the kernel's memory after they were read.
fn may_outgrow_memory(atlas: &Atlas) -> bool {
    let matrix = atlas.manifest().files.get(files::MATRIX).map_or(0, |entry| entry.bytes);
    machine_memory().is_none_or(|memory| memory / 2 < matrix)
}

/// The machine's memory in bytes, if the system reports it.
fn machine_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kilobytes: u64 = total.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(1024 * kilobytes)
}
