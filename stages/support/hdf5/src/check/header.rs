//! Object headers: a list of messages, in one piece or several (specification, IV.A.1).

use super::{
    bytes::{CheckResult, Fields, FileSection, StructureError},
    walk::{StructureKind, Walk},
};

pub(super) const DATASPACE: u16 = 0x01;
pub(super) const LINK_INFO: u16 = 0x02;
pub(super) const DATATYPE: u16 = 0x03;
pub(super) const FILL_OLD: u16 = 0x04;
pub(super) const FILL: u16 = 0x05;
pub(super) const LINK: u16 = 0x06;
pub(super) const EXTERNAL_FILES: u16 = 0x07;
pub(super) const LAYOUT: u16 = 0x08;
pub(super) const FILTERS: u16 = 0x0b;
pub(super) const ATTRIBUTE: u16 = 0x0c;
pub(super) const SHARED_TABLE: u16 = 0x0f;
const CONTINUATION: u16 = 0x10;
pub(super) const SYMBOL_TABLE: u16 = 0x11;
pub(super) const TREE_K: u16 = 0x13;
pub(super) const DRIVER: u16 = 0x14;
pub(super) const ATTRIBUTE_INFO: u16 = 0x15;
pub(super) const CACHE_IMAGE: u16 = 0x18;

/// Kinds of messages whose body may be stored elsewhere.
const SHAREABLE: [u16; 6] = [DATASPACE, DATATYPE, FILL_OLD, FILL, FILTERS, ATTRIBUTE];
/// The longest prefix of version 2: with times, limits and a size of 8 bytes.
const LONGEST_PREFIX: u64 = 34;
/// The prefix of version 1, padded to a multiple of 8 bytes.
const OLD_PREFIX: u64 = 16;
/// Maximum number of pieces of a header.
const MOST_PIECES: usize = 1 << 12;

/// Flags of a header: it has times, limits, or numbered messages.
const HAS_TIMES: u8 = 0x20;
const HAS_LIMITS: u8 = 0x10;
const IS_NUMBERED: u8 = 0x04;
/// A flag of a message: its body is stored elsewhere.
const IS_SHARED: u8 = 0x02;

/// A message of an object header.
#[derive(Debug)]
pub(super) struct HeaderMessage {
    pub(super) kind: u16,
    pub(super) shared: bool,
    /// Its body.
    pub(super) block: FileSection,
}

/// The format of a message's first bytes.
#[derive(Clone, Copy, Debug)]
enum Style {
    Old,
    New { is_numbered: bool },
}

/// Reads the messages of the header at an address, which no other structure may overlap.
pub(super) fn read(walk: &mut Walk<'_>, address: u64) -> CheckResult<Vec<HeaderMessage>> {
    messages(walk, address, true)
}

/// Like [`read`], for a header that is read a second time.
pub(super) fn read_quietly(walk: &mut Walk<'_>, address: u64) -> CheckResult<Vec<HeaderMessage>> {
    messages(walk, address, false)
}

fn messages(walk: &mut Walk<'_>, address: u64, claims: bool) -> CheckResult<Vec<HeaderMessage>> {
    let prefix = walk.image.block_up_to(address, LONGEST_PREFIX)?;
    let (style, first) = match prefix.bytes.starts_with(b"OHDR") {
        true => new(walk, address, prefix.fields())?,
        false => old(walk, address, prefix.fields())?,
    };
    let (mut found, mut pieces) = (Vec::new(), Vec::new());
    parse(walk, style, first.fields(), &mut found, &mut pieces)?;
    let (mut next, mut known) = (0, vec![address]);
    while let Some(&(address, length, at)) = pieces.get(next) {
        next += 1;
        if claims {
            walk.claim_once(address, StructureKind::ObjectPart, at)?;
        }
        if next > MOST_PIECES || known.contains(&address) {
            return Err(StructureError::damaged(at, "an object header that goes on without end"));
        }
        known.push(address);
        let block = walk.image.block(address, length)?;
        let fields = match style {
            Style::Old => block.fields(),
            Style::New { .. } => {
                let mut fields = block.summed()?;
                fields.signature(b"OCHK", "continuation of an object header")?;
                fields
            }
        };
        parse(walk, style, fields, &mut found, &mut pieces)?;
    }
    Ok(found)
}

/// Reads version 1; the first piece follows the prefix.
fn old(walk: &Walk<'_>, address: u64, mut fields: Fields<'_>) -> CheckResult<(Style, FileSection)> {
    fields.version(1..=1, "an object header")?;
    fields.skip(1)?;
    let (_messages, _links) = (fields.u16()?, fields.u32()?);
    let size = fields.u32()?;
    Ok((Style::Old, walk.image.block(address + OLD_PREFIX, size.into())?))
}

/// Reads version 2; the checksum covers prefix and messages.
fn new(walk: &Walk<'_>, address: u64, mut fields: Fields<'_>) -> CheckResult<(Style, FileSection)> {
    fields.signature(b"OHDR", "object header")?;
    fields.version(2..=2, "an object header")?;
    let flags = fields.u8()?;
    fields.skip(if flags & HAS_TIMES == 0 { 0 } else { 16 })?;
    fields.skip(if flags & HAS_LIMITS == 0 { 0 } else { 4 })?;
    let size = fields.number(1 << (flags & 3))?;
    let start = fields.taken();
    let whole = size.checked_add(start as u64 + 4).ok_or_else(|| fields.damaged("a size that overflows"))?;
    let block = walk.image.block(address, whole)?;
    let mut inside = block.summed()?;
    inside.skip(start)?;
    let body = FileSection { bytes: inside.rest().to_vec(), at: inside.at(), widths: block.widths };
    Ok((Style::New { is_numbered: flags & IS_NUMBERED != 0 }, body))
}

/// Reads the messages of one piece; continuations are added to `pieces`: address, length, and the position of
/// the reference.
fn parse(
    walk: &mut Walk<'_>,
    style: Style,
    mut fields: Fields<'_>,
    found: &mut Vec<HeaderMessage>,
    pieces: &mut Vec<(u64, u64, u64)>,
) -> CheckResult<()> {
    let prefix = match style {
        Style::Old => 8,
        Style::New { is_numbered } => 4 + 2 * usize::from(is_numbered),
    };
    // A remainder too short for a message is a gap.
    while prefix <= fields.rest().len() {
        let at = fields.at();
        walk.step(at)?;
        let kind = match style {
            Style::Old => fields.u16()?,
            Style::New { .. } => fields.u8()?.into(),
        };
        let (length, flags) = (fields.u16()?, fields.u8()?);
        fields.skip(prefix - if matches!(style, Style::Old) { 5 } else { 4 })?;
        if matches!(style, Style::Old) && length % 8 != 0 {
            return Err(StructureError::damaged(
                at,
                format!("a message of {length} bytes, which is not a multiple of 8"),
            ));
        }
        let shared = flags & IS_SHARED != 0;
        if shared && !SHAREABLE.contains(&kind) {
            return Err(StructureError::damaged(at, format!("a shared message of kind {kind}, which can't be shared")));
        }
        let mut body = fields.within(length.into())?;
        match kind {
            CONTINUATION => pieces.push((body.some_address()?, body.length()?, at)),
            _ => {
                let block = FileSection { bytes: body.rest().to_vec(), at: body.at(), widths: body.widths() };
                found.push(HeaderMessage { kind, shared, block });
            }
        }
    }
    Ok(())
}

impl Walk<'_> {
    /// The body of a message, which may be in the header of another object.
    pub(super) fn resolve(&mut self, message: &HeaderMessage) -> CheckResult<FileSection> {
        match message.shared {
            false => Ok(message.block.clone()),
            true => self.shared(message.kind, message.block.fields()),
        }
    }

    /// The body of the shared message that a reference leads to (specification, IV.A.2, on shared messages).
    pub(super) fn shared(&mut self, kind: u16, mut fields: Fields<'_>) -> CheckResult<FileSection> {
        let at = fields.at();
        let version = fields.version(1..=3, "a shared message")?;
        let place = fields.u8()?;
        match (version, place) {
            (1, _) => fields.skip(6 + fields.widths().length)?,
            (3, 1) => return Err(StructureError::unread(at, "messages that objects share")),
            (3, 2) | (2, _) => {}
            _ => return Err(StructureError::damaged(at, format!("a shared message of kind {place}"))),
        }
        let address = fields.some_address()?;
        if let Some(block) = self.shared.get(&(address, kind)) {
            return Ok(block.clone());
        }
        self.enter(address, b"(its type)", at)?;
        let found = read_quietly(self, address)?.into_iter().find(|message| message.kind == kind);
        match found {
            Some(HeaderMessage { shared: false, block, .. }) => {
                self.shared.insert((address, kind), block.clone());
                Ok(block)
            }
            Some(_) => Err(StructureError::damaged(at, "a shared message that is shared itself")),
            None => Err(StructureError::damaged(at, format!("the message shared from {address} does not exist"))),
        }
    }
}
