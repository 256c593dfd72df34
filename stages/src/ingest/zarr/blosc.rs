//! Blosc frames of version 1: blocks of values whose bytes or bits may be shuffled, each packed by itself.
//!
//! ```text
//! 0   version, version of the compression, flags, bytes of a value
//! 4   bytes unpacked, bytes of a block, bytes packed: u32 each
//! 16  where each block starts, u32 each; or all bytes as they are, if the flags say so
//!     of a block, each of its streams: its length as u32, and the stream
//! ```
//!
//! A block has one stream, or one for each byte of a value. A stream that is as long packed as unpacked is not packed.

use std::io::Read;

use flate2::read::ZlibDecoder;

use super::{
    blosclz,
    bytes::{bits_unshuffled, unshuffled},
    metadata::Refused,
};

const HEADER_BYTES: usize = 16;
const START_BYTES: usize = 4;
/// Values of more bytes, and blocks of fewer values, are not split into a stream a byte.
const MOST_SPLITS: usize = 16;
const LEAST_SPLIT_VALUES: usize = 128;

const SHUFFLED: u8 = 1;
const PLAIN: u8 = 2;
const BITS_SHUFFLED: u8 = 4;
const NOT_SPLIT: u8 = 16;

struct Frame<'a> {
    bytes: &'a [u8],
    flags: u8,
    value_bytes: usize,
    block_bytes: usize,
}

/// Unpacks a frame, to at most so many bytes.
///
/// # Errors
/// Bytes that are no frame, in words.
pub(super) fn unpack(bytes: &[u8], most: usize) -> Refused<Vec<u8>> {
    let damaged = || "is no blosc data".to_owned();
    let (header, _) = bytes.split_first_chunk::<HEADER_BYTES>().ok_or_else(damaged)?;
    let (flags, value_bytes) = (header[2], usize::from(header[3]));
    let (unpacked, block_bytes, packed) = (number(header, 4), number(header, 8), number(header, 12));
    let sizes = (unpacked.ok_or_else(damaged)?, block_bytes.ok_or_else(damaged)?, packed.ok_or_else(damaged)?);
    let (unpacked, block_bytes, packed) = sizes;
    if packed != bytes.len() || value_bytes == 0 {
        return Err(format!("is {} bytes of blosc data, but tells of {packed}", bytes.len()));
    }
    if most < unpacked {
        return Err(format!("unpacks to {unpacked} bytes, but may have {most}"));
    }
    if flags & PLAIN != 0 {
        return bytes.get(HEADER_BYTES..HEADER_BYTES + unpacked).map(<[u8]>::to_vec).ok_or_else(damaged);
    }
    if unpacked == 0 {
        return Ok(Vec::new());
    }
    // Before memory is taken for what a damaged frame may only claim.
    let blocks = if block_bytes == 0 { usize::MAX } else { unpacked.div_ceil(block_bytes) };
    if (bytes.len() - HEADER_BYTES) / START_BYTES < blocks {
        return Err(damaged());
    }
    let frame = Frame { bytes, flags, value_bytes, block_bytes };
    let mut out = vec![0; unpacked];
    let mut shuffled = vec![0; block_bytes.min(unpacked)];
    for (at, block) in out.chunks_mut(block_bytes).enumerate() {
        frame.unpack_block(at, block, &mut shuffled).ok_or_else(damaged)?;
    }
    Ok(out)
}

fn number(bytes: &[u8], at: usize) -> Option<usize> {
    let number = u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?);
    // Lengths are signed where they are written.
    i32::try_from(number).ok().and_then(|number| usize::try_from(number).ok())
}

impl Frame<'_> {
    fn unpack_block(&self, at: usize, out: &mut [u8], shuffled: &mut [u8]) -> Option<()> {
        let start = number(self.bytes, HEADER_BYTES + at * START_BYTES)?;
        let shuffled = &mut shuffled[..out.len()];
        if self.flags & SHUFFLED != 0 && 1 < self.value_bytes {
            self.unpack_streams(start, shuffled)?;
            unshuffled(shuffled, self.value_bytes, out);
        } else if self.flags & BITS_SHUFFLED != 0 && self.value_bytes <= out.len() {
            self.unpack_streams(start, shuffled)?;
            bits_unshuffled(shuffled, self.value_bytes, out);
        } else {
            self.unpack_streams(start, out)?;
        }
        Some(())
    }

    fn unpack_streams(&self, mut at: usize, out: &mut [u8]) -> Option<()> {
        let splits = self.flags & NOT_SPLIT == 0
            && self.value_bytes <= MOST_SPLITS
            && LEAST_SPLIT_VALUES <= self.block_bytes / self.value_bytes
            && out.len() == self.block_bytes;
        let streams = if splits { self.value_bytes } else { 1 };
        if !out.len().is_multiple_of(streams) {
            return None;
        }
        for stream in out.chunks_mut(out.len() / streams) {
            let length = number(self.bytes, at)?;
            let packed = self.bytes.get(at + START_BYTES..)?.get(..length)?;
            match length == stream.len() {
                true => stream.copy_from_slice(packed),
                false => self.unpack_stream(packed, stream)?,
            }
            at += START_BYTES + length;
        }
        Some(())
    }

    /// Unpacks all of a stream.
    fn unpack_stream(&self, packed: &[u8], out: &mut [u8]) -> Option<()> {
        match self.flags >> 5 {
            0 => blosclz::unpack(packed, out),
            1 => (lz4_flex::block::decompress_into(packed, out).ok()? == out.len()).then_some(()),
            2 => {
                let is_whole = snap::raw::decompress_len(packed).ok()? == out.len();
                (is_whole && snap::raw::Decoder::new().decompress(packed, out).ok()? == out.len()).then_some(())
            }
            3 => ZlibDecoder::new(packed).read_exact(out).ok(),
            4 => (zstd::bulk::decompress_to_buffer(packed, out).ok()? == out.len()).then_some(()),
            _ => None,
        }
    }
}
