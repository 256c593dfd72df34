//! Decodes a row, with the widest instructions that the processor has.

use std::fmt;

use self::instructions::{Bitmap, Instructions};
use crate::{
    SLACK,
    directory::{BITMAP, MOST_LOW_BITS, PLAIN_IDS, RowHeader},
    encode::{WIDE, id_bytes, upper_bits},
};

#[cfg(target_arch = "x86_64")]
mod avx2;
mod instructions;
mod portable;
mod tables;
#[cfg(test)]
mod tests;
#[cfg(target_arch = "x86_64")]
mod vbmi2;

/// Bytes that are not a packed row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidRow;

impl fmt::Display for InvalidRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the bytes of a row can't be decoded")
    }
}

impl std::error::Error for InvalidRow {}

/// A count of 255 or more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WideCount {
    /// Its position in the list of counts, which holds 255 there.
    pub entry: usize,
    /// The count.
    pub count: u32,
}

/// The type of decoded gene ids: `u16` for up to 65,536 genes, `u32` for more.
pub trait GeneId: instructions::Select {}

impl GeneId for u16 {}
impl GeneId for u32 {}

/// A way to decode, as [`PackedRow::decode_with`].
type Decode<G> = unsafe fn(&PackedRow<'_>, *mut G, *mut u8, bool) -> Option<usize>;

/// The way with the widest instructions that the processor has.
#[inline]
fn widest<G: GeneId>() -> Decode<G> {
    #[cfg(target_arch = "x86_64")]
    {
        if vbmi2::is_available() {
            return vbmi2::decode::<G>;
        }
        if avx2::is_available() {
            return avx2::decode::<G>;
        }
    }
    portable::decode::<G>
}

/// A row in a block.
#[derive(Clone, Copy, Debug)]
pub struct PackedRow<'a> {
    /// The row, and [`SLACK`] bytes or more after it.
    bytes: &'a [u8],
    length: usize,
    header: RowHeader,
    genes: u32,
}

impl<'a> PackedRow<'a> {
    #[inline]
    pub(crate) fn new(bytes: &'a [u8], length: usize, header: RowHeader, genes: u32) -> Self {
        assert!(length + SLACK <= bytes.len(), "slack follows a block");
        Self { bytes, length, header, genes }
    }

    /// Its bytes, to be prefetched.
    #[must_use]
    #[inline]
    pub fn bytes(&self) -> &'a [u8] {
        &self.bytes[..self.length]
    }

    /// Number of entries.
    #[must_use]
    #[inline]
    pub fn entries(&self) -> usize {
        self.header.entries as usize
    }

    /// Appends its gene ids and counts, and the counts of 255 or more. All ids are less than the number of genes.
    ///
    /// # Errors
    /// Bytes that can't be decoded; then nothing is appended.
    ///
    /// # Panics
    /// If the type of the ids is not that for the number of genes.
    #[inline]
    pub fn append_counts<G: GeneId>(
        &self,
        ids: &mut Vec<G>,
        counts: &mut Vec<u8>,
        wide: &mut Vec<WideCount>,
    ) -> Result<(), InvalidRow> {
        self.append_counts_by(widest(), ids, counts, wide)
    }

    /// Appends its gene ids and values, in a block of values that are not counts. All ids are less than the number of genes.
    ///
    /// # Errors
    /// Bytes that can't be decoded; then nothing is appended.
    ///
    /// # Panics
    /// If the type of the ids is not that for the number of genes.
    pub fn append_floats<G: GeneId>(&self, ids: &mut Vec<G>, values: &mut Vec<f32>) -> Result<(), InvalidRow> {
        self.append_floats_by(widest(), ids, values)
    }

    #[inline]
    fn append_counts_by<G: GeneId>(
        &self,
        decode: Decode<G>,
        ids: &mut Vec<G>,
        counts: &mut Vec<u8>,
        wide: &mut Vec<WideCount>,
    ) -> Result<(), InvalidRow> {
        self.assert_width::<G>();
        let (first, wide_before) = (counts.len(), wide.len());
        let room = self.entries() + SLACK;
        ids.reserve(room);
        counts.reserve(room);
        // SAFETY: both lists have room for the entries and SLACK more, which is all that is written; what is appended below
        // was written if decoding succeeded.
        let wide_at = unsafe {
            let (ids_end, counts_end) = (ids.as_mut_ptr().add(ids.len()), counts.as_mut_ptr().add(first));
            decode(self, ids_end, counts_end, true).ok_or(InvalidRow)?
        };
        self.check_ids(ids)?;
        // SAFETY: as above.
        unsafe { counts.set_len(first + self.entries()) };
        let is_whole = if self.header.has_wide {
            self.take_wide(wide_at, &counts[first..], first, wide)
        } else {
            wide_at == self.length
        };
        if is_whole {
            return Ok(());
        }
        ids.truncate(ids.len() - self.entries());
        counts.truncate(first);
        wide.truncate(wide_before);
        Err(InvalidRow)
    }

    fn append_floats_by<G: GeneId>(
        &self,
        decode: Decode<G>,
        ids: &mut Vec<G>,
        values: &mut Vec<f32>,
    ) -> Result<(), InvalidRow> {
        self.assert_width::<G>();
        let room = self.entries() + SLACK;
        ids.reserve(room);
        values.reserve(room);
        // SAFETY: both lists have room for the entries and SLACK more, which is all that is written.
        let start = unsafe {
            let scratch = values.as_mut_ptr().add(values.len()).cast::<u8>();
            decode(self, ids.as_mut_ptr().add(ids.len()), scratch, false).ok_or(InvalidRow)?
        };
        let floats = self.bytes().get(start..).filter(|floats| floats.len() == 4 * self.entries()).ok_or(InvalidRow)?;
        self.check_ids(ids)?;
        values.extend(floats.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)));
        Ok(())
    }

    fn assert_width<G>(&self) {
        assert_eq!(size_of::<G>(), id_bytes(self.genes), "ids are as wide as the number of genes asks for");
    }

    /// Appends the ids that were written behind the list, if they are those of genes.
    #[inline]
    fn check_ids<G: GeneId>(&self, ids: &mut Vec<G>) -> Result<(), InvalidRow> {
        let before = ids.len();
        // SAFETY: there is room for the entries, and they were written.
        unsafe { ids.set_len(before + self.entries()) };
        let is_gene = |id: &G| (*id).into() < self.genes;
        let are_genes = match self.header.gene_code {
            BITMAP => true,
            PLAIN_IDS => ids[before..].iter().all(is_gene),
            // The bitmap leaves no room for larger upper bits than the last gene's, and they ascend: only ids that have the same
            // can be too large.
            low => {
                let last = self.genes.saturating_sub(1) >> low;
                ids[before..].iter().rev().take_while(|id| (**id).into() >> low == last).all(is_gene)
            }
        };
        if are_genes {
            return Ok(());
        }
        ids.truncate(before);
        Err(InvalidRow)
    }

    /// Appends the wide counts, and returns whether the row ends with them.
    #[cold]
    fn take_wide(&self, at: usize, counts: &[u8], first: usize, wide: &mut Vec<WideCount>) -> bool {
        let Some(words) = self.bytes().get(at..) else { return false };
        let (words, rest) = words.as_chunks::<4>();
        let mut words = words.iter().map(|bytes| u32::from_le_bytes(*bytes));
        for (entry, _) in (first..).zip(counts).filter(|(_, count)| u32::from(**count) == WIDE) {
            let Some(count) = words.next() else { return false };
            wide.push(WideCount { entry, count });
        }
        rest.is_empty() && words.next().is_none()
    }

    /// Writes the ids and, if `has_counts`, the counts; returns the place of what follows in the row.
    ///
    /// # Safety
    /// There is room for the entries and [`SLACK`] more behind `ids` and `counts`, and the processor has the instructions.
    #[inline(always)]
    unsafe fn decode_with<I: Instructions, G: GeneId>(
        &self,
        ids: *mut G,
        counts: *mut u8,
        has_counts: bool,
    ) -> Option<usize> {
        let RowHeader { gene_code, count_bits, .. } = self.header;
        let entries = self.entries();
        if entries == 0 {
            return Some(0);
        }
        let has_low = gene_code <= MOST_LOW_BITS;
        if !has_low && gene_code != BITMAP && gene_code != PLAIN_IDS {
            return None;
        }
        let low_bits = if has_low { gene_code } else { 0 };
        let upper = match gene_code {
            PLAIN_IDS => size_of::<G>() * entries,
            _ => upper_bits(entries, self.genes, gene_code).div_ceil(8),
        };
        let low_end = upper + (entries * usize::from(low_bits)).div_ceil(8);
        let counts_end = low_end + if has_counts { (entries * usize::from(count_bits)).div_ceil(8) } else { 0 };
        if self.length < counts_end {
            return None;
        }
        // SAFETY: every part starts within the row, whose bytes and SLACK more can be read, and the caller keeps what can be
        // written. The low bits wait where the counts will be, which are written later.
        unsafe {
            let (start, end) = (self.bytes.as_ptr(), self.bytes.as_ptr().add(self.length));
            let bitmap = Bitmap {
                bytes: start,
                bits: upper_bits(entries, self.genes, gene_code),
                is_of_all_genes: gene_code == BITMAP,
                entries,
                low_bits: low_bits.into(),
            };
            let is_whole = if gene_code == PLAIN_IDS {
                start.copy_to_nonoverlapping(ids.cast(), upper);
                true
            } else if low_bits == 0 {
                G::select::<I, false>(&bitmap, counts, ids)
            } else {
                I::unpack::<0, false>(start.add(upper), entries, low_bits.into(), end, end, counts)?;
                G::select::<I, true>(&bitmap, counts, ids)
            };
            if !is_whole {
                return None;
            }
            let escapes = start.add(counts_end);
            let taken = match usize::from(count_bits) {
                _ if !has_counts => 0,
                0 if self.length < counts_end + entries => return None,
                0 => {
                    escapes.copy_to_nonoverlapping(counts, entries);
                    entries
                }
                bits => I::unpack::<1, true>(start.add(low_end), entries, bits, escapes, end, counts)?,
            };
            Some(counts_end + taken)
        }
    }
}
