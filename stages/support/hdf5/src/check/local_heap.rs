//! Local heaps: the names of a group's members (specification, III.D).

use schemas::numbers::to_usize;

use super::{
    bytes::{CheckResult, FileSection, StructureError},
    walk::{StructureKind, Walk},
};

/// The value that means that there is no free block.
const NO_FREE_BLOCK: u64 = 1;

/// The names of a group.
#[derive(Debug)]
pub(super) struct LocalHeap(FileSection);

impl LocalHeap {
    /// Reads a heap, and follows its list of free blocks.
    pub(super) fn read(walk: &mut Walk<'_>, address: u64, referrer: u64) -> CheckResult<Self> {
        walk.claim_once(address, StructureKind::LocalHeap, referrer)?;
        let widths = walk.image.widths;
        let prefix = walk.image.block(address, 8 + 2 * widths.length as u64 + widths.address as u64)?;
        let mut fields = prefix.fields();
        fields.signature(b"HEAP", "local heap")?;
        fields.version(0..=0, "a local heap")?;
        fields.skip(3)?;
        let (size, mut free, data) = (fields.length()?, fields.length()?, fields.some_address()?);
        if size == 0 {
            return Err(StructureError::damaged(prefix.at, "a local heap without room"));
        }
        walk.claim_once(data, StructureKind::LocalHeapData, prefix.at)?;
        let data = walk.image.block(data, size)?;
        let entry = 2 * widths.length;
        // No more free blocks fit side by side, unless the list leads in circles.
        for _ in 0..=data.bytes.len() / entry {
            if free == NO_FREE_BLOCK {
                return Ok(Self(data));
            }
            let leaves = || StructureError::damaged(prefix.at, format!("free space at {free} leaves the local heap"));
            let start = to_usize(free);
            let mut fields = data.fields();
            fields.skip(start).map_err(|_| leaves())?;
            let (next, length) = (fields.length().map_err(|_| leaves())?, fields.length().map_err(|_| leaves())?);
            if next == 0 || free.checked_add(length).is_none_or(|end| size < end) {
                return Err(leaves());
            }
            free = next;
        }
        Err(StructureError::damaged(prefix.at, "the free space of a local heap leads in circles"))
    }

    /// The text at an offset.
    pub(super) fn text(&self, offset: u64, referrer: u64) -> CheckResult<&[u8]> {
        let leaves = || StructureError::damaged(referrer, format!("the name at {offset} leaves its heap"));
        let mut fields = self.0.fields();
        fields.skip(to_usize(offset)).map_err(|_| leaves())?;
        fields.text().map_err(|_| leaves())
    }
}
