//! A cache of the parts of a file that were unpacked last, shared by threads that read neighbouring parts.

use std::{
    collections::{HashMap, VecDeque},
    ops::Deref,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use schemas::Result;

/// A part, once a thread has unpacked it; `None` if that failed.
type ChunkSlot<T> = OnceLock<Option<T>>;

/// The parts that were requested last, up to a maximum number.
#[derive(Debug)]
pub struct ChunkCache<T> {
    most: usize,
    parts: Mutex<ChunkCacheState<T>>,
}

#[derive(Debug)]
struct ChunkCacheState<T> {
    slots: HashMap<u64, Arc<ChunkSlot<T>>>,
    order: VecDeque<u64>,
}

impl<T> ChunkCache<T> {
    /// Creates a cache for this many parts.
    pub fn new(most: usize) -> Self {
        Self { most, parts: Mutex::new(ChunkCacheState { slots: HashMap::new(), order: VecDeque::new() }) }
    }

    /// Returns a part. Threads that want the same one wait for the first of them, which unpacks it.
    ///
    /// # Errors
    /// Those of `unpack`.
    pub fn get(&self, index: u64, unpack: impl Fn() -> Result<T>) -> Result<CachedChunk<T>> {
        let slot = self.slot(index);
        let mut failed = None;
        slot.get_or_init(|| unpack().map_err(|error| failed = Some(error)).ok());
        match failed {
            None if slot.get().is_some_and(Option::is_some) => Ok(CachedChunk(slot)),
            // Another thread failed before, so this one tries again.
            None => unpack().map(|part| CachedChunk(Arc::new(ChunkSlot::from(Some(part))))),
            Some(error) => Err(error),
        }
    }

    fn slot(&self, index: u64) -> Arc<ChunkSlot<T>> {
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = parts.slots.get(&index) {
            return Arc::clone(slot);
        }
        if self.most <= parts.order.len()
            && let Some(oldest) = parts.order.pop_front()
        {
            parts.slots.remove(&oldest);
        }
        let slot = Arc::<ChunkSlot<T>>::default();
        parts.slots.insert(index, Arc::clone(&slot));
        parts.order.push_back(index);
        slot
    }
}

/// A part that stays in memory as long as it is held.
#[derive(Debug)]
pub struct CachedChunk<T>(Arc<ChunkSlot<T>>);

impl<T> Deref for CachedChunk<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.get().and_then(Option::as_ref).expect("only parts that were unpacked are handed out")
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use schemas::Error;

    use super::*;

    #[test]
    fn a_part_is_unpacked_once_while_it_is_kept() {
        let cache = ChunkCache::new(2);
        let unpacked = Cell::new(0);
        let get = |index| {
            let unpack = || {
                unpacked.set(unpacked.get() + 1);
                Ok(index * 10)
            };
            *cache.get(index, unpack).expect("it can be unpacked")
        };
        assert_eq!([get(1), get(2), get(1), get(2)], [10, 20, 10, 20]);
        assert_eq!(unpacked.get(), 2);
        assert_eq!([get(3), get(1)], [30, 10]);
        assert_eq!(unpacked.get(), 4, "the oldest makes room");
    }

    #[test]
    fn a_part_that_failed_fails_again() {
        let cache = ChunkCache::<u64>::new(2);
        for _ in 0..2 {
            assert!(cache.get(0, || Err(Error::Bug("no".into()))).is_err());
        }
    }
}
