//! Values that a forked process must not drop.
//!
//! A fork copies memory, but not threads: the copy can't wait for them, locks that they held stay locked, and files that the copy would
//! remove are still in use. So what the fork's parent made is left to the parent.

use std::ops::{Deref, DerefMut};

/// A value that is dropped by the process that made it, and leaked by any other.
pub(crate) struct Owned<T> {
    // `None` only while it is being dropped.
    value: Option<T>,
    process: u32,
}

impl<T> Owned<T> {
    /// A value of this process.
    pub(crate) fn new(value: T) -> Self {
        Self { value: Some(value), process: std::process::id() }
    }

    /// Whether this process made it.
    pub(crate) fn is_of_this_process(&self) -> bool {
        self.process == std::process::id()
    }
}

impl<T> Deref for Owned<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.value.as_ref().expect("a value that is not dropped is there")
    }
}

impl<T> DerefMut for Owned<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.value.as_mut().expect("a value that is not dropped is there")
    }
}

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        if !self.is_of_this_process() {
            std::mem::forget(self.value.take());
        }
    }
}
