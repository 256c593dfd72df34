//! Decoding with AVX2: 32 codes at a time.

use std::arch::x86_64::{
    __m256i, _mm_add_epi16, _mm_cvtepu8_epi16, _mm_cvtsi32_si128, _mm_loadl_epi64, _mm_loadu_si128, _mm_or_si128,
    _mm_set1_epi16, _mm_setzero_si128, _mm_shuffle_epi8, _mm_sll_epi16, _mm_storeu_si128, _mm_unpacklo_epi64,
    _mm256_add_epi8, _mm256_blendv_epi8, _mm256_broadcastsi128_si256, _mm256_castsi128_si256, _mm256_cmpeq_epi8,
    _mm256_inserti128_si256, _mm256_movemask_epi8, _mm256_mullo_epi16, _mm256_packus_epi16, _mm256_set_m128i,
    _mm256_set1_epi8, _mm256_shuffle_epi8, _mm256_srl_epi16, _mm256_storeu_si256,
};

use super::{
    GeneId, PackedRow,
    instructions::{Bitmap, Instructions},
    tables::{CODE_BYTES, CODE_FACTORS, EIGHTS, ONES, RANKS, ZEROS, ZEROS_BELOW},
};

pub(super) fn is_available() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("bmi1") && is_x86_feature_detected!("popcnt")
}

/// # Safety
/// As for [`PackedRow::decode_with`].
#[target_feature(enable = "avx2,bmi1,popcnt")]
pub(super) unsafe fn decode<G: GeneId>(
    row: &PackedRow<'_>,
    ids: *mut G,
    counts: *mut u8,
    has_counts: bool,
) -> Option<usize> {
    // SAFETY: the caller keeps it.
    unsafe { row.decode_with::<Avx2, G>(ids, counts, has_counts) }
}

struct Avx2;

impl Instructions for Avx2 {
    #[inline(always)]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        clippy::cast_sign_loss,
        reason = "bits are meant"
    )]
    unsafe fn unpack<const BASE: u8, const ESCAPES: bool>(
        codes: *const u8,
        entries: usize,
        bits: usize,
        escapes: *const u8,
        end: *const u8,
        out: *mut u8,
    ) -> Option<usize> {
        // SAFETY: 32 codes begin before the end of the codes, and their loads reach no more than 40 bytes from there; escapes are
        // read from `end` or before it, for no more than 40 bytes.
        unsafe {
            let bytes = _mm256_broadcastsi128_si256(_mm_loadu_si128(CODE_BYTES[bits].as_ptr().cast()));
            let factors = _mm256_broadcastsi128_si256(_mm_loadu_si128(CODE_FACTORS[bits].as_ptr().cast()));
            let down = _mm_cvtsi32_si128(16 - bits as i32);
            let escape = _mm256_set1_epi8(((1_u32 << bits) - 1) as i8);
            let base = _mm256_set1_epi8(BASE as i8);
            let sixteen = |from: *const u8| {
                let low = _mm256_castsi128_si256(_mm_loadu_si128(from.cast()));
                let both = _mm256_inserti128_si256::<1>(low, _mm_loadu_si128(from.add(2 * bits).cast()));
                _mm256_srl_epi16(_mm256_mullo_epi16(_mm256_shuffle_epi8(both, bytes), factors), down)
            };
            let mut next = escapes;
            for group in 0..entries.div_ceil(32) {
                let from = codes.add(4 * group * bits);
                let code = _mm256_packus_epi16(sixteen(from), sixteen(from.add(bits)));
                let mut value = _mm256_add_epi8(code, base);
                if ESCAPES {
                    let is_escape = _mm256_cmpeq_epi8(code, escape);
                    let mut mask = _mm256_movemask_epi8(is_escape) as u32;
                    let left = entries - 32 * group;
                    if left < 32 {
                        mask &= (1 << left) - 1;
                    }
                    if mask != 0 {
                        if end < next {
                            return None;
                        }
                        value = _mm256_blendv_epi8(value, spread(&mut next, mask), is_escape);
                    }
                }
                _mm256_storeu_si256(out.add(32 * group).cast(), value);
            }
            (next <= end).then(|| next.offset_from_unsigned(escapes))
        }
    }

    #[inline(always)]
    #[expect(clippy::cast_possible_wrap, reason = "bits are meant")]
    unsafe fn select<const LOW: bool>(bitmap: &Bitmap, low: *const u8, out: *mut u16) -> bool {
        let Bitmap { bytes, bits, is_of_all_genes, entries, low_bits } = *bitmap;
        // SAFETY: the bitmap is read for less than 8 bytes beyond its bits. As many bits are set as there are entries, so eight
        // ids are written from no later than the entries' end.
        unsafe {
            // They are counted first, so that the loop has nothing to check.
            let word = |at: usize| bytes.add(8 * at).cast::<u64>().read_unaligned();
            let mut set: usize = (0..bits / 64).map(|at| word(at).count_ones() as usize).sum();
            if !bits.is_multiple_of(64) {
                set += (word(bits / 64) & ((1 << (bits % 64)) - 1)).count_ones() as usize;
            }
            let has_more = !bits.is_multiple_of(8) && *bytes.add(bits / 8) >> (bits % 8) != 0;
            if set != entries || has_more {
                return false;
            }
            let up = _mm_cvtsi32_si128(low_bits as i32);
            let (uppers, steps) = if is_of_all_genes { (&ONES, &EIGHTS) } else { (&ZEROS_BELOW, &ZEROS) };
            let mut at = _mm_setzero_si128();
            let mut written = 0;
            for byte in 0..bits.div_ceil(8) {
                let set = *bytes.add(byte);
                let upper = _mm_cvtepu8_epi16(_mm_loadl_epi64(uppers[usize::from(set)].as_ptr().cast()));
                let mut ids = _mm_sll_epi16(_mm_add_epi16(upper, at), up);
                if LOW {
                    ids = _mm_or_si128(ids, _mm_cvtepu8_epi16(_mm_loadl_epi64(low.add(written).cast())));
                }
                _mm_storeu_si128(out.add(written).cast(), ids);
                at = _mm_add_epi16(at, _mm_set1_epi16(steps[usize::from(set)] as i16));
                written += set.count_ones() as usize;
            }
            written == entries
        }
    }
}

/// Puts the next bytes where bits of the mask are set.
///
/// # Safety
/// `next` can be read for 40 bytes, and the processor has AVX2.
#[inline(always)]
unsafe fn spread(next: &mut *const u8, mask: u32) -> __m256i {
    // SAFETY: eight bytes are read four times, each no more than eight further.
    unsafe {
        let mut eight = |mask: u32| {
            let mask = (mask & 255) as usize;
            let spread = _mm_shuffle_epi8(_mm_loadl_epi64(next.cast()), _mm_loadl_epi64(RANKS[mask].as_ptr().cast()));
            *next = next.add(mask.count_ones() as usize);
            spread
        };
        let (a, b, c, d) = (eight(mask), eight(mask >> 8), eight(mask >> 16), eight(mask >> 24));
        _mm256_set_m128i(_mm_unpacklo_epi64(c, d), _mm_unpacklo_epi64(a, b))
    }
}
