//! Blocks that have to be held in memory to be read: packed ones, and those that are read plainly.
//!
//! Rows of a block are wanted at many times, so that unpacked blocks are kept; how much they take is bounded. What came
//! first goes first: blocks are wanted window by window, and once the next window fills the memory the one before is over.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
};

use schemas::{ByteSize, Result, ids::BlockIndex};

use crate::{atlas::Atlas, block::Block};

/// Unpacked blocks of one atlas, up to this many bytes; clones share them.
#[derive(Clone, Debug)]
pub struct BlockCache {
    atlas: Atlas,
    most_bytes: usize,
    cached: Arc<Mutex<CachedBlocks>>,
}

#[derive(Debug, Default)]
struct CachedBlocks {
    blocks: HashMap<BlockIndex, Arc<Block>>,
    /// The oldest first.
    ages: VecDeque<BlockIndex>,
    bytes: usize,
}

impl BlockCache {
    /// None so far.
    #[must_use]
    pub fn new(atlas: Atlas, most_bytes: usize) -> Self {
        Self { atlas, most_bytes, cached: Arc::default() }
    }

    /// A block: the one that is held, or else read from the disk, on the caller's thread.
    ///
    /// # Errors
    /// A damaged block, a disk that can't be read.
    pub fn get(&self, index: BlockIndex) -> Result<Arc<Block>> {
        if let Some(block) = self.lock().blocks.get(&index) {
            return Ok(Arc::clone(block));
        }
        // Two threads may both read it; the second result is dropped.
        let block = Arc::new(self.atlas.block(index)?);
        let mut cached = self.lock();
        if let Some(first) = cached.blocks.get(&index) {
            return Ok(Arc::clone(first));
        }
        cached.bytes += block.byte_size();
        cached.ages.push_back(index);
        cached.blocks.insert(index, Arc::clone(&block));
        while self.most_bytes < cached.bytes {
            let Some(oldest) = cached.ages.pop_front() else { break };
            if let Some(block) = cached.blocks.remove(&oldest) {
                cached.bytes -= block.byte_size();
            }
        }
        Ok(block)
    }

    /// How many bytes are held.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.lock().bytes
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, CachedBlocks> {
        self.cached.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
