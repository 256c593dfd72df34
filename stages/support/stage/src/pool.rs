//! Buffers that are reused: filling fresh memory is slower than filling used memory.

use std::{
    ops::{Deref, DerefMut},
    sync::{Arc, Mutex, PoisonError},
};

use schemas::ByteSize;

/// Buffers that are not in use.
#[derive(Debug)]
pub struct Pool<T>(Arc<Mutex<Vec<T>>>);

impl<T> Default for Pool<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T> Clone for Pool<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Pool<T> {
    /// A buffer that was used before, or a new one.
    pub fn take(&self, new: impl FnOnce() -> T) -> Pooled<T> {
        let used = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        Pooled { value: Some(used.unwrap_or_else(new)), pool: self.clone() }
    }
}

/// A buffer that returns to its pool when it is dropped.
#[derive(Debug)]
pub struct Pooled<T> {
    // `None` only while it is being dropped.
    value: Option<T>,
    pool: Pool<T>,
}

impl<T> Deref for Pooled<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.value.as_ref().expect("a buffer that is not dropped is there")
    }
}

impl<T> DerefMut for Pooled<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.value.as_mut().expect("a buffer that is not dropped is there")
    }
}

impl<T> Drop for Pooled<T> {
    fn drop(&mut self) {
        if let Some(value) = self.value.take() {
            self.pool.0.lock().unwrap_or_else(PoisonError::into_inner).push(value);
        }
    }
}

impl<T: ByteSize> ByteSize for Pooled<T> {
    fn byte_size(&self) -> usize {
        (**self).byte_size()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_buffer_is_used_again() {
        let pool = Pool::default();
        let mut first = pool.take(Vec::<u8>::new);
        first.extend([1, 2, 3]);
        let address = first.as_ptr();
        drop(first);
        assert_eq!(pool.take(Vec::new).as_ptr(), address);
    }
}
