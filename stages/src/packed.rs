//! Blocks kept small: genes as gaps, then zstd.
//!
//! The layout is documented in [`schemas::atlas`].

use std::io;

use schemas::atlas::{BlockLayout, GeneWidth};

/// zstd's level: higher ones gain a hundredth and cost several times more.
const ZSTD_LEVEL: i32 = 1;
/// A gap from here on stands among the wide ones.
const WIDE_GAP: u8 = u8::MAX;

/// Packs the bytes of a block.
///
/// # Errors
/// Only if zstd refuses to compress.
pub(crate) fn pack(block: &[u8], layout: &BlockLayout, rows: usize, gene_width: GeneWidth) -> io::Result<Vec<u8>> {
    let pointers = numbers::<4>(&block[..4 * (rows + 1)]);
    let entries = pointers.last().copied().unwrap_or(0) as usize;
    let genes = &block[layout.genes..layout.genes + entries * gene_width.bytes()];
    let genes: Vec<u32> = match gene_width {
        GeneWidth::U16 => numbers::<2>(genes),
        GeneWidth::U32 => numbers::<4>(genes),
    };
    let mut plain = Vec::with_capacity(4 * rows + entries + (layout.bytes - layout.values));
    let (mut gaps, mut wide) = (Vec::with_capacity(entries), Vec::new());
    for pair in pointers.windows(2) {
        plain.extend_from_slice(&(pair[1] - pair[0]).to_le_bytes());
        let mut next = 0;
        for gene in &genes[pair[0] as usize..pair[1] as usize] {
            let gap = gene - next;
            gaps.push(u8::try_from(gap).unwrap_or(WIDE_GAP));
            if u32::from(WIDE_GAP) <= gap {
                wide.extend_from_slice(&gap.to_le_bytes());
            }
            next = gene + 1;
        }
    }
    plain.extend_from_slice(&gaps);
    plain.extend_from_slice(&wide);
    plain.extend_from_slice(&block[layout.values..]);
    zstd::bulk::compress(&plain, ZSTD_LEVEL)
}

/// Little-endian numbers of `N` bytes.
fn numbers<const N: usize>(bytes: &[u8]) -> Vec<u32> {
    let wide = |bytes: &[u8; N]| bytes.iter().rev().fold(0, |number, byte| number << 8 | u32::from(*byte));
    bytes.as_chunks::<N>().0.iter().map(wide).collect()
}

/// Unpacks a block into zeroed words; `None` if the bytes are no such block.
pub(crate) fn unpack(
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
    let gaps = Gaps { gaps, wide: wide.as_chunks::<4>().0.iter() };
    #[expect(clippy::cast_possible_truncation, reason = "what does not fit is refused at the end of its row")]
    match gene_width {
        GeneWidth::U16 => gaps.undo(pointers, bytemuck::cast_slice_mut(genes), u16::MAX.into(), |gene| gene as u16)?,
        GeneWidth::U32 => gaps.undo(pointers, bytemuck::cast_slice_mut(genes), u32::MAX.into(), |gene| gene as u32)?,
    }
    Some(block)
}

struct Gaps<'a> {
    gaps: &'a [u8],
    wide: std::slice::Iter<'a, [u8; 4]>,
}

impl Gaps<'_> {
    /// Ids ascend in a row, so that a row whose last one is small enough has none that is too large.
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
