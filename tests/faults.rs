//! A run that dies or whose disk fails, at each of its calls to the disk: nothing wrong is ever seen, nothing half, and the
//! next try ends with the bytes of a run that nothing happened to.

#![cfg(all(feature = "torch", feature = "hdf5"))]
#![allow(clippy::unwrap_used, reason = "a test fails where it panics")]
#![allow(unreachable_pub, reason = "a test has no outside that its support could be private to")]

mod support;

use std::collections::BTreeSet;

use self::support::{
    Home, TINY,
    faults::{Tree, in_the_making, same, some_of, tree, visible},
    says,
};

/// A command that writes, and what it writes.
struct Job {
    line: String,
    out: &'static str,
    /// What is added to try again.
    again: &'static str,
}

impl Job {
    fn new(line: &str, out: &'static str) -> Self {
        Self { line: line.to_owned(), out, again: "" }
    }

    fn training() -> Self {
        let line = format!("train s.atlas --out m --epochs 3 {TINY}");
        Self { line, out: "m", again: " --resume" }
    }

    /// What it writes if nothing happens, and how many calls that takes.
    fn undisturbed(&self, home: &Home) -> (Tree, usize) {
        let calls = home.disk_calls(&self.line).len();
        let wanted = tree(&home.path(self.out));
        self.clear(home);
        (wanted, calls)
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
    fn is_mended(&self, home: &Home, wanted: &Tree, before: &[String], about: &str) {
        let mut allowed: BTreeSet<String> = before.iter().cloned().collect();
        allowed.insert(self.out.to_owned());
        let seen = visible(home);
        assert!(seen.iter().all(|name| allowed.contains(name)), "{about}: {seen:?}");
        let out = home.path(self.out);
        let resumes = !self.again.is_empty();
        if out.exists() && !resumes {
            same(&tree(&out), wanted, &format!("{about}, what is visible"));
        } else {
            if out.join("model.json").exists() {
                let found = tree(&out);
                for name in ["model.json", "model.safetensors"].map(std::path::PathBuf::from) {
                    assert!(found[&name] == wanted[&name], "{about}: what is visible of the model");
                }
            } else if resumes && out.exists() {
                let told = home.run(&format!("inspect {}", self.out));
                assert_eq!(told.code, 65, "{about}: half a model is taken for one: {}", told.stdout);
            }
            let again = if out.exists() { self.again } else { "" };
            let ran = home.run(&format!("{}{again}", self.line));
            assert_eq!(ran.code, 0, "{about}, again: {}", ran.stderr);
            same(&tree(&out), wanted, &format!("{about}, again"));
        }
        assert_eq!(in_the_making(home), Vec::<std::path::PathBuf>::new(), "{about}");
    }

    /// Ends the process at calls from the first to the last.
    fn survives_being_killed(&self, home: &Home, most: usize) {
        let before = visible(home);
        let (wanted, calls) = self.undisturbed(home);
        assert!(10 < calls, "{calls} calls are no test");
        for at in some_of(calls, most) {
            let ran = home.run_with_fault(&self.line, &format!("kill@{at}"));
            assert_eq!(ran.code, -1, "{}, killed at call {at}: {}", self.line, ran.stderr);
            self.is_mended(home, &wanted, &before, &format!("{}, killed at call {at} of {calls}", self.line));
            self.clear(home);
        }
    }

    /// Lets the disk be full from a call on, or fail at it.
    fn survives_its_disk(&self, home: &Home, most: usize) {
        let before = visible(home);
        let (wanted, calls) = self.undisturbed(home);
        for (fault, codes) in [("full", &[28][..]), ("broken", &[73, 74])] {
            for at in some_of(calls, most) {
                let about = format!("{}, {fault} at call {at} of {calls}", self.line);
                let ran = home.run_with_fault(&self.line, &format!("{fault}@{at}"));
                assert!(!ran.stderr.contains("panicked"), "{about}: {}", ran.stderr);
                // After the last byte nothing may be in the way of it, or it is but a warning that something stays behind.
                let done = ran.code == 0;
                assert!(done || codes.contains(&ran.code), "{about}: {} {}", ran.code, ran.stderr);
                if !done {
                    says(&ran.stderr, &["can't "]);
                }
                self.is_mended(home, &wanted, &before, &about);
                self.clear(home);
            }
        }
    }

    /// Lets the disk take half of the bytes, or a signal come first: neither is an error.
    fn goes_on(&self, home: &Home, most: usize) {
        let (wanted, calls) = self.undisturbed(home);
        for fault in ["short", "interrupted"] {
            for at in some_of(calls, most) {
                let about = format!("{}, {fault} at call {at} of {calls}", self.line);
                let ran = home.run_with_fault(&self.line, &format!("{fault}@{at}"));
                assert_eq!(ran.code, 0, "{about}: {}", ran.stderr);
                same(&tree(&home.path(self.out)), &wanted, &about);
                self.clear(home);
            }
        }
    }
}

fn atlas_home() -> Home {
    let home = Home::new();
    home.json("simulate --cells 300 --genes 40 --conditions 4 --combos 1 --density 0.3 --out s.h5ad");
    home
}

fn model_home() -> Home {
    let home = atlas_home();
    home.json("ingest s.h5ad --out s.atlas");
    home.json(&format!("train s.atlas --out m --epochs 1 {TINY}"));
    home
}

const INGEST: &str = "ingest s.h5ad --out a.atlas";
const CELLS: &str = "predict m s.atlas --to observed --output cells --file-size 48KiB --out p";

#[test]
fn an_ingest_that_is_killed_at_any_call() {
    Job::new(INGEST, "a.atlas").survives_being_killed(&atlas_home(), usize::MAX);
}

#[test]
fn an_ingest_whose_disk_fails_at_any_call() {
    let home = atlas_home();
    let job = Job::new(INGEST, "a.atlas");
    job.survives_its_disk(&home, usize::MAX);
    job.goes_on(&home, 12);
}

#[test]
fn an_ingest_of_packed_blocks_in_the_order_of_the_file() {
    let home = atlas_home();
    Job::new("ingest s.h5ad --out a.atlas --no-shuffle --compress", "a.atlas").survives_being_killed(&home, 8);
    Job::new("ingest s.h5ad --out a.atlas --in-place", "a.atlas").survives_being_killed(&home, 8);
}

#[test]
fn a_training_that_is_killed_at_any_call() {
    let home = atlas_home();
    home.json("ingest s.h5ad --out s.atlas");
    Job::training().survives_being_killed(&home, 60);
}

#[test]
fn a_training_whose_disk_fails_at_any_call() {
    let home = atlas_home();
    home.json("ingest s.h5ad --out s.atlas");
    Job::training().survives_its_disk(&home, 16);
    Job::training().goes_on(&home, 6);
}

#[test]
fn predictions_that_are_killed_at_any_call() {
    let home = model_home();
    Job::new(CELLS, "p").survives_being_killed(&home, 60);
    Job::new(&format!("{CELLS}.parquet"), "p.parquet").survives_being_killed(&home, 12);
    Job::new(&format!("{CELLS}.h5ad"), "p.h5ad").undisturbed(&home);
}

#[test]
fn predictions_whose_disk_fails_at_any_call() {
    let home = model_home();
    let job = Job::new(CELLS, "p");
    job.survives_its_disk(&home, 20);
    job.goes_on(&home, 8);
}

#[test]
fn shards_and_their_commit_that_are_killed_at_any_call() {
    let home = model_home();
    home.json(CELLS);
    let wanted = tree(&home.path("p"));
    let job = Job::new(CELLS, "p");
    job.clear(&home);
    let shard = |index: usize| format!("{CELLS} --shard {index}/2");
    let calls = [shard(0), shard(1), "predict --commit p".to_owned()].map(|line| (home.disk_calls(&line).len(), line));
    same(&tree(&home.path("p")), &wanted, "shards");
    for (which, (last, line)) in calls.iter().enumerate() {
        for at in some_of(*last, 14) {
            job.clear(&home);
            for (_, before) in &calls[..which] {
                home.json(before);
            }
            assert_eq!(home.run_with_fault(line, &format!("kill@{at}")).code, -1, "{line}, call {at}");
            let about = format!("{line}, killed at call {at} of {last}");
            if home.path("p").exists() {
                same(&tree(&home.path("p")), &wanted, &about);
            }
            for (_, again) in &calls[which..] {
                home.json(again);
            }
            same(&tree(&home.path("p")), &wanted, &format!("{about}, again"));
            assert!(!home.path(".p.shards").exists(), "{about}: what was in the making stays");
        }
    }
}
