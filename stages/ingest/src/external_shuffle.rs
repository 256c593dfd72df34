//! The shuffle: a uniform random permutation of all rows, however many there are, in bounded memory.
//!
//! Every row goes to a randomly drawn bucket on disk; later, each bucket is read as a whole and shuffled
//! separately. Draws do not depend on the rows, so every permutation is equally likely. The number of buckets
//! is limited; one that has become too large to be read as a whole is first split into buckets in the same
//! way.
//!
//! A bucket's rows are written in stretches. Each begins with the position of the bucket's previous stretch,
//! so that only the position of the last one has to be kept.
//!
//! ```text
//! offset u64 | bytes u64 | records        the previous stretch, 0 bytes if there is none
//! offset u64 | bytes u64 | records        of the stretch before, 0 bytes if there is none
//! ```

use std::{
    fs::File,
    io::Write,
    ops::ControlFlow,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use rand::{RngExt, SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use reader::records::{HEADER_BYTES, RecordSpan, RowRecord, RowRecords};
use rustix::fs::{FallocateFlags, fallocate};
use schemas::{ByteSize, Error, Result, atlas::GeneWidth, ids::CellIndex, numbers::to_usize};
use stage::{
    BoxError, Sink,
    pool::{Pool, Pooled},
};
use storage::disk::{DiskFile, remove_all};

use super::annotate::RowBatch;

/// Target size of a bucket, in bytes, so that several fit into memory.
const BUCKET_BYTES: u64 = 4 << 20;
/// A bucket of more than this many times the target size is split before it is read.
const TOO_LARGE: u64 = 4;
/// Maximum bytes of one bucket that wait to be written.
const MOST_WAITING_BYTES: usize = 128 << 10;
/// Maximum bytes of all buckets that wait to be written.
const ALL_WAITING_BYTES: usize = 6 << 20;
/// Each record is preceded by its cell, as u64.
const CELL_BYTES: usize = 8;
/// Bytes of the position of the previous stretch.
const LINK_BYTES: usize = 16;

/// A stretch of the file that belongs to one bucket; it does not exist if it has no bytes.
#[derive(Clone, Copy, Debug, Default)]
struct FileRange {
    offset: u64,
    bytes: u64,
}

impl FileRange {
    fn to_bytes(self) -> [u8; LINK_BYTES] {
        let mut bytes = [0; LINK_BYTES];
        bytes[..8].copy_from_slice(&self.offset.to_le_bytes());
        bytes[8..].copy_from_slice(&self.bytes.to_le_bytes());
        bytes
    }

    fn from_bytes(bytes: [u8; LINK_BYTES]) -> Self {
        let [offset, bytes] = *bytes.as_chunks::<8>().0 else { return Self::default() };
        Self { offset: u64::from_le_bytes(offset), bytes: u64::from_le_bytes(bytes) }
    }
}

/// The position of a bucket on disk.
#[derive(Clone, Copy, Debug, Default)]
struct BucketPosition {
    last: FileRange,
    /// Number of records, and their total bytes.
    records: u64,
    bytes: u64,
}

/// Sizes of buckets.
#[derive(Clone, Copy, Debug)]
struct BucketSizes {
    bucket: u64,
    most_buckets: u64,
}

const SIZES: BucketSizes = BucketSizes { bucket: BUCKET_BYTES, most_buckets: ALL_WAITING_BYTES as u64 >> 12 };

/// Distributes rows over buckets.
#[derive(Debug)]
pub struct ExternalShuffle {
    file: DiskFile,
    path: PathBuf,
    sizes: BucketSizes,
    written: u64,
    gene_width: GeneWidth,
    random: ChaCha8Rng,
    seed: u64,
    most_waiting: usize,
    /// The records of each bucket that wait to be written, after space for the position of the previous stretch.
    waiting: Vec<Vec<u8>>,
    positions: Vec<BucketPosition>,
}

impl ExternalShuffle {
    /// Creates a shuffle for rows of about this many bytes, in a file whose name is removed after it was created.
    ///
    /// # Errors
    /// A file that can't be created.
    pub fn create(path: &Path, gene_width: GeneWidth, bytes: u64, seed: u64) -> Result<Self> {
        Self::with_sizes(SIZES, path, gene_width, bytes, seed)
    }

    fn with_sizes(sizes: BucketSizes, path: &Path, gene_width: GeneWidth, bytes: u64, seed: u64) -> Result<Self> {
        let buckets = bytes.div_ceil(sizes.bucket).clamp(1, sizes.most_buckets);
        let buckets = to_usize(buckets);
        let file = DiskFile::create_new(path)?;
        remove_all(path)?;
        Ok(Self {
            file,
            path: path.to_path_buf(),
            sizes,
            written: 0,
            gene_width,
            random: ChaCha8Rng::seed_from_u64(seed),
            seed,
            most_waiting: (ALL_WAITING_BYTES / buckets).min(MOST_WAITING_BYTES),
            waiting: vec![Vec::new(); buckets],
            positions: vec![BucketPosition::default(); buckets],
        })
    }

    fn take(&mut self, cell: CellIndex, record: &[u8]) -> Result<()> {
        let bucket = self.random.random_range(0..self.waiting.len());
        let waiting = &mut self.waiting[bucket];
        if self.most_waiting < waiting.len() + CELL_BYTES + record.len() {
            self.flush(bucket)?;
        }
        let waiting = &mut self.waiting[bucket];
        if waiting.is_empty() {
            waiting.extend_from_slice(&[0; LINK_BYTES]);
        }
        waiting.extend_from_slice(&cell.0.to_le_bytes());
        waiting.extend_from_slice(record);
        self.positions[bucket].records += 1;
        Ok(())
    }

    fn flush(&mut self, bucket: usize) -> Result<()> {
        let (waiting, position) = (&mut self.waiting[bucket], &mut self.positions[bucket]);
        if waiting.is_empty() {
            return Ok(());
        }
        waiting[..LINK_BYTES].copy_from_slice(&position.last.to_bytes());
        self.file.write_all(waiting).map_err(Error::io("write", self.file.path()))?;
        position.last = FileRange { offset: self.written, bytes: waiting.len() as u64 };
        position.bytes += (waiting.len() - LINK_BYTES) as u64;
        self.written += waiting.len() as u64;
        waiting.clear();
        Ok(())
    }

    fn end(mut self) -> Result<ShuffledBuckets> {
        for bucket in 0..self.waiting.len() {
            self.flush(bucket)?;
        }
        let Self { file, path, sizes, gene_width, seed, positions, .. } = self;
        Ok(ShuffledBuckets { shared: Arc::new(ShuffleFile { file, path, sizes, gene_width, seed }), positions })
    }
}

impl Sink for ExternalShuffle {
    type In = RowBatch;
    type Summary = ShuffledBuckets;

    fn push(&mut self, RowBatch(records): RowBatch) -> Result<ControlFlow<()>, BoxError> {
        for row in 0..records.rows() {
            self.take(records.cell(row), records.bytes_of(row))?;
        }
        Ok(ControlFlow::Continue(()))
    }

    fn finish(self) -> Result<ShuffledBuckets, BoxError> {
        Ok(self.end()?)
    }
}

/// Rows in buckets on disk.
#[derive(Debug)]
pub struct ShuffledBuckets {
    shared: Arc<ShuffleFile>,
    positions: Vec<BucketPosition>,
}

#[derive(Debug)]
struct ShuffleFile {
    file: DiskFile,
    path: PathBuf,
    sizes: BucketSizes,
    gene_width: GeneWidth,
    seed: u64,
}

impl ShuffledBuckets {
    /// The buckets, whose rows in sequence are the permutation; those that are too large are split when they are
    /// reached.
    pub fn buckets(self) -> impl Iterator<Item = Result<ShuffleBucket>> + Send {
        let mut left: Vec<ShuffleBucket> = self.in_order(&Pool::default());
        left.reverse();
        std::iter::from_fn(move || {
            loop {
                let bucket = left.pop()?;
                if !bucket.is_too_large() {
                    return Some(Ok(bucket));
                }
                match bucket.taken_apart() {
                    Ok(parts) => left.extend(parts.into_iter().rev()),
                    Err(error) => {
                        left.clear();
                        return Some(Err(error));
                    }
                }
            }
        })
    }

    fn in_order(self, spare: &Pool<RowRecords>) -> Vec<ShuffleBucket> {
        let Self { shared, positions } = self;
        let bucket =
            |(index, position)| ShuffleBucket { shared: Arc::clone(&shared), index, position, spare: spare.clone() };
        (0..).zip(positions).map(bucket).collect()
    }
}

/// One bucket, on disk.
#[derive(Debug)]
pub struct ShuffleBucket {
    shared: Arc<ShuffleFile>,
    index: u64,
    position: BucketPosition,
    spare: Pool<RowRecords>,
}

impl ByteSize for ShuffleBucket {
    fn byte_size(&self) -> usize {
        size_of::<BucketPosition>()
    }
}

impl ShuffleBucket {
    /// Reads the bucket's rows, in random order.
    ///
    /// # Errors
    /// A disk that can't be read.
    pub fn shuffled(self) -> Result<RowBatch> {
        let mut records: Pooled<RowRecords> = self.spare.take(|| RowRecords::new(self.shared.gene_width));
        let (bytes, spans) = records.parts_mut();
        spans.clear();
        // The previous content is completely overwritten.
        bytes.resize(to_usize(self.position.bytes), 0);
        // The last stretch is found first.
        let mut end = bytes.len();
        self.walk(|stretch| {
            let start = end.checked_sub(stretch.len()).ok_or_else(|| self.changed())?;
            bytes[start..end].copy_from_slice(stretch);
            end = start;
            Ok(())
        })?;
        let mut at = 0;
        while let Some((cell, length)) = self.record(&bytes[at..])? {
            let start = at + CELL_BYTES;
            spans.push(RecordSpan { start, end: start + length, cell });
            at = start + length;
        }
        let mut random = ChaCha8Rng::seed_from_u64(self.shared.seed);
        random.set_stream(1 + self.index);
        spans.shuffle(&mut random);
        Ok(RowBatch(records))
    }

    /// Whether the bucket has to be split; a single row can't be.
    fn is_too_large(&self) -> bool {
        self.position.records > 1 && TOO_LARGE * self.shared.sizes.bucket < self.position.bytes
    }

    /// The same rows in smaller buckets, in a separate file.
    fn taken_apart(self) -> Result<Vec<Self>> {
        let ShuffleFile { path, sizes, gene_width, seed, .. } = &*self.shared;
        // These draws differ from those that brought the rows here, and from those of any other bucket.
        let mut draws = ChaCha8Rng::seed_from_u64(*seed);
        draws.set_stream(u64::MAX - self.index);
        let mut shuffle = ExternalShuffle::with_sizes(*sizes, path, *gene_width, self.position.bytes, draws.random())?;
        self.walk(|stretch| {
            let mut at = 0;
            while let Some((cell, length)) = self.record(&stretch[at..])? {
                let start = at + CELL_BYTES;
                shuffle.take(cell, &stretch[start..start + length])?;
                at = start + length;
            }
            Ok(())
        })?;
        Ok(shuffle.end()?.in_order(&self.spare))
    }

    fn changed(&self) -> Error {
        Error::damaged(self.shared.file.path(), "another program has changed it in the meantime")
    }

    /// Calls `show` with the records of each stretch, starting with the last one.
    fn walk(&self, mut show: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let (file, path) = (self.shared.file.as_file(), self.shared.file.path());
        let mut stretch = self.position.last;
        let mut bytes = Vec::new();
        while stretch.bytes != 0 {
            let length = to_usize(stretch.bytes);
            if self.position.bytes + (LINK_BYTES as u64) < stretch.bytes {
                return Err(self.changed());
            }
            bytes.resize(length, 0);
            file.read_exact_at(&mut bytes, stretch.offset).map_err(Error::io("read", path))?;
            give_back(file, stretch.offset, stretch.bytes);
            let (link, records) = bytes.split_first_chunk::<LINK_BYTES>().ok_or_else(|| self.changed())?;
            show(records)?;
            stretch = FileRange::from_bytes(*link);
        }
        Ok(())
    }

    /// The cell of the first record, and the record's length; `None` at the end.
    fn record(&self, bytes: &[u8]) -> Result<Option<(CellIndex, usize)>> {
        let Some((cell, rest)) = bytes.split_first_chunk::<CELL_BYTES>() else { return Ok(None) };
        let (_, length) = RowRecord::read(rest, self.shared.gene_width).ok_or_else(|| self.changed())?;
        Ok(Some((CellIndex(u64::from_le_bytes(*cell)), length)))
    }
}

/// Returns the disk space of bytes that were read, and their cached pages, for use by what is written
/// meanwhile.
fn give_back(file: &File, offset: u64, length: u64) {
    let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    // A file system that can't do this only uses more space until the file is removed at the end.
    if let Err(error) = fallocate(file, hole, offset, length) {
        tracing::debug!("the room of a bucket is kept until the end: {error}");
    }
}

/// Approximate bytes of the records of this many cells and entries.
#[must_use]
pub fn estimated_bytes(cells: u64, entries: u64, gene_width: GeneWidth) -> u64 {
    cells * (CELL_BYTES + HEADER_BYTES) as u64 + entries * (gene_width.bytes() as u64 + 1)
}

#[cfg(test)]
mod tests {
    use reader::records::RowValues;

    use super::*;

    /// The cells in output order, and the bytes of the largest bucket.
    fn permuted(sizes: BucketSizes, cells: u64, seed: u64) -> (Vec<u64>, u64) {
        let home = tempfile::tempdir().expect("a folder");
        let mut shuffle =
            ExternalShuffle::with_sizes(sizes, &home.path().join("spill.bin"), GeneWidth::U16, u64::MAX, seed)
                .expect("a file");
        let mut records = RowRecords::new(GeneWidth::U16);
        records.push(&[1, 2], &[3.0, 4.0], RowValues::detect(&[3.0, 4.0]));
        for cell in 0..cells {
            shuffle.take(CellIndex(cell), records.bytes_of(0)).expect("it is written");
        }
        let (mut found, mut largest) = (Vec::new(), 0);
        for bucket in shuffle.end().expect("it is written").buckets() {
            let bucket = bucket.expect("a bucket");
            largest = largest.max(bucket.position.bytes);
            let RowBatch(rows) = bucket.shuffled().expect("its rows");
            for row in 0..rows.rows() {
                assert_eq!(rows.bytes_of(row), records.bytes_of(0));
                found.push(rows.cell(row).0);
            }
        }
        (found, largest)
    }

    #[test]
    fn buckets_stay_small_however_many_rows_there_are_and_hold_each_once() {
        let sizes = BucketSizes { bucket: 1000, most_buckets: 3 };
        for cells in [10, 1000, 20_000] {
            let (mut found, largest) = permuted(sizes, cells, 7);
            assert!(largest <= TOO_LARGE * sizes.bucket, "{cells} cells: {largest} bytes");
            assert_eq!(found, permuted(sizes, cells, 7).0, "a seed is a permutation");
            assert_ne!(found, permuted(sizes, cells, 8).0);
            // Among neighbours in the permutation, about as many ascend as descend.
            let ascending = found.windows(2).filter(|pair| pair[0] < pair[1]).count();
            assert!(cells < 1000 || ascending.abs_diff(found.len() / 2) < found.len() / 20, "{ascending}");
            found.sort_unstable();
            assert_eq!(found, (0..cells).collect::<Vec<_>>());
        }
    }
}
