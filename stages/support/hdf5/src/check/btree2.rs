//! B-trees of version 2: of links, attributes, large objects of a heap, or chunks (specification, III.A.2).

use super::{
    bytes::{CheckResult, Fields, StructureError},
    walk::{StructureKind, Walk},
};

/// The kinds of trees, by number.
pub(super) const LARGE_OBJECTS: u8 = 1;
pub(super) const LINK_NAMES: u8 = 5;
pub(super) const LINK_ORDER: u8 = 6;
pub(super) const ATTRIBUTE_NAMES: u8 = 8;
pub(super) const ATTRIBUTE_ORDER: u8 = 9;
pub(super) const CHUNKS: u8 = 10;
pub(super) const FILTERED_CHUNKS: u8 = 11;

/// Bytes of a node besides its records: signature, version and kind before them, a checksum after them.
const NODE_FRAME: u64 = 6 + 4;
/// A tree of this height would hold more than any disk.
const MOST_LEVELS: u16 = 32;
const MOST_NODE_BYTES: u32 = 16 << 20;

/// The layout of the nodes of one level.
#[derive(Clone, Copy, Debug)]
struct Level {
    most_records: u64,
    /// Maximum number of records in the node and all nodes below it.
    most_below: u64,
    /// How many bytes the number of records below takes, where it is stored; leaves don't store it.
    below_bytes: usize,
}

/// A node to read.
struct TreeNode {
    address: u64,
    level: u16,
    /// Number of its records.
    records: u64,
    /// Number of records in it and all nodes below it.
    below: Option<u64>,
}

/// The format of a tree's nodes and records.
#[derive(Clone, Copy)]
struct NodeFormat {
    kind: u8,
    node_bytes: u32,
    record_bytes: usize,
}

/// Calls `show` with every record of a tree, whose records must have this many bytes.
pub(super) fn records(
    walk: &mut Walk<'_>,
    address: u64,
    kind: u8,
    record_bytes: usize,
    referrer: u64,
    show: &mut dyn FnMut(&mut Walk<'_>, &mut Fields<'_>) -> CheckResult<()>,
) -> CheckResult<()> {
    walk.claim_once(address, StructureKind::Tree2, referrer)?;
    let widths = walk.image.widths;
    let header = walk.image.block(address, (16 + widths.address + 2 + widths.length + 4) as u64)?;
    let mut fields = header.summed()?;
    fields.signature(b"BTHD", "B-tree")?;
    fields.version(0..=0, "a B-tree")?;
    let (found, node_bytes, found_bytes, depth) = (fields.u8()?, fields.u32()?, fields.u16()?, fields.u16()?);
    let (split, merge) = (fields.u8()?, fields.u8()?);
    if found != kind || usize::from(found_bytes) != record_bytes {
        let what =
            format!("a B-tree of kind {found} with records of {found_bytes} bytes, not {kind} with {record_bytes}");
        return Err(StructureError::damaged(header.at, what));
    }
    let splits = (1..=100).contains(&split) && (1..=100).contains(&merge) && merge < split;
    if !splits || depth > MOST_LEVELS || node_bytes > MOST_NODE_BYTES {
        let what =
            format!("a B-tree of {depth} levels whose nodes of {node_bytes} bytes split at {split}% and {merge}%");
        return Err(StructureError::damaged(header.at, what));
    }
    let levels = levels(node_bytes, record_bytes, depth, widths.address).ok_or_else(|| {
        StructureError::damaged(header.at, format!("B-tree nodes of {node_bytes} bytes, where nothing fits"))
    })?;
    let (root, root_records, all) = (fields.address()?, fields.u16()?, fields.length()?);
    let Some(root) = root else {
        return if all == 0 { Ok(()) } else { Err(StructureError::damaged(header.at, "a B-tree without a root")) };
    };
    let mut nodes: Vec<TreeNode> =
        vec![TreeNode { address: root, level: depth, records: root_records.into(), below: Some(all) }];
    let format = NodeFormat { kind, node_bytes, record_bytes };
    while let Some(node) = nodes.pop() {
        node_records(walk, &node, &levels, format, header.at, show, &mut nodes)?;
    }
    Ok(())
}

/// The layout of the nodes of each level, leaves first.
fn levels(node_bytes: u32, record_bytes: usize, depth: u16, address_bytes: usize) -> Option<Vec<Level>> {
    let room = u64::from(node_bytes).checked_sub(NODE_FRAME)?;
    let most_records = room / record_bytes as u64;
    let mut levels = vec![Level { most_records, most_below: most_records, below_bytes: 0 }];
    let count_bytes = bytes_of(most_records);
    for level in 1..=depth {
        let below = *levels.last()?;
        let pointer = (address_bytes + count_bytes + if level > 1 { below.below_bytes } else { 0 }) as u64;
        let most_records = room.checked_sub(pointer)? / (record_bytes as u64 + pointer);
        let most_below = (most_records + 1).checked_mul(below.most_below)?.checked_add(most_records)?;
        levels.push(Level { most_records, most_below, below_bytes: bytes_of(most_below) });
    }
    levels.iter().all(|level| level.most_records > 0).then_some(levels)
}

/// How many bytes it takes to write a number.
fn bytes_of(number: u64) -> usize {
    (number.max(1).ilog2() / 8 + 1) as usize
}

fn node_records(
    walk: &mut Walk<'_>,
    node: &TreeNode,
    levels: &[Level],
    format: NodeFormat,
    referrer: u64,
    show: &mut dyn FnMut(&mut Walk<'_>, &mut Fields<'_>) -> CheckResult<()>,
    nodes: &mut Vec<TreeNode>,
) -> CheckResult<()> {
    let TreeNode { address, level, records: count, below } = *node;
    walk.claim_once(address, StructureKind::Tree2Node, referrer)?;
    let known = levels.get(usize::from(level)).copied();
    let known = known.filter(|known| count <= known.most_records && (count > 0 || level == 0));
    let Some(known) = known else {
        return Err(StructureError::damaged(referrer, format!("a B-tree node of {count} records")));
    };
    if below.is_some_and(|below| known.most_below < below || below < count || (level == 0 && below != count)) {
        return Err(StructureError::damaged(referrer, format!("{below:?} records from a B-tree node of {count} on")));
    }
    let count_bytes = bytes_of(levels[0].most_records);
    let inner =
        levels.get(usize::from(level).wrapping_sub(1)).filter(|_| level > 1).map_or(0, |inner| inner.below_bytes);
    let pointer = walk.image.widths.address + count_bytes + inner;
    walk.image.inside(address, format.node_bytes.into(), referrer)?;
    let pointers = if level == 0 { 0 } else { (count + 1) * pointer as u64 };
    // Bytes after the checksum are unused.
    let block = walk.image.block(address, NODE_FRAME + count * format.record_bytes as u64 + pointers)?;
    let mut fields = block.summed()?;
    match level {
        0 => fields.signature(b"BTLF", "leaf of a B-tree")?,
        _ => fields.signature(b"BTIN", "inner node of a B-tree")?,
    }
    fields.version(0..=0, "a B-tree node")?;
    if fields.u8()? != format.kind {
        return Err(StructureError::damaged(block.at, "a B-tree node of another kind than its tree"));
    }
    for _ in 0..count {
        walk.step(fields.at())?;
        show(walk, &mut fields.within(format.record_bytes)?)?;
    }
    if level == 0 {
        return Ok(());
    }
    let mut all = count;
    for _ in 0..=count {
        let address = fields.some_address()?;
        let records = fields.number(count_bytes)?;
        let below = if level > 1 { Some(fields.number(inner)?) } else { None };
        all = all.saturating_add(below.unwrap_or(records));
        nodes.push(TreeNode { address, level: level - 1, records, below });
    }
    match below {
        Some(below) if below != all => {
            Err(StructureError::damaged(block.at, format!("{all} records in a B-tree of {below}")))
        }
        _ => Ok(()),
    }
}
