//! The shuffle: one uniform random permutation of all rows, however many there are, in bounded memory.
//!
//! Every row goes to a bucket drawn for it alone, on disk; later each bucket is read whole and shuffled by itself. Draws do
//! not depend on the rows, so every permutation is as likely as any other.

use std::{fs::File, io::Write, ops::ControlFlow, os::unix::fs::FileExt, path::Path, sync::Arc};

use rand::{RngExt, SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use rustix::fs::{FallocateFlags, fallocate};
use schemas::{ByteSize, Error, Result, atlas::GeneWidth, ids::CellIndex};

use super::{
    annotate::Rows,
    records::{HEADER_BYTES, Record, Records, Span},
};
use crate::{
    BoxError, Sink,
    disk::{DiskFile, remove_all},
    recycle::{Pool, Pooled},
};

/// Bytes that a bucket should have, so that several fit into memory.
const BUCKET_BYTES: u64 = 4 << 20;
/// The most bytes of a bucket that wait to be written.
const MOST_WAITING_BYTES: usize = 128 << 10;
/// The most bytes of all buckets that wait to be written.
const ALL_WAITING_BYTES: usize = 6 << 20;
/// Before each record stands its cell, as u64.
const CELL_BYTES: usize = 8;

/// A stretch of the file that belongs to one bucket.
#[derive(Clone, Copy, Debug)]
struct Extent {
    offset: u64,
    bytes: usize,
}

/// Takes rows apart into buckets.
#[derive(Debug)]
pub struct Spill {
    file: DiskFile,
    written: u64,
    gene_width: GeneWidth,
    random: ChaCha8Rng,
    seed: u64,
    most_waiting: usize,
    waiting: Vec<Vec<u8>>,
    extents: Vec<Vec<Extent>>,
}

impl Spill {
    /// A spill for rows that take about so many bytes, in a file that has no name once it is there.
    ///
    /// # Errors
    /// A file that can't be created.
    pub fn create(path: &Path, gene_width: GeneWidth, bytes: u64, seed: u64) -> Result<Self> {
        let most_buckets = ALL_WAITING_BYTES as u64 >> 12;
        let buckets = usize::try_from(bytes.div_ceil(BUCKET_BYTES).clamp(1, most_buckets)).unwrap_or(1);
        let file = DiskFile::create_new(path)?;
        remove_all(path)?;
        Ok(Self {
            file,
            written: 0,
            gene_width,
            random: ChaCha8Rng::seed_from_u64(seed),
            seed,
            most_waiting: (ALL_WAITING_BYTES / buckets).min(MOST_WAITING_BYTES),
            waiting: vec![Vec::new(); buckets],
            extents: vec![Vec::new(); buckets],
        })
    }

    fn take(&mut self, cell: CellIndex, record: &[u8]) -> Result<()> {
        let bucket = self.random.random_range(0..self.waiting.len());
        let waiting = &mut self.waiting[bucket];
        if self.most_waiting < waiting.len() + CELL_BYTES + record.len() {
            self.flush(bucket)?;
        }
        let waiting = &mut self.waiting[bucket];
        waiting.extend_from_slice(&cell.0.to_le_bytes());
        waiting.extend_from_slice(record);
        Ok(())
    }

    fn flush(&mut self, bucket: usize) -> Result<()> {
        let waiting = &mut self.waiting[bucket];
        if waiting.is_empty() {
            return Ok(());
        }
        self.file.write_all(waiting).map_err(Error::io("write", self.file.path()))?;
        self.extents[bucket].push(Extent { offset: self.written, bytes: waiting.len() });
        self.written += waiting.len() as u64;
        waiting.clear();
        Ok(())
    }
}

impl Sink for Spill {
    type In = Rows;
    type Summary = Spilled;

    fn push(&mut self, Rows(records): Rows) -> Result<ControlFlow<()>, BoxError> {
        for row in 0..records.rows() {
            self.take(records.cell(row), records.bytes_of(row))?;
        }
        Ok(ControlFlow::Continue(()))
    }

    fn finish(mut self) -> Result<Spilled, BoxError> {
        for bucket in 0..self.waiting.len() {
            self.flush(bucket)?;
        }
        let Self { file, gene_width, seed, extents, .. } = self;
        Ok(Spilled { shared: Arc::new(Shared { file, gene_width, seed }), extents })
    }
}

/// Rows that lie in buckets.
#[derive(Debug)]
pub struct Spilled {
    shared: Arc<Shared>,
    extents: Vec<Vec<Extent>>,
}

#[derive(Debug)]
struct Shared {
    file: DiskFile,
    gene_width: GeneWidth,
    seed: u64,
}

impl Spilled {
    /// The buckets, whose rows one after another are the permutation.
    pub fn buckets(self) -> impl Iterator<Item = Result<Bucket>> + Send {
        let Self { shared, extents } = self;
        let spare = Pool::default();
        (0..).zip(extents).map(move |(index, extents)| {
            Ok(Bucket { shared: Arc::clone(&shared), index, extents, spare: spare.clone() })
        })
    }
}

/// One bucket, on disk.
#[derive(Debug)]
pub struct Bucket {
    shared: Arc<Shared>,
    index: u64,
    extents: Vec<Extent>,
    spare: Pool<Records>,
}

impl ByteSize for Bucket {
    fn byte_size(&self) -> usize {
        self.extents.capacity() * size_of::<Extent>()
    }
}

impl Bucket {
    /// Reads the bucket's rows, in random order.
    ///
    /// # Errors
    /// A disk that can't be read.
    pub fn shuffled(self) -> Result<Rows> {
        let Shared { file, gene_width, seed } = &*self.shared;
        let (file, path) = (file.as_file(), file.path());
        let mut records: Pooled<Records> = self.spare.take(|| Records::new(*gene_width));
        let (bytes, spans) = records.parts_mut();
        spans.clear();
        // What stands there is written over, all of it.
        bytes.resize(self.extents.iter().map(|extent| extent.bytes).sum(), 0);
        let mut start = 0;
        for Extent { offset, bytes: length } in &self.extents {
            let into = &mut bytes[start..start + length];
            file.read_exact_at(into, *offset).map_err(Error::io("read", path))?;
            give_back(file, *offset, *length);
            start += length;
        }
        let mut at = 0;
        while let Some((cell, rest)) = bytes[at..].split_first_chunk::<CELL_BYTES>() {
            let (_, length) = Record::read(rest, *gene_width)
                .ok_or_else(|| Error::damaged(path, "another program has changed it meanwhile"))?;
            let start = at + CELL_BYTES;
            spans.push(Span { start, end: start + length, cell: CellIndex(u64::from_le_bytes(*cell)) });
            at = start + length;
        }
        let mut random = ChaCha8Rng::seed_from_u64(*seed);
        random.set_stream(1 + self.index);
        spans.shuffle(&mut random);
        Ok(Rows(records))
    }
}

/// Gives the room of bytes that were read back to the disk, and their pages to what is written meanwhile.
fn give_back(file: &File, offset: u64, length: usize) {
    let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    // A file system that can't is no worse off than without: the file is removed at the end.
    if let Err(error) = fallocate(file, hole, offset, length as u64) {
        tracing::debug!("the room of a bucket is kept until the end: {error}");
    }
}

/// About how many bytes the records of so many cells and entries take.
#[must_use]
pub fn estimated_bytes(cells: u64, entries: u64, gene_width: GeneWidth) -> u64 {
    cells * (CELL_BYTES + HEADER_BYTES) as u64 + entries * (gene_width.bytes() as u64 + 1)
}
