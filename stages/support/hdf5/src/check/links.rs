//! The members of groups: old symbol tables, links in the header, and links in a heap (specification, III.B,
//! III.C, IV.A.2.c, IV.A.2.g and IV.A.2.r).

use schemas::numbers::to_usize;

use super::{
    btree1, btree2,
    bytes::{CheckResult, Fields, FileSection, StructureError},
    fractal::FractalHeap,
    local_heap::LocalHeap,
    walk::{self, StructureKind, Walk},
};

/// The extra data of a symbol table entry: none, the location of a group's symbols, the target of a soft link.
const NOTHING: u32 = 0;
const A_GROUP: u32 = 1;
const SOFT_LINK: u32 = 2;

/// Flags of a link.
const HAS_KIND: u8 = 0x08;
const HAS_ORDER: u8 = 0x04;
const HAS_CHARACTER_SET: u8 = 0x10;
/// Kinds of links.
const HARD: u8 = 0;
const SOFT: u8 = 1;
const EXTERNAL: u8 = 64;

/// Checks the members of a group as stored with version 0 of the superblock.
pub(super) fn symbol_table(walk: &mut Walk<'_>, message: &FileSection) -> CheckResult<()> {
    let mut fields = message.fields();
    let (tree, heap) = (fields.some_address()?, fields.some_address()?);
    let heap = LocalHeap::read(walk, heap, message.at)?;
    let widths = walk.image.widths;
    let entry_bytes = widths.length + widths.address + 24;
    let most = usize::from(walk.nodes.symbols);
    for (address, at) in btree1::symbol_nodes(walk, tree, &heap, message.at)? {
        walk.claim_once(address, StructureKind::SymbolNode, at)?;
        let node = walk.image.block(address, (8 + most * entry_bytes) as u64)?;
        let mut fields = node.fields();
        fields.signature(b"SNOD", "symbol table node")?;
        fields.version(1..=1, "a symbol table node")?;
        fields.skip(1)?;
        let used = usize::from(fields.u16()?);
        if most < used {
            return Err(StructureError::damaged(
                node.at,
                format!("a symbol table node of {used} entries, where {most} fit"),
            ));
        }
        for _ in 0..used {
            entry(walk, &heap, fields.within(entry_bytes)?)?;
        }
    }
    Ok(())
}

fn entry(walk: &mut Walk<'_>, heap: &LocalHeap, mut fields: Fields<'_>) -> CheckResult<()> {
    let at = fields.at();
    let name = heap.text(fields.length()?, at)?;
    let object = fields.address()?;
    let known = fields.u32()?;
    fields.skip(4)?;
    match known {
        NOTHING | A_GROUP => {
            if known == A_GROUP {
                for _ in 0..2 {
                    walk.image.inside(fields.some_address()?, 8, at)?;
                }
            }
            walk.enter(object.ok_or_else(|| StructureError::damaged(at, "a symbol that leads nowhere"))?, name, at)
        }
        SOFT_LINK => heap.text(fields.u32()?.into(), at).map(|_| ()),
        _ => Err(StructureError::damaged(at, format!("a symbol of kind {known}"))),
    }
}

/// Checks a link.
pub(super) fn link(walk: &mut Walk<'_>, mut fields: Fields<'_>) -> CheckResult<()> {
    let at = fields.at();
    fields.version(1..=1, "a link")?;
    let flags = fields.u8()?;
    if flags & 0xe0 != 0 {
        return Err(StructureError::damaged(at, format!("a link with flags {flags}")));
    }
    let kind = if flags & HAS_KIND == 0 { HARD } else { fields.u8()? };
    fields.skip(if flags & HAS_ORDER == 0 { 0 } else { 8 })?;
    if flags & HAS_CHARACTER_SET != 0 && fields.u8()? > 1 {
        return Err(StructureError::damaged(at, "a link's name in an unknown character set"));
    }
    let length = fields.number(1 << (flags & 3))?;
    let length = to_usize(length);
    let name = fields.take(length)?;
    if name.is_empty() {
        return Err(StructureError::damaged(at, "a link without a name"));
    }
    match kind {
        HARD => walk.enter(fields.some_address()?, name, at),
        SOFT => {
            let length = fields.u16()?;
            match fields.take(length.into())? {
                [] => Err(StructureError::damaged(at, "a soft link that leads nowhere")),
                _ => Ok(()),
            }
        }
        EXTERNAL => {
            let what = format!("`{}` is a link to another file", walk::printable(name));
            Err(StructureError::unread(at, what))
        }
        2..EXTERNAL => Err(StructureError::damaged(at, format!("a link of kind {kind}"))),
        _ => {
            let length = fields.u16()?;
            fields.skip(length.into())
        }
    }
}

/// Checks the links of a group that has many: they are in a heap, and B-trees by name and by order lead to
/// them.
pub(super) fn dense(walk: &mut Walk<'_>, message: &FileSection) -> CheckResult<()> {
    let mut fields = message.fields();
    fields.version(0..=0, "links")?;
    let flags = fields.u8()?;
    fields.skip(if flags & 1 == 0 { 0 } else { 8 })?;
    let (heap, names) = (fields.address()?, fields.address()?);
    let order = if flags & 2 == 0 { None } else { fields.address()? };
    let Some(heap) = heap else { return Ok(()) };
    let heap = FractalHeap::read(walk, heap, message.at)?;
    let id_bytes = heap.id_bytes;
    let Some(names) = names else {
        return Err(StructureError::damaged(message.at, "links without an index of their names"));
    };
    btree2::records(walk, names, btree2::LINK_NAMES, 4 + id_bytes, message.at, &mut |walk, record| {
        record.skip(4)?;
        link(walk, heap.object(walk, record)?.fields())
    })?;
    let Some(order) = order else { return Ok(()) };
    btree2::records(walk, order, btree2::LINK_ORDER, 8 + id_bytes, message.at, &mut |walk, record| {
        record.skip(8)?;
        heap.object(walk, record).map(|_| ())
    })
}
