//! A cache of blocks that have to be in memory to be read: compressed ones, and those that are read without a
//! map.
//!
//! Rows of a block are needed at many different times, so blocks are cached, up to a limit. The
//! oldest blocks are evicted first: blocks are needed window by window, and once the next window fills the
//! memory, the previous one is finished.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
};

use schemas::{ByteSize, Result, ids::BlockIndex};

use crate::{atlas::Atlas, block::Block};

/// Blocks of one atlas, up to this many bytes; clones share them.
#[derive(Clone, Debug)]
pub struct BlockCache {
    atlas: Atlas,
    most_bytes: usize,
    cached: Arc<Mutex<CachedBlocks>>,
}

#[derive(Debug, Default)]
struct CachedBlocks {
    blocks: HashMap<BlockIndex, Arc<Block>>,
    /// The cached blocks, oldest first.
    ages: VecDeque<BlockIndex>,
    bytes: usize,
}

impl BlockCache {
    /// An empty cache.
    #[must_use]
    pub fn new(atlas: Atlas, most_bytes: usize) -> Self {
        Self { atlas, most_bytes, cached: Arc::default() }
    }

    /// Returns a block: from the cache or, on the caller's thread, from the disk.
    ///
    /// # Errors
    /// A damaged block, a disk that can't be read.
    pub fn get(&self, index: BlockIndex) -> Result<Arc<Block>> {
        if let Some(block) = self.lock().blocks.get(&index) {
            return Ok(Arc::clone(block));
        }
        // Two threads may both read it; then the second result is dropped.
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

    /// Bytes in the cache.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.lock().bytes
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, CachedBlocks> {
        self.cached.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
