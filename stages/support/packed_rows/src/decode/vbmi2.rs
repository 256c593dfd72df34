//! Decoding with AVX-512 VBMI2: 64 codes at a time.

use std::arch::x86_64::{
    _mm_cvtsi32_si128, _mm256_loadu_si256, _mm512_add_epi8, _mm512_add_epi16, _mm512_and_si512, _mm512_cmpeq_epi8_mask,
    _mm512_cvtepu8_epi16, _mm512_loadu_si512, _mm512_mask_expand_epi8, _mm512_maskz_compress_epi16,
    _mm512_multishift_epi64_epi8, _mm512_or_si512, _mm512_permutexvar_epi8, _mm512_set1_epi8, _mm512_set1_epi16,
    _mm512_set1_epi64, _mm512_setzero_si512, _mm512_sll_epi16, _mm512_storeu_si512, _mm512_sub_epi16,
};

use super::{
    GeneId, PackedRow,
    instructions::{Bitmap, Instructions},
    tables::{CODE_SHIFTS, PLACES, WORD_BYTES},
};

pub(super) fn is_available() -> bool {
    is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512vbmi")
        && is_x86_feature_detected!("avx512vbmi2")
        && is_x86_feature_detected!("bmi2")
        && is_x86_feature_detected!("popcnt")
}

/// # Safety
/// As for [`PackedRow::decode_with`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vbmi2,bmi2,popcnt")]
pub(super) unsafe fn decode<G: GeneId>(
    row: &PackedRow<'_>,
    ids: *mut G,
    counts: *mut u8,
    has_counts: bool,
) -> Option<usize> {
    // SAFETY: the caller keeps it.
    unsafe { row.decode_with::<Vbmi2, G>(ids, counts, has_counts) }
}

struct Vbmi2;

impl Instructions for Vbmi2 {
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, clippy::cast_possible_wrap, reason = "bits are meant")]
    unsafe fn unpack<const BASE: u8, const ESCAPES: bool>(
        codes: *const u8,
        entries: usize,
        bits: usize,
        escapes: *const u8,
        end: *const u8,
        out: *mut u8,
    ) -> Option<usize> {
        // SAFETY: 64 codes begin before the end of the codes, and 64 bytes are read from there; 64 escapes are read from `end` or
        // before it.
        unsafe {
            let bytes = _mm512_loadu_si512(WORD_BYTES[bits].as_ptr().cast());
            let shifts = _mm512_set1_epi64(i64::from_le_bytes(CODE_SHIFTS[bits]));
            let escape = _mm512_set1_epi8(((1_u32 << bits) - 1) as i8);
            let base = _mm512_set1_epi8(BASE as i8);
            let mut next = escapes;
            for group in 0..entries.div_ceil(64) {
                let words = _mm512_permutexvar_epi8(bytes, _mm512_loadu_si512(codes.add(8 * group * bits).cast()));
                let code = _mm512_and_si512(_mm512_multishift_epi64_epi8(shifts, words), escape);
                let mut value = _mm512_add_epi8(code, base);
                if ESCAPES {
                    let mut mask = _mm512_cmpeq_epi8_mask(code, escape);
                    let left = entries - 64 * group;
                    if left < 64 {
                        mask &= (1 << left) - 1;
                    }
                    if end < next {
                        return None;
                    }
                    value = _mm512_mask_expand_epi8(value, mask, _mm512_loadu_si512(next.cast()));
                    next = next.add(mask.count_ones() as usize);
                }
                _mm512_storeu_si512(out.add(64 * group).cast(), value);
            }
            (next <= end).then(|| next.offset_from_unsigned(escapes))
        }
    }

    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, clippy::cast_possible_wrap, reason = "bits are meant")]
    unsafe fn select<const LOW: bool>(bitmap: &Bitmap, low: *const u8, out: *mut u16) -> bool {
        let Bitmap { bytes, bits, is_of_all_genes, entries, low_bits } = *bitmap;
        // SAFETY: the bitmap is read for less than 4 bytes beyond its bits; 32 ids are written from no later than the entries'
        // end, and as many low bits read.
        unsafe {
            let up = _mm_cvtsi32_si128(low_bits as i32);
            let places = _mm512_cvtepu8_epi16(_mm256_loadu_si256(PLACES.as_ptr().cast()));
            let before = if is_of_all_genes { _mm512_setzero_si512() } else { places };
            let keep = if is_of_all_genes { 0 } else { usize::MAX };
            let mut written = 0;
            for word in 0..bits.div_ceil(32) {
                let mut set = bytes.add(4 * word).cast::<u32>().read_unaligned();
                if bits < 32 * word + 32 {
                    set &= (1 << (bits % 32)) - 1;
                }
                let at = _mm512_set1_epi16((32 * word).wrapping_sub(written & keep) as i16);
                let ones = _mm512_maskz_compress_epi16(set, places);
                let mut ids = _mm512_sll_epi16(_mm512_add_epi16(ones, _mm512_sub_epi16(at, before)), up);
                if LOW {
                    ids = _mm512_or_si512(ids, _mm512_cvtepu8_epi16(_mm256_loadu_si256(low.add(written).cast())));
                }
                _mm512_storeu_si512(out.add(written).cast(), ids);
                written += set.count_ones() as usize;
                if entries < written {
                    return false;
                }
            }
            written == entries
        }
    }
}
