//! One folder of predictions written by several processes, in any order and with any retries, and published by [`commit`].
//! Where these share no folder, shards are [portable](super::portable).
//!
//! Next to the future `NAME` is `.NAME.shards/PLAN/`, one folder for each plan (model, atlas, query and
//! output) for which shards were written:
//!
//! - `data/`: the files that will be published; each is moved here when it is complete;
//! - `shards/0-of-4.json`: the list of files of a complete shard;
//! - `writing/`: incomplete files, in one folder per attempt.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use schemas::{Error, Result};
use serde::{Deserialize, Serialize};
use storage::{
    disk::{FolderLock, create_folders, refuse_existing, remove_all, rename, sync_folder, write_atomically},
    sealed::{read_sealed, sealed},
};

use super::{
    MANIFEST, Published, PublishedFile, damaged,
    layout::{check_name, is_one_file},
};

/// One of several shares of the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shard {
    index: usize,
    of: usize,
}

impl Shard {
    /// Shard `index` (from 0) of `of`.
    ///
    /// # Errors
    /// An index that is not below `of`.
    pub fn new(index: usize, of: usize) -> Result<Self> {
        match index < of {
            true => Ok(Self { index, of }),
            false => Err(Error::usage(
                format!("there is no shard {index}/{of}"),
                format!("shards count from 0: 0/{of} to {}/{of}", of.saturating_sub(1)),
            )),
        }
    }

    /// Reads `0/4`.
    ///
    /// # Errors
    /// Text that does not consist of two numbers, the first less than the second.
    pub fn parse(text: &str) -> Result<Self> {
        let bad =
            || Error::usage(format!("`{text}` is not a shard"), "write 0/4 for the first of four, 3/4 for the last");
        let (index, of) = text.split_once('/').ok_or_else(bad)?;
        let number = |text: &str| text.trim().parse::<usize>().map_err(|_| bad());
        let of = number(of)?;
        if of == 0 {
            return Err(bad());
        }
        Self::new(number(index)?, of)
    }

    /// The shard's number, from 0.
    #[must_use]
    pub fn index(self) -> usize {
        self.index
    }

    /// Number of shards.
    #[must_use]
    pub fn count(self) -> usize {
        self.of
    }

    /// Whether a part of the plan belongs to this shard.
    #[must_use]
    pub fn has(self, part: usize) -> bool {
        part % self.of == self.index
    }
}

impl std::fmt::Display for Shard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.index, self.of)
    }
}

/// The plan to which shards belong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardPlan {
    /// Its checksum: equal plans make equal files.
    pub plan: String,
    /// A description for people.
    pub about: String,
    /// Where machines may differ, by name: model, atlas, program version, output.
    pub made_from: BTreeMap<String, String>,
}

impl ShardPlan {
    /// How another plan differs from this one.
    pub(super) fn differences(&self, other: &Self) -> String {
        let differing = self.made_from.iter().filter_map(|(name, ours)| {
            let theirs = other.made_from.get(name).map_or("nothing", String::as_str);
            (theirs != ours).then(|| format!("the {name} is {theirs}, not {ours}"))
        });
        match differing.collect::<Vec<_>>()[..] {
            [] => "flags that choose what is predicted differ, or the split".to_owned(),
            ref differing => differing.join(", "),
        }
    }
}

/// The record of a complete shard.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ShardRecord {
    pub(super) shard: Shard,
    #[serde(flatten)]
    pub(super) plan: ShardPlan,
    pub(super) files: Vec<PublishedFile>,
}

/// A shard being written; if dropped without [`ShardFolder::finish`], its complete files remain.
#[derive(Debug)]
pub(super) struct ShardFolder {
    folder: PlanFolder,
    writing: PathBuf,
    shard: Shard,
    plan: ShardPlan,
}

#[derive(Debug)]
struct PlanFolder(PathBuf);

impl PlanFolder {
    fn data(&self) -> PathBuf {
        self.0.join("data")
    }

    fn records(&self) -> PathBuf {
        self.0.join("shards")
    }

    /// The records of the plan's complete shards.
    fn read_records(&self) -> Result<Vec<ShardRecord>> {
        let mut records = Vec::new();
        for path in listed(&self.records())?.into_iter().filter(|path| path.extension().is_some_and(|e| e == "json")) {
            records.push(read_sealed(&path)?);
        }
        Ok(records)
    }
}

impl ShardFolder {
    pub(super) fn create(target: &Path, plan: &ShardPlan, shard: Shard) -> Result<Self> {
        refuse_existing(target)?;
        check_name(target)?;
        refuse_one_file(target)?;
        let folder = PlanFolder(shards_of(target)?.join(&plan.plan));
        // Several processes, on several machines, may try the same shard at the same time.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let writing = folder.0.join("writing").join(format!("{now}-{}", std::process::id()));
        for path in [&folder.data(), &folder.records(), &writing] {
            create_folders(path)?;
        }
        Ok(Self { folder, writing, shard, plan: plan.clone() })
    }

    /// Where to write a file.
    pub(super) fn unfinished(&self, name: &str) -> PathBuf {
        self.writing.join(name)
    }

    /// Where to move a file when it is complete.
    pub(super) fn whole(&self, name: &str) -> PathBuf {
        self.folder.data().join(name)
    }

    /// Records that the shard is complete.
    pub(super) fn finish(self, published: &Published) -> Result<()> {
        let record = ShardRecord { shard: self.shard, plan: self.plan.clone(), files: published.files.clone() };
        let name = format!("{}-of-{}.json", self.shard.index, self.shard.of);
        write_atomically(&self.folder.records().join(name), &sealed(&record)?)
    }
}

impl Drop for ShardFolder {
    fn drop(&mut self) {
        if let Err(error) = remove_all(&self.writing) {
            tracing::warn!("could not remove {}: {error}", self.writing.display());
        }
    }
}

/// Refuses to write a single file in shards.
///
/// # Errors
/// A name that ends in `.parquet`.
pub fn refuse_one_file(target: &Path) -> Result<()> {
    if !is_one_file(target) {
        return Ok(());
    }
    let message = format!("{} is one file, but shards write a folder", target.display());
    Err(Error::usage(message, "give --out a name that does not end in .parquet"))
}

/// Publishes a folder if all of its shards are complete: for one plan and one count, with every file
/// unchanged.
///
/// # Errors
/// A target that exists; shards that are missing (these are named), damaged, for several plans or for several
/// counts; another process that is publishing them.
pub fn commit(target: &Path) -> Result<Published> {
    let shards = shards_of(target)?;
    let _alone = FolderLock::take(&shards)?;
    if let Some(published) = committed_before(target, &shards) {
        clear(&shards);
        return Ok(published);
    }
    refuse_existing(target)?;
    if !shards.exists() {
        return Err(Error::Missing { path: shards, kind: "folder of shards" });
    }
    let mut plans: BTreeMap<PathBuf, Vec<ShardRecord>> = BTreeMap::new();
    for path in listed(&shards)?.into_iter().filter(|path| path.is_dir()) {
        let records = PlanFolder(path.clone()).read_records()?;
        plans.insert(path, records);
    }
    // A plan without complete shards is ignored if there is another one.
    if plans.values().any(|records| !records.is_empty()) {
        plans.retain(|_, records| !records.is_empty());
    }
    if plans.len() > 1 {
        return Err(disagreeing(target, &plans));
    }
    let (path, records) = plans.pop_first().ok_or_else(|| Error::damaged(&shards, "it has no plan"))?;
    let plan = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let folder = PlanFolder(path);
    complete(target, records.iter().map(|record| record.shard))?;
    let files: Vec<PublishedFile> = records.into_iter().flat_map(|record| record.files).collect();
    if let Some((name, what)) = damaged(&folder.data(), &files).into_iter().next() {
        return Err(Error::damaged(folder.data().join(name), what));
    }
    // Leftovers of an attempt by another program version are not published.
    let names: BTreeSet<&Path> = files.iter().map(|file| Path::new(&file.name)).collect();
    remove_unlisted(&folder.data(), &folder.data(), &names)?;
    let published = Published::new(&plan, files);
    write_atomically(&folder.data().join(MANIFEST), &published.to_json()?)?;
    rename(&folder.data(), target)?;
    sync_folder(target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new(".")))?;
    clear(&shards);
    Ok(published)
}

/// The output of a commit that was killed before it could remove its shards.
fn committed_before(target: &Path, shards: &Path) -> Option<Published> {
    let path = target.join(MANIFEST);
    let published: Published = read_sealed(&path).ok()?;
    // No shard is started while the target exists, so these are the shards from which it was made.
    let folder = PlanFolder(shards.join(&published.plan));
    (!published.plan.is_empty() && shards.exists() && !folder.data().exists()).then_some(published)
}

fn clear(shards: &Path) {
    if let Err(error) = remove_all(shards) {
        tracing::warn!("could not remove {}: {error}", shards.display());
    }
}

/// Checks that shards `0/n` to `n-1/n` are all complete.
pub(super) fn complete(target: &Path, shards: impl Iterator<Item = Shard>) -> Result<()> {
    let shards: Vec<Shard> = shards.collect();
    let counts: BTreeSet<usize> = shards.iter().map(|shard| shard.of).collect();
    let place = target.display().to_string();
    let of = match counts.iter().copied().collect::<Vec<_>>()[..] {
        [of] => of,
        [] => {
            return Err(Error::data(
                place,
                "no shard is complete",
                "run predict with --shard 0/1, or all of 0/4 to 3/4",
            ));
        }
        _ => {
            let shards: Vec<String> = shards.iter().map(Shard::to_string).collect();
            let message = format!("its shards belong to different counts: {}", shards.join(", "));
            let hint = format!("remove {} and write all shards with one count", shards_of(target)?.display());
            return Err(Error::data(place, message, hint));
        }
    };
    let missing = (0..of).filter(|index| !shards.iter().any(|shard| shard.index == *index));
    let missing: Vec<String> = missing.map(|index| format!("{index}/{of}")).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let message = format!("{} of its {of} shards missing: {}", missing.len(), missing.join(", "));
    Err(Error::data(place, message, format!("run the same predict with --shard {}", missing[0])))
}

fn disagreeing(target: &Path, plans: &BTreeMap<PathBuf, Vec<ShardRecord>>) -> Error {
    let described = plans.iter().map(|(path, records)| {
        let shards: Vec<String> = records.iter().map(|record| record.shard.to_string()).collect();
        let about = records.first().map_or("no shard is complete", |record| record.plan.about.as_str());
        format!("{} of {} ({about})", shards.join(", "), path.display())
    });
    let message = format!("its shards belong to {} plans: {}", plans.len(), described.collect::<Vec<_>>().join("; "));
    Error::data(
        target.display().to_string(),
        message,
        "remove the folders of the plans that you don't need, and commit again",
    )
}

fn remove_unlisted(folder: &Path, root: &Path, names: &BTreeSet<&Path>) -> Result<()> {
    for path in listed(folder)? {
        if path.is_dir() {
            remove_unlisted(&path, root, names)?;
        } else if !path.strip_prefix(root).is_ok_and(|name| names.contains(name)) {
            remove_all(&path)?;
        }
    }
    Ok(())
}

/// Refuses a folder of which shards are waiting to be published: nothing could publish them later, and they would stay.
pub(super) fn refuse_shards(target: &Path) -> Result<()> {
    let shards = shards_of(target)?;
    if !shards.exists() {
        return Ok(());
    }
    let message = format!("shards of {} are in {}", target.display(), shards.display());
    let hint = "write the missing ones with --shard and publish them with `predict --commit`, remove that folder if they are not \
                needed, or choose another name";
    Err(Error::usage(message, hint))
}

/// Where the shards of a folder are kept until it is published.
fn shards_of(target: &Path) -> Result<PathBuf> {
    let name = target.file_name().ok_or_else(|| {
        Error::usage(format!("`{}` does not name a folder", target.display()), "give a path that ends in a name")
    })?;
    Ok(target.with_file_name(format!(".{}.shards", name.to_string_lossy())))
}

/// The content of a folder, by name.
fn listed(folder: &Path) -> Result<Vec<PathBuf>> {
    let read =
        || fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path())).collect::<std::io::Result<Vec<_>>>();
    let mut paths = read().map_err(Error::io("read", folder))?;
    paths.sort();
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_count_from_nought() {
        assert_eq!(Shard::parse("0/4").expect("a shard").to_string(), "0/4");
        assert_eq!(Shard::parse("3/4").expect("a shard").to_string(), "3/4");
        for wrong in ["4/4", "1", "a/2", "0/0", "-1/2", ""] {
            Shard::parse(wrong).expect_err(wrong);
        }
    }

    #[test]
    fn each_part_is_one_shards() {
        let shards: Vec<Shard> = (0..3).map(|index| Shard::new(index, 3).expect("a shard")).collect();
        for part in 0..20 {
            assert_eq!(shards.iter().filter(|shard| shard.has(part)).count(), 1);
        }
    }
}
