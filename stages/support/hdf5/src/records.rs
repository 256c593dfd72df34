//! Tables of compound records, read as raw bytes: their members are known only once a file is open, but
//! libhdf5 would have to know them at compile time.

use std::{fs::File, ops::Range, os::unix::fs::FileExt, sync::Arc};

use arrays::{chunks::Chunks, place::ObjectPlace};
use hdf5_metno::{
    Dataset,
    dataset::Layout,
    types::{CompoundType, TypeDescriptor},
};
use schemas::{Result, numbers::to_usize};

use super::{
    GlobalHeap,
    numbers::{chunk_grid, file_of},
};

/// libhdf5 describes records as they are in memory, where a variable-length string is a pointer of this size;
/// in the file it is a length and a place in the heap.
const POINTER_BYTES: usize = 8;

/// Bytes that are read at once.
const READ_BYTES: u64 = 128 << 10;

/// A table of records.
#[derive(Debug)]
pub struct CompoundTable {
    place: ObjectPlace,
    file: Arc<File>,
    rows: u64,
    record_bytes: usize,
    members: Vec<RecordMember>,
    storage: RecordStorage,
}

/// A member of each record.
#[derive(Clone, Debug)]
pub struct RecordMember {
    /// Its name.
    pub name: String,
    /// Its type, in libhdf5's terms.
    pub kind: TypeDescriptor,
    /// Its first byte in the record, as stored in the file.
    pub offset: usize,
}

#[derive(Debug)]
enum RecordStorage {
    Contiguous { offset: u64 },
    Chunked(Box<Chunks>),
}

impl CompoundTable {
    /// Opens a dataset of one dimension with a compound type.
    ///
    /// # Errors
    /// Any other dataset, or one with filters that are not supported here.
    pub fn open(dataset: &Dataset, place: ObjectPlace) -> Result<Self> {
        let Some(file) = file_of(dataset, &place) else {
            return Err(place.error("is in another file", "give that file, or copy the table into this one"));
        };
        let descriptor = dataset.dtype().and_then(|dtype| dtype.to_descriptor());
        let descriptor = descriptor.map_err(|error| place.unreadable(error))?;
        let (TypeDescriptor::Compound(compound), &[rows]) = (descriptor, dataset.shape().as_slice()) else {
            return Err(place.error("is not a table of records", "check how the file was written"));
        };
        let (members, record_bytes) = in_the_file(compound);
        let rows = rows as u64;
        let storage = match dataset.layout() {
            Layout::Contiguous => {
                let length = file.metadata().map_err(schemas::Error::io("read", dataset.filename()))?.len();
                let bytes = rows.checked_mul(record_bytes as u64);
                let lies_within = |offset: &u64| bytes.and_then(|bytes| offset.checked_add(bytes)) <= Some(length);
                // A dataset that was never written has a smaller storage size.
                let offset = dataset.offset().filter(|_| Some(dataset.storage_size()) == bytes);
                offset.filter(lies_within).map(|offset| RecordStorage::Contiguous { offset })
            }
            Layout::Chunked => chunk_grid(dataset, rows, 1)
                .and_then(|grid| Chunks::new(grid, 1, record_bytes))
                .map(|chunks| RecordStorage::Chunked(Box::new(chunks))),
            _ => None,
        };
        let Some(storage) = storage else {
            let hint =
                "open the file with a newer anndata and write it again: `anndata.read_h5ad(...).write_h5ad(...)`";
            return Err(place.error("is a table of records with an unsupported layout", hint));
        };
        Ok(Self { place, file, rows, record_bytes, members, storage })
    }

    /// Number of records.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// The fields of each record, in order.
    pub fn members(&self) -> &[RecordMember] {
        &self.members
    }

    /// The heap that holds the variable-length strings.
    pub fn heap(&self) -> GlobalHeap<'_> {
        GlobalHeap::new(&self.file, &self.place)
    }

    /// Calls `show` with the bytes of each of some records, from `member` on.
    ///
    /// # Errors
    /// Records that do not exist, a file that is damaged or cut short, and errors of `show`.
    pub fn for_each(
        &self,
        rows: Range<u64>,
        member: &RecordMember,
        mut show: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        if self.rows < rows.end {
            let message = format!("record {} was requested, of {}", rows.end, self.rows);
            return Err(self.place.error(message, "the file may be cut short; write it again"));
        }
        let (mut row, mut read) = (rows.start, Vec::new());
        while row < rows.end {
            let chunk;
            let (count, bytes) = match &self.storage {
                RecordStorage::Contiguous { offset } => {
                    let count = (READ_BYTES / self.record_bytes as u64).clamp(1, rows.end - row);
                    read.resize(to_usize(count) * self.record_bytes, 0);
                    let at = offset + row * self.record_bytes as u64;
                    self.file.read_exact_at(&mut read, at).map_err(|error| {
                        let hint = "the file may be cut short; restore it from a copy, or write it again";
                        self.place.error(format!("can't be read at byte {at} ({error})"), hint)
                    })?;
                    (count, read.as_slice())
                }
                RecordStorage::Chunked(chunks) => {
                    let first = row % chunks.rows;
                    let count = (rows.end - row).min(chunks.rows - first);
                    chunk = chunks.get(row / chunks.rows, &self.file, &self.place)?;
                    let (start, end) = (to_usize(first), to_usize(first + count));
                    (count, &chunk.bytes()[start * self.record_bytes..end * self.record_bytes])
                }
            };
            for record in bytes.chunks_exact(self.record_bytes) {
                show(record.get(member.offset..).unwrap_or_default())?;
            }
            row += count;
        }
        Ok(())
    }
}

/// The members of a record and the record's length, as stored in the file.
fn in_the_file(compound: CompoundType) -> (Vec<RecordMember>, usize) {
    let mut fields = compound.fields;
    fields.sort_by_key(|field| field.offset);
    let mut longer = 0;
    let members = fields.into_iter().map(|field| {
        let member = RecordMember { name: field.name, offset: field.offset + longer, kind: field.ty };
        if matches!(member.kind, TypeDescriptor::VarLenAscii | TypeDescriptor::VarLenUnicode) {
            longer += GlobalHeap::REFERENCE_BYTES - POINTER_BYTES;
        }
        member
    });
    let members = members.collect();
    (members, compound.size + longer)
}
