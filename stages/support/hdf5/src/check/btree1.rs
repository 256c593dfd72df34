//! B-trees of version 1: of the symbols of a group, or of the chunks of a dataset (specification, III.A.1).

use super::{
    bytes::{CheckResult, Fields, StructureError},
    local_heap::LocalHeap,
    walk::{StructureKind, Walk},
};

const GROUP: u8 = 0;
const CHUNKS: u8 = 1;
/// A tree of this height would hold more than any disk.
const MOST_LEVELS: u8 = 32;

/// The expected properties of a tree.
#[derive(Clone, Copy, Debug)]
struct TreeShape {
    kind: u8,
    /// Maximum number of children of a node.
    children: u16,
    key_bytes: usize,
}

/// A callback with a key and the child after it.
type KeyVisitor<'a> = dyn FnMut(&mut Walk<'_>, &mut Fields<'_>, Option<u64>) -> CheckResult<()> + 'a;

/// The properties of a dataset's chunks.
#[derive(Clone, Copy, Debug)]
pub(super) struct ChunkShape<'a> {
    /// Dimensions of a chunk; the last is the size of a value in bytes.
    pub(super) dimensions: &'a [u64],
    pub(super) bytes: u64,
    /// Number of filters applied to the chunks.
    pub(super) filters: usize,
}

/// The symbol nodes of a group, each with the position of the reference to it.
pub(super) fn symbol_nodes(
    walk: &mut Walk<'_>,
    address: u64,
    heap: &LocalHeap,
    referrer: u64,
) -> CheckResult<Vec<(u64, u64)>> {
    let key_bytes = walk.image.widths.length;
    let shape = TreeShape { kind: GROUP, children: walk.nodes.symbol_nodes, key_bytes };
    let mut found = Vec::new();
    follow(walk, address, shape, referrer, &mut |_, key, child| {
        let at = key.at();
        heap.text(key.length()?, at)?;
        found.extend(child.map(|child| (child, at)));
        Ok(())
    })?;
    Ok(found)
}

/// Checks every chunk of a dataset.
pub(super) fn chunks(walk: &mut Walk<'_>, address: u64, chunk: ChunkShape<'_>, referrer: u64) -> CheckResult<()> {
    let shape = TreeShape { kind: CHUNKS, children: walk.nodes.chunks, key_bytes: 8 + 8 * chunk.dimensions.len() };
    follow(walk, address, shape, referrer, &mut |walk, key, child| {
        let at = key.at();
        let (bytes, left_out) = (u64::from(key.u32()?), key.u32()?);
        for dimension in chunk.dimensions {
            let offset = key.number(8)?;
            if offset % dimension != 0 && child.is_some() {
                return Err(StructureError::damaged(
                    at,
                    format!("a chunk at {offset}, which is not a multiple of {dimension}"),
                ));
            }
        }
        let Some(child) = child else { return Ok(()) };
        walk.image.inside(child, bytes, at)?;
        let are_all_left_out = (0..chunk.filters).all(|filter| filter < 32 && left_out >> filter & 1 == 1);
        match are_all_left_out && bytes != chunk.bytes {
            true => Err(StructureError::damaged(
                at,
                format!("a chunk of {bytes} bytes, where {} are expected", chunk.bytes),
            )),
            false => Ok(()),
        }
    })
}

/// Calls `show` with each key of the leaves and the child after it; the last key of a node has no child.
fn follow(
    walk: &mut Walk<'_>,
    root: u64,
    shape: TreeShape,
    referrer: u64,
    show: &mut KeyVisitor<'_>,
) -> CheckResult<()> {
    let widths = walk.image.widths;
    let full = 8
        + 2 * widths.address
        + usize::from(shape.children) * widths.address
        + (usize::from(shape.children) + 1) * shape.key_bytes;
    let mut nodes: Vec<(u64, Option<u8>, u64)> = vec![(root, None, referrer)];
    while let Some((address, expected, referrer)) = nodes.pop() {
        walk.claim_once(address, StructureKind::Tree1, referrer)?;
        let node = walk.image.block(address, full as u64)?;
        let mut fields = node.fields();
        fields.signature(b"TREE", "B-tree node")?;
        let (kind, level, used) = (fields.u8()?, fields.u8()?, fields.u16()?);
        if kind != shape.kind || level > MOST_LEVELS || expected.is_some_and(|expected| expected != level) {
            return Err(StructureError::damaged(node.at, format!("a B-tree node of kind {kind} at level {level}")));
        }
        if shape.children < used {
            let most = shape.children;
            return Err(StructureError::damaged(
                node.at,
                format!("a B-tree node of {used} children, where {most} fit"),
            ));
        }
        for _ in 0..2 {
            let at = fields.at();
            if let Some(sibling) = fields.address()? {
                walk.image.inside(sibling, full as u64, at)?;
            }
        }
        for place in 0..=used {
            let mut key = fields.within(shape.key_bytes)?;
            let at = fields.at();
            let child = if place < used { Some(fields.some_address()?) } else { None };
            match child {
                Some(child) if level > 0 => {
                    show(walk, &mut key, None)?;
                    nodes.push((child, Some(level - 1), at));
                }
                // The last key of a node matters only for the order.
                None if shape.kind == CHUNKS => {}
                child => {
                    walk.step(at)?;
                    show(walk, &mut key, child)?;
                }
            }
        }
    }
    Ok(())
}
