//! The rows of an uncompressed `.h5ad`, read through a memory map.

use std::{
    fs::{File, Metadata},
    ops::Range,
    os::unix::fs::MetadataExt,
    path::Path,
    sync::{Mutex, PoisonError},
};

use packed_rows::InvalidRow;
use schemas::{
    Error, Result,
    atlas::{BlockEntry, GeneWidth, InPlaceForm, InPlaceMatrix, StoredArray, StoredChunk, StoredNumber, ValueWidth},
    numbers::to_usize,
};
use storage::mmap::{self, MappedFile};
use xxhash_rust::xxh3::xxh3_64;

use crate::row::{InPlaceRow, RowBuffer, StoredRow};

/// The rows of a CSR matrix in another file.
#[derive(Debug)]
pub(crate) struct MappedRows {
    map: MappedFile,
    file: File,
    /// The state of the file for which its blocks were checked.
    stamp: Mutex<ChangeStamp>,
    row_pointers: MappedVector,
    indices: MappedVector,
    data: MappedVector,
    genes: u32,
}

/// A vector in a file, in pieces of equal length.
#[derive(Debug)]
struct MappedVector {
    /// Where each piece starts.
    starts: Vec<usize>,
    /// Numbers in a piece.
    piece: u64,
    count: u64,
    number: StoredNumber,
}

/// Differs once a file was written to. Its second time moves with every change, and can't be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ChangeStamp {
    bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl ChangeStamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            bytes: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

impl MappedVector {
    /// The vector, if its pieces are not compressed and lie in the first `length` bytes of its file.
    fn of(array: &StoredArray, chunks: &[StoredChunk], length: usize) -> Option<Self> {
        let first = to_usize(array.first_chunk);
        let chunks = chunks.get(first..first.checked_add(to_usize(array.chunks()?))?)?;
        let bytes = array.chunk_rows.min(array.rows).checked_mul(array.number.bytes() as u64)?;
        let is_inside = |chunk: &StoredChunk| {
            bytes <= chunk.bytes && chunk.address.checked_add(bytes).is_some_and(|end| end <= length as u64)
        };
        let fits = array.is_plain() && array.columns == 1 && array.chunk_rows > 0 && chunks.iter().all(is_inside);
        let starts = chunks.iter().map(|chunk| to_usize(chunk.address)).collect();
        fits.then_some(Self { starts, piece: array.chunk_rows, count: array.rows, number: array.number })
    }

    /// Where some of its numbers are, piece by piece.
    fn places(&self, numbers: Range<u64>) -> impl Iterator<Item = Range<usize>> {
        let mut next = numbers.start;
        std::iter::from_fn(move || {
            let (piece, before) = (next / self.piece, next % self.piece);
            let count = (numbers.end.checked_sub(next)?).min(self.piece - before);
            next += count;
            let start = self.starts.get(to_usize(piece))? + to_usize(before) * self.number.bytes();
            (count > 0).then(|| start..start + to_usize(count) * self.number.bytes())
        })
    }

    /// Some of its numbers, in two pieces at most.
    fn two_pieces<'a>(&self, numbers: Range<u64>, map: &'a [u8]) -> Option<[&'a [u8]; 2]> {
        let mut places = self.places(numbers);
        let mut next = || places.next().map_or(&[][..], |place| &map[place]);
        let both = [next(), next()];
        places.next().is_none().then_some(both)
    }
}

impl MappedRows {
    /// Maps the rows that an atlas describes; `None` unless they are sparse and uncompressed, with numbers of 32 or 64
    /// bits.
    ///
    /// # Errors
    /// A file that can't be mapped.
    pub(super) fn open(
        path: &Path,
        file: File,
        described: &InPlaceMatrix,
        chunks: &[StoredChunk],
        genes: u32,
    ) -> Result<Option<Self>> {
        let InPlaceForm::Csr { row_pointers, indices, data } = &described.form else { return Ok(None) };
        let map = mmap::map_file(&file, path)?;
        let is_index = |array: &StoredArray| {
            use StoredNumber::{I32, I64, U32, U64};
            matches!(array.number, I32 | I64 | U32 | U64)
        };
        if !is_index(row_pointers) || !is_index(indices) || !(is_index(data) || is_float(data.number)) {
            return Ok(None);
        }
        let vectors = [row_pointers, indices, data].map(|array| MappedVector::of(array, chunks, map.len()));
        let [Some(row_pointers), Some(indices), Some(data)] = vectors else { return Ok(None) };
        let stamp = Mutex::new(ChangeStamp::of(&file.metadata().map_err(Error::io("read", path))?));
        Ok(Some(Self { map, file, stamp, row_pointers, indices, data, genes }))
    }

    /// Checks that all that was read was there. If somebody may have written to the file since it was last checked,
    /// `are_as_ever` looks at what was checked before.
    ///
    /// # Errors
    /// A file that was cut short, or can't be read.
    pub(super) fn are_unchanged(&self, are_as_ever: impl FnOnce() -> bool) -> Result<bool> {
        self.map.check()?;
        let Ok(metadata) = self.file.metadata() else { return Ok(false) };
        let found = ChangeStamp::of(&metadata);
        let mut stamp = self.stamp.lock().unwrap_or_else(PoisonError::into_inner);
        if found == *stamp {
            return Ok(true);
        }
        let is_the_same = are_as_ever();
        if is_the_same {
            *stamp = found;
        }
        Ok(is_the_same)
    }

    /// Advises the kernel that these rows will be read.
    pub(super) fn will_need(&self, rows: Range<u64>) -> std::io::Result<()> {
        let bound = |row: u64| self.pointer(row).min(self.indices.count);
        let entries = bound(rows.start)..bound(rows.end);
        if entries.is_empty() {
            return Ok(());
        }
        for vector in [&self.indices, &self.data] {
            for place in vector.places(entries.clone()) {
                self.map.will_need(place.start, place.len())?;
            }
        }
        Ok(())
    }

    /// The bytes that say where a row is.
    pub(crate) fn position_of(&self, row: u64) -> &[u8] {
        self.row_pointers.places(row..row + 1).next().map_or(&[], |place| &self.map[place])
    }

    /// A row, whose values are stored in blocks of this width.
    pub(crate) fn row(&self, row: u64, value_width: ValueWidth) -> Result<StoredRow<'_>, InvalidRow> {
        let entries = self.pointer(row)..self.pointer(row + 1);
        let fits = entries.start <= entries.end
            && entries.end <= self.indices.count.min(self.data.count)
            && entries.end - entries.start <= self.genes.into();
        if !fits {
            return Err(InvalidRow);
        }
        Ok(StoredRow::InPlace(InPlaceRow {
            indices: self.indices.two_pieces(entries.clone(), &self.map).ok_or(InvalidRow)?,
            has_wide_indices: self.indices.number.bytes() == 8,
            data: self.data.two_pieces(entries, &self.map).ok_or(InvalidRow)?,
            number: self.data.number,
            genes: self.genes,
            value_width,
        }))
    }

    /// Whether these rows, read one by one, are the raw block that the entry describes. Rows that are not in order, hold zeros or
    /// are in more than two pieces are not.
    pub(super) fn are_block(&self, first: u64, entry: &BlockEntry) -> bool {
        let gene_width = GeneWidth::for_genes(self.genes);
        let layout = entry.layout(gene_width);
        let mut words = vec![0_u64; layout.bytes / 8];
        let block: &mut [u8] = bytemuck::cast_slice_mut(&mut words);
        let (mut genes_at, mut values_at, mut entries) = (layout.genes, layout.values, 0_u32);
        let mut buffer = RowBuffer::default();
        for row in 0..usize::from(entry.rows) {
            let stored = self.row(first + row as u64, entry.value_width);
            let Ok((genes, values)) = stored.and_then(|stored| stored.decoded(&mut buffer)) else { return false };
            let (ids, numbers) = (genes.bytes(), values.bytes());
            let Some(ids_out) = block.get_mut(genes_at..genes_at + ids.len()) else { return false };
            ids_out.copy_from_slice(ids);
            let Some(numbers_out) = block.get_mut(values_at..values_at + numbers.len()) else { return false };
            numbers_out.copy_from_slice(numbers);
            (genes_at, values_at) = (genes_at + ids.len(), values_at + numbers.len());
            let Some(end) = u32::try_from(genes.count()).ok().and_then(|count| entries.checked_add(count)) else {
                return false;
            };
            entries = end;
            block[4 * (row + 1)..4 * (row + 2)].copy_from_slice(&entries.to_le_bytes());
        }
        xxh3_64(bytemuck::cast_slice(&words)) == entry.checksum
    }

    /// Where a row starts among the entries.
    fn pointer(&self, row: u64) -> u64 {
        match *self.position_of(row) {
            [a, b, c, d] => u32::from_le_bytes([a, b, c, d]).into(),
            [a, b, c, d, e, f, g, h] => u64::from_le_bytes([a, b, c, d, e, f, g, h]),
            _ => u64::MAX,
        }
    }
}

fn is_float(number: StoredNumber) -> bool {
    matches!(number, StoredNumber::F32 | StoredNumber::F64)
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::disallowed_methods,
        reason = "a test writes files, and fails where it panics"
    )]

    use proptest::prelude::*;
    use schemas::atlas::{BlockLayout, Codec};
    use storage::disk::ScratchFolder;

    use super::*;
    use crate::row::{GeneSlice, ValueSlice};

    const GENES: u32 = 300;

    /// Appends a vector to a file, in pieces of `piece` numbers with something between them.
    fn write(
        file: &mut Vec<u8>,
        chunks: &mut Vec<StoredChunk>,
        piece: usize,
        number: StoredNumber,
        values: &[u32],
    ) -> StoredArray {
        let first_chunk = chunks.len() as u64;
        for part in values.chunks(piece) {
            file.extend_from_slice(b"between");
            let address = file.len() as u64;
            for value in part {
                match number {
                    StoredNumber::F32 => file.extend(f32::to_le_bytes(u16::try_from(*value).unwrap().into())),
                    StoredNumber::F64 => file.extend(f64::from(*value).to_le_bytes()),
                    StoredNumber::I32 => file.extend(value.to_le_bytes()),
                    _ => file.extend(u64::from(*value).to_le_bytes()),
                }
            }
            file.resize(usize::try_from(address).unwrap() + piece * number.bytes(), 0);
            chunks.push(StoredChunk { address, bytes: file.len() as u64 - address, left_out: 0 });
        }
        let (rows, chunk_rows) = (values.len() as u64, piece as u64);
        StoredArray { rows, columns: 1, number, chunk_rows, chunk_columns: 1, filters: Vec::new(), first_chunk }
    }

    fn opened(
        rows: &[Vec<(u32, u32)>],
        piece: usize,
        index: StoredNumber,
        number: StoredNumber,
    ) -> (ScratchFolder, MappedRows) {
        let (mut file, mut chunks, mut pointers) = (Vec::new(), Vec::new(), vec![0]);
        for row in rows {
            pointers.push(pointers.last().unwrap() + u32::try_from(row.len()).unwrap());
        }
        let ids: Vec<u32> = rows.iter().flatten().map(|(gene, _)| *gene).collect();
        let values: Vec<u32> = rows.iter().flatten().map(|(_, value)| *value).collect();
        let form = InPlaceForm::Csr {
            row_pointers: write(&mut file, &mut chunks, piece, index, &pointers),
            indices: write(&mut file, &mut chunks, piece, index, &ids),
            data: write(&mut file, &mut chunks, piece, number, &values),
        };
        let folder = ScratchFolder::create().unwrap();
        let path = folder.path().join("x");
        std::fs::write(&path, &file).unwrap();
        let described = InPlaceMatrix { path: path.clone(), bytes: file.len() as u64, object: "X".into(), form };
        let mapped = MappedRows::open(&path, File::open(&path).unwrap(), &described, &chunks, GENES).unwrap();
        (folder, mapped.unwrap())
    }

    /// The entry of the raw block of these rows.
    fn entry_of(rows: &[Vec<(u32, u32)>]) -> BlockEntry {
        let largest = rows.iter().flatten().map(|(_, value)| *value).max().unwrap_or(0);
        let value_width = if largest <= 255 { ValueWidth::U8 } else { ValueWidth::U16 };
        let entries = rows.iter().map(Vec::len).sum();
        let layout = BlockLayout::new(rows.len(), entries, GeneWidth::U16, value_width);
        let mut block = vec![0_u8; layout.bytes];
        let mut at = 0;
        for (row, entries) in rows.iter().enumerate() {
            for (gene, value) in entries {
                block[layout.genes + 2 * at..][..2].copy_from_slice(&gene.to_le_bytes()[..2]);
                let bytes = value_width.bytes();
                block[layout.values + bytes * at..][..bytes].copy_from_slice(&value.to_le_bytes()[..bytes]);
                at += 1;
            }
            block[4 * (row + 1)..][..4].copy_from_slice(&u32::try_from(at).unwrap().to_le_bytes());
        }
        BlockEntry {
            offset: 0,
            bytes: 0,
            checksum: xxh3_64(&block),
            entries: u32::try_from(entries).unwrap(),
            rows: u16::try_from(rows.len()).unwrap(),
            value_width,
            codec: Codec::InPlace,
        }
    }

    fn number() -> impl Strategy<Value = (StoredNumber, StoredNumber)> {
        use StoredNumber::{F32, F64, I32, I64};
        (prop::sample::select(&[I32, I64][..]), prop::sample::select(&[F32, F64, I32, I64][..]))
    }

    proptest! {
        #[test]
        fn rows_read_from_a_map_are_those_of_their_block(
            rows in prop::collection::vec(prop::collection::btree_map(0..GENES, 1_u32..400, 0..40), 1..20),
            piece in 40_usize..200,
            (index, number) in number(),
        ) {
            let rows: Vec<Vec<(u32, u32)>> = rows.into_iter().map(|row| row.into_iter().collect()).collect();
            let (_folder, mapped) = opened(&rows, piece, index, number);
            let entry = entry_of(&rows);
            prop_assert!(mapped.are_block(0, &entry));
            let mut buffer = RowBuffer::default();
            for (row, expected) in (0..).zip(&rows) {
                let stored = mapped.row(row, entry.value_width).unwrap();
                prop_assert_eq!(stored.entries(), expected.len());
                let (genes, values) = stored.decoded(&mut buffer).unwrap();
                let GeneSlice::U16(genes) = genes else { panic!("few genes") };
                prop_assert!(genes.iter().copied().map(u32::from).eq(expected.iter().map(|(gene, _)| *gene)));
                let values: Vec<u32> = match values {
                    ValueSlice::U8(values) => values.iter().copied().map(u32::from).collect(),
                    ValueSlice::U16(values) => values.iter().copied().map(u32::from).collect(),
                    _ => panic!("small counts"),
                };
                prop_assert!(values.iter().eq(expected.iter().map(|(_, value)| value)));
            }
            // Other rows than those of the block, and rows that are not in order.
            let mut others = rows.clone();
            for row in &mut others {
                row.reverse();
            }
            if others != rows {
                let (_folder, mapped) = opened(&others, piece, index, number);
                prop_assert!(!mapped.are_block(0, &entry));
            }
        }
    }

    #[test]
    fn a_row_in_three_pieces_or_of_other_genes_is_refused() {
        let (_folder, mapped) =
            opened(&[(0..9).map(|gene| (gene, 1)).collect()], 4, StoredNumber::I32, StoredNumber::F32);
        assert!(mapped.row(0, ValueWidth::U8).is_err());
        let (_folder, mapped) = opened(&[vec![(GENES, 1)]], 4, StoredNumber::I64, StoredNumber::F32);
        assert!(mapped.row(0, ValueWidth::U8).unwrap().decoded(&mut RowBuffer::default()).is_err());
    }

    #[test]
    fn a_file_that_was_written_to_is_looked_at_again() {
        let (folder, mapped) = opened(&[vec![(7, 1)]], 4, StoredNumber::I32, StoredNumber::F32);
        assert!(mapped.are_unchanged(|| panic!("nothing has happened")).unwrap());
        let path = folder.path().join("x");
        let bytes = std::fs::read(&path).unwrap();
        std::fs::File::options().append(true).open(&path).unwrap().set_len(bytes.len() as u64 + 1).unwrap();
        assert!(!mapped.are_unchanged(|| false).unwrap());
        assert!(mapped.are_unchanged(|| true).unwrap());
        assert!(mapped.are_unchanged(|| panic!("it was just looked at")).unwrap());
    }
}
