//! Training depends only on data, settings and seed; a stopped run continues as if it had not been stopped.

use std::{
    fs,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use schemas::{
    atlas::Codec,
    chunk::{Chunk, CsrRows},
    ids::CellIndex,
};
use serde_json::Value;
use stages::reader::{
    atlas::Atlas,
    split::{Split, SplitPart},
};

use crate::support::{Home, TINY, says, simulator, store};

fn weights(home: &Home, model: &str) -> Vec<u8> {
    fs::read(home.path(model).join("model.safetensors")).unwrap()
}

/// The measurements of an epoch, except for times.
fn history(home: &Home, model: &str) -> Vec<Value> {
    let text = fs::read_to_string(home.path(model).join("history.jsonl")).unwrap();
    let mut lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for line in &mut lines {
        line.as_object_mut()
            .unwrap()
            .retain(|key, _| ["epoch", "train", "valid"].contains(&key.split('.').next().unwrap()));
    }
    lines
}

#[test]
fn neither_workers_nor_blocks_nor_the_way_of_reading_change_a_weight() {
    let home = Home::with_atlas();
    home.json("ingest s.h5ad --out small.atlas --compress");
    let train = format!("--epochs 2 {TINY}");
    home.json(&format!("train s.atlas --out m {train}"));
    let ways = [
        "train s.atlas",
        "--threads 1 train s.atlas",
        "--threads 5 train s.atlas",
        "--access read train s.atlas",
        "--memory 1MiB train s.atlas",
        "train small.atlas",
        "--access read train small.atlas",
    ];
    for (at, way) in ways.into_iter().enumerate() {
        let model = format!("m{at}");
        home.json(&format!("{way} --out {model} {train}"));
        assert!(weights(&home, &model) == weights(&home, "m"), "{way}");
        assert_eq!(history(&home, &model), history(&home, "m"), "{way}");
    }
    home.json(&format!("train s.atlas --out other {train} --seed 2").replace("--seed 1 ", ""));
    assert!(weights(&home, "other") != weights(&home, "m"), "another seed, another model");
}

#[test]
fn any_number_of_threads_trains_and_validates_the_same_model() {
    let home = Home::new();
    // Large enough for steps in several pieces, and for libtorch to divide what it computes in validation.
    home.json("simulate --cells 1500 --genes 800 --conditions 6 --cell-types 2 --out s.h5ad");
    home.json("ingest s.h5ad --out s.atlas");
    for threads in [1, 2, 3] {
        let line = format!("--threads {threads} train s.atlas --out m{threads} --epochs 2 --seed 1 --device cpu");
        let trained = home.command(&line).env("OMP_NUM_THREADS", threads.to_string()).output().unwrap();
        assert!(trained.status.success(), "{}", String::from_utf8_lossy(&trained.stderr));
    }
    for model in ["m2", "m3"] {
        assert!(weights(&home, model) == weights(&home, "m1"), "{model}");
        assert_eq!(history(&home, model), history(&home, "m1"), "{model}");
    }
}

/// The same cells, but those that `changed` names have other genes and counts.
fn with_other_values(chunk: &Chunk, changed: impl Fn(usize) -> bool) -> Chunk {
    let rows = &chunk.expression;
    let (mut genes, mut values) = (Vec::new(), Vec::new());
    for row in 0..rows.rows() {
        let (row_genes, row_values) = rows.row(row);
        let (shift, more) = if changed(row) { (7, 40.0) } else { (0, 0.0) };
        genes.extend(row_genes.iter().map(|gene| (gene + shift) % 60));
        values.extend(row_values.iter().map(|value| value + more));
    }
    let expression = CsrRows::canonical(rows.row_pointers().to_vec(), genes, values, 60).unwrap();
    Chunk { expression, ..chunk.clone() }
}

#[test]
fn nothing_that_is_held_out_is_seen_in_training() {
    let home = Home::new();
    let simulator = simulator(600, true);
    let chunk = simulator.chunk(0..600).unwrap();
    let atlas = store(&chunk, simulator.genes(), &home.path("a.atlas"), Codec::Raw);
    let name = atlas.manifest().conditions.combinations().last().unwrap().name.clone();
    let split = format!("--name held --hold-out condition={name} --hold-out condition=ctrl,cell_type=type_1");
    home.json(&format!("split a.atlas {split}"));
    let held = Split::read(&atlas, "held").unwrap();
    let changed = |name: &str, part: SplitPart| -> Atlas {
        let is_changed = |row: usize| held.part(CellIndex(row as u64)) == part;
        store(&with_other_values(&chunk, is_changed), simulator.genes(), &home.path(name), Codec::Raw)
    };
    let (ood, valid) = (changed("ood.atlas", SplitPart::Ood), changed("valid.atlas", SplitPart::Valid));
    assert_ne!(ood.manifest().checksum, atlas.manifest().checksum);
    assert_ne!(valid.manifest().checksum, atlas.manifest().checksum);
    for atlas in ["ood.atlas", "valid.atlas"] {
        home.json(&format!("split {atlas} {split}"));
    }
    let train = |atlas: &str| home.json(&format!("train {atlas} --out {atlas}.model --split held --epochs 3 {TINY}"));
    let (plain, other) = (train("a.atlas"), train("ood.atlas"));
    assert!(weights(&home, "ood.atlas.model") == weights(&home, "a.atlas.model"), "held-out cells changed the weights");
    assert_eq!(history(&home, "ood.atlas.model"), history(&home, "a.atlas.model"));
    assert_eq!(other["selection"], plain["selection"]);
    // The check can fail: cells that are looked at do show.
    train("valid.atlas");
    assert_ne!(history(&home, "valid.atlas.model"), history(&home, "a.atlas.model"));
}

#[test]
fn a_run_that_was_stopped_goes_on_as_if_it_had_not_been() {
    // Everything that is drawn at random: dropout, the latents, the pairs and shares of mixup.
    goes_on_as_if_not_stopped("--set model.variational=true --set train.mixup_alpha=0.4 --set adversary.adv_steps=3");
}

#[test]
fn so_does_one_that_averages_its_weights_over_steps_of_several_batches() {
    let averages = "--set train.average=ema --set train.average_decay=0.9 --set train.average_start=3";
    goes_on_as_if_not_stopped(&format!("{averages} --set train.accumulate=3"));
    goes_on_as_if_not_stopped("--set train.average=swa --set train.average_start=3 --set train.checkpointing=true");
}

fn goes_on_as_if_not_stopped(settings: &str) {
    let home = Home::with_atlas();
    let train = format!("{TINY} --epochs 60 --set train.early_stopping_patience=0 {settings}");
    home.json(&format!("train s.atlas --out whole {train}"));

    let line = format!("train s.atlas --out stopped {train}");
    for stop in 1..=2 {
        let resume = if stop == 1 { "" } else { " --resume" };
        let mut run = home.command(&format!("{line}{resume}")).stderr(Stdio::piped()).spawn().unwrap();
        let lines = || fs::read_to_string(home.path("stopped/history.jsonl")).map_or(0, |text| text.lines().count());
        let started = Instant::now();
        while lines() < 8 * stop {
            assert!(started.elapsed() < Duration::from_secs(60), "training does not get on");
            assert!(run.try_wait().unwrap().is_none(), "training ended before it could be stopped");
            std::thread::sleep(Duration::from_millis(2));
        }
        assert!(Command::new("kill").args(["-TERM", &run.id().to_string()]).status().unwrap().success());
        let requested_at = Instant::now();
        let output = run.wait_with_output().unwrap();
        let message = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(75), "{message}");
        assert!(requested_at.elapsed() < Duration::from_secs(5), "it took {:?} to stop", requested_at.elapsed());
        assert!(message.contains("--resume"), "the message says what to do next: {message}");
        assert!(!home.path("stopped/model.json").exists(), "a run that was stopped publishes nothing");
        assert_eq!(home.run("inspect stopped").code, 65);
    }
    home.json(&format!("{line} --resume"));
    assert!(weights(&home, "stopped") == weights(&home, "whole"), "the weights differ from an uninterrupted run's");
    assert_eq!(history(&home, "stopped"), history(&home, "whole"));
}

#[test]
fn a_run_that_has_ended_is_resumed_to_the_same_model() {
    let home = Home::with_atlas();
    let line = format!("train s.atlas --out m --epochs 2 {TINY}");
    home.json(&line);
    let (before, epochs) = (weights(&home, "m"), history(&home, "m"));
    home.json(&format!("{line} --resume"));
    assert!(weights(&home, "m") == before);
    assert_eq!(history(&home, "m"), epochs);
}

#[test]
fn a_run_is_resumed_with_the_same_genes_whatever_their_list_is_called() {
    let home = Home::with_atlas();
    let atlas = Atlas::open(home.path("s.atlas")).unwrap();
    let list = |name: &str, genes: &[String]| fs::write(home.path(name), genes.join("\n")).unwrap();
    list("first.txt", &atlas.genes()[..20]);
    list("second.txt", &atlas.genes()[..20]);
    list("third.txt", &atlas.genes()[1..21]);
    let line = |name: &str| format!("train s.atlas --out m --epochs 2 --genes {name} {TINY}");
    home.json(&line("first.txt"));
    let before = weights(&home, "m");
    home.json(&format!("{} --resume", line("second.txt")));
    assert!(weights(&home, "m") == before);
    says(&home.refused(2, &format!("{} --resume", line("third.txt"))), &["the genes differ"]);
    says(&home.refused(2, &format!("{} --set train.lr=0.5 --resume", line("first.txt"))), &["the settings differ"]);
}

#[test]
fn a_damaged_checkpoint_gives_way_to_the_one_before() {
    let home = Home::with_atlas();
    let line = format!("train s.atlas --out m --epochs 2 {TINY}");
    home.json(&line);
    let before = weights(&home, "m");
    let newest = home.path("m/checkpoint/000002-000000000/state.safetensors");
    let mut bytes = fs::read(&newest).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    home.copy(&home.path("m/checkpoint/000002-000000000"), "m/checkpoint/000002-000000001");
    fs::write(home.path("m/checkpoint/000002-000000001/state.safetensors"), bytes).unwrap();
    home.json(&format!("{line} --resume"));
    assert!(weights(&home, "m") == before);
}
