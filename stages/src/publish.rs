//! The end of prediction's road: record batches become Parquet files, visible only when they are complete.

use std::{
    fs,
    ops::ControlFlow,
    path::{Path, PathBuf},
};

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use schemas::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::{
    BoxError, Sink,
    disk::{StagedFile, StagedFolder, checksum_of, write_atomically},
    write::ParquetFile,
};

/// Bytes of values after which the next file of a folder is begun.
const FILE_BYTES: u64 = 256 << 20;
/// Names a folder's files; written last.
pub const MANIFEST: &str = "_manifest.json";

/// What was published.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    /// Rows in all.
    pub rows: u64,
    /// The files.
    pub files: Vec<PublishedFile>,
}

impl Published {
    /// Bytes in all.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }
}

/// A file of a prediction set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishedFile {
    /// Its name.
    pub name: String,
    /// Its rows.
    pub rows: u64,
    /// Its length.
    pub bytes: u64,
    /// XXH3-64 of its bytes.
    pub checksum: Option<String>,
}

/// Writes a folder of Parquet files, or one file where the name ends in `.parquet`.
#[derive(Debug)]
pub struct Publish {
    staged: Staged,
    schema: SchemaRef,
    open: Option<(ParquetFile, PathBuf, u64, u64)>,
    files: Vec<PublishedFile>,
}

#[derive(Debug)]
enum Staged {
    Folder(StagedFolder),
    File(StagedFile),
}

impl Publish {
    /// Starts what will be `target`.
    ///
    /// # Errors
    /// A target that exists or can't be created.
    pub fn create(target: &Path, schema: SchemaRef) -> Result<Self> {
        let staged = if target.extension().is_some_and(|extension| extension == "parquet") {
            if target.exists() {
                return Err(Error::usage(
                    format!("{} exists already", target.display()),
                    "remove it first, or choose another name",
                ));
            }
            Staged::File(StagedFile::beside(target)?)
        } else {
            Staged::Folder(StagedFolder::create(target)?)
        };
        Ok(Self { staged, schema, open: None, files: Vec::new() })
    }

    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let (mut file, path, rows, bytes) = match self.open.take() {
            Some(open) => open,
            None => {
                let path = match &self.staged {
                    Staged::Folder(folder) => folder.file(&format!("part-{:05}.parquet", self.files.len())),
                    Staged::File(staged) => staged.path().to_path_buf(),
                };
                (ParquetFile::create(&path, self.schema.clone())?, path, 0, 0)
            }
        };
        file.write(batch)?;
        let (rows, bytes) = (rows + batch.num_rows() as u64, bytes + batch.get_array_memory_size() as u64);
        if FILE_BYTES < bytes && matches!(self.staged, Staged::Folder(_)) {
            return self.close(file, &path, rows);
        }
        self.open = Some((file, path, rows, bytes));
        Ok(())
    }

    fn close(&mut self, file: ParquetFile, path: &Path, rows: u64) -> Result<()> {
        file.finish()?;
        let entry = checksum_of(path)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        self.files.push(PublishedFile { name, rows, bytes: entry.bytes, checksum: entry.checksum });
        Ok(())
    }

    fn commit(mut self) -> Result<Published> {
        if self.open.is_none() && self.files.is_empty() {
            self.write(&RecordBatch::new_empty(self.schema.clone()))?;
        }
        if let Some((file, path, rows, _)) = self.open.take() {
            self.close(file, &path, rows)?;
        }
        let published = Published { rows: self.files.iter().map(|file| file.rows).sum(), files: self.files };
        match self.staged {
            Staged::Folder(folder) => {
                let text = serde_json::to_vec_pretty(&published).map_err(|error| Error::Bug(error.to_string()))?;
                write_atomically(&folder.file(MANIFEST), &text)?;
                folder.commit()?;
            }
            Staged::File(staged) => staged.commit()?,
        }
        Ok(published)
    }
}

impl Sink for Publish {
    type In = RecordBatch;
    type Summary = Published;

    fn push(&mut self, batch: RecordBatch) -> Result<ControlFlow<()>, BoxError> {
        self.write(&batch)?;
        Ok(ControlFlow::Continue(()))
    }

    fn finish(self) -> Result<Published, BoxError> {
        Ok(self.commit()?)
    }
}

/// Checks a folder of predictions against its manifest: names what is damaged, and how.
///
/// # Errors
/// A folder without a readable manifest.
pub fn verify(folder: &Path) -> Result<Vec<(String, String)>> {
    let path = folder.join(MANIFEST);
    let text = fs::read_to_string(&path).map_err(Error::io("read", &path))?;
    let published: Published = serde_json::from_str(&text).map_err(|error| Error::damaged(&path, error.to_string()))?;
    let mut damaged = Vec::new();
    for file in published.files {
        let what = match checksum_of(&folder.join(&file.name)) {
            Ok(found) if found.bytes == file.bytes && found.checksum == file.checksum => continue,
            Ok(_) => "its checksum is not the manifest's".to_owned(),
            Err(error) => error.to_string(),
        };
        damaged.push((file.name, what));
    }
    Ok(damaged)
}

/// Checks a single Parquet file, which has no checksum beside it: reads all of it, and says what can't be read.
///
/// # Errors
/// A file that is not there.
pub fn verify_file(path: &Path) -> Result<Option<String>> {
    let file = fs::File::open(path).map_err(Error::io("open", path))?;
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).and_then(ParquetRecordBatchReaderBuilder::build);
    let read = reader
        .map_err(|error| error.to_string())
        .and_then(|mut batches| batches.try_for_each(|batch| batch.map(|_| ())).map_err(|error| error.to_string()));
    Ok(read.err())
}
