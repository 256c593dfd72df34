//! Turns encoded row groups into files, which all become visible together.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::Arc,
};

use parquet::{arrow::ArrowWriter, file::writer::SerializedFileWriter};
use schemas::{Error, Result};
use stage::{BoxError, Sink};
use storage::{
    disk::{HashedFile, StagedFile, StagedFolder, create_folders, rename, sync_folder},
    parquet_file::written,
};

use super::{
    Published, PublishedFile,
    encode::{Encoded, EncodedGroup},
    layout::{OutputLayout, PartRows, check_name, is_one_file},
    portable::PortableShard,
    publication::write_manifest,
    shard_plan::{Shard, ShardPlan},
    shards::{ShardFolder, refuse_shards},
};

/// Where files are written before they are complete, and how they become visible.
#[derive(Debug)]
enum Destination {
    /// A folder, with a manifest.
    Folder(StagedFolder),
    /// One file with this name, without a manifest.
    File(StagedFile, String),
    /// One of the shards of a folder.
    Shard(ShardFolder),
    /// One of the shards of a folder that is elsewhere.
    Portable(PortableShard),
}

/// Appends row groups to files. The files become visible when all are complete.
#[derive(Debug)]
pub struct Publish {
    place: Destination,
    layout: Arc<OutputLayout>,
    plan: String,
    open: BTreeMap<String, OpenFile>,
    files: Vec<PublishedFile>,
}

struct OpenFile {
    writer: SerializedFileWriter<HashedFile>,
    name: String,
    path: PathBuf,
    rows: u64,
}

impl std::fmt::Debug for OpenFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenFile").field("path", &self.path).field("rows", &self.rows).finish_non_exhaustive()
    }
}

impl Publish {
    /// Starts writing `target`: a folder, or one file if the name ends in `.parquet`. `plan` identifies the
    /// content of the files; a single file does not record it.
    ///
    /// # Errors
    /// A target that exists, has unpublished shards or can't be created, or partitions in a single file.
    pub fn create(target: &Path, layout: Arc<OutputLayout>, plan: &str) -> Result<Self> {
        check_name(target)?;
        let place = if is_one_file(target) {
            if layout.is_partitioned() {
                let message = format!("{} is one file, but a partitioned output is many", target.display());
                return Err(Error::usage(message, "give --out a name that does not end in .parquet"));
            }
            let name = target.file_name().unwrap_or_default().to_string_lossy().into_owned();
            Destination::File(StagedFile::create(target)?, name)
        } else {
            refuse_shards(target)?;
            Destination::Folder(StagedFolder::create(target)?)
        };
        Ok(Self { place, layout, plan: plan.to_owned(), open: BTreeMap::new(), files: Vec::new() })
    }

    /// Starts writing a shard of the folder `target`, or, if it is `portable`, to a folder `target` of its own.
    ///
    /// # Errors
    /// A target that exists or is a single file, or a folder that can't be created.
    pub fn create_shard(
        target: &Path,
        layout: Arc<OutputLayout>,
        plan: &ShardPlan,
        shard: Shard,
        portable: bool,
    ) -> Result<Self> {
        let place = match portable {
            true => Destination::Portable(PortableShard::create(target, plan, shard)?),
            false => Destination::Shard(ShardFolder::create(target, plan, shard)?),
        };
        Ok(Self { place, layout, plan: plan.plan.clone(), open: BTreeMap::new(), files: Vec::new() })
    }

    fn append(&mut self, EncodedGroup { part, folder, rows, columns }: EncodedGroup) -> Result<()> {
        let file = match self.open.remove(&folder) {
            Some(file) => file,
            None => self.begin(part, &folder)?,
        };
        let file = self.open.entry(folder).or_insert(file);
        file.rows += rows;
        let append = || {
            let mut group = file.writer.next_row_group()?;
            columns.into_iter().try_for_each(|column| column.append_to(&mut group))?;
            group.close().map(|_| ())
        };
        append().map_err(|error| written(&file.path, error))
    }

    fn begin(&self, part: usize, folder: &str) -> Result<OpenFile> {
        let name = match folder {
            "" => format!("part-{part:05}.parquet"),
            folder => format!("{folder}/part-{part:05}.parquet"),
        };
        let (name, path) = match &self.place {
            Destination::Folder(staged) => (name.clone(), staged.file(&name)),
            Destination::Shard(shard) => (name.clone(), shard.unfinished(&name)),
            Destination::Portable(shard) => (name.clone(), shard.file(&name)),
            Destination::File(staged, name) => (name.clone(), staged.path().to_path_buf()),
        };
        if !folder.is_empty() {
            create_parent(&path)?;
        }
        let file = HashedFile::create(&path)?;
        let (schema, properties) = (Arc::clone(&self.layout.stored), self.layout.properties.clone());
        let (writer, _) = ArrowWriter::try_new(file, schema, Some(properties))
            .and_then(ArrowWriter::into_serialized_writer)
            .map_err(|error| written(&path, error))?;
        Ok(OpenFile { writer, name, path, rows: 0 })
    }

    /// Closes the files of a part.
    fn end(&mut self, part: PartRows) -> Result<()> {
        // If there are no rows at all, a file without rows shows that.
        if part.rows == 0 {
            let file = self.begin(part.number, "")?;
            self.open.insert(String::new(), file);
        }
        for OpenFile { mut writer, name, path, rows } in std::mem::take(&mut self.open).into_values() {
            // `into_inner` would report a full disk as a different kind of error.
            writer.finish().map_err(|error| written(&path, error))?;
            let entry = writer.inner_mut().sync()?;
            drop(writer);
            if let Destination::Shard(shard) = &self.place {
                let whole = shard.whole(&name);
                create_parent(&whole)?;
                rename(&path, &whole)?;
            }
            self.files.push(PublishedFile { name, rows, bytes: entry.bytes, checksum: entry.checksum });
        }
        Ok(())
    }

    fn commit(self) -> Result<Published> {
        let published = Published::new(&self.plan, self.files);
        match self.place {
            Destination::Folder(folder) => publish_folder(folder, &published, &write_manifest)?,
            Destination::File(staged, _) => staged.commit()?,
            Destination::Shard(shard) => {
                sync_folders_of(&published, |name| shard.whole(name))?;
                shard.finish(&published)?;
            }
            Destination::Portable(shard) => {
                sync_folders_of(&published, |name| shard.file(name))?;
                shard.finish(&published)?;
            }
        }
        Ok(published)
    }
}

impl Sink for Publish {
    type In = Encoded;
    type Summary = Published;

    fn push(&mut self, encoded: Encoded) -> Result<ControlFlow<()>, BoxError> {
        match encoded {
            Encoded::Group(group) => self.append(group)?,
            Encoded::End(part) => self.end(part)?,
        }
        Ok(ControlFlow::Continue(()))
    }

    fn finish(self) -> Result<Published, BoxError> {
        Ok(self.commit()?)
    }
}

/// Makes a folder of complete files visible once `complete` has added its last files.
pub(super) fn publish_folder(
    folder: StagedFolder,
    published: &Published,
    complete: &dyn Fn(&Path, &Published) -> Result<()>,
) -> Result<()> {
    sync_folders_of(published, |name| folder.file(name))?;
    complete(&folder.file(""), published)?;
    folder.commit()
}

/// The number of the part from which a file has its name.
pub(super) fn part_number(name: &str) -> Option<usize> {
    let (_, name) = name.rsplit_once('/').unwrap_or(("", name));
    name.strip_prefix("part-")?.strip_suffix(".parquet")?.parse().ok()
}

/// Syncs the names of files, and of the folders that contain them, to the disk.
fn sync_folders_of(published: &Published, place: impl Fn(&str) -> PathBuf) -> Result<()> {
    let names = published.files.iter().map(|file| Path::new(&file.name));
    let folders: BTreeSet<&Path> = names.flat_map(|name| name.ancestors().skip(1)).collect();
    folders.into_iter().rev().try_for_each(|folder| sync_folder(&place(&folder.to_string_lossy())))
}

pub(super) fn create_parent(path: &Path) -> Result<()> {
    create_folders(path.parent().unwrap_or(Path::new(".")))
}
