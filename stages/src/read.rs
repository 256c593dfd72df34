//! Pins the blocks that a plan needs, and lets go of those that no later plan will.

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
};

use schemas::{ByteSize, Result, batch::BatchPlan, ids::BlockIndex};

use crate::{
    BoxError, Stage,
    atlas::Atlas,
    block::{Block, place},
};

/// A block that is read when it is first needed, by whichever thread needs it.
#[derive(Debug)]
pub struct PinnedBlock {
    atlas: Atlas,
    index: BlockIndex,
    read: OnceLock<Block>,
}

impl PinnedBlock {
    /// The block.
    ///
    /// # Errors
    /// A block that is not as it was written.
    pub fn get(&self) -> Result<&Block> {
        if let Some(block) = self.read.get() {
            return Ok(block);
        }
        // Two threads may both read it; the second result is dropped.
        let block = self.atlas.block(self.index)?;
        Ok(self.read.get_or_init(|| block))
    }
}

/// A plan whose blocks are at hand.
#[derive(Debug)]
pub struct PinnedPlan {
    /// The plan.
    pub plan: BatchPlan,
    /// For each cell, its block and its row there.
    pub rows: Vec<(Arc<PinnedBlock>, u32)>,
}

impl ByteSize for PinnedPlan {
    fn byte_size(&self) -> usize {
        self.plan.byte_size() + self.rows.capacity() * size_of::<(Arc<PinnedBlock>, u32)>()
    }
}

/// Pins blocks, plan by plan.
#[derive(Debug)]
pub struct Read {
    atlas: Atlas,
    window: u64,
    current: HashMap<BlockIndex, Arc<PinnedBlock>>,
    // A batch may straddle two windows, so blocks live on for one more.
    previous: HashMap<BlockIndex, Arc<PinnedBlock>>,
}

impl Read {
    /// A reader of an atlas.
    #[must_use]
    pub fn new(atlas: Atlas) -> Self {
        Self { atlas, window: 0, current: HashMap::new(), previous: HashMap::new() }
    }

    fn pin(&mut self, block: BlockIndex) -> Arc<PinnedBlock> {
        let Self { atlas, current, previous, .. } = self;
        let pinned = current.entry(block).or_insert_with(|| {
            let new = || Arc::new(PinnedBlock { atlas: atlas.clone(), index: block, read: OnceLock::new() });
            previous.remove(&block).unwrap_or_else(new)
        });
        Arc::clone(pinned)
    }
}

impl Stage for Read {
    type In = BatchPlan;
    type Out = PinnedPlan;

    fn push(&mut self, plan: BatchPlan, emit: &mut dyn FnMut(PinnedPlan)) -> Result<(), BoxError> {
        if plan.window != self.window {
            self.window = plan.window;
            self.previous = std::mem::take(&mut self.current);
        }
        let block_rows = self.atlas.manifest().block_rows;
        let mut rows = Vec::with_capacity(plan.cells.len());
        for cell in &plan.cells {
            let (block, row) = place(self.atlas.row(*cell), block_rows);
            rows.push((self.pin(block), u32::try_from(row)?));
        }
        emit(PinnedPlan { plan, rows });
        Ok(())
    }
}
