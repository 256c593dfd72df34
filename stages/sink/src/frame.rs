//! Zstandard frames whose beginning is stored uncompressed.
//!
//! After byte-stream splitting, the first planes are the low bits of mantissas: noise, in which a compressor
//! searches for repeats in vain. This module stores them as raw blocks, followed by compressed blocks for the
//! rest, in one frame that every decoder reads: <https://www.rfc-editor.org/rfc/rfc8878#section-3.1.1>.

use std::io;

use zstd::bulk::Compressor;

/// The beginning of every frame.
const MAGIC: [u8; 4] = 0xfd2f_b528_u32.to_le_bytes();
/// The descriptor in a frame header: a single segment, which is the window, with its size in four bytes; no
/// checksum, no dictionary.
const DESCRIPTOR: u8 = 0b1010_0000;
/// Maximum number of uncompressed bytes in a block.
const BLOCK: usize = 128 << 10;
/// Number of bytes by which a plane is judged.
const SAMPLE: usize = 16 << 10;
/// Entropy in bits per byte above which data count as noise: at most a sixteenth could be saved.
const NOISE: f64 = 7.5;

/// A frame of `bytes`, which end with planes of `plane` bytes each. Everything before the first plane that is
/// not noise is stored; the rest is compressed.
///
/// # Errors
/// This fails only through a bug.
pub(super) fn frame(bytes: &[u8], plane: usize, compressor: &mut Compressor<'_>) -> io::Result<Vec<u8>> {
    let planes = bytes.len() / plane.max(1) * plane;
    let first = bytes.len() - planes;
    let noise = bytes[first..].chunks_exact(plane.max(1)).take_while(|plane| is_noise(plane)).count();
    if noise == 0 {
        return compressor.compress(bytes);
    }
    let (stored, rest) = bytes.split_at(first + noise * plane);
    let packed = if rest.is_empty() { Vec::new() } else { compressor.compress(rest)? };
    let size = u32::try_from(bytes.len()).map_err(io::Error::other)?;
    let mut frame = Vec::with_capacity(stored.len() + packed.len() + 64);
    frame.extend(MAGIC);
    frame.push(DESCRIPTOR);
    frame.extend(size.to_le_bytes());
    let mut blocks = stored.chunks(BLOCK).peekable();
    while let Some(block) = blocks.next() {
        let is_last = rest.is_empty() && blocks.peek().is_none();
        // A raw block's type is 0.
        let header = (block.len() << 3 | usize::from(is_last)).to_le_bytes();
        frame.extend(&header[..3]);
        frame.extend(block);
    }
    frame.extend(packed.get(header_size(&packed)..).unwrap_or_default());
    Ok(frame)
}

/// Bytes before the first block of a frame.
fn header_size(frame: &[u8]) -> usize {
    let Some(descriptor) = frame.get(MAGIC.len()) else { return 0 };
    let single = descriptor >> 5 & 1;
    let window = usize::from(1 - single);
    let dictionary = [0, 1, 2, 4][usize::from(descriptor & 3)];
    let size = [usize::from(single), 2, 4, 8][usize::from(descriptor >> 6)];
    MAGIC.len() + 1 + window + dictionary + size
}

/// Whether bytes are nearly independent of each other, judged by the frequency of each value in a sample.
fn is_noise(bytes: &[u8]) -> bool {
    let mut counts = [0_u32; 256];
    let sample = &bytes[..bytes.len().min(SAMPLE)];
    sample.iter().for_each(|byte| counts[usize::from(*byte)] += 1);
    let share = |count: &u32| f64::from(*count) / sample.len() as f64;
    let bits: f64 = counts.iter().filter(|count| **count > 0).map(|count| -share(count) * share(count).log2()).sum();
    bits >= NOISE
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_read_of_a_frame_is_what_went_in(
            head in prop::collection::vec(any::<u8>(), 0..40),
            plane in prop::sample::select(vec![1_usize, 300, 5000, 131_072, 200_000]),
            // The number of bits that vary in the bytes of each plane.
            bits in prop::collection::vec(0_u32..9, 0..5),
            seed: u32,
        ) {
            let mut state = seed;
            let mut byte = |bits: u32| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                state.to_le_bytes()[3] & (0xff_u16 >> (8 - bits)).to_le_bytes()[0]
            };
            let mut bytes = head;
            bits.iter().for_each(|bits| bytes.extend((0..plane).map(|_| byte(*bits))));
            let mut compressor = Compressor::new(1).expect("a level");
            let frame = frame(&bytes, plane, &mut compressor).expect("it fits");
            prop_assert!(zstd::bulk::decompress(&frame, bytes.len()).is_ok_and(|found| found == bytes), "at once");
            prop_assert!(zstd::decode_all(&frame[..]).is_ok_and(|found| found == bytes), "as a stream");
            prop_assert!(matches!(zstd::zstd_safe::get_frame_content_size(&frame), Ok(Some(size)) if size == bytes.len() as u64));
        }
    }

    #[test]
    fn noise_is_stored_and_the_rest_is_compressed() {
        let mut state = 1_u32;
        let mut noise = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state.to_le_bytes()[3]
        };
        let mut bytes: Vec<u8> = (0..60_000).map(|_| noise()).collect();
        bytes.extend([7; 30_000]);
        let frame = frame(&bytes, 30_000, &mut Compressor::new(1).expect("a level")).expect("it fits");
        assert!((60_000..60_100).contains(&frame.len()), "{} bytes", frame.len());
    }
}
