//! Makes glibc's allocator return freed memory to the system, so that memory stays flat however long a run
//! is.
#![expect(unsafe_code, reason = "the allocator's parameters can be set through the C library alone")]

/// Which memory to return as soon as it is freed.
#[derive(Clone, Copy, Debug)]
pub enum FreedMemory {
    /// Nearly all memory, to minimise its use.
    All,
    /// Only large tensors; memory that is allocated again in every step is kept.
    Large,
}

impl FreedMemory {
    /// Two thresholds: blocks of the first size or larger are mapped separately, and unmapped when freed; free
    /// memory at the top of the heap beyond the second size is returned.
    fn sizes(self) -> [libc::c_int; 2] {
        match self {
            Self::All => [64 << 10, 128 << 10],
            Self::Large => [4 << 20, 32 << 20],
        }
    }
}

/// Fixes the thresholds for mapping blocks and trimming the heap.
///
/// By default, glibc raises both to the size of the largest block that was ever freed; buffers of many sizes
/// then share one heap, whose fragmentation grows with the length of the run.
pub fn give_back(freed: FreedMemory) {
    let [mapped_from, kept_on_top] = freed.sizes();
    // SAFETY: mallopt takes two integers and changes a parameter of the allocator under the allocator's own lock.
    let set = unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, mapped_from) & libc::mallopt(libc::M_TRIM_THRESHOLD, kept_on_top)
    };
    if set == 0 {
        tracing::debug!("the allocator keeps its own thresholds");
    }
}
