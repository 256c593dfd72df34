//! Variable-length strings in records: they are stored in collections of the file's global heap (HDF5 File
//! Format Specification, III.E), to which the records refer.
//!
//! ```text
//! a reference   length u32 | address of the collection u64 | index u32
//! a collection  "GCOL" | version u8 (1) | 3 bytes | its length u64 | objects
//! an object     index u16 | references u16 | 4 bytes | length u64 | bytes, padded to a multiple of 8
//! ```

use std::{collections::HashMap, fs::File, ops::Range, os::unix::fs::FileExt};

use arrays::place::ObjectPlace;
use schemas::{Result, numbers::to_usize};

const SIGNATURE: &[u8] = b"GCOL\x01";
const COLLECTION_HEADER: usize = 16;
const OBJECT_HEADER: usize = 16;
/// Collections have 4 KiB, unless a text needs more; one that claims to be larger than this is damaged.
const MOST_COLLECTION_BYTES: u64 = 64 << 20;

/// The heap of a file. It keeps the collection that was read last, because neighbouring records refer to the
/// same one.
#[derive(Debug)]
pub struct GlobalHeap<'a> {
    file: &'a File,
    place: &'a ObjectPlace,
    address: u64,
    bytes: Vec<u8>,
    objects: HashMap<u32, Range<usize>>,
}

impl<'a> GlobalHeap<'a> {
    /// Bytes of a reference, with addresses of 64 bits.
    pub(super) const REFERENCE_BYTES: usize = 16;

    pub(super) fn new(file: &'a File, place: &'a ObjectPlace) -> Self {
        Self { file, place, address: 0, bytes: Vec::new(), objects: HashMap::new() }
    }

    /// The bytes that the reference at the start of `member` refers to.
    ///
    /// # Errors
    /// A reference that leads nowhere, or a file that is damaged or cut short.
    pub fn get(&mut self, member: &[u8]) -> Result<&[u8]> {
        let damaged =
            || self.place.error("refers to a string that does not exist", "the file is damaged; write it again");
        let reference: &[u8; 16] = member.first_chunk().ok_or_else(damaged)?;
        let [l0, l1, l2, l3, address @ .., i0, i1, i2, i3] = *reference;
        let (length, index) = (u32::from_le_bytes([l0, l1, l2, l3]) as usize, u32::from_le_bytes([i0, i1, i2, i3]));
        if length == 0 {
            return Ok(&[]);
        }
        let address = u64::from_le_bytes(address);
        if self.address != address {
            self.read(address).ok_or_else(damaged)?;
        }
        let object = self.objects.get(&index).filter(|object| length <= object.len()).ok_or_else(damaged)?;
        Ok(&self.bytes[object.start..object.start + length])
    }

    fn read(&mut self, address: u64) -> Option<()> {
        self.address = 0;
        self.objects.clear();
        let mut header = [0; COLLECTION_HEADER];
        self.file.read_exact_at(&mut header, address).ok()?;
        let length = u64::from_le_bytes(*header.last_chunk()?);
        let end = address.checked_add(length)?;
        if !header.starts_with(SIGNATURE) || length > MOST_COLLECTION_BYTES || self.file.metadata().ok()?.len() < end {
            return None;
        }
        self.bytes.resize(to_usize(length), 0);
        self.file.read_exact_at(&mut self.bytes, address).ok()?;
        let mut at = COLLECTION_HEADER;
        while let Some(object) = self.bytes.get(at..).and_then(<[u8]>::first_chunk::<OBJECT_HEADER>) {
            let [i0, i1, .., l0, l1, l2, l3, l4, l5, l6, l7] = *object;
            let index = u16::from_le_bytes([i0, i1]);
            let length = to_usize(u64::from_le_bytes([l0, l1, l2, l3, l4, l5, l6, l7]));
            // Object 0 is the free space at the end.
            if index == 0 {
                break;
            }
            let start = at + OBJECT_HEADER;
            let end = start.checked_add(length).filter(|end| *end <= self.bytes.len())?;
            self.objects.insert(index.into(), start..end);
            at = end.next_multiple_of(8);
        }
        self.address = address;
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Write, path::Path};

    use super::*;

    /// A file with a collection of two texts at byte 8.
    fn file() -> File {
        let mut bytes = vec![0; 8];
        bytes.extend_from_slice(b"GCOL\x01\0\0\0");
        bytes.extend_from_slice(&80_u64.to_le_bytes());
        for (index, text) in [(1_u16, "gene"), (2, "a longer text")] {
            bytes.extend_from_slice(&index.to_le_bytes());
            bytes.extend_from_slice(&[0; 6]);
            bytes.extend_from_slice(&(text.len() as u64).to_le_bytes());
            bytes.extend_from_slice(text.as_bytes());
            bytes.resize(bytes.len().next_multiple_of(8), 0);
        }
        bytes.resize(8 + 80, 0);
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(&bytes).expect("room on the disk");
        file
    }

    fn reference(length: u32, address: u64, index: u32) -> Vec<u8> {
        [&length.to_le_bytes()[..], &address.to_le_bytes(), &index.to_le_bytes()].concat()
    }

    #[test]
    fn texts_are_found_by_their_references() {
        let (file, place) = (file(), ObjectPlace::root(Path::new("a.h5ad")));
        let mut heap = GlobalHeap::new(&file, &place);
        assert_eq!(heap.get(&reference(4, 8, 1)).expect("the first text"), b"gene");
        assert_eq!(heap.get(&reference(8, 8, 2)).expect("a part of the second"), b"a longer");
        assert_eq!(heap.get(&reference(0, 0, 0)).expect("an empty text"), b"");
    }

    #[test]
    fn a_reference_that_leads_nowhere_is_refused() {
        let (file, place) = (file(), ObjectPlace::root(Path::new("a.h5ad")));
        let mut heap = GlobalHeap::new(&file, &place);
        for (length, address, index) in [(4, 8, 3), (5, 8, 1), (4, 0, 1), (4, 9, 1), (4, 1 << 40, 1), (4, u64::MAX, 1)]
        {
            assert!(heap.get(&reference(length, address, index)).is_err(), "{length} bytes, {index} at {address}");
        }
        assert!(heap.get(&[1, 2, 3]).is_err());
    }
}
