//! Splits on disk: one row per cell, with a checksum of what the rows say.

use std::{
    fs::File,
    path::{Path, PathBuf},
    sync::Arc,
};

use arrow::array::{Array, AsArray, RecordBatch, StringArray};
use schemas::{Error, Result, arrow::splits_schema, atlas::files};
use xxhash_rust::xxh3::Xxh3;

use super::{Split, part_named};
use crate::{
    atlas::Atlas,
    decoded::{self, Batches, Undecodable},
    disk::{StagedFile, create_folders, hex},
    write::ParquetFile,
};

/// The metadata key of a split's checksum.
const CHECKSUM: &str = "perturbine.checksum";

impl Split {
    /// Reads a split of an atlas.
    ///
    /// # Errors
    /// A split that do not exist, or that is not of this atlas.
    pub fn read(atlas: &Atlas, name: &str) -> Result<Self> {
        let path = path_of(atlas, name)?;
        if !path.exists() {
            return Err(Error::unknown("split", name, Self::names(atlas).iter().map(String::as_str)));
        }
        Self::read_file(atlas, name, &path)
    }

    /// Reads a split of an atlas from its own file.
    ///
    /// # Errors
    /// A file that is not a split of this atlas.
    pub fn read_file(atlas: &Atlas, name: &str, path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(Error::io("open", path))?;
        let bad = |what: String| Error::damaged(path, what);
        let not_parquet = |error: Undecodable| bad(error.to_string());
        let builder = decoded::parquet(file).map_err(not_parquet)?;
        let told = builder.metadata().file_metadata().key_value_metadata();
        let told = told.and_then(|told| told.iter().find(|told| told.key == CHECKSUM)?.value.clone());
        let mut parts = Vec::new();
        for batch in Batches::of(builder).map_err(not_parquet)? {
            let batch = batch.map_err(not_parquet)?;
            let column = batch.column_by_name("split").and_then(|column| column.as_string_opt::<i32>());
            for value in column.ok_or_else(|| bad("it has no column `split` of strings".into()))? {
                parts
                    .push(value.and_then(part_named).ok_or_else(|| bad(format!("row {} names no part", parts.len())))?);
            }
        }
        if parts.len() as u64 != atlas.cells() {
            return Err(bad(format!("it has {} rows, but the atlas has {} cells", parts.len(), atlas.cells())));
        }
        let split = Self { name: name.to_owned(), parts };
        // Splits that other programs write have none.
        if told.is_some_and(|told| told != split.checksum()) {
            return Err(bad("its checksum does not match its content".into()));
        }
        Ok(split)
    }

    /// Takes over the splits of another atlas of the same cells, and says which. Those that can be made again of a column of `obs`
    /// are left out where they don't fit.
    ///
    /// # Errors
    /// A split of other cells, or one that can't be read.
    pub fn take_over(from: &Path, to: &Atlas) -> Result<Vec<String>> {
        let mut taken = Vec::new();
        for name in names_in(from) {
            let path = from.join(files::SPLITS).join(format!("{name}.parquet"));
            match Self::read_file(to, &name, &path).and_then(|split| same_cells(to, &path).map(|()| split)) {
                Ok(split) => {
                    split.write(to)?;
                    taken.push(name);
                }
                Err(_) if to.obs(&[&name]).is_ok() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(taken)
    }

    /// Of the part of each cell.
    fn checksum(&self) -> String {
        let mut hash = Xxh3::new();
        self.parts.iter().for_each(|part| hash.update(part.name().as_bytes()));
        hex(hash.digest())
    }

    /// The names of an atlas's splits, sorted.
    #[must_use]
    pub fn names(atlas: &Atlas) -> Vec<String> {
        names_in(atlas.path())
    }

    /// Writes the split into its atlas; an older one of the same name is replaced.
    ///
    /// # Errors
    /// A full or broken disk.
    pub fn write(&self, atlas: &Atlas) -> Result<PathBuf> {
        let path = path_of(atlas, &self.name)?;
        let folder = atlas.path().join(files::SPLITS);
        create_folders(&folder)?;
        self.write_to(atlas, &path)?;
        Ok(path)
    }

    /// Writes the split into its own file; an older one is replaced.
    ///
    /// # Errors
    /// A full or broken disk.
    pub fn write_to(&self, atlas: &Atlas, path: &Path) -> Result<()> {
        let staged = StagedFile::beside(path)?;
        let mut file = ParquetFile::create(staged.path(), splits_schema())?;
        file.tell(CHECKSUM, self.checksum());
        let mut row = 0;
        for batch in atlas.obs(&["cell"])? {
            let batch = batch.map_err(|error| Error::damaged(atlas.path().join(files::CELLS), error.to_string()))?;
            let parts = &self.parts[row..row + batch.num_rows()];
            let parts = StringArray::from_iter_values(parts.iter().map(|part| part.name()));
            // Atlases of older versions may have cells without a name.
            let names = batch.column(0).as_string::<i32>().iter().map(|name| name.unwrap_or_default());
            let names: Arc<dyn Array> = Arc::new(StringArray::from_iter_values(names));
            row += batch.num_rows();
            file.write(
                &RecordBatch::try_new(splits_schema(), vec![names, Arc::new(parts)])
                    .map_err(|error| Error::Bug(error.to_string()))?,
            )?;
        }
        file.finish()?;
        staged.commit()
    }
}

fn names_in(atlas: &Path) -> Vec<String> {
    let Ok(folder) = std::fs::read_dir(atlas.join(files::SPLITS)) else { return Vec::new() };
    let file_names = folder.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<String> = file_names
        .filter_map(|name| name.strip_suffix(".parquet").map(str::to_owned))
        .filter(|name| !name.starts_with('.'))
        .collect();
    names.sort();
    names
}

/// Checks that a split's file names the cells of an atlas, in their order.
fn same_cells(atlas: &Atlas, path: &Path) -> Result<()> {
    let bad = |error: Undecodable| Error::damaged(path, error.to_string());
    let file = File::open(path).map_err(Error::io("open", path))?;
    let theirs = Batches::of(decoded::parquet(file).map_err(bad)?).map_err(bad)?;
    let cells_of = |batch: &RecordBatch| {
        let column = batch.column_by_name("cell").and_then(|column| column.as_string_opt::<i32>());
        let names =
            column.map(|column| column.iter().map(|name| name.unwrap_or_default().to_owned()).collect::<Vec<_>>());
        names.ok_or_else(|| Error::damaged(path, "it has no column `cell` of strings"))
    };
    let mut theirs_left: std::collections::VecDeque<String> = std::collections::VecDeque::new();
    let mut theirs = theirs.map(|batch| cells_of(&batch.map_err(bad)?));
    for batch in atlas.obs(&["cell"])? {
        let batch = batch.map_err(|error| Error::damaged(atlas.path().join(files::CELLS), error.to_string()))?;
        for ours in cells_of(&batch)? {
            while theirs_left.is_empty() {
                match theirs.next() {
                    Some(names) => theirs_left.extend(names?),
                    None => break,
                }
            }
            if theirs_left.pop_front().as_ref() != Some(&ours) {
                return Err(Error::data(path.display().to_string(), "it is a split of different cells", ""));
            }
        }
    }
    Ok(())
}

fn path_of(atlas: &Atlas, name: &str) -> Result<PathBuf> {
    if name.is_empty() || name.starts_with('.') || name.contains(['/', '\\']) {
        return Err(Error::usage(format!("`{name}` is not a valid split name"), "use letters, digits, - and _"));
    }
    Ok(atlas.path().join(files::SPLITS).join(format!("{name}.parquet")))
}
