//! Packs rows.

use std::fmt;

use crate::{
    MOST_ENTRIES,
    directory::{BITMAP, HEADER_BYTES, MOST_COUNT_BITS, MOST_LOW_BITS, PLAIN_IDS, RowHeader},
};

/// One more low bit shortens the bitmap that a decoder goes through, and is worth this share of the genes' bits.
const WORTH_OF_A_LOW_BIT: usize = 12;
/// A count from here on takes four more bytes.
pub(crate) const WIDE: u32 = 255;

/// The values of a row.
#[derive(Clone, Copy, Debug)]
pub enum PackedValues<'a> {
    /// Counts.
    Counts(&'a [u32]),
    /// Any other values. All rows of a block have them, or none.
    Floats(&'a [f32]),
}

/// A row of more than [`MOST_ENTRIES`] entries, or a block of more than 4 GiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowTooLarge;

impl fmt::Display for RowTooLarge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a row has more than {MOST_ENTRIES} entries, or a block of packed rows more than 2^32 bytes")
    }
}

impl std::error::Error for RowTooLarge {}

/// Writes a block of packed rows.
#[derive(Debug)]
pub struct PackedRowsWriter<'a> {
    out: &'a mut Vec<u8>,
    start: usize,
    rows: usize,
    written: usize,
    genes: u32,
    codes: Vec<u32>,
}

impl<'a> PackedRowsWriter<'a> {
    /// Appends a block to `out`: this many rows of a matrix with this many genes.
    #[must_use]
    pub fn new(out: &'a mut Vec<u8>, rows: usize, genes: u32) -> Self {
        let start = out.len();
        out.resize(start + HEADER_BYTES * (rows + 1), 0);
        Self { out, start, rows, written: 0, genes, codes: Vec::new() }
    }

    /// Appends a row. Ids ascend, and each is less than the number of genes.
    ///
    /// # Errors
    /// A row or block that is too large.
    ///
    /// # Panics
    /// If there are more rows than announced, or not as many values as ids.
    pub fn push(&mut self, ids: &[u32], values: PackedValues<'_>) -> Result<(), RowTooLarge> {
        assert!(self.written < self.rows, "no more rows than announced");
        let offset = u32::try_from(self.out.len() - self.start).map_err(|_| RowTooLarge)?;
        let entries = u32::try_from(ids.len()).ok().filter(|entries| *entries <= MOST_ENTRIES).ok_or(RowTooLarge)?;
        let gene_code = best_gene_code(ids.len(), self.genes);
        let mut header = RowHeader { offset, entries, gene_code, ..RowHeader::default() };
        pack_ids(ids, self.genes, gene_code, self.out);
        match values {
            PackedValues::Floats(values) => {
                assert_eq!(ids.len(), values.len(), "a value for every id");
                self.out.extend(values.iter().flat_map(|value| value.to_le_bytes()));
            }
            PackedValues::Counts(counts) => {
                assert_eq!(ids.len(), counts.len(), "a count for every id");
                (header.count_bits, header.has_wide) = self.pack_counts(counts);
            }
        }
        self.put(header);
        Ok(())
    }

    /// Completes the block, and returns its length.
    ///
    /// # Errors
    /// A block that is too large.
    ///
    /// # Panics
    /// If there are fewer rows than announced.
    pub fn finish(mut self) -> Result<usize, RowTooLarge> {
        assert_eq!(self.written, self.rows, "as many rows as announced");
        let length = self.out.len() - self.start;
        let offset = u32::try_from(length).map_err(|_| RowTooLarge)?;
        self.put(RowHeader { offset, ..RowHeader::default() });
        Ok(length)
    }

    fn put(&mut self, header: RowHeader) {
        let place = self.start + HEADER_BYTES * self.written;
        self.out[place..place + HEADER_BYTES].copy_from_slice(&header.to_bytes());
        self.written += 1;
    }

    /// Appends counts; returns their bits, and whether there are wide ones.
    fn pack_counts(&mut self, counts: &[u32]) -> (u8, bool) {
        let Self { out, codes, .. } = self;
        codes.clear();
        // A count of 0 becomes the largest code, which is an escape.
        codes.extend(counts.iter().map(|count| count.wrapping_sub(1)));
        let bits = best_count_bits(codes);
        let escape = (1_u32 << bits) - 1;
        pack_bits(codes.iter().map(|code| (*code).min(escape)), bits, out);
        let escaped = || codes.iter().zip(counts).filter(|(code, _)| escape <= **code).map(|(_, count)| *count);
        out.extend(escaped().map(|count| count.min(WIDE) as u8));
        let before = out.len();
        out.extend(escaped().filter(|count| WIDE <= *count).flat_map(u32::to_le_bytes));
        (bits, before < out.len())
    }
}

/// Bits of the bitmap of a row's genes.
pub(crate) fn upper_bits(entries: usize, genes: u32, gene_code: u8) -> usize {
    match gene_code {
        _ if entries == 0 => 0,
        BITMAP => genes as usize,
        low => entries + (genes.saturating_sub(1) >> low) as usize,
    }
}

/// Bytes of an id that is stored as it is.
pub(crate) fn id_bytes(genes: u32) -> usize {
    if genes <= 1 << 16 { 2 } else { 4 }
}

/// The gene code that takes the fewest bits, but for what low bits are worth.
fn best_gene_code(entries: usize, genes: u32) -> u8 {
    let bits = |low: u8| entries * usize::from(low) + upper_bits(entries, genes, low);
    let fewest = (0..=MOST_LOW_BITS).map(bits).min().unwrap_or(0);
    let is_close = |low: &u8| bits(*low) <= fewest + fewest / WORTH_OF_A_LOW_BIT;
    let low = (0..=MOST_LOW_BITS).rev().find(is_close).unwrap_or(0);
    let plain = 8 * id_bytes(genes) * entries;
    match bits(low).min(plain).min(genes as usize) {
        best if best == plain => PLAIN_IDS,
        best if best == genes as usize => BITMAP,
        _ => low,
    }
}

#[expect(clippy::cast_possible_truncation, reason = "ids of 16 bits, if there are no more genes")]
fn pack_ids(ids: &[u32], genes: u32, gene_code: u8, out: &mut Vec<u8>) {
    if gene_code == PLAIN_IDS {
        match id_bytes(genes) {
            2 => out.extend(ids.iter().flat_map(|id| (*id as u16).to_le_bytes())),
            _ => out.extend(ids.iter().flat_map(|id| id.to_le_bytes())),
        }
        return;
    }
    let start = out.len();
    out.resize(start + upper_bits(ids.len(), genes, gene_code).div_ceil(8), 0);
    let upper = &mut out[start..];
    let mut set = |bit: usize| upper[bit / 8] |= 1 << (bit % 8);
    if gene_code == BITMAP {
        ids.iter().for_each(|id| set(*id as usize));
        return;
    }
    ids.iter().enumerate().for_each(|(entry, id)| set((id >> gene_code) as usize + entry));
    pack_bits(ids.iter().map(|id| id & ((1 << gene_code) - 1)), gene_code, out);
}

/// The bits that make counts shortest; each escape takes a byte more.
fn best_count_bits(codes: &[u32]) -> u8 {
    const CODES: usize = 1 << MOST_COUNT_BITS;
    let mut of_code = [0_usize; CODES];
    codes.iter().for_each(|code| of_code[(*code as usize).min(CODES - 1)] += 1);
    let bits = |bits: &u8| {
        let escapes: usize = of_code[(1 << bits) - 1..].iter().sum();
        codes.len() * usize::from(*bits) + 8 * escapes
    };
    (0..=MOST_COUNT_BITS).min_by_key(bits).unwrap_or(0)
}

/// Appends codes of this many bits, 8 at most.
#[expect(clippy::cast_possible_truncation, reason = "the low bits are meant")]
fn pack_bits(codes: impl Iterator<Item = u32>, bits: u8, out: &mut Vec<u8>) {
    if bits == 0 {
        return;
    }
    let (mut word, mut held) = (0_u64, 0);
    for code in codes {
        word |= u64::from(code) << held;
        held += u32::from(bits);
        if 32 <= held {
            out.extend_from_slice(&(word as u32).to_le_bytes());
            (word, held) = (word >> 32, held - 32);
        }
    }
    out.extend_from_slice(&word.to_le_bytes()[..held.div_ceil(8) as usize]);
}
