//! The source cells of a shuffled matrix's rows.

use std::path::Path;

use schemas::{
    Error, Result,
    atlas::{Manifest, RowOrder, files},
    numbers::to_usize,
};
use storage::mmap;

use super::manifest::{check_file, check_records};

/// The mapping between rows and cells, in both directions.
#[derive(Debug)]
pub(super) struct Shuffled {
    rows: mmap::MappedFile,
    order: mmap::MappedFile,
}

impl Shuffled {
    /// Opens both files if rows were shuffled according to the manifest.
    ///
    /// # Errors
    /// Damaged files, or files that exist although rows were not shuffled.
    pub(super) fn open_if_shuffled(path: &Path, manifest: &Manifest) -> Result<Option<Self>> {
        match (manifest.order, manifest.files.contains_key(files::ROWS)) {
            (RowOrder::Shuffled, _) => Self::open(path, manifest).map(Some),
            (RowOrder::Source, false) => Ok(None),
            (RowOrder::Source, true) => {
                let what = format!("it says that rows are in source order, but lists {}", files::ROWS);
                Err(Error::damaged(path.join(files::MANIFEST), what))
            }
        }
    }

    /// Opens both files, and checks that they belong together.
    fn open(path: &Path, manifest: &Manifest) -> Result<Self> {
        for name in [files::ROWS, files::ORDER] {
            check_file(path, name, manifest)?;
            check_records(path, manifest, name, 8, manifest.cells)?;
        }
        let shuffled = Self { rows: mmap::map(&path.join(files::ROWS))?, order: mmap::map(&path.join(files::ORDER))? };
        shuffled.check(path)?;
        Ok(shuffled)
    }

    pub(super) fn check_maps(&self) -> Result<()> {
        self.rows.check()?;
        self.order.check()
    }

    /// The row of every cell.
    pub(super) fn rows(&self) -> &[u64] {
        bytemuck::cast_slice(&self.rows)
    }

    /// The cell of every row.
    pub(super) fn order(&self) -> &[u64] {
        bytemuck::cast_slice(&self.order)
    }

    /// Checks what readers rely on: that each of the two is the inverse of the other.
    fn check(&self, path: &Path) -> Result<()> {
        let (rows, order) = (self.rows(), self.order());
        let inverse = |(row, cell): (u64, &u64)| rows.get(to_usize(*cell)).is_some_and(|back| *back == row);
        match (0..).zip(order).all(inverse) {
            true => Ok(()),
            false => Err(Error::damaged(path.join(files::ORDER), "it is not the inverse of rows.bin")),
        }
    }
}
