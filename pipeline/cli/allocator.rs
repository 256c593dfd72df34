//! Makes glibc's allocator give back what was freed, so that memory stays flat however long a run is.
#![expect(unsafe_code, reason = "the allocator's parameters can be set through the C library alone")]

/// Blocks from this size on are mapped one by one, and unmapped when they are freed.
const MAPPED_FROM: libc::c_int = 64 << 10;
/// Free memory at the top of the heap beyond this goes back.
const KEPT_ON_TOP: libc::c_int = 128 << 10;

/// Fixes the sizes from which blocks are mapped and the heap is trimmed.
///
/// By default glibc raises both with the largest block that was ever freed; buffers of many sizes then share one heap, whose
/// holes grow with the length of the run.
pub(super) fn give_back_freed_memory() {
    // SAFETY: mallopt takes two integers and changes a parameter of the allocator under the allocator's own lock.
    let set = unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED_FROM) & libc::mallopt(libc::M_TRIM_THRESHOLD, KEPT_ON_TOP)
    };
    if set == 0 {
        tracing::debug!("the allocator keeps its own thresholds");
    }
}
