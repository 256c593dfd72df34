//! Undoes the filters of a chunked dataset: deflate, LZF, byte shuffle and Fletcher's checksum.

use schemas::atlas::StoredFilter as Step;

use super::lzf;

/// Deflate expands one byte to at most this many.
const MOST_DEFLATED: usize = 1032;
/// LZF expands one byte to at most this many: 3 bytes become 264.
const MOST_LZF: usize = 88;
/// Bytes of a Fletcher checksum, stored after the bytes that it covers.
const FLETCHER_BYTES: usize = 4;

/// The filters of a dataset, in the order in which they are applied when a chunk is written.
#[derive(Debug)]
pub(super) struct Filters {
    steps: Vec<Step>,
    element_bytes: usize,
}

/// Buffers for the filters, reused for chunk after chunk.
pub(super) struct FilterWorkspace {
    inflater: libdeflater::Decompressor,
    /// The data that are still filtered: initially the chunk as stored in the file.
    pub(super) stored: Vec<u8>,
    other: Vec<u8>,
}

impl Default for FilterWorkspace {
    fn default() -> Self {
        Self { inflater: libdeflater::Decompressor::new(), stored: Vec::new(), other: Vec::new() }
    }
}

impl std::fmt::Debug for FilterWorkspace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Workspace").field("stored", &self.stored.len()).finish_non_exhaustive()
    }
}

impl Filters {
    /// Filters in the order in which they were applied; `None` if more than one is a compression.
    pub(super) fn new(steps: Vec<Step>, element_bytes: usize) -> Option<Self> {
        let compressions = steps.iter().filter(|step| matches!(step, Step::Deflate | Step::Lzf)).count();
        // The mask of left-out filters has 32 bits.
        (compressions <= 1 && steps.len() <= 32).then_some(Self { steps, element_bytes })
    }

    /// In the order in which they were applied.
    pub(super) fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// Turns `work.stored` into the chunk's bytes, `length` of them, and puts them into `out`. Steps whose bit is
    /// set in `left_out` were left out when the chunk was written.
    ///
    /// # Errors
    /// Bytes that the filters can't have produced; the error describes the problem.
    pub(super) fn undo(
        &self,
        left_out: u64,
        work: &mut FilterWorkspace,
        length: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), &'static str> {
        for (place, step) in self.steps.iter().enumerate().rev().filter(|(place, _)| left_out >> place & 1 == 0) {
            match step {
                Step::Fletcher32 => check_fletcher32(&mut work.stored)?,
                Step::Shuffle => {
                    work.other.resize(work.stored.len(), 0);
                    unshuffle(&work.stored, self.element_bytes, &mut work.other);
                    std::mem::swap(&mut work.stored, &mut work.other);
                }
                Step::Deflate | Step::Lzf => {
                    let checksums = self.steps[..place].iter().enumerate();
                    let checksums = checksums
                        .filter(|(place, step)| **step == Step::Fletcher32 && left_out >> place & 1 == 0)
                        .count();
                    let unpacked = length + FLETCHER_BYTES * checksums;
                    let most = if *step == Step::Deflate { MOST_DEFLATED } else { MOST_LZF };
                    // This comes before allocating memory that a damaged file may only claim to need.
                    if work.stored.len().saturating_mul(most) < unpacked {
                        return Err("is too short for what it should hold");
                    }
                    work.other.resize(unpacked, 0);
                    let whole = match step {
                        Step::Deflate => work
                            .inflater
                            .zlib_decompress(&work.stored, &mut work.other)
                            .is_ok_and(|written| written == unpacked),
                        _ => lzf::unpack(&work.stored, &mut work.other).is_some(),
                    };
                    if !whole {
                        return Err("can't be decompressed");
                    }
                    std::mem::swap(&mut work.stored, &mut work.other);
                }
            }
        }
        if work.stored.len() != length {
            return Err("has a different length from the dataset's chunks");
        }
        std::mem::swap(&mut work.stored, out);
        Ok(())
    }
}

/// Puts the bytes of each element together again: shuffled data have all first bytes first, then all second
/// ones, and so on. Bytes beyond the last whole element are at the end, unchanged.
fn unshuffle(shuffled: &[u8], element_bytes: usize, out: &mut [u8]) {
    let elements = shuffled.len() / element_bytes.max(1);
    let (planes, rest) = shuffled.split_at(elements * element_bytes);
    let (whole, last) = out.split_at_mut(planes.len());
    last.copy_from_slice(rest);
    match element_bytes {
        2 => interleave::<2>(planes, whole),
        4 => interleave::<4>(planes, whole),
        8 => interleave::<8>(planes, whole),
        _ => {
            for (at, byte) in planes.iter().enumerate() {
                whole[at % elements * element_bytes + at / elements] = *byte;
            }
        }
    }
}

/// The width is known at compile time and the planes have one length, so that this becomes vector
/// instructions.
fn interleave<const N: usize>(planes: &[u8], out: &mut [u8]) {
    let elements = planes.len() / N;
    let planes: [&[u8]; N] = std::array::from_fn(|plane| &planes[plane * elements..(plane + 1) * elements]);
    for (at, element) in out.as_chunks_mut::<N>().0.iter_mut().enumerate() {
        *element = std::array::from_fn(|plane| planes[plane][at]);
    }
}

/// Removes the checksum from the end and checks it.
fn check_fletcher32(bytes: &mut Vec<u8>) -> Result<(), &'static str> {
    let Some((content, stored)) = bytes.split_last_chunk::<FLETCHER_BYTES>() else {
        return Err("is too short for its checksum");
    };
    let (stored, sum) = (u32::from_le_bytes(*stored), fletcher32(content));
    // Files of old libhdf5 versions swap the bytes within each half.
    let reversed = (sum & 0x00ff_00ff) << 8 | sum >> 8 & 0x00ff_00ff;
    if stored != sum && stored != reversed {
        return Err("does not match its checksum");
    }
    let length = content.len();
    bytes.truncate(length);
    Ok(())
}

/// Fletcher's sum of big-endian 16-bit words, as libhdf5 computes it.
fn fletcher32(bytes: &[u8]) -> u32 {
    let (words, rest) = bytes.as_chunks::<2>();
    let (mut first, mut second) = (0_u32, 0_u32);
    let fold = |sum: u32| (sum & 0xffff) + (sum >> 16);
    // 360 words are the most that can be summed without overflowing 32 bits.
    for words in words.chunks(360) {
        for word in words {
            first += u32::from(u16::from_be_bytes(*word));
            second += first;
        }
        (first, second) = (fold(first), fold(second));
    }
    if let [last] = rest {
        first += u32::from(*last) << 8;
        second += first;
        (first, second) = (fold(first), fold(second));
    }
    (fold(second) & 0xffff) << 16 | fold(first) & 0xffff
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shuffle_of_any_element_size_is_undone() {
        for element in [1, 2, 3, 4, 8] {
            let bytes: Vec<u8> = (0..=82).collect();
            let elements = bytes.len() / element;
            let mut shuffled: Vec<u8> = (0..element)
                .flat_map(|plane| (0..elements).map(move |at| (at, plane)))
                .map(|(at, plane)| bytes[at * element + plane])
                .collect();
            shuffled.extend_from_slice(&bytes[elements * element..]);
            let mut out = vec![0; bytes.len()];
            unshuffle(&shuffled, element, &mut out);
            assert_eq!(out, bytes, "elements of {element} bytes");
        }
    }

    #[test]
    fn a_chunk_that_claims_more_than_it_can_hold_takes_no_memory() {
        let filters = Filters::new(vec![Step::Deflate], 4).expect("known");
        let mut work = FilterWorkspace { stored: vec![0; 100], ..FilterWorkspace::default() };
        let refused = filters.undo(0, &mut work, 1 << 40, &mut Vec::new());
        assert_eq!(refused, Err("is too short for what it should hold"));
    }
}
