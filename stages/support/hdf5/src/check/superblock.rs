//! The superblock: where the file begins and ends, and how it writes addresses (specification, II.A).

use std::{cell::Cell, fs::File, os::unix::fs::FileExt};

use schemas::{counting::grouped, numbers::to_usize};

use super::bytes::{CheckResult, Fields, FileSection, Image, Nodes, StructureError, Widths};

const SIGNATURE: &[u8; 8] = b"\x89HDF\r\n\x1a\n";
/// The longest superblock: version 1 with addresses of 8 bytes.
const MOST_BYTES: u64 = 128;
/// The capacities used if the file does not give any.
const USUAL_NODES: Nodes = Nodes { symbols: 8, symbol_nodes: 32, chunks: 64 };

/// Finds the superblock at the start of the file, or after a user block of 512 bytes, twice that, and so on.
pub(super) fn read(file: &File, length: u64) -> CheckResult<Image<'_>> {
    let places = std::iter::successors(Some(512_u64), |place| place.checked_mul(2));
    let mut places = std::iter::once(0).chain(places).take_while(|place| *place < length);
    let begins = |place: &u64| {
        let mut found = [0; 8];
        file.read_exact_at(&mut found, *place).is_ok() && found == *SIGNATURE
    };
    let base = places.find(begins).ok_or_else(|| StructureError::no_hdf5("it has no HDF5 signature"))?;
    let mut bytes = vec![0; to_usize(MOST_BYTES.min(length - base))];
    file.read_exact_at(&mut bytes, base).map_err(StructureError::Io)?;
    let block = FileSection { bytes, at: base, widths: Widths { address: 8, length: 8 } };
    let mut fields = block.fields();
    fields.skip(SIGNATURE.len())?;
    match fields.version(0..=3, "the superblock")? {
        version @ (0 | 1) => old(version, fields, file, base, length),
        _ => new(&block, file, base, length),
    }
}

/// Versions 0 and 1: the root group is a symbol table entry.
fn old<'a>(version: u8, mut fields: Fields<'_>, file: &'a File, base: u64, length: u64) -> CheckResult<Image<'a>> {
    for what in ["free space", "the root group"] {
        fields.version(0..=0, what)?;
    }
    fields.skip(1)?;
    fields.version(0..=0, "shared messages")?;
    let widths = widths(&mut fields)?;
    fields.skip(1)?;
    let halves = [fields.u16()?, fields.u16()?];
    fields.skip(4)?;
    let mut chunks = USUAL_NODES.chunks / 2;
    if version == 1 {
        chunks = fields.u16()?;
        fields.skip(2)?;
    }
    let nodes = Nodes::of_halves([halves[0], halves[1], chunks]);
    let nodes = nodes.ok_or_else(|| fields.damaged("nodes without room, or with more than they can count"))?;
    let mut fields = fields.with(widths);
    let stated_base = fields.some_address()?;
    let _free_space = fields.address()?;
    let stated_end = fields.some_address()?;
    if fields.address()?.is_some() {
        return Err(fields.damaged("a driver block, as in files of several parts"));
    }
    let end = end(stated_base, stated_end, base, length, fields.at())?;
    let _name = fields.length()?;
    let root = fields.some_address()?;
    Ok(Image { file, base, end, widths, nodes, root, extension: None, spent: Cell::new(0) })
}

/// Versions 2 and 3: the root group is an object header; a checksum ends the block.
fn new<'a>(block: &FileSection, file: &'a File, base: u64, length: u64) -> CheckResult<Image<'a>> {
    let mut fields = block.fields();
    fields.skip(SIGNATURE.len() + 1)?;
    let widths = widths(&mut fields)?;
    fields.skip(1)?;
    let size = fields.taken() + 4 * widths.address + 4;
    let bytes =
        block.bytes.get(..size).ok_or_else(|| StructureError::no_hdf5("it ends within its superblock"))?.to_vec();
    let whole = FileSection { bytes, at: block.at, widths };
    let mut fields = whole.summed()?;
    fields.skip(SIGNATURE.len() + 4)?;
    let stated_base = fields.some_address()?;
    let extension = fields.address()?;
    let stated_end = fields.some_address()?;
    let end = end(stated_base, stated_end, base, length, fields.at())?;
    let root = fields.some_address()?;
    Ok(Image { file, base, end, widths, nodes: USUAL_NODES, root, extension, spent: Cell::new(0) })
}

fn widths(fields: &mut Fields<'_>) -> CheckResult<Widths> {
    let at = fields.at();
    let widths = Widths { address: fields.u8()?.into(), length: fields.u8()?.into() };
    match [widths.address, widths.length].into_iter().all(|width| matches!(width, 2 | 4 | 8)) {
        true => Ok(widths),
        false => Err(StructureError::damaged(
            at,
            format!("addresses of {} and lengths of {} bytes", widths.address, widths.length),
        )),
    }
}

/// The end of the space in use, counted from the base. A file that was moved behind a user block still states
/// its former base and end.
fn end(stated_base: u64, stated_end: u64, base: u64, length: u64, at: u64) -> CheckResult<u64> {
    let end = stated_end
        .checked_sub(stated_base)
        .ok_or_else(|| StructureError::damaged(at, "the file ends before it begins"))?;
    if end <= length - base {
        return Ok(end);
    }
    let expected = base.saturating_add(end);
    let [length, expected] = [length, expected].map(grouped);
    Err(StructureError::no_hdf5(format!("it has {length} bytes, where {expected} are expected")))
}
