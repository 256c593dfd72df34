//! Splits on disk: one row per cell, with a checksum of the file in its metadata.

use std::{
    collections::{BTreeMap, VecDeque},
    fs::File,
    path::{Path, PathBuf},
    sync::Arc,
};

use arrow::array::{Array, AsArray, BooleanArray, RecordBatch, StringArray};
use schemas::{Error, Result, arrow::splits_schema, atlas::files};
use storage::{
    disk::{StagedFile, create_folders, hex, remove_all},
    parquet_checksum,
    parquet_file::ParquetFile,
    parquet_read::{self, Batches, Undecodable},
};
use xxhash_rust::xxh3::Xxh3;

use super::{
    Split, SplitPart,
    label_hashes::{changed_label, label_hashes},
    list::{SplitList, names_in},
    part_named,
};
use crate::atlas::Atlas;

/// The metadata key of the checksum of the rows, which older versions wrote.
const CHECKSUM: &str = "perturbine.checksum";
/// The metadata key of the checksum of the atlas whose cells it names.
const ATLAS: &str = "perturbine.atlas";
/// The metadata key of the column of `obs` from which it was imported.
const COLUMN: &str = "perturbine.column";
/// The key of the hashes of the labels that the cells had when it was made.
const LABELS: &str = "perturbine.labels";

impl Split {
    /// Reads a split of an atlas.
    ///
    /// # Errors
    /// A split that does not exist, or that belongs to another atlas.
    pub fn read(atlas: &Atlas, name: &str) -> Result<Self> {
        let path = path_of(atlas, name)?;
        if !path.exists() {
            return Err(Error::unknown("split", name, Self::names(atlas).iter().map(String::as_str)));
        }
        Self::read_file(atlas, name, &path)
    }

    /// Reads a split of an atlas from a separate file.
    ///
    /// # Errors
    /// A file that is not a split of this atlas's cells, in their order.
    pub fn read_file(atlas: &Atlas, name: &str, path: &Path) -> Result<Self> {
        let (split, of_atlas) = Self::read_checked(name, path)?;
        let (rows, cells) = (split.parts.len() as u64, atlas.cells());
        if rows != cells {
            let message = format!("it has {rows} rows, but {} has {cells} cells", atlas.path().display());
            let hint = "the split was made for other cells: make one for this atlas with `perturbine split`";
            return Err(Error::data(path.display().to_string(), message, hint));
        }
        if of_atlas.as_ref() != Some(&atlas.manifest().checksum) {
            check_cells(atlas, path)?;
        }
        Ok(split)
    }

    /// Checks that a split's file can be read and, if it has a checksum, that it is as it was written, whatever its atlas.
    ///
    /// # Errors
    /// A file that is not a split, or that is damaged.
    pub fn check_file(path: &Path) -> Result<()> {
        Self::read_checked("", path).map(drop)
    }

    /// A split as its file has it, and the checksum of the atlas for which it was written.
    fn read_checked(name: &str, path: &Path) -> Result<(Self, Option<String>)> {
        let bad = |what: String| Error::damaged(path, what);
        let has_checksum = parquet_checksum::check(path)?;
        let not_parquet = |error: Undecodable| bad(error.to_string());
        let SplitMetadata { checksum, atlas: of_atlas, column, .. } = SplitMetadata::read(path)?;
        // Splits of older versions have a checksum of their rows, those of other programs none.
        if !has_checksum && of_atlas.is_some() && checksum.is_none() {
            return Err(bad("it has lost its checksum".into()));
        }
        let file = File::open(path).map_err(Error::io("open", path))?;
        let builder = parquet_read::parquet(file).map_err(not_parquet)?;
        let (mut parts, mut names) = (Vec::new(), Xxh3::new());
        for batch in Batches::new(builder).map_err(not_parquet)? {
            let batch = batch.map_err(not_parquet)?;
            if of_atlas.is_some() {
                names_of(&batch, path)?.for_each(|name| add_name(&mut names, name));
            }
            let column = batch.column_by_name("split").and_then(|column| column.as_string_opt::<i32>());
            let column = column.ok_or_else(|| bad("it has no column `split` of strings".into()))?;
            // Splits of older versions and of other programs have no reference controls.
            let reference = batch.column_by_name("reference").map(|column| {
                column
                    .as_boolean_opt()
                    .ok_or_else(|| bad(format!("its column `reference` is of {}, not of booleans", column.data_type())))
            });
            let reference = reference.transpose()?;
            for (row, value) in column.iter().enumerate() {
                let part =
                    value.and_then(part_named).ok_or_else(|| bad(format!("row {} names no part", parts.len())))?;
                let is_reference = reference.is_some_and(|flags| flags.is_valid(row) && flags.value(row));
                parts.push(if is_reference { SplitPart::Reference } else { part });
            }
        }
        let split = Self { name: name.to_owned(), parts, column };
        if checksum.is_some_and(|checksum| {
            checksum != split.checksum(of_atlas.as_deref().map(|atlas| (atlas, names.digest())))
        }) {
            return Err(bad("its checksum does not match its content".into()));
        }
        Ok((split, of_atlas))
    }

    /// The checksum of the atlas for which a split's file was written; `None` for files of other programs.
    ///
    /// # Errors
    /// A file that can't be read.
    pub fn atlas_of(path: &Path) -> Result<Option<String>> {
        Ok(SplitMetadata::read(path)?.atlas)
    }

    /// Takes over the splits of another atlas of the same data, and returns their names. Those that were imported from a column of `obs`
    /// are imported again.
    ///
    /// # Errors
    /// A split of other cells, or of cells whose labels have changed since it was made, or one that can't be read.
    pub fn take_over(from: &Path, to: &Atlas) -> Result<Vec<String>> {
        let (mut taken, labels) = (Vec::new(), label_hashes(to));
        for name in names_in(from) {
            let path = from.join(files::SPLITS).join(format!("{name}.parquet"));
            let metadata = SplitMetadata::read(&path)?;
            let split = match metadata.column.filter(|column| to.obs(&[column]).is_ok()) {
                Some(column) => Self::from_obs(to, to.path(), &name, &column)?.0,
                None if cells_are_numbered(to)? => {
                    let message =
                        "the cells are numbered, so their names do not show whether they are in the same order";
                    return Err(Error::data(path.display().to_string(), message, "give the cells names in the source"));
                }
                None => {
                    let split = Self::read_file(to, &name, &path)?;
                    if let Some(label) = changed_label(&metadata.labels, &labels) {
                        let message = format!("some cells have another `{label}` than when the split was made");
                        let hint = "rename the old atlas, and make the split again by `perturbine split`";
                        return Err(Error::data(path.display().to_string(), message, hint));
                    }
                    split
                }
            };
            split.write(to)?;
            taken.push(name);
        }
        Ok(taken)
    }

    /// The checksum of older versions: of the parts of the cells, of the atlas and a hash of its cells' names, and of the column.
    fn checksum(&self, cells: Option<(&str, u64)>) -> String {
        let mut hash = Xxh3::new();
        for part in &self.parts {
            let name = if *part == SplitPart::Reference { "reference" } else { part.name() };
            hash.update(name.as_bytes());
        }
        if let Some((atlas, names)) = cells {
            hash.update(atlas.as_bytes());
            hash.update(&names.to_le_bytes());
        }
        self.column.iter().for_each(|column| hash.update(column.as_bytes()));
        hex(hash.digest())
    }

    /// The names of an atlas's splits, sorted.
    #[must_use]
    pub fn names(atlas: &Atlas) -> Vec<String> {
        names_in(atlas.path())
    }

    /// Checks that a new split may have this name: letters, digits, `-` and `_`, and no other split's, unless it is to
    /// `replace` that one.
    ///
    /// # Errors
    /// Any other name.
    pub fn check_new_name(atlas: &Atlas, name: &str, replace: bool) -> Result<()> {
        if name.is_empty() || !name.chars().all(|letter| letter.is_alphanumeric() || "-_".contains(letter)) {
            return Err(bad_name(name));
        }
        if !replace && Self::names(atlas).iter().any(|other| other == name) {
            let message = format!("the atlas has a split `{name}` already");
            return Err(Error::usage(message, "give another --name; --force replaces the split"));
        }
        Ok(())
    }

    /// Writes the split into its atlas; an older one of the same name is replaced.
    ///
    /// # Errors
    /// A full or broken disk.
    pub fn write(&self, atlas: &Atlas) -> Result<PathBuf> {
        let path = path_of(atlas, &self.name)?;
        create_folders(&atlas.path().join(files::SPLITS))?;
        let list = SplitList::lock(atlas.path())?;
        self.write_to(atlas, &path)?;
        list.add(&self.name)?;
        Ok(path)
    }

    /// Removes a split from its atlas.
    ///
    /// # Errors
    /// A name that no split has, a full or broken disk.
    pub fn remove(atlas: &Atlas, name: &str) -> Result<PathBuf> {
        let path = path_of(atlas, name)?;
        let unknown = || Error::unknown("split", name, Self::names(atlas).iter().map(String::as_str));
        if !path.parent().is_some_and(Path::exists) {
            return Err(unknown());
        }
        // The list comes first: a file that it does not have is not damaged.
        let was_listed = SplitList::lock(atlas.path())?.remove(name)?;
        match path.exists() {
            true => remove_all(&path)?,
            false if was_listed => {}
            false => return Err(unknown()),
        }
        Ok(path)
    }

    /// Writes the split to a separate file; an older one is replaced.
    ///
    /// # Errors
    /// A full or broken disk.
    pub fn write_to(&self, atlas: &Atlas, path: &Path) -> Result<()> {
        let staged = StagedFile::beside(path)?;
        let mut file = ParquetFile::create(staged.path(), splits_schema())?;
        file.set_metadata(ATLAS, atlas.manifest().checksum.clone());
        if let Some(column) = &self.column {
            file.set_metadata(COLUMN, column.clone());
        }
        file.set_metadata(
            LABELS,
            serde_json::to_string(&label_hashes(atlas)).map_err(|error| Error::Bug(error.to_string()))?,
        );
        let mut row = 0;
        for batch in atlas.obs(&["cell"])? {
            let batch = batch.map_err(|error| Error::damaged(atlas.path().join(files::CELLS), error.to_string()))?;
            let parts = &self.parts[row..row + batch.num_rows()];
            let reference: BooleanArray = parts.iter().map(|part| Some(*part == SplitPart::Reference)).collect();
            let parts = StringArray::from_iter_values(parts.iter().map(|part| part.name()));
            // Atlases of older versions may have cells without a name.
            let names: StringArray = names_of(&batch, path)?.map(Some).collect();
            let names: Arc<dyn Array> = Arc::new(names);
            row += batch.num_rows();
            file.write(
                &RecordBatch::try_new(splits_schema(), vec![names, Arc::new(parts), Arc::new(reference)])
                    .map_err(|error| Error::Bug(error.to_string()))?,
            )?;
        }
        file.finish_with_checksum()?;
        staged.commit()
    }
}

/// Reads the names of the training cells from a split's file, in the order of the file.
///
/// # Errors
/// A file that can't be read, or that is not a split.
pub fn training_cells(path: &Path, mut on_name: impl FnMut(&str)) -> Result<()> {
    let bad = |error: Undecodable| Error::damaged(path, error.to_string());
    let file = File::open(path).map_err(Error::io("open", path))?;
    for batch in Batches::new(parquet_read::parquet(file).map_err(bad)?).map_err(bad)? {
        let batch = batch.map_err(bad)?;
        let parts = batch.column_by_name("split").and_then(|column| column.as_string_opt::<i32>());
        let parts = parts.ok_or_else(|| Error::damaged(path, "it has no column `split` of strings"))?;
        let trained = names_of(&batch, path)?.zip(parts).filter(|(_, part)| *part == Some(SplitPart::Train.name()));
        trained.for_each(|(name, _)| on_name(name));
    }
    Ok(())
}

/// The names of some cells; in older atlases, some may be missing.
fn names_of<'a>(batch: &'a RecordBatch, path: &Path) -> Result<impl Iterator<Item = &'a str>> {
    let column = batch.column_by_name("cell").and_then(|column| column.as_string_opt::<i32>());
    let column = column.ok_or_else(|| Error::damaged(path, "it has no column `cell` of strings"))?;
    Ok(column.iter().map(Option::unwrap_or_default))
}

fn add_name(hash: &mut Xxh3, name: &str) {
    hash.update(name.as_bytes());
    hash.update(&[0]);
}

/// The metadata of a split's file.
struct SplitMetadata {
    checksum: Option<String>,
    atlas: Option<String>,
    column: Option<String>,
    /// Splits of older versions and of other programs have none.
    labels: BTreeMap<String, String>,
}

impl SplitMetadata {
    fn read(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(Error::io("open", path))?;
        let file = parquet_read::parquet(file).map_err(|error| Error::damaged(path, error.to_string()))?;
        let entries = file.metadata().file_metadata().key_value_metadata();
        let get = |key: &str| entries.and_then(|entries| entries.iter().find(|entry| entry.key == key)?.value.clone());
        let labels = get(LABELS).map_or(Ok(BTreeMap::new()), |text| serde_json::from_str(&text));
        let labels = labels.map_err(|error| Error::damaged(path, format!("its metadata `{LABELS}`: {error}")))?;
        Ok(Self { checksum: get(CHECKSUM), atlas: get(ATLAS), column: get(COLUMN), labels })
    }
}

/// Whether the name of every cell is its number, as AnnData writes it, or `cell` with its number, which is
/// the default for cells without a name: such a name says nothing about the cell.
fn cells_are_numbered(atlas: &Atlas) -> Result<bool> {
    let mut cell = 0_u64;
    for batch in atlas.obs(&["cell"])? {
        let batch = batch.map_err(|error| Error::damaged(atlas.path().join(files::CELLS), error.to_string()))?;
        for name in batch.column(0).as_string::<i32>() {
            let name = name.unwrap_or_default();
            if name.strip_prefix("cell").unwrap_or(name) != cell.to_string() {
                return Ok(false);
            }
            cell += 1;
        }
    }
    Ok(true)
}

/// Checks that a split's file names the cells of an atlas, in their order.
fn check_cells(atlas: &Atlas, path: &Path) -> Result<()> {
    let bad = |error: Undecodable| Error::damaged(path, error.to_string());
    let file = File::open(path).map_err(Error::io("open", path))?;
    let theirs = Batches::new(parquet_read::parquet(file).map_err(bad)?).map_err(bad)?;
    let cells_of =
        |batch: &RecordBatch| names_of(batch, path).map(|names| names.map(str::to_owned).collect::<Vec<_>>());
    let mut theirs_left: VecDeque<String> = VecDeque::new();
    let mut theirs = theirs.map(|batch| cells_of(&batch.map_err(bad)?));
    let mut row = 0_u64;
    for batch in atlas.obs(&["cell"])? {
        let batch = batch.map_err(|error| Error::damaged(atlas.path().join(files::CELLS), error.to_string()))?;
        for ours in cells_of(&batch)? {
            while theirs_left.is_empty() {
                match theirs.next() {
                    Some(names) => theirs_left.extend(names?),
                    None => break,
                }
            }
            match theirs_left.pop_front() {
                Some(theirs) if theirs == ours => row += 1,
                theirs => {
                    let theirs = theirs.map_or_else(|| "no cell".to_owned(), |name| format!("`{name}`"));
                    let place = format!("{}, row {row}", path.display());
                    let message = format!("it names {theirs}, where {} has the cell `{ours}`", atlas.path().display());
                    let hint = "a split lists the cells of its atlas in the order of cells.parquet";
                    return Err(Error::data(place, message, hint));
                }
            }
        }
    }
    Ok(())
}

fn path_of(atlas: &Atlas, name: &str) -> Result<PathBuf> {
    if name.is_empty() || name.starts_with('.') || name.contains(['/', '\\']) {
        return Err(bad_name(name));
    }
    Ok(atlas.path().join(files::SPLITS).join(format!("{name}.parquet")))
}

fn bad_name(name: &str) -> Error {
    Error::usage(format!("`{name}` is not a valid split name"), "use letters, digits, - and _")
}
