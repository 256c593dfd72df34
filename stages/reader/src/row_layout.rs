//! Writes rows into the arrays of a block.

use schemas::atlas::{BlockLayout, ValueWidth};
use stage::BoxError;

use crate::records::RowRecord;

/// Copies rows into the arrays of a block whose bytes are all zero.
///
/// # Errors
/// More than 2³² entries.
pub fn write_rows(
    rows: &[RowRecord<'_>],
    layout: &BlockLayout,
    width: ValueWidth,
    block: &mut [u8],
) -> Result<(), BoxError> {
    let (mut genes, mut values, mut entries) = (layout.genes, layout.values, 0_u32);
    for (row, record) in rows.iter().enumerate() {
        entries = u32::try_from(record.entries)?.checked_add(entries).ok_or("a block of more than 2^32 entries")?;
        block[4 * (row + 1)..4 * (row + 2)].copy_from_slice(&entries.to_le_bytes());
        block[genes..genes + record.genes.len()].copy_from_slice(record.genes);
        genes += record.genes.len();
        let length = record.entries * width.bytes();
        widen(record, width, &mut block[values..values + length]);
        values += length;
    }
    Ok(())
}

/// Writes a row's values in another width, which is at least as wide.
pub fn widen(record: &RowRecord<'_>, width: ValueWidth, out: &mut [u8]) {
    if record.width == width {
        out.copy_from_slice(record.values);
        return;
    }
    let counts = record.values.chunks_exact(record.width.bytes()).map(|bytes| match *bytes {
        [byte] => u32::from(byte),
        [a, b] => u32::from(u16::from_le_bytes([a, b])),
        [a, b, c, d] => u32::from_le_bytes([a, b, c, d]),
        _ => 0,
    });
    for (place, count) in out.chunks_exact_mut(width.bytes()).zip(counts) {
        match width {
            ValueWidth::F32 => place.copy_from_slice(&schemas::batch::count_to_f32(count).to_le_bytes()),
            // Little-endian: the low bytes come first, and the others are zero.
            ValueWidth::U8 | ValueWidth::U16 | ValueWidth::U32 => {
                place.copy_from_slice(&count.to_le_bytes()[..width.bytes()]);
            }
        }
    }
}
