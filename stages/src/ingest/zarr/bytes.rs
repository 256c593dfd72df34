//! Bytes of values put into the order in which they are worked with.

/// What stands column by column, row by row.
pub(super) fn transposed(bytes: &[u8], rows: u64, columns: u64, value_bytes: usize) -> Vec<u8> {
    let (Ok(rows), Ok(columns)) = (usize::try_from(rows), usize::try_from(columns)) else { return bytes.to_vec() };
    let mut out = vec![0; bytes.len()];
    for (at, value) in bytes.chunks_exact(value_bytes).enumerate().take(rows * columns) {
        let to = (at % rows * columns + at / rows) * value_bytes;
        out[to..to + value_bytes].copy_from_slice(value);
    }
    out
}

/// Turns the bytes of each word round.
pub(super) fn reverse_words(bytes: &mut [u8], word_bytes: usize) {
    if 1 < word_bytes {
        bytes.chunks_exact_mut(word_bytes).for_each(<[u8]>::reverse);
    }
}

/// Numbers of 16 bits as `f32`.
pub(super) fn widened(halves: &[u8]) -> Vec<u8> {
    halves.as_chunks::<2>().0.iter().flat_map(|half| widen(u16::from_le_bytes(*half)).to_le_bytes()).collect()
}

/// A number of 1 sign bit, 5 bits of exponent and 10 of fraction (IEEE 754 binary16).
fn widen(half: u16) -> f32 {
    let sign = if half >> 15 == 1 { -1.0 } else { 1.0 };
    let (exponent, fraction) = (half >> 10 & 31, f32::from(half & 1023));
    sign * match exponent {
        0 => fraction * (-24_f32).exp2(),
        31 if fraction == 0.0 => f32::INFINITY,
        31 => f32::NAN,
        _ => (1.0 + fraction / 1024.0) * (f32::from(exponent) - 15.0).exp2(),
    }
}

/// Puts the bytes of each value together again: all first bytes stand first, then all second ones, and so on; bytes beyond
/// the last whole value stand at the end as they are.
pub(super) fn unshuffled(shuffled: &[u8], value_bytes: usize, out: &mut [u8]) {
    let values = shuffled.len() / value_bytes;
    let (planes, rest) = shuffled.split_at(values * value_bytes);
    let (whole, last) = out.split_at_mut(planes.len());
    last.copy_from_slice(rest);
    match value_bytes {
        2 => interleave::<2>(planes, whole),
        4 => interleave::<4>(planes, whole),
        8 => interleave::<8>(planes, whole),
        _ => {
            for (at, byte) in planes.iter().enumerate() {
                whole[at % values * value_bytes + at / values] = *byte;
            }
        }
    }
}

/// With a width known in advance and planes of one length, so that it becomes vector instructions.
fn interleave<const N: usize>(planes: &[u8], out: &mut [u8]) {
    let values = planes.len() / N;
    let planes: [&[u8]; N] = std::array::from_fn(|plane| &planes[plane * values..(plane + 1) * values]);
    for (at, value) in out.as_chunks_mut::<N>().0.iter_mut().enumerate() {
        *value = std::array::from_fn(|plane| planes[plane][at]);
    }
}

/// Puts the bits of each value together again: all lowest bits stand first, eight a byte, then all second ones, and so on.
/// Values come in eights; where they don't, nothing was shuffled.
pub(super) fn bits_unshuffled(shuffled: &[u8], value_bytes: usize, out: &mut [u8]) {
    let values = shuffled.len() / value_bytes;
    if !values.is_multiple_of(8) {
        out.copy_from_slice(shuffled);
        return;
    }
    let whole = values * value_bytes;
    out[whole..].copy_from_slice(&shuffled[whole..]);
    let plane_bytes = values / 8;
    for byte in 0..value_bytes {
        for eight in 0..plane_bytes {
            let plane = |bit: usize| u64::from(shuffled[(byte * 8 + bit) * plane_bytes + eight]) << (8 * bit);
            let turned = turn((0..8).map(plane).sum());
            for (at, turned) in turned.to_le_bytes().into_iter().enumerate() {
                out[(eight * 8 + at) * value_bytes + byte] = turned;
            }
        }
    }
}

/// Swaps rows and columns of 8 × 8 bits: of each square, halves across the diagonal change places, of 1, 2 and then 4 bits.
fn turn(mut bits: u64) -> u64 {
    for (shift, mask) in [(7, 0x00aa_00aa_00aa_00aa), (14, 0x0000_cccc_0000_cccc), (28, 0x0000_0000_f0f0_f0f0)] {
        let swap = (bits ^ bits >> shift) & mask;
        bits ^= swap ^ swap << shift;
    }
    bits
}
