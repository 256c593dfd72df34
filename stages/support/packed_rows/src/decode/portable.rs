//! Decoding without special instructions: eight entries at a time.

use super::{
    GeneId, PackedRow,
    instructions::{Bitmap, Instructions},
    tables::ONES,
};

/// # Safety
/// As for [`PackedRow::decode_with`].
pub(super) unsafe fn decode<G: GeneId>(
    row: &PackedRow<'_>,
    ids: *mut G,
    counts: *mut u8,
    has_counts: bool,
) -> Option<usize> {
    // SAFETY: the caller keeps it.
    unsafe { row.decode_with::<Portable8, G>(ids, counts, has_counts) }
}

struct Portable8;

impl Instructions for Portable8 {
    #[inline(always)]
    unsafe fn unpack<const BASE: u8, const ESCAPES: bool>(
        codes: *const u8,
        entries: usize,
        bits: usize,
        escapes: *const u8,
        end: *const u8,
        out: *mut u8,
    ) -> Option<usize> {
        // SAFETY: eight codes take at most eight bytes, which are within the slack; the escapes that are read lie at `end` or
        // before it.
        unsafe {
            match bits {
                1 => unpack_eight::<1, BASE>(codes, entries, out),
                2 => unpack_eight::<2, BASE>(codes, entries, out),
                3 => unpack_eight::<3, BASE>(codes, entries, out),
                4 => unpack_eight::<4, BASE>(codes, entries, out),
                5 => unpack_eight::<5, BASE>(codes, entries, out),
                6 => unpack_eight::<6, BASE>(codes, entries, out),
                7 => unpack_eight::<7, BASE>(codes, entries, out),
                _ => unpack_eight::<8, BASE>(codes, entries, out),
            }
            if !ESCAPES {
                return Some(0);
            }
            let room = end.offset_from_unsigned(escapes);
            let escape = (1_u8 << bits).wrapping_sub(1).wrapping_add(BASE);
            let mut taken = 0;
            for entry in 0..entries {
                let (value, escaped) = (*out.add(entry), *escapes.add(taken.min(room)));
                let is_escape = value == escape;
                *out.add(entry) = if is_escape { escaped } else { value };
                taken += usize::from(is_escape);
            }
            (taken <= room).then_some(taken)
        }
    }

    #[inline(always)]
    unsafe fn select<const LOW: bool>(bitmap: &Bitmap, low: *const u8, out: *mut u16) -> bool {
        #[expect(clippy::cast_possible_truncation, reason = "there are no more than 65,536 genes")]
        // SAFETY: the caller keeps it.
        unsafe {
            select_eight::<u16, LOW>(bitmap, low, out, |id| id as u16)
        }
    }
}

/// # Safety
/// As for [`Instructions::unpack`].
#[inline(always)]
unsafe fn unpack_eight<const BITS: usize, const BASE: u8>(codes: *const u8, entries: usize, out: *mut u8) {
    for group in 0..entries.div_ceil(8) {
        // SAFETY: the group's codes begin before the end of the codes.
        unsafe {
            let word = u64::from_le(codes.add(group * BITS).cast::<u64>().read_unaligned());
            #[expect(clippy::cast_possible_truncation, reason = "the low bits are meant")]
            let eight: [u8; 8] = std::array::from_fn(|code| {
                ((word >> (code * BITS)) as u8 & ((1_u32 << BITS) - 1) as u8).wrapping_add(BASE)
            });
            out.add(8 * group).cast::<[u8; 8]>().write(eight);
        }
    }
}

/// # Safety
/// As for [`Instructions::select`].
#[inline(always)]
#[expect(
    clippy::cast_possible_truncation,
    reason = "a bitmap has fewer than 2^32 bits: a row's entries and genes are fewer than 2^24"
)]
pub(super) unsafe fn select_eight<G: Copy, const LOW: bool>(
    bitmap: &Bitmap,
    low: *const u8,
    out: *mut G,
    narrow: impl Fn(u32) -> G + Copy,
) -> bool {
    let Bitmap { bytes, bits, is_of_all_genes, entries, low_bits } = *bitmap;
    let (keep, step) = if is_of_all_genes { (0, 0) } else { (usize::MAX, 1) };
    let mut written = 0;
    for byte in 0..bits.div_ceil(8) {
        // SAFETY: no more than the entries were written before, and eight more fit.
        unsafe {
            let mut set = *bytes.add(byte);
            if bits < 8 * byte + 8 {
                set &= (1 << (bits % 8)) - 1;
            }
            let at = (8 * byte).wrapping_sub(written & keep) as u32;
            let ones = &ONES[usize::from(set)];
            let eight: [G; 8] = std::array::from_fn(|one| {
                let upper = at.wrapping_add(u32::from(ones[one])).wrapping_sub(step * one as u32);
                narrow(upper << low_bits | if LOW { u32::from(*low.add(written + one)) } else { 0 })
            });
            out.add(written).cast::<[G; 8]>().write_unaligned(eight);
            written += set.count_ones() as usize;
        }
        if entries < written {
            return false;
        }
    }
    written == entries
}
