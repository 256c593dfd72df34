//! Shards for machines that share no folder: each is written to a folder of its own, which may be copied, moved and renamed,
//! and [`commit_portable`] publishes them all.
//!
//! The folder holds the shard's files under the names that they will have, and `_shard.json`: the plan and the list of files.

use std::{
    collections::{BTreeMap, HashSet},
    fs::{File, metadata},
    io::{ErrorKind, Read},
    path::{Path, PathBuf},
};

use schemas::{Error, Result, atlas::FileEntry};
use stage::interrupt::Interrupt;
use storage::{
    disk::{HashedFile, StagedFolder, check_room, refuse_existing, write_atomically},
    output_name,
    sealed::{read_strictly_sealed, sealed},
};

use super::{
    Published, PublishedFile, damaged,
    files::{create_parent, publish_folder},
    layout::check_name,
    publication::Publication,
    shard_plan::{Shard, ShardPlan, ShardRecord},
    shards::{complete, refuse_one_file},
};

pub(super) const RECORD: &str = "_shard.json";

/// A portable shard being written; if dropped without [`PortableShard::finish`], it leaves nothing behind.
#[derive(Debug)]
pub(super) struct PortableShard {
    folder: StagedFolder,
    target: PathBuf,
    plan: ShardPlan,
    shard: Shard,
}

impl PortableShard {
    pub(super) fn create(target: &Path, plan: &ShardPlan, shard: Shard) -> Result<Self> {
        output_name::check_name("--shard-out", target, &[], true)?;
        let folder = StagedFolder::create(target)?;
        Ok(Self { folder, target: target.to_path_buf(), plan: plan.clone(), shard })
    }

    /// Where files are written until the shard is complete.
    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Whether the file system has locks.
    pub(super) fn is_locked(&self) -> bool {
        self.folder.is_locked()
    }

    /// Where to write a file.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.folder.file(name)
    }

    /// Makes the shard visible. Where a file system has no locks, another try may have been first: then that one stays.
    pub(super) fn finish(self, published: &Published) -> Result<()> {
        let record = ShardRecord { shard: self.shard, plan: self.plan, files: published.files.clone() };
        write_atomically(&self.folder.file(RECORD), &sealed(&record)?)?;
        match self.folder.commit() {
            Err(_) if matches!(complete_shard(&self.target, &record.plan, self.shard), Ok(Some(_))) => Ok(()),
            committed => committed,
        }
    }
}

/// The files of a portable shard that is complete already; `None` if there is nothing at its place.
///
/// # Errors
/// Anything else there: another shard, one of another plan, a damaged one, or what is not a shard.
pub fn complete_shard(folder: &Path, plan: &ShardPlan, shard: Shard) -> Result<Option<Published>> {
    if !folder.join(RECORD).exists() {
        return refuse_existing(folder).map(|()| None);
    }
    let record = read_record(folder)?;
    let wrong = if record.plan.plan != plan.plan {
        format!("it is shard {} of another plan: {}", record.shard, plan.differences(&record.plan))
    } else if record.shard != shard {
        format!("it is shard {}, not {shard}", record.shard)
    } else if let Some((name, what)) = damaged(folder, &record.files).into_iter().next() {
        format!("{name} is damaged: {what}")
    } else {
        return Ok(Some(Published::new(&plan.plan, record.files)));
    };
    let hint = format!("remove {} and run the same command again, or name another folder", folder.display());
    Err(Error::data(folder.display().to_string(), wrong, hint))
}

/// Publishes the folder that a single run would have written, from all shards of one plan. These stay as they are. `copied` receives
/// the bytes that were copied so far, and those of all files.
///
/// # Errors
/// A target that exists; folders that are not shards, are damaged, belong to another command or another plan than most, or hold the
/// same shard with other content (all of them are named); shards that are missing; a disk without room for the files.
pub fn commit_portable(
    publication: &Publication<'_>,
    folders: &[PathBuf],
    interrupt: &Interrupt,
    copied: &dyn Fn(u64, u64),
) -> Result<Published> {
    let target = publication.target;
    refuse_existing(target)?;
    check_name(target)?;
    refuse_one_file(target)?;
    let mut wrong = Vec::new();
    let mut records = Vec::new();
    for folder in folders {
        match read_record(folder) {
            Ok(record) => records.push((folder.as_path(), record)),
            Err(error @ Error::Missing { .. }) => return Err(error),
            Err(error) => wrong.push(error.to_string()),
        }
    }
    let shards = consistent(&records, &mut wrong);
    refuse_wrong(target, &wrong)?;
    let plan = shards.values().next().map(|(_, record)| &record.plan);
    if let Some(other) = plan.filter(|plan| plan.command != publication.command) {
        let message = format!("these are shards of `{}`, not of `{}`", other.command, publication.command);
        let hint =
            format!("run perturbine {} --commit {} --from with the same folders", other.command, target.display());
        return Err(Error::data(target.display().to_string(), message, hint));
    }
    complete(publication, shards.values().map(|(_, record)| record.shard))?;
    // Files that shards have in common, such as a plan, are copied once.
    let (mut seen, mut files) = (HashSet::new(), Vec::new());
    for (folder, record) in shards.values() {
        files.extend(record.files.iter().filter(|file| seen.insert(&file.name)).map(|file| (*folder, file)));
    }
    let all = files.iter().map(|(_, file)| file.bytes).sum();
    check_room(target, all)?;
    let staged = StagedFolder::create(target)?;
    let mut done = 0;
    for (folder, file) in &files {
        let path = folder.join(&file.name);
        let mut count = |bytes: usize| {
            done += bytes as u64;
            copied(done, all);
        };
        if !file.has(&copy(&path, &staged.file(&file.name), interrupt, &mut count)?) {
            wrong.push(Error::damaged(path, "its checksum does not match that in _shard.json").to_string());
        }
    }
    refuse_wrong(target, &wrong)?;
    let plan = plan.map_or("", |plan| plan.plan.as_str());
    let published = Published::new(plan, files.into_iter().map(|(_, file)| file.clone()).collect());
    publish_folder(staged, &published, publication.complete)?;
    Ok(published)
}

fn read_record(folder: &Path) -> Result<ShardRecord> {
    let path = folder.join(RECORD);
    if !folder.exists() {
        return Err(Error::Missing { path: folder.to_path_buf(), kind: "shard" });
    }
    if !path.exists() {
        let hint = "name a folder that --shard-out wrote";
        return Err(Error::data(folder.display().to_string(), format!("it is not a shard: it has no {RECORD}"), hint));
    }
    read_strictly_sealed(&path)
}

/// Shards of the plan to which most belong, by index; adds what is wrong with others.
fn consistent<'a>(
    records: &'a [(&'a Path, ShardRecord)],
    wrong: &mut Vec<String>,
) -> BTreeMap<usize, (&'a Path, &'a ShardRecord)> {
    let is_with =
        |one: &ShardRecord, other: &ShardRecord| one.plan == other.plan && one.shard.count() == other.shard.count();
    let votes = |record: &ShardRecord| records.iter().filter(|(_, other)| is_with(record, other)).count();
    // Of several plans with as many shards, the first one.
    let most = records.iter().map(|(_, record)| record).rev().max_by_key(|record| votes(record));
    let mut shards = BTreeMap::new();
    let Some(most) = most else { return shards };
    for (folder, record) in records {
        let of = |what: String| format!("{}: it is shard {} {what}", folder.display(), record.shard);
        if !is_with(record, most) {
            wrong.push(match record.plan == most.plan {
                true => of(format!("of a division into {}, not {}", record.shard.count(), most.shard.count())),
                false => of(format!("of another plan: {}", most.plan.differences(&record.plan))),
            });
            continue;
        }
        wrong.extend(record.files.iter().filter_map(|file| lacking(folder, file)));
        let (first, other) = *shards.entry(record.shard.index()).or_insert((*folder, record));
        if other.files != record.files {
            wrong.push(of(format!("with other content than {}", first.display())));
        }
    }
    shards
}

/// Describes the damage of a shard's file, as far as its length shows it.
fn lacking(folder: &Path, file: &PublishedFile) -> Option<String> {
    let path = folder.join(&file.name);
    if !file.is_below() {
        return Some(Error::damaged(folder, format!("the name {} leads out of the folder", file.name)).to_string());
    }
    match metadata(&path).map_err(Error::io("read", &path)) {
        Ok(found) if found.len() == file.bytes => None,
        Ok(found) => {
            Some(Error::damaged(path, format!("it has {} bytes, not {}", found.len(), file.bytes)).to_string())
        }
        Err(error) => Some(error.to_string()),
    }
}

fn refuse_wrong(target: &Path, wrong: &[String]) -> Result<()> {
    if wrong.is_empty() {
        return Ok(());
    }
    let message = format!("it can't be published from these shards: {}", wrong.join("; "));
    let hint = "copy or write these shards again, with the model, atlas, program and flags of the others";
    Err(Error::data(target.display().to_string(), message, hint))
}

/// Copies a file, and counts its bytes.
fn copy(from: &Path, to: &Path, interrupt: &Interrupt, count: &mut dyn FnMut(usize)) -> Result<FileEntry> {
    let mut source = File::open(from).map_err(Error::io("open", from))?;
    create_parent(to)?;
    let (mut file, mut buffer) = (HashedFile::create(to)?, vec![0; 1 << 20]);
    loop {
        interrupt.check()?;
        match source.read(&mut buffer) {
            Ok(0) => return file.finish(),
            Ok(read) => {
                file.append(&buffer[..read])?;
                count(read);
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(Error::io("read", from)(error)),
        }
    }
}
