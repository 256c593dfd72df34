//! Compressed blocks: gene ids as gaps, then zstd.
//!
//! The layout is documented in [`schemas::atlas`].

use std::io;

use schemas::atlas::{BlockLayout, GeneWidth};

/// zstd's level: higher ones save one per cent more and take several times longer.
const ZSTD_LEVEL: i32 = 1;
/// Gaps from this one on are stored separately, as wide gaps.
const WIDE_GAP: u8 = u8::MAX;

/// Compresses blocks, reusing its memory.
pub struct Compressor {
    zstd: zstd::bulk::Compressor<'static>,
    plain: Vec<u8>,
    genes: Vec<u32>,
    wide: Vec<u8>,
}

impl Compressor {
    /// A new compressor.
    ///
    /// # Errors
    /// Only if zstd gets no memory.
    pub fn new() -> io::Result<Self> {
        let zstd = zstd::bulk::Compressor::new(ZSTD_LEVEL)?;
        Ok(Self { zstd, plain: Vec::new(), genes: Vec::new(), wide: Vec::new() })
    }

    /// Compresses a block and appends its bytes.
    ///
    /// # Errors
    /// Only if zstd refuses to compress.
    pub fn compress(
        &mut self,
        block: &[u8],
        layout: &BlockLayout,
        rows: usize,
        gene_width: GeneWidth,
        out: &mut Vec<u8>,
    ) -> io::Result<()> {
        let Self { zstd, plain, genes, wide } = self;
        let pointers = block[..4 * (rows + 1)].as_chunks::<4>().0;
        let entries = pointers.last().map_or(0, |last| u32::from_le_bytes(*last)) as usize;
        let ids = &block[layout.genes..layout.genes + entries * gene_width.bytes()];
        genes.clear();
        match gene_width {
            GeneWidth::U16 => genes.extend(ids.as_chunks::<2>().0.iter().map(|id| u32::from(u16::from_le_bytes(*id)))),
            GeneWidth::U32 => genes.extend(ids.as_chunks::<4>().0.iter().map(|id| u32::from_le_bytes(*id))),
        }
        plain.clear();
        wide.clear();
        let bounds = pointers.iter().map(|pointer| u32::from_le_bytes(*pointer));
        plain.extend(bounds.clone().zip(bounds.clone().skip(1)).flat_map(|(start, end)| (end - start).to_le_bytes()));
        for (start, end) in bounds.clone().zip(bounds.skip(1)) {
            take_gaps(&genes[start as usize..end as usize], plain, wide);
        }
        plain.extend_from_slice(wide);
        plain.extend_from_slice(&block[layout.values..]);
        let start = out.len();
        out.resize(start + zstd::zstd_safe::compress_bound(plain.len()), 0);
        let written = zstd.compress_to_buffer(plain, &mut out[start..])?;
        out.truncate(start + written);
        Ok(())
    }
}

/// Appends the gaps of a row; wide ones, which are rare, are collected only in rows that have some.
#[expect(clippy::cast_possible_truncation, reason = "a wide gap is cut down to what stands for it")]
fn take_gaps(genes: &[u32], gaps: &mut Vec<u8>, wide: &mut Vec<u8>) {
    let Some(first) = genes.first() else { return };
    let later = genes.iter().zip(&genes[1..]).map(|(before, gene)| gene - before - 1);
    gaps.push((*first).min(WIDE_GAP.into()) as u8);
    gaps.extend(later.clone().map(|gap| gap.min(WIDE_GAP.into()) as u8));
    if later.clone().fold(*first, u32::max) < WIDE_GAP.into() {
        return;
    }
    for gap in [*first].into_iter().chain(later).filter(|gap| u32::from(WIDE_GAP) <= *gap) {
        wide.extend_from_slice(&gap.to_le_bytes());
    }
}

/// Decompresses a block into zeroed words; `None` if the bytes are not a valid block.
pub fn decompress(
    packed: &[u8],
    layout: &BlockLayout,
    rows: usize,
    entries: usize,
    gene_width: GeneWidth,
) -> Option<Vec<u64>> {
    let values_bytes = layout.bytes.checked_sub(layout.values)?;
    let plain = zstd::bulk::decompress(packed, 4 * rows + 5 * entries + values_bytes).ok()?;
    let (lengths, rest) = plain.split_at_checked(4 * rows)?;
    let (gaps, rest) = rest.split_at_checked(entries)?;
    let (wide, values) = rest.split_at_checked(rest.len().checked_sub(values_bytes)?)?;
    let mut block = vec![0_u64; layout.bytes / 8];
    let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut block);
    bytes[layout.values..].copy_from_slice(values);
    let (head, tail) = bytes.split_at_mut(layout.genes);
    let pointers: &mut [u32] = bytemuck::cast_slice_mut(&mut head[..4 * (rows + 1)]);
    let mut sum = 0_u32;
    for (pointer, length) in pointers[1..].iter_mut().zip(lengths.as_chunks::<4>().0) {
        sum = sum.checked_add(u32::from_le_bytes(*length))?;
        *pointer = sum;
    }
    if sum as usize != entries {
        return None;
    }
    let genes = &mut tail[..entries * gene_width.bytes()];
    let gaps = GeneIdGaps { gaps, wide: wide.as_chunks::<4>().0.iter() };
    #[expect(clippy::cast_possible_truncation, reason = "what does not fit is refused at the end of its row")]
    match gene_width {
        GeneWidth::U16 => gaps.undo(pointers, bytemuck::cast_slice_mut(genes), u16::MAX.into(), |gene| gene as u16)?,
        GeneWidth::U32 => gaps.undo(pointers, bytemuck::cast_slice_mut(genes), u32::MAX.into(), |gene| gene as u32)?,
    }
    Some(block)
}

struct GeneIdGaps<'a> {
    gaps: &'a [u8],
    wide: std::slice::Iter<'a, [u8; 4]>,
}

impl GeneIdGaps<'_> {
    /// Turns gaps into gene ids. Ids ascend within a row, so only the last one has to be compared with the limit.
    fn undo<T>(mut self, pointers: &[u32], genes: &mut [T], largest: u64, narrow: impl Fn(u64) -> T) -> Option<()> {
        for pair in pointers.windows(2) {
            let row = pair[0] as usize..pair[1] as usize;
            let mut next = 0_u64;
            for (gene, gap) in genes[row.clone()].iter_mut().zip(&self.gaps[row]) {
                let gap = match *gap {
                    WIDE_GAP => u64::from(u32::from_le_bytes(*self.wide.next()?)),
                    gap => u64::from(gap),
                };
                *gene = narrow(next + gap);
                next += gap + 1;
            }
            if largest + 1 < next {
                return None;
            }
        }
        self.wide.next().is_none().then_some(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails where it panics")]

    use proptest::prelude::*;
    use schemas::atlas::ValueWidth;

    use super::*;

    /// A block whose rows have genes that ascend by these steps, with values of one byte.
    fn block(rows: &[Vec<u32>], gene_width: GeneWidth) -> (Vec<u64>, BlockLayout, usize) {
        let entries = rows.iter().map(Vec::len).sum();
        let layout = BlockLayout::new(rows.len(), entries, gene_width, ValueWidth::U8);
        let mut words = vec![0_u64; layout.bytes / 8];
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut words);
        let mut at = 0;
        for (row, steps) in rows.iter().enumerate() {
            let mut next = 0;
            for step in steps {
                let gene = (next + step).to_le_bytes();
                let place = layout.genes + at * gene_width.bytes();
                bytes[place..place + gene_width.bytes()].copy_from_slice(&gene[..gene_width.bytes()]);
                bytes[layout.values + at] = 1 + u8::try_from(step % 7).unwrap();
                (at, next) = (at + 1, next + step + 1);
            }
            bytes[4 * (row + 1)..4 * (row + 2)].copy_from_slice(&u32::try_from(at).unwrap().to_le_bytes());
        }
        (words, layout, entries)
    }

    proptest! {
        #[test]
        fn blocks_with_narrow_and_wide_gaps_unpack_as_they_were_packed(
            rows in prop::collection::vec(prop::collection::vec(prop_oneof![4 => 0_u32..20, 1 => 250_u32..3000], 0..20), 1..32),
            wide_genes in any::<bool>(),
        ) {
            let gene_width = if wide_genes { GeneWidth::U32 } else { GeneWidth::U16 };
            let (words, layout, entries) = block(&rows, gene_width);
            let mut packed = vec![7, 7, 7];
            Compressor::new().unwrap().compress(bytemuck::cast_slice(&words), &layout, rows.len(), gene_width, &mut packed).unwrap();
            prop_assert_eq!(decompress(&packed[3..], &layout, rows.len(), entries, gene_width), Some(words));
        }
    }
}
