//! Data layouts: where the values of a dataset are stored (specification, IV.A.2.i).

use super::{
    bytes::{CheckResult, Fields, FileSection, StructureError},
    space::MOST_DIMENSIONS,
};

const COMPACT: u8 = 0;
const CONTIGUOUS: u8 = 1;
const CHUNKED: u8 = 2;
const VIRTUAL: u8 = 3;
/// Flags of a chunked layout: edge chunks are not filtered; the size of the single chunk follows.
const KNOWN_FLAGS: u8 = 3;
const SINGLE_IS_FILTERED: u8 = 2;

/// Where values are stored.
#[derive(Debug)]
pub(super) enum DataLayout {
    /// In the header itself; this many bytes.
    Compact(u64),
    /// In one piece; older versions do not store its size.
    Contiguous { address: Option<u64>, size: Option<u64> },
    /// In chunks of these dimensions, the last of which is the size of a value. Sizes of filtered chunks take
    /// this many bytes, if that does not depend on the chunk.
    Chunked { chunk: Vec<u64>, address: Option<u64>, index: ChunkIndex, size_bytes: Option<usize> },
}

/// How chunks are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ChunkIndex {
    /// A B-tree of version 1. The last dimension of the chunk is the size of a value.
    Tree1,
    /// A single chunk; its size in bytes, if it is filtered.
    Single(Option<u64>),
    /// All chunks, one after another.
    Implicit,
    /// An array of fixed size; 2 to the power of `page_bits` elements per page.
    Fixed { page_bits: u8 },
    /// An array that grows, with these parameters.
    Extensible([u8; 5]),
    /// A B-tree of version 2, with nodes of this many bytes.
    Tree2 { node_bytes: u32 },
}

/// The layout of a message.
pub(super) fn read(block: &FileSection) -> CheckResult<DataLayout> {
    let mut fields = block.fields();
    match fields.version(1..=5, "a layout")? {
        1 | 2 => old(&mut fields),
        3 => middle(&mut fields),
        4 => new(&mut fields, None),
        _ => new(&mut fields, Some(block.widths.length)),
    }
}

fn old(fields: &mut Fields<'_>) -> CheckResult<DataLayout> {
    let rank = usize::from(fields.u8()?);
    let class = fields.u8()?;
    fields.skip(5)?;
    let address = if class == COMPACT { None } else { fields.address()? };
    let dimensions = dimensions(fields, rank, 4)?;
    match class {
        COMPACT => {
            let size = fields.u32()?;
            fields.skip(size as usize)?;
            Ok(DataLayout::Compact(size.into()))
        }
        CONTIGUOUS => Ok(DataLayout::Contiguous { address, size: None }),
        CHUNKED => chunked(fields, dimensions, address, ChunkIndex::Tree1, None),
        _ => Err(fields.damaged(format!("class {class} of a layout is not known"))),
    }
}

fn middle(fields: &mut Fields<'_>) -> CheckResult<DataLayout> {
    match fields.u8()? {
        COMPACT => compact(fields),
        CONTIGUOUS => contiguous(fields),
        CHUNKED => {
            let rank = usize::from(fields.u8()?);
            let address = fields.address()?;
            let dimensions = dimensions(fields, rank, 4)?;
            chunked(fields, dimensions, address, ChunkIndex::Tree1, None)
        }
        class => Err(fields.damaged(format!("class {class} of a layout is not known"))),
    }
}

fn new(fields: &mut Fields<'_>, size_bytes: Option<usize>) -> CheckResult<DataLayout> {
    match fields.u8()? {
        COMPACT => compact(fields),
        CONTIGUOUS => contiguous(fields),
        CHUNKED => {
            let flags = fields.u8()?;
            let rank = usize::from(fields.u8()?);
            let width = usize::from(fields.u8()?);
            if flags & !KNOWN_FLAGS != 0 || width == 0 {
                return Err(fields.damaged(format!("a layout with flags {flags} and numbers of {width} bytes")));
            }
            let dimensions = dimensions(fields, rank, width)?;
            let index = index(fields, flags & SINGLE_IS_FILTERED != 0)?;
            let address = fields.address()?;
            chunked(fields, dimensions, address, index, size_bytes)
        }
        VIRTUAL => Err(StructureError::unread(fields.at(), "values in other datasets (a virtual dataset)")),
        class => Err(fields.damaged(format!("class {class} of a layout is not known"))),
    }
}

fn index(fields: &mut Fields<'_>, single_is_filtered: bool) -> CheckResult<ChunkIndex> {
    Ok(match fields.u8()? {
        1 if single_is_filtered => {
            let size = fields.length()?;
            fields.skip(4)?;
            ChunkIndex::Single(Some(size))
        }
        1 => ChunkIndex::Single(None),
        2 => ChunkIndex::Implicit,
        3 => ChunkIndex::Fixed { page_bits: fields.u8()? },
        4 => {
            let mut parameters = [0; 5];
            parameters.copy_from_slice(fields.take(5)?);
            ChunkIndex::Extensible(parameters)
        }
        5 => {
            let node_bytes = fields.u32()?;
            let percents = [fields.u8()?, fields.u8()?];
            if percents.iter().any(|percent| !(1..=100).contains(percent)) {
                return Err(fields.damaged(format!("a B-tree whose nodes split at {percents:?} percent")));
            }
            ChunkIndex::Tree2 { node_bytes }
        }
        kind => return Err(fields.damaged(format!("kind {kind} of an index of chunks is not known"))),
    })
}

fn compact(fields: &mut Fields<'_>) -> CheckResult<DataLayout> {
    let size = fields.u16()?;
    fields.skip(size.into())?;
    Ok(DataLayout::Compact(size.into()))
}

fn contiguous(fields: &mut Fields<'_>) -> CheckResult<DataLayout> {
    Ok(DataLayout::Contiguous { address: fields.address()?, size: Some(fields.length()?) })
}

/// Reads dimensions, the last of which is the size of a value in bytes.
fn dimensions(fields: &mut Fields<'_>, rank: usize, width: usize) -> CheckResult<Vec<u64>> {
    if rank == 0 || MOST_DIMENSIONS + 1 < rank {
        return Err(fields.damaged(format!("a layout of {rank} dimensions")));
    }
    (0..rank).map(|_| fields.number(width)).collect()
}

fn chunked(
    fields: &Fields<'_>,
    chunk: Vec<u64>,
    address: Option<u64>,
    index: ChunkIndex,
    size_bytes: Option<usize>,
) -> CheckResult<DataLayout> {
    if chunk.len() < 2 || chunk.contains(&0) {
        return Err(fields.damaged(format!("chunks of {chunk:?}")));
    }
    Ok(DataLayout::Chunked { chunk, address, index, size_bytes })
}
