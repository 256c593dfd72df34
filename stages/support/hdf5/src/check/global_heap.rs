//! Collections of the global heap: values of variable length (specification, III.E).

use std::collections::HashMap;

use schemas::numbers::to_usize;

use super::{
    bytes::{CheckResult, StructureError},
    walk::{StructureKind, Walk},
};

/// Larger collections count as damaged: they have 4 KiB, unless a value needs more.
const MOST_COLLECTION_BYTES: u64 = 64 << 20;

/// The position and length of a value.
pub(super) fn value(walk: &mut Walk<'_>, address: u64, index: u32, referrer: u64) -> CheckResult<(u64, u64)> {
    if !walk.collections.contains_key(&address) {
        let collection = read(walk, address, referrer)?;
        walk.collections.insert(address, collection);
    }
    let collection = walk.collections.get(&address);
    let found = u16::try_from(index).ok().and_then(|index| collection?.get(&index));
    let missing =
        || StructureError::damaged(referrer, format!("value {index} of the heap at {address} does not exist"));
    found.copied().ok_or_else(missing)
}

/// Reads a collection: position and length of each value, by index.
fn read(walk: &mut Walk<'_>, address: u64, referrer: u64) -> CheckResult<HashMap<u16, (u64, u64)>> {
    walk.claim(address, StructureKind::GlobalHeap, referrer)?;
    let widths = walk.image.widths;
    let header_bytes = 8 + widths.length;
    let header = walk.image.block(address, header_bytes as u64)?;
    let mut fields = header.fields();
    fields.signature(b"GCOL", "collection of values of variable length")?;
    fields.version(1..=1, "a collection of values")?;
    fields.skip(3)?;
    let size = fields.length()?;
    if size < header_bytes as u64 || size > MOST_COLLECTION_BYTES {
        return Err(StructureError::damaged(header.at, format!("a collection of values of {size} bytes")));
    }
    let block = walk.image.block(address, size)?;
    let mut fields = block.fields();
    fields.skip(header_bytes)?;
    let mut values = HashMap::new();
    let value_header = 8 + widths.length;
    while value_header <= fields.rest().len() {
        let at = fields.at();
        let (start, index) = (fields.taken(), fields.u16()?);
        fields.skip(6)?;
        let length = fields.length()?;
        let fits = Some(to_usize(length)).filter(|length| *length <= block.bytes.len());
        let length_here = fits.ok_or_else(|| StructureError::damaged(at, "a value that leaves its collection"))?;
        if index == 0 {
            // This is free space; its length includes its header. More objects may follow.
            if length_here < value_header {
                return Err(StructureError::damaged(at, format!("{length} free bytes in a collection")));
            }
            fields.skip(length_here - value_header)?;
            continue;
        }
        let place = address + fields.taken() as u64;
        fields.skip(length_here)?;
        if values.insert(index, (place, length)).is_some() {
            return Err(StructureError::damaged(at, format!("a collection has two values {index}")));
        }
        let filled = (fields.taken() - start).next_multiple_of(8) - (fields.taken() - start);
        fields.skip(filled)?;
    }
    Ok(values)
}
