//! Datatypes: what the bytes of a value mean (specification, IV.A.2.d).

use super::bytes::{CheckResult, Fields, FileSection, StructureError};

/// Maximum depth of nested types, such as lists of records of lists; no real type is nested deeper.
const MOST_DEPTH: usize = 16;
/// Maximum size of a value.
const MOST_VALUE_BYTES: u32 = 1 << 30;
/// Maximum number of parts of a type, over all depths: members of records and of enumerations.
const MOST_PARTS: usize = 1 << 17;
/// Maximum number of dimensions of an array in a type.
const MOST_DIMENSIONS: usize = 32;

/// The numbers of the classes.
const INTEGER: u8 = 0;
const FLOAT: u8 = 1;
const TIME: u8 = 2;
const TEXT: u8 = 3;
const BITS: u8 = 4;
const OPAQUE: u8 = 5;
const COMPOUND: u8 = 6;
const REFERENCE: u8 = 7;
const ENUMERATION: u8 = 8;
const SEQUENCE: u8 = 9;
const ARRAY: u8 = 10;
const COMPLEX: u8 = 11;

/// A type of values.
#[derive(Debug)]
pub(super) struct Datatype {
    /// Bytes of a value.
    pub(super) size: u32,
    pub(super) content: Content,
}

/// The parts of a value that refer elsewhere.
#[derive(Debug)]
pub(super) enum Content {
    /// Nothing.
    Plain,
    /// The address of an object.
    Object,
    /// A reference into the global heap; only libhdf5 knows the object it refers to.
    Region,
    /// This many values of another type in the global heap.
    Sequence(Box<Datatype>),
    /// The members that refer elsewhere, each with its position in the value.
    Compound(Vec<(u32, Datatype)>),
    /// Consecutive values of another type.
    Array(Box<Datatype>),
}

/// The type of a message.
pub(super) fn read(block: &FileSection) -> CheckResult<Datatype> {
    decode(&mut block.fields())
}

/// The type that begins at the next field.
pub(super) fn decode(fields: &mut Fields<'_>) -> CheckResult<Datatype> {
    nested(fields, 0, &mut 0)
}

fn nested(fields: &mut Fields<'_>, depth: usize, parts: &mut usize) -> CheckResult<Datatype> {
    let start = *fields;
    let word = fields.u32()?;
    let [class_and_version, bits @ ..] = word.to_le_bytes();
    let (class, version) = (class_and_version & 15, class_and_version >> 4);
    let bits = u32::from_le_bytes([bits[0], bits[1], bits[2], 0]);
    let size = fields.u32()?;
    if !(1..=5).contains(&version) {
        return Err(start.damaged(format!("version {version} of a type is not known")));
    }
    if size == 0 || size > MOST_VALUE_BYTES {
        return Err(start.damaged(format!("a type whose values have {size} bytes")));
    }
    *parts += 1;
    if depth > MOST_DEPTH || *parts > MOST_PARTS {
        return Err(start.damaged("types within types without end"));
    }
    let mut inner = |fields: &mut Fields<'_>| nested(fields, depth + 1, parts);
    let content = match class {
        INTEGER | BITS => {
            let (offset, precision) = (fields.u16()?, fields.u16()?);
            in_value(&start, size, offset.into(), precision.into())?;
            Content::Plain
        }
        FLOAT => {
            float(&start, fields, size, bits)?;
            Content::Plain
        }
        TIME => {
            in_value(&start, size, 0, fields.u16()?.into())?;
            Content::Plain
        }
        TEXT => Content::Plain,
        OPAQUE => {
            let tag = (bits & 0xff) as usize;
            if !tag.is_multiple_of(8) {
                return Err(start.damaged(format!("a tag of {tag} bytes, which is not a multiple of 8")));
            }
            fields.skip(tag)?;
            Content::Plain
        }
        COMPOUND => compound(&start, fields, RecordHeader { version, size, members: bits & 0xffff }, inner)?,
        REFERENCE => match (bits & 15, size as usize) {
            (0, size) if size == fields.widths().address => Content::Object,
            (0, _) => return Err(start.damaged(format!("references to objects of {size} bytes"))),
            (1..=4, _) => Content::Region,
            (kind, _) => return Err(start.damaged(format!("references of kind {kind}"))),
        },
        ENUMERATION => {
            let base = inner(fields)?;
            if base.size != size || !matches!(base.content, Content::Plain) {
                return Err(start.damaged(format!("an enumeration of {size} bytes over a type of {}", base.size)));
            }
            let members = bits & 0xffff;
            for _ in 0..members {
                name(fields, version)?;
            }
            fields.skip(members as usize * size as usize)?;
            Content::Plain
        }
        SEQUENCE => {
            // Length, address of a collection, index in the collection.
            let stored = 4 + fields.widths().address + 4;
            let base = inner(fields)?;
            if size as usize != stored || bits & 15 > 1 {
                return Err(start.damaged(format!("values of variable length that take {size} bytes")));
            }
            Content::Sequence(Box::new(base))
        }
        ARRAY => array(&start, fields, (version, size), inner)?,
        COMPLEX => {
            let base = inner(fields)?;
            if base.size.checked_mul(2) != Some(size) || !matches!(base.content, Content::Plain) {
                return Err(start.damaged(format!("complex numbers of {size} bytes from parts of {}", base.size)));
            }
            Content::Plain
        }
        _ => return Err(start.damaged(format!("class {class} of a type is not known"))),
    };
    Ok(Datatype { size, content })
}

/// Refuses bits outside of a value.
fn in_value(start: &Fields<'_>, size: u32, offset: u32, bits: u32) -> CheckResult<()> {
    match bits != 0 && u64::from(offset) + u64::from(bits) <= 8 * u64::from(size) {
        true => Ok(()),
        false => Err(start.damaged(format!("{bits} bits from bit {offset} on, in values of {size} bytes"))),
    }
}

/// A floating-point type: sign, exponent and mantissa are side by side within the value.
fn float(start: &Fields<'_>, fields: &mut Fields<'_>, size: u32, bits: u32) -> CheckResult<()> {
    let (offset, precision) = (fields.u16()?, fields.u16()?);
    in_value(start, size, offset.into(), precision.into())?;
    let exponent = (u32::from(fields.u8()?), u32::from(fields.u8()?));
    let mantissa = (u32::from(fields.u8()?), u32::from(fields.u8()?));
    let _bias = fields.u32()?;
    let parts = [(bits >> 8 & 0xff, 1), exponent, mantissa];
    for (offset, bits) in parts {
        in_value(start, size, offset, bits)?;
    }
    let overlap = |a: (u32, u32), b: (u32, u32)| a.0 < b.0 + b.1 && b.0 < a.0 + a.1;
    if overlap(parts[0], parts[1]) || overlap(parts[0], parts[2]) || overlap(parts[1], parts[2]) {
        return Err(start.damaged("a floating-point type whose parts overlap"));
    }
    // 3 is reserved; libhdf5 can't shift wider exponents.
    if bits >> 4 & 3 == 3 || exponent.1 > 32 {
        return Err(start.damaged("a floating-point type of an unknown kind"));
    }
    Ok(())
}

/// Properties of a type of records.
struct RecordHeader {
    version: u8,
    /// In bytes.
    size: u32,
    /// Number of members.
    members: u32,
}

/// Records: named members that are within the value and do not overlap.
fn compound(
    start: &Fields<'_>,
    fields: &mut Fields<'_>,
    RecordHeader { version, size, members }: RecordHeader,
    mut inner: impl FnMut(&mut Fields<'_>) -> CheckResult<Datatype>,
) -> CheckResult<Content> {
    if members == 0 {
        return Err(start.damaged("records without members"));
    }
    // As many bytes as are needed to write the size.
    let narrow = 4 - size.leading_zeros() as usize / 8;
    let (mut taken, mut leading) = (Vec::new(), Vec::new());
    for _ in 0..members {
        name(fields, version)?;
        let at = *fields;
        let offset = if version < 3 { u64::from(fields.u32()?) } else { fields.number(narrow)? };
        let mut copies = 1;
        if version == 1 {
            copies = old_array(fields)?;
        }
        let member = inner(fields)?;
        let end = u64::from(member.size).checked_mul(copies).and_then(|bytes| bytes.checked_add(offset));
        let end = end.filter(|end| *end <= size.into());
        let end = end.ok_or_else(|| at.damaged(format!("a member that leaves its record of {size} bytes")))?;
        taken.push((offset, end, at.at()));
        let offset = u32::try_from(offset).map_err(|_| at.damaged("a member far away"))?;
        match member.content {
            Content::Plain => {}
            _ if copies == 1 => leading.push((offset, member)),
            _ => {
                let size = u32::try_from(end).map_err(|_| at.damaged("a member far away"))? - offset;
                leading.push((offset, Datatype { size, content: Content::Array(Box::new(member)) }));
            }
        }
    }
    taken.sort_unstable();
    match taken.windows(2).find(|pair| pair[1].0 < pair[0].1) {
        Some(pair) => Err(StructureError::damaged(pair[1].2, "members of a record that overlap")),
        None if leading.is_empty() => Ok(Content::Plain),
        None => Ok(Content::Compound(leading)),
    }
}

/// Reads the dimensions that a member of version 1 has itself; returns how many values they make.
fn old_array(fields: &mut Fields<'_>) -> CheckResult<u64> {
    let at = *fields;
    let dimensions = usize::from(fields.u8()?);
    fields.skip(3 + 4 + 4)?;
    if dimensions > 4 {
        return Err(at.damaged(format!("a member of {dimensions} dimensions, where at most 4 are allowed")));
    }
    let mut copies = 1_u64;
    for dimension in 0..4 {
        let length = fields.u32()?;
        if dimension < dimensions {
            copies = copies.checked_mul(length.into()).ok_or_else(|| at.damaged("a member without end"))?;
        }
    }
    if copies == 0 { Err(at.damaged("a member without values")) } else { Ok(copies) }
}

/// Arrays: as many values of another type as fill the value.
fn array(
    start: &Fields<'_>,
    fields: &mut Fields<'_>,
    (version, size): (u8, u32),
    mut inner: impl FnMut(&mut Fields<'_>) -> CheckResult<Datatype>,
) -> CheckResult<Content> {
    let dimensions = usize::from(fields.u8()?);
    fields.skip(if version < 3 { 3 } else { 0 })?;
    if dimensions == 0 || dimensions > MOST_DIMENSIONS {
        return Err(start.damaged(format!("arrays of {dimensions} dimensions")));
    }
    let mut copies = 1_u64;
    for _ in 0..dimensions {
        let product = copies.checked_mul(fields.u32()?.into());
        copies = product.ok_or_else(|| start.damaged("arrays without end"))?;
    }
    fields.skip(if version < 3 { 4 * dimensions } else { 0 })?;
    let base = inner(fields)?;
    if copies.checked_mul(base.size.into()) != Some(size.into()) {
        return Err(start.damaged(format!("arrays of {size} bytes with {copies} values of {}", base.size)));
    }
    Ok(match base.content {
        Content::Plain => Content::Plain,
        _ => Content::Array(Box::new(base)),
    })
}

/// Skips a name, which older versions pad to a multiple of 8 bytes.
fn name(fields: &mut Fields<'_>, version: u8) -> CheckResult<()> {
    let start = fields.taken();
    fields.text()?;
    if version < 3 { fields.align(start) } else { Ok(()) }
}
