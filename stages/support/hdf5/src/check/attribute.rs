//! Attributes: small values with names (specification, IV.A.2.m and IV.A.2.v).

use schemas::numbers::to_usize;

use super::{
    btree2,
    bytes::{CheckResult, Fields, FileSection, StructureError},
    datatype::{self, Content, Datatype},
    fractal::FractalHeap,
    global_heap,
    header::{DATASPACE, DATATYPE},
    space::Dataspace,
    walk::Walk,
};

/// A flag of versions 2 and 3: type and dimensions are stored elsewhere.
const TYPE_IS_SHARED: u8 = 1;
const SPACE_IS_SHARED: u8 = 2;
/// A flag of an index record: the message is stored elsewhere.
const IS_SHARED: u8 = 2;

/// Checks an attribute, and what its values refer to.
pub(super) fn check(walk: &mut Walk<'_>, mut fields: Fields<'_>) -> CheckResult<()> {
    let at = fields.at();
    let version = fields.version(1..=3, "an attribute")?;
    let flags = fields.u8()?;
    let (name, datatype, space) = (fields.u16()?, fields.u16()?, fields.u16()?);
    fields.skip(if version == 3 { 1 } else { 0 })?;
    let name = padded(&mut fields, version, name)?.rest();
    if name.len() < 2 || name.iter().position(|byte| *byte == 0) != Some(name.len() - 1) {
        return Err(StructureError::damaged(at, "an attribute's name that does not end where it should"));
    }
    let datatype = padded(&mut fields, version, datatype)?;
    let datatype = match version != 1 && flags & TYPE_IS_SHARED != 0 {
        true => datatype::read(&walk.shared(DATATYPE, datatype)?)?,
        false => datatype::decode(&mut { datatype })?,
    };
    let space = padded(&mut fields, version, space)?;
    let space = match version != 1 && flags & SPACE_IS_SHARED != 0 {
        true => Dataspace::parse(&walk.shared(DATASPACE, space)?)?,
        false => Dataspace::read(space)?,
    };
    let bytes = space.values.checked_mul(datatype.size.into()).map(to_usize);
    let bytes = bytes.ok_or_else(|| StructureError::damaged(at, "an attribute of more bytes than can be counted"))?;
    let mut values = fields.within(bytes)?;
    if matches!(datatype.content, Content::Plain) {
        return Ok(());
    }
    for _ in 0..space.values {
        value(walk, &datatype, &mut values.within(datatype.size as usize)?)?;
    }
    Ok(())
}

/// Takes the next part, which version 1 pads to a multiple of 8 bytes.
fn padded<'a>(fields: &mut Fields<'a>, version: u8, length: u16) -> CheckResult<Fields<'a>> {
    let start = fields.taken();
    let part = fields.within(length.into())?;
    if version == 1 {
        fields.align(start)?;
    }
    Ok(part)
}

/// Checks what a value refers to.
fn value(walk: &mut Walk<'_>, datatype: &Datatype, fields: &mut Fields<'_>) -> CheckResult<()> {
    let at = fields.at();
    walk.step(at)?;
    match &datatype.content {
        // Only libhdf5 knows where references of later versions lead, and it is not asked here.
        Content::Plain | Content::Region => Ok(()),
        Content::Object => match fields.address()? {
            None | Some(0) => Ok(()),
            Some(object) => walk.enter(object, b"(referred to)", at),
        },
        Content::Sequence(base) => {
            let length = u64::from(fields.u32()?);
            let (address, index) = (fields.address()?, fields.u32()?);
            let address = match address {
                None | Some(0) => return Ok(()),
                Some(address) => address,
            };
            let (start, bytes) = global_heap::value(walk, address, index, at)?;
            if length.checked_mul(base.size.into()).is_none_or(|expected| bytes < expected) {
                return Err(StructureError::damaged(at, format!("{length} values in {bytes} bytes of the heap")));
            }
            if matches!(base.content, Content::Plain) {
                return Ok(());
            }
            let found = walk.image.block(start, bytes)?;
            let mut inside = found.fields();
            (0..length).try_for_each(|_| value(walk, base, &mut inside.within(base.size as usize)?))
        }
        Content::Compound(members) => members.iter().try_for_each(|(offset, member)| {
            let mut from = *fields;
            from.skip(*offset as usize)?;
            value(walk, member, &mut from.within(member.size as usize)?)
        }),
        Content::Array(base) => {
            (0..datatype.size / base.size).try_for_each(|_| value(walk, base, &mut fields.within(base.size as usize)?))
        }
    }
}

/// Checks the attributes of an object that has many: they are in a heap, and B-trees by name and by order
/// lead to them.
pub(super) fn dense(walk: &mut Walk<'_>, message: &FileSection) -> CheckResult<()> {
    let mut fields = message.fields();
    fields.version(0..=0, "attributes")?;
    let flags = fields.u8()?;
    fields.skip(if flags & 1 == 0 { 0 } else { 2 })?;
    let (heap, names) = (fields.address()?, fields.address()?);
    let order = if flags & 2 == 0 { None } else { fields.address()? };
    let Some(heap) = heap else { return Ok(()) };
    let heap = FractalHeap::read(walk, heap, message.at)?;
    let id_bytes = heap.id_bytes;
    let Some(names) = names else {
        return Err(StructureError::damaged(message.at, "attributes without an index of their names"));
    };
    let find = |walk: &mut Walk<'_>, record: &mut Fields<'_>| -> CheckResult<FileSection> {
        let id = record.within(id_bytes)?;
        match record.u8()? & IS_SHARED {
            0 => heap.object(walk, &mut { id }),
            _ => Err(StructureError::unread(record.at(), "attributes that objects share")),
        }
    };
    btree2::records(walk, names, btree2::ATTRIBUTE_NAMES, id_bytes + 9, message.at, &mut |walk, record| {
        let found = find(walk, record)?;
        check(walk, found.fields())
    })?;
    let Some(order) = order else { return Ok(()) };
    btree2::records(walk, order, btree2::ATTRIBUTE_ORDER, id_bytes + 5, message.at, &mut |walk, record| {
        find(walk, record).map(|_| ())
    })
}
