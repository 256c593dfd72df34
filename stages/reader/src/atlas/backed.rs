//! A matrix that stays in its `.h5ad`: it is read by rows without libhdf5, and laid out as the blocks that an
//! atlas would otherwise store.

use std::{
    fs::File,
    ops::Range,
    path::{Path, PathBuf},
};

use arrays::{
    place::ObjectPlace,
    rows::{RowMatrix, has_changed},
};
use schemas::{
    Error, Result,
    atlas::{BlockEntry, GeneWidth, InPlaceMatrix, Manifest, StoredChunk},
    chunk::CsrRows,
};
use stage::pool::Pool;

use super::{Access, mapped_rows::MappedRows};
use crate::{
    records::{RowRecords, RowValues},
    row_layout::write_rows,
};

/// The rows of an atlas's matrix in its original file.
#[derive(Debug)]
pub(crate) struct RowsInPlace {
    matrix: RowMatrix,
    /// The same, if its rows can be read from a map.
    mapped: Option<MappedRows>,
    place: ObjectPlace,
    spare: Pool<(CsrRows, RowRecords)>,
    gene_width: GeneWidth,
}

impl RowsInPlace {
    /// Opens the file named in the manifest of the atlas in `folder`.
    ///
    /// # Errors
    /// A file that does not exist, or is not the one that was ingested.
    pub(super) fn open(
        folder: &Path,
        manifest: &Manifest,
        described: &InPlaceMatrix,
        chunks: &[StoredChunk],
        access: Access,
    ) -> Result<Self> {
        // The path is relative to the atlas's parent folder, whatever the current folder is: `.` and links have
        // another parent. Joining an absolute path ignores the folder.
        let real = std::fs::canonicalize(folder).map_err(Error::io("find", folder))?;
        let parents = [folder.parent(), real.parent()].into_iter().flatten();
        let paths: Vec<PathBuf> = parents.map(|parent| parent.join(&described.path)).collect();
        let path = paths.iter().rev().find(|path| path.is_file()).or(paths.first()).cloned().unwrap_or_default();
        // Opening a pipe would block.
        if !path.is_file() {
            let kind = "file, from which the atlas reads its matrix: put it back, or ingest without --in-place";
            return Err(Error::Missing { path, kind });
        }
        let file = File::open(&path).map_err(Error::io("open", &path))?;
        let mapped = match access {
            Access::Map => {
                let again = file.try_clone().map_err(Error::io("open", &path))?;
                MappedRows::open(&path, again, described, chunks, manifest.genes)?
            }
            Access::Read => None,
        };
        let (matrix, place) =
            RowMatrix::open_in_place(&path, file, described, chunks, (manifest.cells, manifest.genes))?;
        Ok(Self { matrix, mapped, place, spare: Pool::default(), gene_width: manifest.gene_width })
    }

    /// The bytes of a block, as words: these rows, laid out as described by the block's entry.
    ///
    /// # Errors
    /// A file that can't be read, or has changed.
    pub(super) fn block(&self, rows: Range<u64>, entry: &BlockEntry) -> Result<Vec<u64>> {
        let mut spare = self.spare.take(|| (CsrRows::default(), RowRecords::new(self.gene_width)));
        let (read, records) = &mut *spare;
        *read = self.matrix.read(rows, std::mem::take(read))?;
        records.clear();
        for row in 0..read.rows() {
            let (genes, values) = read.row(row);
            records.push(genes, values, RowValues::detect(values));
        }
        let laid: Vec<_> = (0..records.rows()).map(|row| records.record(row)).collect();
        let width = laid.iter().map(|record| record.width).max();
        let entries: usize = laid.iter().map(|record| record.entries).sum();
        if width.is_some_and(|width| width != entry.value_width) || entries != entry.entries as usize {
            return Err(has_changed(&self.place));
        }
        let layout = entry.layout(self.gene_width);
        let mut words = vec![0_u64; layout.bytes / 8];
        write_rows(&laid, &layout, entry.value_width, bytemuck::cast_slice_mut(&mut words))
            .map_err(|error| self.place.error(error.to_string(), "ingest it again"))?;
        Ok(words)
    }

    /// The rows in the memory map, if they can be read there.
    pub(super) fn mapped(&self) -> Option<&MappedRows> {
        self.mapped.as_ref()
    }

    /// The error for a file that has changed.
    pub(super) fn changed(&self) -> Error {
        has_changed(&self.place)
    }
}
