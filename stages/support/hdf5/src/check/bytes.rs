//! Bounded reads of a file, and the numbers in the bytes that were read.

use std::{borrow::Cow, cell::Cell, fs::File, io, os::unix::fs::FileExt};

use schemas::numbers::to_usize;

/// Larger structures are not read: the largest that libhdf5 writes are object headers and heap blocks of a
/// few MiB.
const MOST_BLOCK_BYTES: u64 = 64 << 20;

/// At most this many bytes of any file are read: enough for the locations of 16 million chunks.
const MOST_BYTES: u64 = 2 << 30;
/// At most this many times the file's length, plus [`SLACK`], is read: structure is read once or twice,
/// unless it leads to the same place again and again.
const MOST_TIMES: u64 = 4;
const SLACK: u64 = 1 << 20;
/// Longer names are refused.
const LONGEST_TEXT: usize = 1 << 16;

/// A problem in a file.
#[derive(Debug)]
pub(super) enum StructureError {
    /// The bytes contradict the format, or each other.
    Damaged { at: u64, what: Cow<'static, str> },
    /// The file may be valid, but contains something that is not supported here.
    Unread { at: u64, what: Cow<'static, str> },
    /// The file could not be read.
    Io(io::Error),
    /// The file does not begin as HDF5 files do, or ends too early.
    NoHdf5 { why: String },
}

pub(super) type CheckResult<T> = Result<T, StructureError>;

impl StructureError {
    pub(super) fn damaged(at: u64, what: impl Into<Cow<'static, str>>) -> Self {
        Self::Damaged { at, what: what.into() }
    }

    pub(super) fn no_hdf5(why: impl Into<String>) -> Self {
        Self::NoHdf5 { why: why.into() }
    }

    pub(super) fn unread(at: u64, what: impl Into<Cow<'static, str>>) -> Self {
        Self::Unread { at, what: what.into() }
    }
}

/// How many bytes addresses and lengths take in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Widths {
    pub(super) address: usize,
    pub(super) length: usize,
}

/// The capacity of nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Nodes {
    /// Symbols of a group per node.
    pub(super) symbols: u16,
    /// Children per node of a B-tree of symbols.
    pub(super) symbol_nodes: u16,
    /// Children per node of a B-tree of chunks.
    pub(super) chunks: u16,
}

impl Nodes {
    /// Converts the numbers in a file, half of each capacity; `None` for nodes without room, or with more entries
    /// than can be counted.
    pub(super) fn of_halves([symbols, symbol_nodes, chunks]: [u16; 3]) -> Option<Self> {
        let double = |half: u16| half.checked_mul(2).filter(|all| *all > 0);
        Some(Self { symbols: double(symbols)?, symbol_nodes: double(symbol_nodes)?, chunks: double(chunks)? })
    }
}

/// A file as its superblock describes it.
#[derive(Debug)]
pub(super) struct Image<'a> {
    pub(super) file: &'a File,
    /// The position of address 0 in the file.
    pub(super) base: u64,
    /// The first address after the space in use.
    pub(super) end: u64,
    pub(super) widths: Widths,
    pub(super) nodes: Nodes,
    /// The object header of the root group.
    pub(super) root: u64,
    pub(super) extension: Option<u64>,
    /// Number of bytes read so far.
    pub(super) spent: Cell<u64>,
}

impl Image<'_> {
    /// Refuses a range that is not entirely inside the file.
    pub(super) fn inside(&self, address: u64, length: u64, referrer: u64) -> CheckResult<()> {
        match address.checked_add(length) {
            Some(end) if end <= self.end => Ok(()),
            _ => Err(StructureError::damaged(referrer, format!("{length} bytes at {address} are outside of the file"))),
        }
    }

    /// Reads the bytes of a structure.
    pub(super) fn block(&self, address: u64, length: u64) -> CheckResult<FileSection> {
        let at = self.base.saturating_add(address);
        self.inside(address, length, at)?;
        if length > MOST_BLOCK_BYTES {
            return Err(StructureError::damaged(at, format!("a structure of {length} bytes")));
        }
        self.spent.set(self.spent.get() + length);
        if MOST_BYTES.min((self.end.saturating_mul(MOST_TIMES)).saturating_add(SLACK)) < self.spent.get() {
            return Err(StructureError::unread(at, "structure that leads to the same places over and over"));
        }
        let mut bytes = vec![0; to_usize(length)];
        self.file.read_exact_at(&mut bytes, at).map_err(StructureError::Io)?;
        Ok(FileSection { bytes, at, widths: self.widths })
    }

    /// Reads at most `length` bytes, fewer at the end of the file.
    pub(super) fn block_up_to(&self, address: u64, length: u64) -> CheckResult<FileSection> {
        self.inside(address, 1, self.base.saturating_add(address))?;
        self.block(address, length.min(self.end - address))
    }
}

/// A piece of the file.
#[derive(Clone, Debug)]
pub(super) struct FileSection {
    pub(super) bytes: Vec<u8>,
    /// Its position, counted from the first byte of the file.
    pub(super) at: u64,
    pub(super) widths: Widths,
}

impl FileSection {
    pub(super) fn fields(&self) -> Fields<'_> {
        Fields { bytes: &self.bytes, next: 0, at: self.at, widths: self.widths }
    }

    /// The fields of the block without the checksum at its end, after verifying it.
    pub(super) fn summed(&self) -> CheckResult<Fields<'_>> {
        let cut = || StructureError::damaged(self.at, "too short for its checksum");
        let (body, sum) = self.bytes.split_last_chunk::<4>().ok_or_else(cut)?;
        if super::checksum::lookup3(body) != u32::from_le_bytes(*sum) {
            return Err(StructureError::damaged(self.at, "its checksum does not match"));
        }
        Ok(Fields { bytes: body, next: 0, at: self.at, widths: self.widths })
    }
}

/// Reads numbers one after another, and never past the end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fields<'a> {
    bytes: &'a [u8],
    next: usize,
    at: u64,
    widths: Widths,
}

impl<'a> Fields<'a> {
    /// The position of the next field, counted from the first byte of the file.
    pub(super) fn at(&self) -> u64 {
        self.at + self.next as u64
    }

    /// Number of bytes taken so far.
    pub(super) fn taken(&self) -> usize {
        self.next
    }

    pub(super) fn widths(&self) -> Widths {
        self.widths
    }

    /// The same fields, with addresses and lengths of these widths.
    pub(super) fn with(self, widths: Widths) -> Self {
        Self { widths, ..self }
    }

    pub(super) fn damaged(&self, what: impl Into<Cow<'static, str>>) -> StructureError {
        StructureError::damaged(self.at(), what)
    }

    /// The remaining bytes.
    pub(super) fn rest(&self) -> &'a [u8] {
        &self.bytes[self.next..]
    }

    pub(super) fn take(&mut self, length: usize) -> CheckResult<&'a [u8]> {
        let taken = self.rest().get(..length).ok_or_else(|| self.damaged("runs past the end of its block"))?;
        self.next += length;
        Ok(taken)
    }

    /// Takes the next bytes, as separate fields.
    pub(super) fn within(&mut self, length: usize) -> CheckResult<Fields<'a>> {
        let at = self.at();
        Ok(Fields { bytes: self.take(length)?, next: 0, at, widths: self.widths })
    }

    pub(super) fn skip(&mut self, length: usize) -> CheckResult<()> {
        self.take(length).map(|_| ())
    }

    /// Skips the padding up to a multiple of 8, counted from `start`.
    pub(super) fn align(&mut self, start: usize) -> CheckResult<()> {
        self.skip((self.next - start).next_multiple_of(8) - (self.next - start))
    }

    /// Takes a number of up to 8 bytes.
    pub(super) fn number(&mut self, width: usize) -> CheckResult<u64> {
        let mut wide = [0; 8];
        let into = wide.get_mut(..width).ok_or_else(|| self.damaged(format!("a number of {width} bytes")))?;
        into.copy_from_slice(self.take(width)?);
        Ok(u64::from_le_bytes(wide))
    }

    pub(super) fn u8(&mut self) -> CheckResult<u8> {
        Ok(self.take(1)?[0])
    }

    pub(super) fn u16(&mut self) -> CheckResult<u16> {
        let bytes = self.take(2)?;
        Ok(u16::from_le_bytes([bytes[0], bytes[1]]))
    }

    pub(super) fn u32(&mut self) -> CheckResult<u32> {
        let bytes = self.take(4)?;
        Ok(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    /// Takes a length, or an offset within a heap.
    pub(super) fn length(&mut self) -> CheckResult<u64> {
        self.number(self.widths.length)
    }

    /// Takes an address; `None` if it is the value for an undefined one.
    pub(super) fn address(&mut self) -> CheckResult<Option<u64>> {
        let width = self.widths.address;
        let none = u64::MAX >> (64 - 8 * width);
        self.number(width).map(|address| (address != none).then_some(address))
    }

    /// Takes an address that must be defined.
    pub(super) fn some_address(&mut self) -> CheckResult<u64> {
        let at = self.at();
        self.address()?.ok_or_else(|| StructureError::damaged(at, "an address is missing"))
    }

    pub(super) fn signature(&mut self, expected: &[u8; 4], what: &'static str) -> CheckResult<()> {
        let at = self.at();
        if self.take(4)? == expected { Ok(()) } else { Err(StructureError::damaged(at, format!("no {what} is there"))) }
    }

    /// Takes a version, which must be in a range.
    pub(super) fn version(&mut self, known: std::ops::RangeInclusive<u8>, what: &'static str) -> CheckResult<u8> {
        let at = self.at();
        let version = self.u8()?;
        match known.contains(&version) {
            true => Ok(version),
            false => Err(StructureError::damaged(at, format!("version {version} of {what} is not known"))),
        }
    }

    /// Takes text that ends with a zero byte, and the zero byte.
    pub(super) fn text(&mut self) -> CheckResult<&'a [u8]> {
        let rest = self.rest();
        let length = memchr::memchr(0, &rest[..rest.len().min(LONGEST_TEXT)]);
        let length = length.ok_or_else(|| self.damaged("a string does not end"))?;
        Ok(&self.take(length + 1)?[..length])
    }
}
