//! Turns a matrix whose entries arrive in any order, for example by columns, into one that is read by rows,
//! in bounded memory.
//!
//! Entries are distributed over buckets of neighbouring rows in a scratch file; a range of rows is later
//! extracted from its buckets. However large the matrix, memory holds only the bytes that wait to be written
//! (at most 24 MiB), the positions of the extents of each bucket, and for each reader the rows that it
//! requests.
//!
//! ```text
//! an entry: row within its bucket × genes + gene, u32 where that fits, else u64 | value f32
//! ```

use std::{ops::Range, os::unix::fs::FileExt};

use arrays::{exact, rows::RANGE_ENTRIES};
use schemas::{
    Error, Result,
    chunk::CsrRows,
    numbers::{bounded, to_usize},
};
use stage::interrupt::Interrupt;
use storage::disk::{DiskFile, ScratchFolder};

/// Maximum number of buckets; with more, too few bytes of each would be written at once.
const MOST_BUCKETS: u64 = 4096;
/// Maximum number of rows per bucket, unless that would make too many buckets.
const BUCKET_ROWS: u64 = 8192;
/// Maximum number of rows per row range, however few entries they have.
const MOST_RANGE_ROWS: u64 = 1 << 15;
/// Maximum number of rows of a matrix; up to here, keys fit into 64 bits.
const MOST_ROWS: u64 = 1 << 40;
/// Maximum bytes of all buckets that wait to be written.
const WAITING_BYTES: usize = 24 << 20;
/// Maximum number of entries of a bucket that wait to be written.
const WAITING_ENTRIES: usize = 1 << 14;
/// Entries per extent, the stretch of the scratch file that is assigned to a bucket at once: a multiple of
/// the entries in one write.
const EXTENT_ENTRIES: usize = 1 << 17;

/// How entries are divided into buckets and stored.
#[derive(Clone, Copy, Debug)]
struct BucketLayout {
    rows: u64,
    genes: u32,
    /// A bucket has 2^`shift` rows.
    shift: u32,
    /// Bytes of an entry: 8 or 12.
    entry_bytes: usize,
}

impl BucketLayout {
    fn new(rows: u64, genes: u32, entries: u64) -> Self {
        let range_rows = (rows * RANGE_ENTRIES).checked_div(entries).unwrap_or(BUCKET_ROWS).clamp(1, BUCKET_ROWS);
        let mut shift = range_rows.ilog2();
        while rows.div_ceil(1 << shift) > MOST_BUCKETS {
            shift += 1;
        }
        let keys = u64::from(genes) << shift;
        Self { rows, genes, shift, entry_bytes: if keys <= 1 << 32 { 8 } else { 12 } }
    }

    fn buckets(self) -> usize {
        to_usize(self.rows.div_ceil(1 << self.shift))
    }

    fn bucket_of(self, row: u64) -> usize {
        to_usize(row >> self.shift)
    }

    /// The rows of a bucket.
    fn rows_of(self, bucket: u64) -> Range<u64> {
        bucket << self.shift..self.rows.min((bucket + 1) << self.shift)
    }

    fn append(self, row: u64, gene: u32, value: f32, bytes: &mut Vec<u8>) {
        let row = row & ((1 << self.shift) - 1);
        let key = row * u64::from(self.genes) + u64::from(gene);
        bytes.extend_from_slice(&key.to_le_bytes()[..self.entry_bytes - size_of::<f32>()]);
        bytes.extend_from_slice(&value.to_le_bytes());
    }

    /// Row within the bucket, gene and value of an entry.
    fn entry(self, bytes: &[u8]) -> (u64, u32, f32) {
        let (key_bytes, value) = bytes.split_at(self.entry_bytes - size_of::<f32>());
        let mut key = [0; 8];
        key[..key_bytes.len()].copy_from_slice(key_bytes);
        let key = u64::from_le_bytes(key);
        let genes = u64::from(self.genes);
        let gene = bounded(key % genes);
        (key / genes, gene, f32::from_le_bytes(value.try_into().expect("a value has 4 bytes")))
    }
}

/// A bucket on disk: the positions of its extents, all of which are full except for the last one.
#[derive(Clone, Debug, Default)]
struct EntryBucket {
    extents: Vec<u64>,
    entries: u64,
}

/// Receives entries in any order.
#[derive(Debug)]
pub struct Transposer {
    place: String,
    /// Checked at every write.
    interrupt: Interrupt,
    layout: BucketLayout,
    scratch: ScratchFile,
    most_waiting: usize,
    waiting: Vec<Vec<u8>>,
    buckets: Vec<EntryBucket>,
}

/// A file without a name, which disappears with its owner or with the process.
#[derive(Debug)]
struct ScratchFile {
    file: DiskFile,
    /// The first byte that does not belong to a bucket.
    end: u64,
}

impl Transposer {
    /// Starts a matrix of this many rows and genes, named `place` in errors; the number of entries may be a
    /// guess, and only affects how well the work is divided into row ranges. The scratch file is in the system's
    /// temporary folder (`TMPDIR`), and takes 8 to 12 bytes per entry.
    ///
    /// # Errors
    /// A scratch file that can't be created; more than 2^40 rows.
    pub fn create(
        place: impl Into<String>,
        rows: u64,
        genes: u32,
        entries: u64,
        interrupt: &Interrupt,
    ) -> Result<Self> {
        let place = place.into();
        if rows > MOST_ROWS {
            return Err(Error::data(place, format!("{rows} rows are too many"), "check how it was written"));
        }
        let layout = BucketLayout::new(rows, genes, entries);
        let folder = ScratchFolder::create()?;
        let path = folder.path().join("entries");
        let file = DiskFile::create_new(&path)?;
        let buckets = layout.buckets();
        let fitting = WAITING_BYTES / layout.entry_bytes / buckets.max(1);
        Ok(Self {
            place,
            layout,
            interrupt: interrupt.clone(),
            scratch: ScratchFile { file, end: 0 },
            most_waiting: (1 << fitting.ilog2()).min(WAITING_ENTRIES) * layout.entry_bytes,
            waiting: vec![Vec::new(); buckets],
            buckets: vec![EntryBucket::default(); buckets],
        })
    }

    /// Adds an entry. Several entries for the same row and gene are summed.
    ///
    /// # Errors
    /// A full or broken disk; a row or gene outside of the matrix, which the caller should check because it knows
    /// the place in the file.
    pub fn push(&mut self, row: u64, gene: u32, value: f32) -> Result<()> {
        let BucketLayout { rows, genes, .. } = self.layout;
        if rows <= row || genes <= gene {
            return Err(Error::Bug(format!("entry ({row}, {gene}) of a matrix of {rows} rows and {genes} genes")));
        }
        let bucket = self.layout.bucket_of(row);
        let waiting = &mut self.waiting[bucket];
        waiting.reserve_exact(self.most_waiting - waiting.len());
        self.layout.append(row, gene, value, waiting);
        if waiting.len() == self.most_waiting { self.flush(bucket) } else { Ok(()) }
    }

    /// Writes the remaining entries; then the matrix can be read.
    ///
    /// # Errors
    /// A full or broken disk.
    pub fn finish(mut self) -> Result<Transposed> {
        for bucket in 0..self.buckets.len() {
            self.flush(bucket)?;
        }
        Ok(Transposed { place: self.place, layout: self.layout, scratch: self.scratch, buckets: self.buckets })
    }

    fn flush(&mut self, bucket: usize) -> Result<()> {
        self.interrupt.check()?;
        let (waiting, bucket) = (&mut self.waiting[bucket], &mut self.buckets[bucket]);
        if waiting.is_empty() {
            return Ok(());
        }
        let within = bucket.entries % EXTENT_ENTRIES as u64;
        if within == 0 {
            bucket.extents.push(self.scratch.end);
            self.scratch.end += (EXTENT_ENTRIES * self.layout.entry_bytes) as u64;
        }
        let extent = bucket.extents.last().copied().unwrap_or_default();
        let offset = extent + within * self.layout.entry_bytes as u64;
        let file = &mut self.scratch.file;
        file.write_all_at(waiting, offset).map_err(Error::io("write", file.path()))?;
        bucket.entries += (waiting.len() / self.layout.entry_bytes) as u64;
        waiting.clear();
        Ok(())
    }
}

/// Entries that can be read by rows, from many threads at once.
#[derive(Debug)]
pub struct Transposed {
    place: String,
    layout: BucketLayout,
    scratch: ScratchFile,
    buckets: Vec<EntryBucket>,
}

impl Transposed {
    /// Number of rows.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.layout.rows
    }

    /// Number of entries, before those of the same row and gene are summed.
    #[must_use]
    pub fn entries(&self) -> u64 {
        self.buckets.iter().map(|bucket| bucket.entries).sum()
    }

    /// The best end for a row range that starts at a row: the end of its bucket, or earlier if that is large.
    ///
    /// # Errors
    /// None in practice: a row outside of the matrix.
    pub fn range_end(&self, first: u64) -> Result<u64> {
        let at = self.layout.bucket_of(first);
        let bucket = self.buckets.get(at).ok_or_else(|| Error::Bug(format!("there is no row {first}")))?;
        let rows = self.layout.rows_of(at as u64);
        let all = rows.end - rows.start;
        let parts = bucket.entries.div_ceil(RANGE_ENTRIES).max(all.div_ceil(MOST_RANGE_ROWS)).max(1);
        let part = all.div_ceil(parts);
        let ended = (first - rows.start) / part;
        Ok(rows.end.min(rows.start + (ended + 1) * part))
    }

    /// Reads some rows; the memory of `spare` is reused.
    ///
    /// # Errors
    /// A disk that can't be read, or entries of the same row and gene whose sum float32 can't hold.
    pub fn expression(&self, rows: Range<u64>, spare: CsrRows) -> Result<CsrRows> {
        let (mut pointers, mut genes, mut values) = spare.into_parts();
        pointers.resize(to_usize(rows.end.saturating_sub(rows.start)) + 1, 0);
        // Entries are counted first and then put in place, since they arrive in any order.
        self.for_each(&rows, |row, _, _| pointers[row + 1] += 1)?;
        let mut total = 0_u32;
        for pointer in &mut pointers {
            total = total.checked_add(*pointer).ok_or_else(|| Error::Bug("2^32 entries were requested".into()))?;
            *pointer = total;
        }
        genes.resize(total as usize, 0);
        values.resize(total as usize, 0.0);
        let mut next = pointers.clone();
        self.for_each(&rows, |row, gene, value| {
            let at = next[row] as usize;
            (genes[at], values[at]) = (gene, value);
            next[row] += 1;
        })?;
        let all = CsrRows::canonical(pointers, genes, values, self.layout.genes);
        all.map_err(|bad| exact::bad_rows(&bad, &self.place, rows.start))
    }

    /// Calls `show` with every entry of some rows, in the order in which they were pushed; rows are counted from
    /// the first one.
    fn for_each(&self, rows: &Range<u64>, mut show: impl FnMut(usize, u32, f32)) -> Result<()> {
        let BucketLayout { shift, entry_bytes, .. } = self.layout;
        if rows.is_empty() {
            return Ok(());
        }
        let mut bytes = Vec::new();
        for at in self.layout.bucket_of(rows.start)..=self.layout.bucket_of(rows.end - 1) {
            let bucket = &self.buckets[at];
            let first = (at as u64) << shift;
            let mut left = bucket.entries;
            for offset in &bucket.extents {
                let entries = left.min(EXTENT_ENTRIES as u64);
                left -= entries;
                bytes.resize(to_usize(entries) * entry_bytes, 0);
                let file = &self.scratch.file;
                file.as_file().read_exact_at(&mut bytes, *offset).map_err(Error::io("read", file.path()))?;
                for entry in bytes.chunks_exact(entry_bytes) {
                    let (row, gene, value) = self.layout.entry(entry);
                    let row = first + row;
                    if rows.contains(&row) {
                        show(to_usize(row - rows.start), gene, value);
                    }
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
