//! What packs the bytes of a chunk: compressions and checksums, undone without taking more memory than the chunk is to have.

use std::io::Read;

use flate2::read::{MultiGzDecoder, ZlibDecoder};
use serde_json::{Map, Value};

use super::{blosc, bytes::unshuffled, metadata::Refused};

/// Bytes of a checksum, at the end of what it was taken of.
const CHECKSUM_BYTES: usize = 4;
/// Bytes before an LZ4 block that tell its length.
const LZ4_LENGTH_BYTES: usize = 4;

/// One step of packing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Packing {
    Gzip,
    Zlib,
    Zstd,
    Lz4,
    Blosc,
    Crc32c,
    /// The bytes of values of this length, apart.
    Shuffle(usize),
}

impl Packing {
    /// The step of a name, of either version.
    pub(super) fn of(name: &str, configuration: Option<&Map<String, Value>>) -> Refused<Self> {
        Ok(match name.strip_prefix("numcodecs.").unwrap_or(name) {
            "gzip" => Self::Gzip,
            "zlib" => Self::Zlib,
            "zstd" => Self::Zstd,
            "lz4" => Self::Lz4,
            "blosc" => Self::Blosc,
            "crc32c" if name == "crc32c" => Self::Crc32c,
            "shuffle" => {
                let bytes = configuration.and_then(|configuration| configuration.get("elementsize")?.as_u64());
                let bytes =
                    bytes.and_then(|bytes| usize::try_from(bytes).ok()).filter(|bytes| (1..=256).contains(bytes));
                Self::Shuffle(bytes.ok_or("has the codec `shuffle` without a size of its values")?)
            }
            _ => return Err(format!("has the codec `{name}`, which is not known here")),
        })
    }

    /// What comes of it, at most so many bytes.
    fn undo(self, stored: &[u8], most: usize) -> Refused<Vec<u8>> {
        let name = format!("{self:?}").to_lowercase();
        let read = |packed: &mut dyn Read| {
            let mut out = Vec::new();
            let limit = most as u64 + 1;
            packed.take(limit).read_to_end(&mut out).map_err(|error| format!("is no {name} data ({error})"))?;
            if most < out.len() { Err(too_long(most)) } else { Ok(out) }
        };
        match self {
            Self::Gzip => read(&mut MultiGzDecoder::new(stored)),
            Self::Zlib => read(&mut ZlibDecoder::new(stored)),
            Self::Zstd => match zstd::Decoder::with_buffer(stored) {
                Ok(mut packed) => read(&mut packed),
                Err(error) => Err(format!("is no {name} data ({error})")),
            },
            Self::Lz4 => {
                let no_lz4 = || "is no lz4 data".to_owned();
                let (length, block) = stored.split_first_chunk::<LZ4_LENGTH_BYTES>().ok_or_else(no_lz4)?;
                let length = u32::from_le_bytes(*length) as usize;
                if most < length {
                    return Err(too_long(most));
                }
                let mut out = vec![0; length];
                match lz4_flex::block::decompress_into(block, &mut out) {
                    Ok(written) if written == length => Ok(out),
                    _ => Err(no_lz4()),
                }
            }
            Self::Blosc => blosc::unpack(stored, most),
            Self::Crc32c => {
                let (content, sum) =
                    stored.split_last_chunk::<CHECKSUM_BYTES>().ok_or("is too short for its checksum")?;
                match crc32c(content) == u32::from_le_bytes(*sum) {
                    true => Ok(content.to_vec()),
                    false => Err("does not have the checksum that it was written with".into()),
                }
            }
            Self::Shuffle(bytes) => {
                let mut out = vec![0; stored.len()];
                unshuffled(stored, bytes, &mut out);
                Ok(out)
            }
        }
    }
}

fn too_long(most: usize) -> String {
    format!("unpacks to more than the {most} bytes that it may have")
}

/// Undoes all steps, the last one first. What steps in between hold is little more than the chunk, or was packed in vain.
pub(super) fn unpack(packings: &[Packing], stored: Vec<u8>, most: usize) -> Refused<Vec<u8>> {
    let mut bytes = stored;
    for (at, packing) in packings.iter().enumerate().rev() {
        let between = most.saturating_add(most / 4 + (1 << 16));
        bytes = packing.undo(&bytes, if at == 0 { most } else { between })?;
    }
    Ok(bytes)
}

/// The checksum CRC-32C (Castagnoli; RFC 3720, appendix B.4).
pub(super) fn crc32c(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = table();
    !bytes.iter().fold(u32::MAX, |sum, byte| sum >> 8 ^ TABLE[(sum.to_le_bytes()[0] ^ byte) as usize])
}

const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut at = 0;
    while at < 256 {
        #[expect(clippy::cast_possible_truncation, reason = "it is below 256")]
        let mut sum = at as u32;
        let mut bit = 0;
        while bit < 8 {
            sum = sum >> 1 ^ if sum & 1 == 1 { 0x82f6_3b78 } else { 0 };
            bit += 1;
        }
        table[at] = sum;
        at += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_one_of_its_standard() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
    }

    #[test]
    fn a_chunk_that_unpacks_to_more_than_it_may_is_refused() {
        let long = zstd::encode_all(&vec![0; 1 << 20][..], 1).expect("it packs");
        assert!(unpack(&[Packing::Zstd], long.clone(), 1 << 20).is_ok_and(|bytes| bytes.len() == 1 << 20));
        let refused = unpack(&[Packing::Zstd], long, 1000).expect_err("it is too long");
        assert!(refused.contains("more than the 1000 bytes"), "{refused}");
    }

    #[test]
    fn a_length_that_is_only_claimed_takes_no_memory() {
        // A frame that tells of 2^62 bytes, as a damaged one may, and an LZ4 block that tells of 4 GiB.
        let frame = [0x28, 0xb5, 0x2f, 0xfd, 0xe0, 0, 0, 0, 0, 0, 0, 0, 0x40, 1, 0, 0];
        assert!(unpack(&[Packing::Zstd], frame.to_vec(), 1000).is_err());
        assert!(unpack(&[Packing::Lz4], vec![0xff; 20], 1000).is_err());
    }
}
