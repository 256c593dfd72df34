//! Files that hold several chunks: where each of them lies, as an index at the start or the end of the file says.

use std::{fs::File, os::unix::fs::FileExt};

use serde_json::{Map, Value};

use super::{
    metadata::{Refused, named},
    packing::crc32c,
};

/// More chunks than any shard has; what says otherwise must not make us allocate.
const MOST_CHUNKS: u64 = 1 << 22;
/// Bytes of an entry of the index: where a chunk starts, and how long it is.
const ENTRY_BYTES: u64 = 16;
const CHECKSUM_BYTES: u64 = 4;
/// Stands for a chunk that was never written.
const NOWHERE: u64 = u64::MAX;

/// How a shard is laid out.
#[derive(Debug)]
pub(super) struct ShardLayout {
    /// Chunks of a shard, in each dimension.
    pub(super) chunks: Vec<u64>,
    count: u64,
    is_first: bool,
    has_checksum: bool,
}

/// Start and length of each chunk of a shard.
pub(super) type ShardIndex = Vec<(u64, u64)>;

impl ShardLayout {
    pub(super) fn of(
        sharding: &Map<String, Value>,
        index_codecs: &[Value],
        shard: &[u64],
        chunk: &[u64],
    ) -> Refused<Self> {
        if shard.iter().zip(chunk).any(|(shard, chunk)| !shard.is_multiple_of(*chunk)) {
            return Err(format!("has shards of the shape {shard:?}, which chunks of {chunk:?} do not fill"));
        }
        let chunks: Vec<u64> = shard.iter().zip(chunk).map(|(shard, chunk)| shard / chunk).collect();
        let count = chunks.iter().try_fold(1_u64, |count, chunks| count.checked_mul(*chunks));
        let count = count.filter(|count| *count <= MOST_CHUNKS).ok_or("has shards of more chunks than can be")?;
        let is_first = match sharding.get("index_location").and_then(Value::as_str) {
            None | Some("end") => false,
            Some("start") => true,
            Some(other) => return Err(format!("has an index of shards at the `{other}`, which is not known here")),
        };
        let mut has_checksum = false;
        for codec in index_codecs {
            let codec = named(Some(codec), "name of a codec")?;
            let endian = codec.configuration.and_then(|configuration| configuration.get("endian")?.as_str());
            match (codec.name, endian) {
                ("bytes", None | Some("little")) => {}
                ("crc32c", _) => has_checksum = true,
                (name, _) => return Err(format!("has an index of shards in `{name}`, which is not known here")),
            }
        }
        Ok(Self { chunks, count, is_first, has_checksum })
    }

    /// Reads the index of a shard.
    ///
    /// # Errors
    /// A file that has none, in words.
    pub(super) fn index(&self, file: &File) -> Refused<ShardIndex> {
        let unreadable = |error: std::io::Error| format!("can't be read ({error})");
        let length = file.metadata().map_err(unreadable)?.len();
        let index_bytes = self.count * ENTRY_BYTES + if self.has_checksum { CHECKSUM_BYTES } else { 0 };
        let start = length.checked_sub(index_bytes).ok_or("is too short for its index of chunks")?;
        let mut bytes = vec![0; usize::try_from(index_bytes).map_err(|error| error.to_string())?];
        file.read_exact_at(&mut bytes, if self.is_first { 0 } else { start }).map_err(unreadable)?;
        if self.has_checksum {
            let (content, sum) = bytes.split_last_chunk().ok_or("is too short for its index of chunks")?;
            if crc32c(content) != u32::from_le_bytes(*sum) {
                return Err("has an index of chunks that does not have its checksum".into());
            }
        }
        let numbers = bytes.as_chunks::<8>().0.iter().map(|bytes| u64::from_le_bytes(*bytes));
        let starts = numbers.clone().step_by(2);
        Ok(starts.zip(numbers.skip(1).step_by(2)).collect())
    }
}

/// The bytes of a chunk of a shard; none if it was never written.
///
/// # Errors
/// A place that is outside the file, in words.
pub(super) fn read_chunk(file: &File, index: &ShardIndex, at: usize) -> Refused<Option<Vec<u8>>> {
    let unreadable = |error: std::io::Error| format!("can't be read ({error})");
    let (start, bytes) = *index.get(at).ok_or("is not in the index of its shard")?;
    if start == NOWHERE && bytes == NOWHERE {
        return Ok(None);
    }
    let length = file.metadata().map_err(unreadable)?.len();
    if start.checked_add(bytes).is_none_or(|end| length < end) {
        return Err("lies beyond the end of its shard".into());
    }
    let mut stored = vec![0; usize::try_from(bytes).map_err(|error| error.to_string())?];
    file.read_exact_at(&mut stored, start).map_err(unreadable)?;
    Ok(Some(stored))
}
