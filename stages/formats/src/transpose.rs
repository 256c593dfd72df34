//! A matrix whose entries come in any order, as by columns, becomes one that is read by rows, in bounded memory.
//!
//! Entries are scattered to buckets of neighbouring rows in a scratch file; a range of rows is later picked out of its
//! buckets. However large the matrix, memory holds only the bytes that wait to be written (24 MiB at most), where the
//! extents of each bucket lie, and for each reader the rows it asks for.
//!
//! ```text
//! an entry: row within its bucket × genes + gene, u32 where that fits, else u64 | value f32
//! ```

use std::{ops::Range, os::unix::fs::FileExt};

use arrays::{exact, rows::PIECE_ENTRIES};
use schemas::{
    Error, Result,
    chunk::CsrRows,
    numbers::{bounded, to_usize},
};
use stage::interrupt::Interrupt;
use storage::disk::{DiskFile, ScratchFolder};

/// The most buckets; with more, too few bytes of each would be written at once.
const MOST_BUCKETS: u64 = 4096;
/// The most rows of a bucket, unless there are too many buckets then.
const BUCKET_ROWS: u64 = 8192;
/// The most rows of a piece, however few entries they have.
const MOST_PIECE_ROWS: u64 = 1 << 15;
/// More rows than any matrix has; up to here keys fit into 64 bits.
const MOST_ROWS: u64 = 1 << 40;
/// The most bytes of all buckets that wait to be written.
const WAITING_BYTES: usize = 24 << 20;
/// The most entries of a bucket that wait to be written.
const WAITING_ENTRIES: usize = 1 << 14;
/// Entries of an extent, the stretch of the scratch file that a bucket is given at once: whole writes of waiting entries.
const EXTENT_ENTRIES: usize = 1 << 17;

/// How entries are cut into buckets and stored.
#[derive(Clone, Copy, Debug)]
struct BucketLayout {
    rows: u64,
    genes: u32,
    /// A bucket has 2^this rows.
    shift: u32,
    /// Bytes of an entry: 8 or 12.
    entry_bytes: usize,
}

impl BucketLayout {
    fn new(rows: u64, genes: u32, entries: u64) -> Self {
        let piece_rows = (rows * PIECE_ENTRIES).checked_div(entries).unwrap_or(BUCKET_ROWS).clamp(1, BUCKET_ROWS);
        let mut shift = piece_rows.ilog2();
        while MOST_BUCKETS < rows.div_ceil(1 << shift) {
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

/// A bucket on disk: where its extents lie, all full but the last one.
#[derive(Clone, Debug, Default)]
struct EntryBucket {
    extents: Vec<u64>,
    entries: u64,
}

/// Takes entries in any order.
#[derive(Debug)]
pub struct Transposer {
    place: String,
    /// Asked at every write.
    interrupt: Interrupt,
    layout: BucketLayout,
    scratch: ScratchFile,
    most_waiting: usize,
    waiting: Vec<Vec<u8>>,
    buckets: Vec<EntryBucket>,
}

/// A file without a name, gone with its owner or with the process.
#[derive(Debug)]
struct ScratchFile {
    file: DiskFile,
    /// The first byte that is not a bucket's.
    end: u64,
}

impl Transposer {
    /// Begins a matrix of this many rows and genes, named `place` in errors; how many entries there will be may be a guess, and decides no
    /// more than how well the work is cut into pieces. The scratch file lies among the system's temporary ones (`TMPDIR`), and takes 8 to
    /// 12 bytes an entry.
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
        if MOST_ROWS < rows {
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

    /// Takes an entry. Several of one row and gene add up.
    ///
    /// # Errors
    /// A full or broken disk; a row or gene that the matrix does not have, which the caller is to check since it
    /// can name the place.
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

    /// Writes what waits; the matrix can be read then.
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

    /// How many entries there are, before those of one row and gene are added up.
    #[must_use]
    pub fn entries(&self) -> u64 {
        self.buckets.iter().map(|bucket| bucket.entries).sum()
    }

    /// Where a piece that starts at a row had best end: with its bucket, or earlier where that is large.
    ///
    /// # Errors
    /// None in practice: a row that the matrix does not have.
    pub fn piece_end(&self, first: u64) -> Result<u64> {
        let at = self.layout.bucket_of(first);
        let bucket = self.buckets.get(at).ok_or_else(|| Error::Bug(format!("there is no row {first}")))?;
        let rows = self.layout.rows_of(at as u64);
        let all = rows.end - rows.start;
        let parts = bucket.entries.div_ceil(PIECE_ENTRIES).max(all.div_ceil(MOST_PIECE_ROWS)).max(1);
        let part = all.div_ceil(parts);
        let ended = (first - rows.start) / part;
        Ok(rows.end.min(rows.start + (ended + 1) * part))
    }

    /// Reads some rows; the memory of `spare` is used again.
    ///
    /// # Errors
    /// A disk that can't be read; entries of one row and gene whose sum float32 can't hold.
    pub fn expression(&self, rows: Range<u64>, spare: CsrRows) -> Result<CsrRows> {
        let (mut pointers, mut genes, mut values) = spare.into_parts();
        pointers.resize(to_usize(rows.end.saturating_sub(rows.start)) + 1, 0);
        // Entries are counted first and then put in their places, since they come in any order.
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

    /// Shows every entry of some rows, in the order in which they were pushed; rows count from the first one.
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
