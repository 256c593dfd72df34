//! A run that dies or whose disk fails, at each of its calls to the disk: nothing wrong is ever seen, nothing half, and the
//! next try ends with the bytes of a run that nothing happened to.
//!
//! Runs are the library's, in this process, one at a time: a start of the program takes longer than most of them. What dies with
//! its process is killed in `interrupted.rs`, and in some places here.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use perturbine::{
    Atlas, Error, Model, Prediction, Query, Request, Resources, Result, Settings, Training,
    flows::{
        ingesting::{IngestOptions, ingest},
        predicting::PredictionForm,
        publishing::WriteOptions,
    },
};
use schemas::{atlas::Codec, config::Preset, error::ExitCode};
use stages::{
    formats::memory::CellsInMemory,
    reader::split::{Scheme, Split, SplitShares},
    sink::{
        self, Publication, Shard,
        portable::{commit_portable, complete_shard},
    },
    stage::interrupt::Interrupt,
    storage::disk::faults::inject,
};
use tch::Device;

use crate::support::{
    Home, TINY, counted,
    faults::{Tree, in_the_making, same, some_of, tree, visible},
    says, simulator,
};

/// The faults of a disk are a process's.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

type Work = Box<dyn Fn(&Home, bool) -> Result<()>>;

/// Work that writes, and what it writes.
struct Job {
    name: &'static str,
    out: &'static str,
    /// Does the work, for the first time or again.
    work: Work,
    /// Whether what is half is taken up.
    resumes: bool,
}

impl Job {
    fn ingest(name: &'static str, options: IngestOptions) -> Self {
        let work = move |home: &Home, _: bool| {
            let simulator = simulator(150, true);
            let chunk = simulator.chunk(0..150)?;
            let names = Arc::new(arrow::array::StringArray::from_iter_values(simulator.genes())) as _;
            let var = arrow::array::RecordBatch::try_from_iter([("gene", names)]).unwrap();
            let source = CellsInMemory::new("test.h5ad", chunk.obs, var, chunk.expression)?;
            ingest(Arc::new(source), &home.path("a.atlas"), &options, &Resources::default()).map(drop)
        };
        Self { name, out: "a.atlas", work: Box::new(work), resumes: false }
    }

    fn train() -> Self {
        let work = |home: &Home, again: bool| {
            let atlas = Atlas::open(home.path("s.atlas"))?;
            let settings = Settings::layered(Preset::Cpa, None, &small(2))?;
            let split = Split::make(&atlas, "random", &Scheme::Nothing, SplitShares::default(), 0)?;
            let out = home.path("m");
            Training::prepare(&atlas, split, &settings, &out, Device::Cpu, Resources::default())?
                .run(again && out.exists(), Box::new(|_| {}))
                .map(drop)
        };
        Self { name: "train", out: "m", work: Box::new(work), resumes: true }
    }

    fn predict(name: &'static str, out: &'static str, options: WriteOptions) -> Self {
        let work = move |home: &Home, _: bool| {
            prediction(home)?.publish(PredictionForm::Cells, &home.path(out), &options).map(drop)
        };
        Self { name, out, work: Box::new(work), resumes: false }
    }

    /// Two shards and their commit. Those that are whole are not written again.
    fn shards() -> Self {
        let work = |home: &Home, _: bool| {
            if !home.path("p").exists() {
                for index in 0..2 {
                    let shard = Some(Shard::new(index, 2)?);
                    let options = WriteOptions { shard, ..small_files() };
                    prediction(home)?.publish(PredictionForm::Cells, &home.path("p"), &options)?;
                }
            }
            match home.path(".p.shards").exists() {
                true => sink::commit(&Publication::of_tables(&home.path("p"), "predict")).map(drop),
                false => Ok(()),
            }
        };
        Self { name: "shards", out: "p", work: Box::new(work), resumes: true }
    }

    /// Two portable shards and their commit, after which the shards go.
    fn portable_shards() -> Self {
        let work = |home: &Home, _: bool| {
            let (out, place) = (home.path("p"), home.path(".p.shards"));
            let mut folders = Vec::new();
            for index in 0..if out.exists() { 0 } else { 2 } {
                let (shard, folder) = (Shard::new(index, 2)?, place.join(index.to_string()));
                let options = WriteOptions { shard: Some(shard), portable: true, ..small_files() };
                let prediction = prediction(home)?;
                let plan = prediction.plan(PredictionForm::Cells, &options);
                if complete_shard(&folder, &plan, shard)?.is_none() {
                    prediction.publish(PredictionForm::Cells, &folder, &options)?;
                }
                folders.push(folder);
            }
            if !out.exists() {
                commit_portable(&Publication::of_tables(&out, "predict"), &folders, &Interrupt::default(), &|_, _| ())?;
            }
            if place.exists() {
                std::fs::remove_dir_all(place).unwrap();
            }
            Ok(())
        };
        Self { name: "portable shards", out: "p", work: Box::new(work), resumes: true }
    }

    /// Its output if nothing happens, and the number of calls for it.
    fn undisturbed(&self, home: &Home) -> (Tree, usize) {
        // A fault that never comes is a count.
        let counted = inject("dead@1000000000");
        (self.work)(home, false).unwrap();
        let calls = usize::try_from(counted.calls()).unwrap();
        drop(counted);
        let expected = tree(&home.path(self.out));
        self.clear(home);
        (expected, calls)
    }

    fn clear(&self, home: &Home) {
        for name in [self.out.to_owned(), format!(".{}.shards", self.out)] {
            let path = home.path(&name);
            match path.is_dir() {
                true => std::fs::remove_dir_all(path).unwrap(),
                false => _ = std::fs::remove_file(path),
            }
        }
    }

    /// Looks at what a run left that something happened to, and tries again.
    #[track_caller]
    fn is_mended(&self, home: &Home, expected: &Tree, before: &[String], about: &str) {
        let mut allowed: BTreeSet<String> = before.iter().cloned().collect();
        allowed.insert(self.out.to_owned());
        let visible_names = visible(home);
        assert!(visible_names.iter().all(|name| allowed.contains(name)), "{about}: {visible_names:?}");
        let out = home.path(self.out);
        if out.exists() && self.name != "train" {
            same(&tree(&out), expected, &format!("{about}, what is visible"));
        }
        if self.name == "train" && out.exists() {
            match Model::load(&out, Device::Cpu) {
                Ok(_) => {
                    let found = tree(&out);
                    for name in ["model.json", "model.safetensors"].map(PathBuf::from) {
                        assert!(found[&name] == expected[&name], "{about}: what is visible of the model");
                    }
                }
                Err(error) => assert_eq!(error.exit_code(), ExitCode::Data, "{about}: {error}"),
            }
        }
        if self.resumes || !out.exists() {
            (self.work)(home, true).unwrap_or_else(|error| panic!("{about}, again: {error}"));
        }
        same(&tree(&out), expected, &format!("{about}, again"));
        assert_eq!(in_the_making(home), Vec::<PathBuf>::new(), "{about}");
        assert!(!home.path(&format!(".{}.shards", self.out)).exists(), "{about}");
    }

    /// Lets things happen at calls from the first to the last, `most` of them.
    fn survives(&self, home: &Home, faults: &[&str], most: usize) {
        let before = visible(home);
        let (expected, calls) = self.undisturbed(home);
        assert!(calls > 5, "{calls} calls are not a test");
        counted(&format!("{}: {} of {calls} calls, each {faults:?}", self.name, some_of(calls, most).len()));
        for fault in faults {
            for at in some_of(calls, most) {
                let about = format!("{}, {fault} at call {at} of {calls}", self.name);
                let injected = inject(&format!("{fault}@{at}"));
                let done = (self.work)(home, false);
                drop(injected);
                match done {
                    Ok(()) => same(&tree(&home.path(self.out)), &expected, &about),
                    Err(error) => is_reported(&error, fault, home, &about),
                }
                self.is_mended(home, &expected, &before, &about);
                self.clear(home);
            }
        }
    }
}

/// An error of the disk names what could not be done, and to which file.
#[track_caller]
fn is_reported(error: &Error, fault: &str, home: &Home, about: &str) {
    let codes: &[ExitCode] = match fault {
        "full" => &[ExitCode::NoSpace],
        "short" | "interrupted" => panic!("{about}: {error}"),
        _ => &[ExitCode::Io, ExitCode::CantCreate],
    };
    assert!(codes.contains(&error.exit_code()), "{about}: {:?}, {error}", error.exit_code());
    let message = error.to_string();
    assert!(
        message.starts_with("can't ") && message.contains(home.path("").to_string_lossy().trim_end_matches('/')),
        "{about}: {message}"
    );
}

fn small(epochs: u32) -> Vec<String> {
    let settings = TINY.split("--set ").filter_map(|part| part.split_whitespace().next());
    let settings = settings.filter(|setting| setting.contains('='));
    let more = ["train.batch_size=64".to_owned(), format!("train.epochs={epochs}"), "seed=1".to_owned()];
    settings.map(str::to_owned).chain(more).collect()
}

fn small_files() -> WriteOptions {
    WriteOptions { file_bytes: 16 << 10, ..WriteOptions::default() }
}

fn prediction(home: &Home) -> Result<Prediction> {
    let atlas = Atlas::open(home.path("s.atlas"))?;
    let model = Model::load(home.path("t"), Device::Cpu)?;
    let query = Query { to: Request::parse("observed")?, ..Query::default() };
    Prediction::prepare(&atlas, &model, &query, None, Resources::default())
}

/// A folder with an atlas and a model of it.
fn home() -> Home {
    let home = Home::new();
    (Job::ingest("ingest", IngestOptions::default()).work)(&home, false).unwrap();
    std::fs::rename(home.path("a.atlas"), home.path("s.atlas")).unwrap();
    (Job::train().work)(&home, false).unwrap();
    std::fs::rename(home.path("m"), home.path("t")).unwrap();
    home
}

const ALL: &[&str] = &["dead", "full", "broken", "short", "interrupted"];

#[test]
fn an_ingest_to_which_something_happens_at_any_call() {
    let _alone = alone();
    Job::ingest("ingest", IngestOptions::default()).survives(&Home::new(), ALL, usize::MAX);
}

#[test]
fn an_ingest_of_packed_blocks_in_the_order_of_the_file() {
    let _alone = alone();
    let options = IngestOptions { codec: Codec::Zstd, shuffle: None, ..IngestOptions::default() };
    Job::ingest("packed", options).survives(&Home::new(), ALL, 12);
}

#[test]
fn a_training_to_which_something_happens_at_any_call() {
    let _alone = alone();
    let home = home();
    Job::train().survives(&home, &["dead"], usize::MAX);
    Job::train().survives(&home, &ALL[1..], 24);
}

#[test]
fn predictions_to_which_something_happens_at_any_call() {
    let _alone = alone();
    let home = home();
    Job::predict("predict", "p", small_files()).survives(&home, ALL, usize::MAX);
    Job::predict("one file", "p.parquet", WriteOptions::default()).survives(&home, ALL, 8);
}

#[test]
fn shards_and_their_commit_to_which_something_happens_at_any_call() {
    let _alone = alone();
    let home = home();
    let whole = Job::predict("predict", "p", small_files()).undisturbed(&home).0;
    same(&Job::shards().undisturbed(&home).0, &whole, "shards");
    Job::shards().survives(&home, &["dead"], usize::MAX);
    Job::shards().survives(&home, &["full", "broken"], 24);
}

#[test]
fn portable_shards_and_their_commit_to_which_something_happens_at_any_call() {
    let _alone = alone();
    let home = home();
    let whole = Job::predict("predict", "p", small_files()).undisturbed(&home).0;
    same(&Job::portable_shards().undisturbed(&home).0, &whole, "portable shards");
    Job::portable_shards().survives(&home, &["dead"], usize::MAX);
    Job::portable_shards().survives(&home, &["full", "broken", "short", "interrupted"], 24);
}

#[test]
fn a_process_that_is_killed_leaves_what_the_next_one_mends() {
    let _alone = alone();
    let home = home();
    home.json("simulate --cells 150 --genes 40 --conditions 4 --combos 1 --density 0.3 --out s.h5ad");
    let jobs = [
        ("ingest s.h5ad --out a.atlas".to_owned(), "a.atlas", ""),
        (format!("train s.atlas --epochs 2 --out m {TINY}"), "m", " --resume"),
        ("predict t s.atlas --to observed --output cells --file-size 16KiB --out p".to_owned(), "p", ""),
    ];
    for (line, out, resume) in jobs {
        let calls = home.disk_calls(&line).len();
        let expected = tree(&home.path(out));
        for at in some_of(calls, 8) {
            std::fs::remove_dir_all(home.path(out)).unwrap();
            let ran = home.run_with_fault(&line, &format!("kill@{at}"));
            let about = format!("{line}, killed at call {at} of {calls}");
            assert_eq!(ran.code, -1, "{about}: {}", ran.stderr);
            if home.path(out).exists() && resume.is_empty() {
                same(&tree(&home.path(out)), &expected, &about);
            } else {
                home.json(&format!("{line}{}", if home.path(out).exists() { resume } else { "" }));
            }
            same(&tree(&home.path(out)), &expected, &format!("{about}, again"));
            assert_eq!(in_the_making(&home), Vec::<PathBuf>::new(), "{about}");
        }
    }
    let full = home.run_with_fault("ingest s.h5ad --out b.atlas", "full@9");
    assert_eq!(full.code, 28);
    says(&full.stderr, &["can't ", "b.atlas", "hint: free some space"]);
}

/// Files that have changed since they were synced, according to the calls.
fn unsynced(calls: &[String]) -> Vec<String> {
    let (mut dirty, mut gone): (BTreeSet<&Path>, BTreeSet<&Path>) = Default::default();
    let mut wrong = Vec::new();
    for (at, call) in calls.iter().enumerate() {
        let (what, path) = call.split_once(' ').unwrap();
        let path = Path::new(path);
        match what {
            // A file without a name is gone with its process.
            "write" if gone.contains(path) => {}
            "create" | "write" | "allocate" => drop(dirty.insert(path)),
            "sync" => drop(dirty.remove(path)),
            "remove" => {
                dirty.retain(|file| !file.starts_with(path));
                gone.insert(path);
            }
            "rename" => {
                let (from, to) = path.to_str().unwrap().split_once(" -> ").unwrap();
                let lost = dirty.iter().filter(|file| file.starts_with(from));
                wrong.extend(lost.map(|file| format!("{from} is renamed before {} is synced", file.display())));
                let (to, folder) = (Path::new(to), Path::new(to).parent().unwrap());
                let folder = if folder == Path::new("") { Path::new(".") } else { folder };
                let synced =
                    |call: &String| call.strip_prefix("sync-folder ").is_some_and(|path| Path::new(path) == folder);
                // Nothing relies on files that are only moved aside to be removed.
                let aside = to.file_name().unwrap().to_string_lossy().contains(".tmp-");
                if !aside && !calls[at..].iter().any(synced) {
                    wrong.push(format!("the folder of {} is not synced after its rename", to.display()));
                }
            }
            _ => {}
        }
    }
    wrong
}

#[test]
fn bytes_are_on_the_disk_before_names_and_names_before_the_end() {
    let _alone = alone();
    let home = home();
    home.json("simulate --cells 150 --genes 40 --conditions 4 --combos 1 --density 0.3 --out s.h5ad");
    for line in [
        "ingest s.h5ad --out a.atlas".to_owned(),
        "ingest s.h5ad --out b.atlas --no-shuffle --compress".to_owned(),
        "ingest s.h5ad --out c.atlas --in-place".to_owned(),
        "split a.atlas --name half --scheme random:0.5".to_owned(),
        format!("train s.atlas --epochs 2 --out m {TINY}"),
        "predict t s.atlas --to observed --output cells --file-size 16KiB --out p".to_owned(),
        "predict t s.atlas --to observed --output cells --partition-by condition --out q".to_owned(),
        "predict t s.atlas --to observed --out p.parquet".to_owned(),
        "predict t s.atlas --to observed --out p.h5ad".to_owned(),
        "predict t s.atlas --to observed --out r --shard 0/1".to_owned(),
        "predict --commit r".to_owned(),
        "predict t s.atlas --to observed --partition-by condition --shard 0/1 --shard-out shard".to_owned(),
        "predict --commit s --from shard".to_owned(),
    ] {
        let calls = home.disk_calls(&line);
        assert!(calls.iter().any(|call| call.starts_with("rename ")), "{line} gives nothing its name");
        assert_eq!(unsynced(&calls), Vec::<String>::new(), "{line}");
    }
}
