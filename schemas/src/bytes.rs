//! Sizes of values, so that memory can be computed in advance.

/// The amount of memory that a value keeps alive, so that an edge can limit it.
pub trait ByteSize {
    /// Bytes of heap that dropping the value would free; small fixed parts may be left out.
    fn byte_size(&self) -> usize;
}

impl<T: Copy> ByteSize for Vec<T> {
    fn byte_size(&self) -> usize {
        size_of::<T>() * self.capacity()
    }
}

impl ByteSize for ::arrow::array::RecordBatch {
    fn byte_size(&self) -> usize {
        self.get_array_memory_size()
    }
}
