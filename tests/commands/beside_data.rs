//! The atlas next to a data file: it belongs to the file, however its path is written, and keeps what users put into it.

use std::{
    fs,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant, SystemTime},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::{
    Home, Ran, TINY,
    h5ad::{copy_column, h5ad, set_column},
    says, skipped,
};

/// A folder with `s.h5ad`, a model `m` of it, and the atlas that this left next to it, with a split of the user's.
fn trained() -> Home {
    let home = Home::new();
    h5ad(&home, "s.h5ad", |_| {});
    home.json(&format!("train s.h5ad --out m --epochs 1 {TINY}"));
    home.json("split s.atlas --name mine --scheme random:0.2");
    home
}

fn splits(home: &Home) -> serde_json::Value {
    home.json("inspect s.atlas")["splits"].clone()
}

#[test]
fn however_a_file_is_spelled_its_atlas_is_found_and_its_splits_stay() {
    let home = trained();
    let before = splits(&home);
    assert!(before["mine"].is_object(), "{before}");
    fs::create_dir(home.path("sub")).unwrap();
    let absolute = home.path("s.h5ad").display().to_string();
    for spelled in ["s.h5ad", "./s.h5ad", "sub/../s.h5ad", &absolute] {
        let ran = home.run(&format!("predict m {spelled} --to observed --dry-run --out p"));
        assert!(ran.code == 0 && ran.stderr.contains("using "), "{spelled}: {}", ran.stderr);
        assert_eq!(splits(&home), before, "{spelled}");
    }
}

#[test]
fn an_atlas_that_is_made_anew_takes_its_splits_along_or_stays() {
    let home = trained();
    let before = splits(&home);
    let ran = home.run(&format!("train s.h5ad --out other --covariates= --epochs 1 {TINY}"));
    assert!(ran.code == 0 && ran.stderr.contains("the flags have changed"), "{}", ran.stderr);
    assert!(ran.stderr.contains("keeping its splits: mine"), "{}", ran.stderr);
    assert_eq!(splits(&home), before);
    // Other cells: what the split says of the old ones is not lost.
    home.json("simulate --cells 120 --genes 60 --conditions 6 --combos 2 --cell-types 2 --doses 2 --out other.h5ad");
    fs::rename(home.path("other.h5ad"), home.path("s.h5ad")).unwrap();
    let message = home.refused(2, &format!("train s.h5ad --out another --covariates= --epochs 1 {TINY}"));
    says(&message, &["can't be rebuilt without losing a split", "mine.parquet: it has ", "120 cells"]);
    assert!(!message.contains("damaged"), "the split is whole, but of other cells: {message}");
    assert_eq!(splits(&home), before);
    fs::remove_dir_all(home.path("s.atlas")).unwrap();
    home.json("predict m s.h5ad --to observed --dry-run --out p");
    assert_eq!(home.json("inspect s.atlas")["cells"], 120);
    // Another file would have its atlas in the same place.
    fs::copy(home.path("s.h5ad"), home.path("s.h5")).unwrap();
    let message = home.refused(2, "predict m s.h5 --to observed --dry-run --out p");
    says(&message, &["s.atlas was made from s.h5ad, not from s.h5"]);
}

#[test]
fn a_model_refuses_the_atlas_of_its_file_once_labels_are_read_otherwise() {
    let home = Home::new();
    h5ad(&home, "s.h5ad", |chunk| copy_column(chunk, "condition", "second"));
    home.json(&format!("train s.h5ad --out m --perturbation condition --epochs 1 {TINY}"));
    home.json(&format!("train s.h5ad --out other --perturbation second --epochs 1 {TINY}"));
    home.json("split s.atlas --name new --scheme random:0.2");
    for command in ["predict m s.h5ad --to observed --out p", "evaluate m s.h5ad --split new", "embed m s.h5ad --out e"]
    {
        let parts = ["not read as the data of the model", "`second`, in the model `condition`", "of its own"];
        says(&home.refused(65, command), &parts);
    }
    home.json("ingest s.h5ad --perturbation condition --out own.atlas");
    home.json("predict m own.atlas --to observed --out p");
    // Cells without labels are those of any model.
    home.json("ingest s.h5ad --no-perturbation --covariates cell_type --out bare.atlas");
    home.json("embed m bare.atlas --out e");
}

#[test]
fn an_atlas_is_not_trained_on_as_flags_of_ingest_say_otherwise() {
    let home = Home::with_atlas();
    for (flags, named) in [
        ("--filter cell_type=type_0", "--filter, --drop-label or --min-cells"),
        ("--layer counts", "--layer, --raw or --genome"),
        ("--covariates batch", "--covariates"),
        ("--perturbation batch", "--perturbation"),
    ] {
        let refused = home.refused(2, &format!("train s.atlas --out m --epochs 1 {TINY} {flags}"));
        says(&refused, &[&format!("s.atlas was made with a different {named}")]);
    }
    home.json(&format!("train s.atlas --out m --epochs 1 --perturbation condition --control ctrl {TINY}"));
}

#[test]
fn of_several_first_trainings_on_one_file_one_makes_the_atlas_and_all_use_it() {
    let home = Home::new();
    h5ad(&home, "s.h5ad", |_| {});
    let started: Vec<_> = (0..4)
        .map(|at| {
            let mut command = home.command(&format!("train s.h5ad --out m{at} --epochs 1 {TINY}"));
            let piped = std::process::Stdio::piped;
            command.stdout(piped()).stderr(piped()).spawn().unwrap()
        })
        .collect();
    let messages: Vec<String> = started
        .into_iter()
        .map(|child| {
            let ran = child.wait_with_output().unwrap();
            let message = String::from_utf8(ran.stderr).unwrap();
            assert_eq!(ran.status.code(), Some(0), "{message}");
            message
        })
        .collect();
    assert_eq!(messages.iter().filter(|message| message.contains("(once)")).count(), 1, "{messages:?}");
    assert_eq!(messages.iter().filter(|message| message.contains("using s.atlas")).count(), 3, "{messages:?}");
    let left: Vec<_> = home.listing().into_iter().filter(|(path, _)| path.to_string_lossy().starts_with('.')).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn an_atlas_of_the_user_is_that_of_a_file_by_its_content_and_not_by_its_length() {
    let home = Home::new();
    let of_type = |name: &str, first: &'static str, then: &'static str| {
        h5ad(&home, name, |chunk| {
            set_column(chunk, "cell_type", "cell_type", |row, _| if row < 40 { first } else { then }.into());
        });
    };
    of_type("s.h5ad", "T", "B");
    of_type("other.h5ad", "B", "T");
    let length = |name: &str| fs::metadata(home.path(name)).unwrap().len();
    assert_eq!(length("s.h5ad"), length("other.h5ad"));
    home.json("ingest s.h5ad --out s.atlas --no-shuffle");
    let checksum = home.json("inspect s.atlas")["checksum"].clone();
    // A copy is the same file, though it was written later.
    fs::copy(home.path("s.h5ad"), home.path("copy")).unwrap();
    fs::rename(home.path("copy"), home.path("s.h5ad")).unwrap();
    home.json(&format!("train s.h5ad --out m --epochs 1 {TINY}"));
    assert_eq!(home.json("inspect s.atlas")["checksum"], checksum);
    fs::rename(home.path("other.h5ad"), home.path("s.h5ad")).unwrap();
    let message = home.refused(2, &format!("train s.h5ad --out n --epochs 1 {TINY}"));
    says(&message, &["s.atlas was made from another version of s.h5ad"]);
}

/// Names in the folder that the command's atlas gets before it is whole.
fn hidden_atlases(home: &Home) -> Vec<String> {
    let names = fs::read_dir(home.path("")).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.contains(".s.atlas.anew")).collect()
}

/// A training on `s.h5ad` that was stopped while it makes its atlas.
fn stopped_while_it_makes_an_atlas(home: &Home) -> std::process::Child {
    let mut train = home.command(&format!("train s.h5ad --out m --epochs 1 {TINY}"));
    train.env("PERTURBINE_FAULT", "slow@200").stdout(Stdio::null()).stderr(Stdio::piped());
    let train = train.spawn().unwrap();
    let start = Instant::now();
    while hidden_atlases(home).is_empty() {
        assert!(start.elapsed() < Duration::from_secs(120), "no atlas is made");
        thread::sleep(Duration::from_millis(5));
    }
    kill_process(Pid::from_child(&train), Signal::STOP).unwrap();
    train
}

/// The message of a command that goes on and is refused.
fn refused_when_it_goes_on(train: std::process::Child) -> String {
    kill_process(Pid::from_child(&train), Signal::CONT).unwrap();
    let ran = train.wait_with_output().unwrap();
    let message = String::from_utf8(ran.stderr).unwrap();
    assert_eq!(ran.status.code(), Some(2), "{message}");
    message
}

#[test]
fn an_atlas_of_the_user_that_appears_while_another_one_is_made_is_not_replaced() {
    let home = Home::new();
    h5ad(&home, "s.h5ad", |_| {});
    let train = stopped_while_it_makes_an_atlas(&home);
    home.json("ingest s.h5ad --out s.atlas --covariates batch");
    let before = home.json("inspect s.atlas");
    let message = refused_when_it_goes_on(train);
    says(&message, &["s.atlas was written by another command in the meantime", "run the command again to use it"]);
    assert_eq!(home.json("inspect s.atlas"), before);
    assert!(hidden_atlases(&home).is_empty() && !home.path("m").exists());
}

#[test]
fn what_is_put_into_an_atlas_while_it_is_made_again_is_not_lost() {
    let home = trained();
    fs::remove_dir_all(home.path("m")).unwrap();
    h5ad(&home, "s.h5ad", |chunk| set_column(chunk, "batch", "other", |_, batch| batch.to_owned()));
    let train = stopped_while_it_makes_an_atlas(&home);
    fs::write(home.path("s.atlas/notes.txt"), "mine").unwrap();
    let message = refused_when_it_goes_on(train);
    says(&message, &["s.atlas/notes.txt would be lost when s.atlas is replaced"]);
    assert!(home.path("s.atlas/notes.txt").exists() && hidden_atlases(&home).is_empty());
}

/// Runs a command while the folder `data` is read-only, for all users; none where that can't be arranged.
fn run_on_read_only_data(home: &Home, line: &str) -> Option<Ran> {
    let run = |line: &str| {
        let script = format!("mount --bind data data && mount -o remount,bind,ro data && {line}");
        let mut unshare = Command::new("unshare");
        unshare.args(["--map-root-user", "--mount", "sh", "-c", &script]).current_dir(home.path(""));
        unshare.env("OMP_NUM_THREADS", "1").output()
    };
    if !run("! touch data/probe").is_ok_and(|output| output.status.success()) {
        skipped("this user may not make a folder read-only");
        return None;
    }
    let output = run(&format!("{} {line}", env!("CARGO_BIN_EXE_perturbine"))).unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Some(Ran { code: output.status.code().unwrap_or(-1), stdout: text(output.stdout), stderr: text(output.stderr) })
}

#[test]
fn a_touched_file_in_a_read_only_folder_has_the_same_atlas() {
    let home = Home::new();
    fs::create_dir(home.path("data")).unwrap();
    h5ad(&home, "data/s.h5ad", |_| {});
    home.json(&format!("train data/s.h5ad --out m --epochs 1 {TINY}"));
    let touch = |seconds: u64| {
        let file = fs::File::options().append(true).open(home.path("data/s.h5ad")).unwrap();
        file.set_modified(SystemTime::now() + Duration::from_secs(seconds)).unwrap();
    };
    let record = || fs::read_to_string(home.path("data/s.atlas/source.json")).unwrap();
    let before = record();
    touch(10);
    let Some(ran) = run_on_read_only_data(&home, "predict m data/s.h5ad --to observed --out p") else { return };
    assert!(ran.code == 0 && ran.stderr.contains("using data/s.atlas"), "{}", ran.stderr);
    assert!(home.path("p").is_dir());
    assert_eq!(record(), before);
    // Where the folder can be written to, the new time is recorded.
    home.json("predict m data/s.h5ad --to observed --dry-run --out q");
    assert_ne!(record(), before);
    // Other cells would need another atlas.
    fs::remove_file(home.path("data/s.h5ad")).unwrap();
    h5ad(&home, "data/s.h5ad", |chunk| set_column(chunk, "batch", "batch", |_, _| "another".into()));
    let line = format!("train data/s.h5ad --out n --epochs 1 {TINY}");
    let ran = run_on_read_only_data(&home, &line).unwrap();
    assert_eq!(ran.code, 73, "{}", ran.stderr);
}
