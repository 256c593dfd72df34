//! Checks where the values of a dataset are: inside the file, and as many as there should be (specification,
//! IV.A.2.i and VII).

use super::{
    arrays,
    btree1::{self, ChunkShape},
    btree2,
    bytes::{CheckResult, StructureError},
    datatype::Datatype,
    filters::FilterId,
    layout::{ChunkIndex, DataLayout},
    space::{Dataspace, UNLIMITED},
    walk::Walk,
};

/// Larger chunks are not read, here or elsewhere.
const MOST_CHUNK_BYTES: u64 = 1 << 32;

/// Checks where the values of a dataset are.
pub(super) fn check(
    walk: &mut Walk<'_>,
    at: u64,
    layout: &DataLayout,
    datatype: &Datatype,
    space: &Dataspace,
    filters: &[FilterId],
) -> CheckResult<()> {
    let bytes = space.values.checked_mul(datatype.size.into());
    let bytes = bytes.ok_or_else(|| StructureError::damaged(at, "more bytes of values than can be counted"))?;
    match layout {
        DataLayout::Compact(size) if *size < bytes => {
            Err(StructureError::damaged(at, format!("{size} bytes of values, where {bytes} are expected")))
        }
        DataLayout::Compact(_) | DataLayout::Contiguous { address: None, .. } => Ok(()),
        DataLayout::Contiguous { address: Some(address), size } => {
            if size.is_some_and(|size| size < bytes) {
                return Err(StructureError::damaged(
                    at,
                    format!("{size:?} bytes of values, where {bytes} are expected"),
                ));
            }
            walk.image.inside(*address, size.unwrap_or(bytes).max(bytes), at)
        }
        DataLayout::Chunked { chunk, address, index, size_bytes, .. } => {
            let Some((value, dimensions)) = chunk.split_last() else {
                return Err(StructureError::damaged(at, "chunks without dimensions"));
            };
            if *value != u64::from(datatype.size) || dimensions.len() != space.dimensions.len() {
                let what =
                    format!("chunks of {chunk:?} among values of {} bytes in {:?}", datatype.size, space.dimensions);
                return Err(StructureError::damaged(at, what));
            }
            let bytes = chunk.iter().try_fold(1_u64, |product, dimension| product.checked_mul(*dimension));
            let bytes = bytes.filter(|bytes| *bytes <= MOST_CHUNK_BYTES);
            let bytes =
                bytes.ok_or_else(|| StructureError::damaged(at, format!("chunks of {chunk:?} are too large")))?;
            let chunk = ChunkShape { dimensions: chunk, bytes, filters: filters.len() };
            let Some(address) = *address else { return Ok(()) };
            indexed(walk, at, address, *index, chunk, size_bytes.unwrap_or_else(|| width_of_size(bytes)), space)
        }
    }
}

/// How many bytes the size of a filtered chunk takes: one more than that of an unfiltered one.
fn width_of_size(chunk_bytes: u64) -> usize {
    (1 + (chunk_bytes.max(1).ilog2() as usize + 8) / 8).min(8)
}

fn indexed(
    walk: &mut Walk<'_>,
    at: u64,
    address: u64,
    index: ChunkIndex,
    chunk: ChunkShape<'_>,
    size_bytes: usize,
    space: &Dataspace,
) -> CheckResult<()> {
    let dimensions = &chunk.dimensions[..chunk.dimensions.len() - 1];
    let count = |extent: &[u64]| {
        let mut along = extent.iter().zip(dimensions).map(|(all, one)| all.div_ceil(*one));
        let product = along.try_fold(1_u64, |product, chunks| product.checked_mul(chunks));
        product.filter(|_| !extent.contains(&UNLIMITED))
    };
    let chunks =
        count(&space.dimensions).ok_or_else(|| StructureError::damaged(at, "more chunks than can be counted"))?;
    // libhdf5 numbers chunks as if the dataset had its maximum size.
    let numbers = || count(&space.most).ok_or_else(|| StructureError::damaged(at, "more chunks than can be counted"));
    let filtered = (chunk.filters != 0).then_some(size_bytes);
    match index {
        ChunkIndex::Tree1 => btree1::chunks(walk, address, chunk, at),
        ChunkIndex::Single(size) => match chunks {
            0 | 1 => walk.image.inside(address, size.unwrap_or(chunk.bytes), at),
            _ => Err(StructureError::damaged(at, format!("{chunks} chunks, where there is one"))),
        },
        ChunkIndex::Implicit => {
            let bytes = numbers()?.checked_mul(chunk.bytes).filter(|_| filtered.is_none());
            let bytes =
                bytes.ok_or_else(|| StructureError::damaged(at, "filtered chunks, whose sizes are not known"))?;
            walk.image.inside(address, bytes, at)
        }
        ChunkIndex::Fixed { page_bits } => {
            let elements = arrays::ChunkElements { chunk_bytes: chunk.bytes, size_bytes: filtered };
            arrays::fixed(walk, address, page_bits, elements, numbers()?, at)
        }
        ChunkIndex::Extensible(parameters) => {
            let elements = arrays::ChunkElements { chunk_bytes: chunk.bytes, size_bytes: filtered };
            arrays::extensible(walk, address, parameters, elements, at)
        }
        ChunkIndex::Tree2 { node_bytes: _ } => {
            let widths = walk.image.widths;
            let rank = dimensions.len();
            let (kind, bytes) = match filtered {
                None => (btree2::CHUNKS, widths.address + 8 * rank),
                Some(size) => (btree2::FILTERED_CHUNKS, widths.address + size + 4 + 8 * rank),
            };
            btree2::records(walk, address, kind, bytes, at, &mut |walk, record| {
                arrays::place(walk, record, chunk.bytes, filtered)
            })
        }
    }
}
