//! One folder of an output written by several processes, in any order and with any retries, and published by [`commit`].
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
use storage::{
    disk::{FolderLock, create_folders, refuse_existing, remove_all, rename, sync_folder, write_atomically},
    sealed::{read_sealed, sealed},
};

use super::{
    MANIFEST, Published, PublishedFile, damaged,
    files::part_number,
    layout::{check_name, is_named},
    publication::Publication,
    shard_plan::{Shard, ShardPlan, ShardRecord},
};

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

    fn record(&self, shard: Shard) -> PathBuf {
        self.records().join(format!("{}-of-{}.json", shard.index, shard.of))
    }

    /// The records of the plan's complete shards.
    fn read_records(&self) -> Result<Vec<ShardRecord>> {
        let mut records = Vec::new();
        // Another process may be about to create it.
        if !self.records().exists() {
            return Ok(records);
        }
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
        let shards = shards_of(target)?;
        refuse_other_plan(&shards, plan, shard)?;
        let folder = PlanFolder(shards.join(&plan.plan));
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

    /// The folder of complete files.
    pub(super) fn data(&self) -> PathBuf {
        self.folder.data()
    }

    /// The folder of this attempt.
    pub(super) fn writing(&self) -> &Path {
        &self.writing
    }

    /// Records that the shard is complete.
    pub(super) fn finish(self, published: &Published) -> Result<()> {
        let record = ShardRecord { shard: self.shard, plan: self.plan.clone(), files: published.files.clone() };
        write_atomically(&self.folder.record(self.shard), &sealed(&record)?)
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
/// A name that ends in `.parquet`, `.csv` or `.h5ad`.
pub fn refuse_one_file(target: &Path) -> Result<()> {
    let endings = ["parquet", "csv", "h5ad"];
    let Some(ending) = endings.into_iter().find(|ending| is_named(target, ending)) else { return Ok(()) };
    let message = format!("{} is one file, but shards write a folder", target.display());
    Err(Error::usage(message, format!("give --out a name that does not end in .{ending}")))
}

/// The files of a shard that is complete already: beside `target`, or published there. A shard that is damaged is not complete.
///
/// # Errors
/// A name that can't be that of a folder.
pub fn complete_beside(target: &Path, plan: &ShardPlan, shard: Shard) -> Result<Option<Published>> {
    if let Ok(published) = read_sealed::<Published>(&target.join(MANIFEST))
        && published.plan == plan.plan
    {
        let is_own = |file: &PublishedFile| part_number(&file.name).is_some_and(|part| shard.has(part));
        return Ok(Some(Published::new(&plan.plan, published.files.into_iter().filter(is_own).collect())));
    }
    let folder = PlanFolder(shards_of(target)?.join(&plan.plan));
    // Whatever is wrong with a record or a file, it is written again.
    let record = read_sealed::<ShardRecord>(&folder.record(shard)).ok();
    let whole = record.filter(|record| damaged(&folder.data(), &record.files).is_empty());
    Ok(whole.map(|record| Published::new(&plan.plan, record.files)))
}

/// Publishes a folder if all of its shards are complete: for one plan and one count, with every file
/// unchanged.
///
/// # Errors
/// A target that exists; shards that are missing (these are named), damaged, for several plans or for several
/// counts, or of another command; another process that is publishing them.
pub fn commit(publication: &Publication<'_>) -> Result<Published> {
    let target = publication.target;
    let shards = shards_of(target)?;
    let _alone = FolderLock::take(&shards)?;
    if let Some(published) = committed_before(target, &shards)? {
        clear(&shards);
        return Ok(published);
    }
    refuse_existing(target)?;
    if !shards.exists() {
        return Err(Error::Missing { path: shards, kind: "folder of shards" });
    }
    let mut plans = read_plans(&shards)?;
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
    publication.refuse_other_command(&records)?;
    complete(publication, records.iter().map(|record| record.shard))?;
    let published = Published::new(&plan, records.into_iter().flat_map(|record| record.files).collect());
    if let Some((name, what)) = damaged(&folder.data(), &published.files).into_iter().next() {
        return Err(Error::damaged(folder.data().join(name), what));
    }
    // Leftovers of an attempt by another program version are not published.
    let names: BTreeSet<&Path> = published.files.iter().map(|file| Path::new(&file.name)).collect();
    remove_unlisted(&folder.data(), &folder.data(), &names)?;
    (publication.complete)(&folder.data(), &published)?;
    rename(&folder.data(), target)?;
    sync_folder(target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new(".")))?;
    clear(&shards);
    Ok(published)
}

/// The records of complete shards, by the folder of their plan.
fn read_plans(shards: &Path) -> Result<BTreeMap<PathBuf, Vec<ShardRecord>>> {
    let folders = listed(shards)?.into_iter().filter(|path| path.is_dir());
    folders.map(|path| Ok((path.clone(), PlanFolder(path).read_records()?))).collect()
}

/// The output of a commit that was killed before it could remove its shards.
fn committed_before(target: &Path, shards: &Path) -> Result<Option<Published>> {
    if !target.exists() || !shards.exists() {
        return Ok(None);
    }
    // No shard is started while the target exists, so these are the shards from which it was made.
    let moved = listed(shards)?.into_iter().find(|path| path.is_dir() && !PlanFolder(path.clone()).data().exists());
    let Some(plan) = moved else { return Ok(None) };
    let name = plan.file_name().unwrap_or_default().to_string_lossy().into_owned();
    match read_sealed::<Published>(&target.join(MANIFEST)) {
        Ok(published) => Ok((published.plan == name).then_some(published)),
        // Not every output has a manifest.
        Err(Error::Missing { .. }) => Ok(Some(Published::new(&name, Vec::new()))),
        Err(error) => Err(error),
    }
}

/// Refuses to start a shard beside complete ones of another plan: nothing could publish them together.
fn refuse_other_plan(shards: &Path, plan: &ShardPlan, shard: Shard) -> Result<()> {
    if !shards.exists() {
        return Ok(());
    }
    let plans = read_plans(shards)?;
    let records = plans.values().flatten();
    let Some(other) = records.into_iter().find(|record| record.plan.plan != plan.plan) else { return Ok(()) };
    let message =
        format!("shard {shard} is not of the plan of shard {}: {}", other.shard, other.plan.differences(plan));
    let hint = format!(
        "write all shards with the same model, atlas, program and flags; if those that are there are not needed, remove {}",
        shards.display()
    );
    Err(Error::data(shards.display().to_string(), message, hint))
}

fn clear(shards: &Path) {
    if let Err(error) = remove_all(shards) {
        tracing::warn!("could not remove {}: {error}", shards.display());
    }
}

/// Checks that shards `0/n` to `n-1/n` are all complete.
pub(super) fn complete(publication: &Publication<'_>, shards: impl Iterator<Item = Shard>) -> Result<()> {
    let Publication { target, command, .. } = publication;
    let shards: Vec<Shard> = shards.collect();
    let counts: BTreeSet<usize> = shards.iter().map(|shard| shard.of).collect();
    let place = target.display().to_string();
    let of = match counts.iter().copied().collect::<Vec<_>>()[..] {
        [of] => of,
        [] => {
            let hint = format!("run {command} with --shard 0/1, or all of 0/4 to 3/4");
            return Err(Error::data(place, "no shard is complete", hint));
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
    Err(Error::data(place, message, format!("run the same {command} with --shard {}", missing[0])))
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

pub(super) fn remove_unlisted(folder: &Path, root: &Path, names: &BTreeSet<&Path>) -> Result<()> {
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
///
/// # Errors
/// A folder with shards.
pub fn refuse_shards(target: &Path) -> Result<()> {
    let shards = shards_of(target)?;
    if !shards.exists() {
        return Ok(());
    }
    let message = format!("shards of {} are in {}", target.display(), shards.display());
    let hint = "write the missing ones with --shard and publish them with --commit, remove that folder if they are not needed, or \
                choose another name";
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
