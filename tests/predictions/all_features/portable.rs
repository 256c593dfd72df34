//! Shards that need no common folder: each is a folder of its own, and together they are what a single run writes.

use std::{fs, path::Path};

use serde_json::{Value, json};
use stages::storage::sealed::sealed;

use crate::support::{
    Home,
    faults::{same, tree},
    says,
};

/// Cells under every condition, in many small files.
const CELLS: &str = "predict m s.atlas --to observed --output cells --file-size 48KiB";
/// Means, a file each covariate combination.
const MEANS: &str = "predict m s.atlas --to observed --file-size 1KiB";

fn home() -> Home {
    Home::with_model("condition=G00034,dose=0.5")
}

/// Writes some shards of means out of three, as folders `0`, `1` and `2`.
fn shards(home: &Home, indices: &[usize]) {
    for index in indices {
        home.json(&format!("{MEANS} --out p --shard {index}/3 --shard-out {index}"));
    }
}

/// Changes the record of a shard, as another program or machine would have written it.
fn change(folder: &Path, change: impl FnOnce(&mut Value)) {
    let path = folder.join("_shard.json");
    let mut record: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    record.as_object_mut().unwrap().remove("checksum");
    change(&mut record);
    fs::write(path, sealed(&record).unwrap()).unwrap();
}

#[test]
fn shards_that_were_moved_and_renamed_make_the_single_runs_tree() {
    let home = home();
    let parted = format!("{CELLS} --partition-by condition");
    for (name, line, of) in [("cells", CELLS, 3), ("means", MEANS, 9), ("parted", &parted, 2)] {
        home.json(&format!("{line} --out {name}"));
        let folder = home.path(&format!("moved-{name}"));
        fs::create_dir(&folder).unwrap();
        for shard in 0..of {
            home.json(&format!("{line} --out {name}-2 --shard {shard}/{of} --shard-out here"));
            fs::rename(home.path("here"), folder.join(format!("renamed {}", of - shard))).unwrap();
        }
        let before = tree(&folder);
        let folders = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
        let commit = format!("--json predict --commit {name}-2 --from");
        let ran = home.command(&commit).args(folders).output().unwrap();
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        same(&tree(&home.path(&format!("{name}-2"))), &tree(&home.path(name)), name);
        same(&tree(&folder), &before, "shards stay as they are");
        let left: Vec<_> =
            home.listing().into_iter().filter(|(name, _)| name.to_string_lossy().contains(".tmp")).collect();
        assert!(left.is_empty(), "{left:?}");
    }
    assert_eq!(home.json("verify cells-2")["damaged"], json!([]));
}

#[test]
fn a_shard_that_is_complete_is_not_written_again() {
    let home = home();
    let line = format!("{MEANS} --shard 0/3 --shard-out 0");
    let first = home.json(&line);
    let written = fs::metadata(home.path("0/_shard.json")).unwrap().modified().unwrap();
    let again = home.json(&line);
    assert_eq!((&first["rows"], &first["bytes"]), (&again["rows"], &again["bytes"]));
    assert!(first["cells_per_second"].is_number() && again["cells_per_second"].is_null());
    assert_eq!(fs::metadata(home.path("0/_shard.json")).unwrap().modified().unwrap(), written);
    assert!(home.run(&line).stdout.contains("earlier: it is complete"));

    says(
        &home.refused(65, &format!("{MEANS} --shard 1/3 --shard-out 0")),
        &["0: it is shard 0/3, not 1/3", "remove 0"],
    );
    fs::write(home.path("0/part-00000.parquet"), "half").unwrap();
    says(&home.refused(65, &line), &["part-00000.parquet is damaged", "hint: remove 0"]);
    fs::create_dir(home.path("mine")).unwrap();
    says(&home.refused(2, &format!("{MEANS} --shard 0/3 --shard-out mine")), &["mine already exists"]);
}

#[test]
fn every_shard_that_is_missing_or_wrong_is_named() {
    let home = home();
    shards(&home, &[0, 1, 2]);
    let commit = |folders: &str| format!("predict --commit p --from {folders}");
    says(&home.refused(65, &commit("2 0")), &["1 of its 3 shards missing: 1/3", "--shard 1/3"]);
    says(&home.refused(66, &commit("0 1 3")), &["3: no such shard"]);
    fs::create_dir(home.path("mine")).unwrap();
    home.json(&format!("{MEANS} --shard 0/4 --shard-out quarter"));
    home.json(&format!("{MEANS} --shard 0/3 --shard-out half --precision bf16"));
    home.json(&format!("{CELLS} --shard 0/3 --shard-out cells"));
    home.json(&format!("{MEANS} --shard 0/3 --shard-out fewer --cells-per-condition 5"));
    home.copy(&home.path("0"), "other");
    change(&home.path("other"), |record| record["files"][0]["checksum"] = json!("0123456789abcdef"));
    home.copy(&home.path("1"), "short");
    fs::write(home.path("short/part-00001.parquet"), "half").unwrap();
    home.copy(&home.path("2"), "torn");
    let record = fs::read_to_string(home.path("torn/_shard.json")).unwrap();
    fs::write(home.path("torn/_shard.json"), &record[..record.len() / 2]).unwrap();
    says(
        &home.refused(65, &commit("0 mine quarter half cells fewer other 1 short torn 2")),
        &[
            "mine: it is not a shard",
            "quarter: it is shard 0/4 of a division into 4, not 3",
            "half: it is shard 0/3 of another plan: the output is means in a wide table, as bf16",
            "cells: it is shard 0/3 of another plan: the output is cells",
            "fewer: it is shard 0/3 of another plan: flags that choose what is predicted differ",
            "other: it is shard 0/3 with other content than 0",
            "short/part-00001.parquet: damaged: it has 4 bytes",
            "torn/_shard.json",
            "hint: copy or write these shards again",
        ],
    );
    // The same shard twice is not wrong.
    home.copy(&home.path("1"), "copy");
    home.json(&commit("0 copy 1 2"));
    says(&home.refused(2, &commit("0 1 2")), &["p already exists"]);
}

#[test]
fn a_shard_whose_bytes_changed_on_the_way_is_not_published() {
    let home = home();
    shards(&home, &[0, 1, 2]);
    for file in ["0/part-00000.parquet", "1/part-00001.parquet"] {
        let mut bytes = fs::read(home.path(file)).unwrap();
        bytes[100] ^= 1;
        fs::write(home.path(file), bytes).unwrap();
    }
    let message = home.refused(65, "predict --commit p --from 0 1 2");
    says(&message, &["0/part-00000.parquet: damaged", "1/part-00001.parquet: damaged", "checksum"]);
}

#[test]
fn a_commit_that_copies_shows_its_progress() {
    let home = home();
    home.json(&format!("{CELLS} --shard 0/1 --shard-out 0"));
    let bytes = home.json(&format!("{CELLS} --shard 0/1 --shard-out 0"))["bytes"].as_u64().unwrap();
    // Each write takes so long that an event is due.
    let ran = home.run_with_fault("--progress json predict --commit p --from 0", "slow@300");
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let events = ran.stderr.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let of_bytes: Vec<Value> = events.filter(|event| event["unit"] == "bytes").collect();
    assert!(!of_bytes.is_empty(), "{}", ran.stderr);
    for event in of_bytes {
        assert!(event["of"] == bytes && event["done"].as_u64().unwrap() <= bytes, "{event}");
    }
}

#[test]
fn a_machine_with_another_atlas_model_or_program_is_refused_with_what_differs() {
    let home = home();
    shards(&home, &[0, 1]);
    home.json("ingest s.h5ad --out other.atlas --min-cells 1 --shuffle-seed 7");
    home.json(&format!(
        "train s.atlas --out other --epochs 1 --seed 9 {}",
        crate::support::TINY.replace("--seed 1", "")
    ));
    home.copy(&home.path("1"), "version");
    change(&home.path("version"), |record| {
        record["plan"] = json!("0123456789abcdef");
        record["made_from"]["program version"] = json!("0.0.9");
    });
    for (name, line) in [("atlas", MEANS.replace("s.atlas", "other.atlas")), ("model", MEANS.replace(" m ", " other "))]
    {
        says(
            &home.refused(65, &format!("{line} --shard 1/3 --shard-out 1")),
            &["1: it is shard 1/3 of another plan", name],
        );
        home.json(&format!("{line} --shard 2/3 --shard-out {name}"));
        let message = home.refused(65, &format!("predict --commit p --from 0 1 {name}"));
        says(&message, &[&format!("{name}: it is shard 2/3 of another plan: the {name} is ")]);
    }
    let differing = "of another plan: the program version is 0.0.9, not";
    says(
        &home.refused(65, "predict --commit p --from 0 version 1"),
        &[&format!("version: it is shard 1/3 {differing}")],
    );
    let message = home.refused(65, &format!("{MEANS} --shard 1/3 --shard-out version"));
    says(&message, &[&format!("version: it is shard 1/3 {differing}")]);
}

#[test]
fn a_plan_is_shown_without_its_predictions() {
    let home = home();
    let before = home.listing();
    let plan = home.json(&format!("{CELLS} --out p --plan-only"));
    assert_eq!(plan, home.json(&format!("{CELLS} --plan-only")), "it does not depend on the place");
    let sentence = home.run(&format!("{CELLS} --plan-only")).stdout;
    assert!(sentence.starts_with(&format!(
        "plan {}, {} units: cells of",
        plan["plan"].as_str().unwrap(),
        plan["units"]
    )));
    assert_eq!(home.listing(), before, "nothing is written");

    let written = home.json(&format!("{CELLS} --out p"));
    assert_eq!(plan["units"], written["files"]);
    let manifest: Value = serde_json::from_slice(&fs::read(home.path("p/_manifest.json")).unwrap()).unwrap();
    assert_eq!(plan["plan"], manifest["plan"]);
    assert_eq!(plan["made_from"]["program version"], env!("CARGO_PKG_VERSION"));
    assert!(plan["units_are"].as_str().unwrap().starts_with("files"));
    assert_ne!(plan["plan"], home.json(&format!("{MEANS} --plan-only"))["plan"]);
}

#[test]
fn flags_that_do_not_go_together_are_refused() {
    let home = home();
    for (line, parts) in [
        ("predict m s.atlas --shard-out 0", &["--shard"][..]),
        ("predict m s.atlas --out p.parquet --shard 0/2 --shard-out 0", &["p.parquet is one file"]),
        ("predict m s.atlas --shard 0/2 --shard-out 0.csv", &["0.csv is named like a file", "--shard-out"]),
        ("predict m s.atlas --out p.h5ad --shard 0/2 --shard-out 0", &["is one file, but shards write a folder"]),
        ("predict m s.atlas --plan-only --dry-run", &["--dry-run"]),
        ("predict m s.atlas --from condition=ctrl --from cell_type=type_0 --out p", &["--from is given twice"]),
        ("predict m s.atlas 0 --out p", &["unexpected argument '0'"]),
        ("predict --commit p m s.atlas", &["--commit takes no model or atlas"]),
        ("predict --commit p --plan-only", &["--plan-only"]),
        ("predict --commit p.parquet --from 0", &["p.parquet is one file"]),
    ] {
        says(&home.refused(2, line), parts);
    }
}
