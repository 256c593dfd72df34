//! Properties of `crossval`: each item is held out once, the table is the mean of its folds, and nothing is trained twice.

use std::{
    fs,
    io::{BufRead, BufReader},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use schemas::{atlas::Codec, conditions::CONTROL, ids::CellIndex};
use serde_json::Value;
use stages::{
    evaluate::{Baseline, PredictionScores},
    reader::{
        atlas::Atlas,
        split::{Folds, Scheme, SplitPart, SplitShares},
    },
    simulate::{SimulateSettings, Simulator},
};

use crate::support::{self, Home, TINY, parquet, says, store};

fn folds(atlas: &Atlas, scheme: &str, seed: u64) -> Folds {
    Folds::new(atlas, &Scheme::parse(scheme).unwrap(), seed).unwrap()
}

fn cells(atlas: &Atlas) -> impl Iterator<Item = CellIndex> {
    (0..atlas.cells()).map(CellIndex)
}

/// How many folds hold a cell out.
fn times(folds: &Folds, cell: CellIndex) -> usize {
    (0..folds.names().len()).filter(|fold| folds.holds_out(*fold, cell)).count()
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is not a number"))
}

fn near(found: &Value, expected: f64) {
    assert!((number(found) - expected).abs() < 1e-9, "{found} is not {expected}");
}

#[test]
fn every_held_out_item_is_held_out_once() {
    let home = Home::new();
    let (atlas, _) = support::atlas(&home, "a.atlas", 600, true, Codec::Raw);
    let table = &atlas.manifest().conditions;
    let perturbations = |cell| table.combination_of(atlas.condition(cell)).perturbations.len();
    let [types, combos, perturbed, random] =
        ["leave-out:cell_type", "combos:0.2", "perturbations:0.2", "random:0.2"].map(|scheme| folds(&atlas, scheme, 0));
    assert_eq!(types.names(), ["type_0", "type_1"]);
    assert_eq!(
        (combos.names().len(), perturbed.names().len()),
        (2, 4),
        "there are no more combinations and perturbations"
    );
    assert_eq!(random.names(), ["1", "2", "3", "4", "5"]);
    for cell in cells(&atlas) {
        assert_eq!(times(&types, cell), usize::from(perturbations(cell) > 0), "controls stay in training");
        assert_eq!(times(&combos, cell), usize::from(perturbations(cell) > 1));
        assert_eq!(times(&perturbed, cell), perturbations(cell), "each perturbation by itself");
        assert_eq!(times(&random, cell), 1);
    }
}

#[test]
fn a_fold_is_a_split_that_the_seed_decides() {
    let home = Home::new();
    let (atlas, _) = support::atlas(&home, "a.atlas", 600, true, Codec::Raw);
    for scheme in ["leave-out:cell_type", "combos:0.5", "perturbations:0.5", "random:0.25"] {
        let (one, again) = (folds(&atlas, scheme, 4), folds(&atlas, scheme, 4));
        for fold in 0..one.names().len() {
            let split = one.split(fold, SplitShares::default()).unwrap();
            assert_eq!(split, again.split(fold, SplitShares::default()).unwrap(), "{scheme}");
            assert_eq!(split.name(), one.names()[fold]);
            for cell in cells(&atlas) {
                assert_eq!(split.part(cell) == SplitPart::Ood, one.holds_out(fold, cell), "{scheme}");
            }
            assert!(split.counts().values().all(|count| *count > 0), "{scheme}: {:?}", split.counts());
        }
    }
    let held = |seed| cells(&atlas).filter(|cell| folds(&atlas, "random:0.25", seed).holds_out(0, *cell)).count();
    assert_ne!((held(1), held(2), held(3)), (held(4), held(5), held(6)), "another seed, another division");
}

#[test]
fn where_there_is_one_condition_a_fold_is_one_types_treated_cells() {
    let home = Home::new();
    let settings = SimulateSettings {
        cells: 400,
        genes: 40,
        conditions: 1,
        combos: 0,
        cell_types: 5,
        ..SimulateSettings::default()
    };
    let simulator = Simulator::new(settings).unwrap();
    let atlas = store(&simulator.chunk(0..400).unwrap(), simulator.genes(), &home.path("k.atlas"), Codec::Raw);
    let folds = folds(&atlas, "leave-out:cell_type", 0);
    assert_eq!(folds.names().len(), 5);
    for cell in cells(&atlas) {
        assert_eq!(times(&folds, cell), usize::from(atlas.condition(cell) != CONTROL));
    }
}

#[test]
fn the_means_of_the_table_are_those_of_its_folds_and_nothing_is_trained_twice() {
    let home = Home::with_atlas();
    let line = format!("crossval s.atlas --scheme leave-out:cell_type --seeds 2 --epochs 2 {TINY} --out cv");
    let first = home.run(&format!("--json {line}"));
    assert_eq!(first.code, 0, "{}", first.stderr);
    assert_eq!(first.stderr.matches("training on").count(), 4, "{}", first.stderr);
    let crossed: Value = serde_json::from_str(&first.stdout).unwrap();
    let folds = crossed["folds"].as_array().unwrap();
    let runs: Vec<_> =
        folds.iter().map(|fold| (fold["name"].as_str().unwrap(), fold["seed"].as_u64().unwrap())).collect();
    assert_eq!(runs, [("type_0", 1), ("type_0", 2), ("type_1", 1), ("type_1", 2)]);

    let score_of = |at: usize| number(&folds[at]["evaluation"]["mean"]["pearson_delta"]);
    let all = [score_of(0), score_of(1), score_of(2), score_of(3)];
    assert_ne!(all[0], all[1], "another seed, another model");
    near(&crossed["mean"]["pearson_delta"], all.iter().sum::<f64>() / 4.0);
    let deviation = |one: f64, other: f64| (one - other).abs() / 2.0_f64.sqrt();
    near(&crossed["sd_folds"]["pearson_delta"], deviation((all[0] + all[1]) / 2.0, (all[2] + all[3]) / 2.0));
    near(&crossed["sd_seeds"]["pearson_delta"], deviation((all[0] + all[2]) / 2.0, (all[1] + all[3]) / 2.0));
    for baseline in Baseline::ALL {
        let score_of = |at: usize| number(&folds[at]["evaluation"]["baselines"][baseline.name()]["mse_delta"]);
        near(
            &crossed["baselines"][baseline.name()]["mse_delta"],
            (score_of(0) + score_of(1) + score_of(2) + score_of(3)) / 4.0,
        );
    }
    assert_eq!(crossed["baselines"]["control"]["pearson_delta"], Value::Null);
    assert!(crossed["summary"].as_str().unwrap().contains(" of 2 folds"), "{}", crossed["summary"]);

    let kept: Value = serde_json::from_slice(&fs::read(home.path("cv/crossval.json")).unwrap()).unwrap();
    assert_eq!(kept, crossed);
    let table = parquet::read(&home.path("cv/crossval.parquet"));
    assert_eq!(table.num_rows(), 4 * (2 + Baseline::ALL.len()) * PredictionScores::NAMES.len());
    let by_itself = home.json("evaluate cv/fold-type_1/seed-2 s.atlas");
    near(&by_itself["mean"]["pearson_delta"], all[3]);

    // The models are complete: nothing is trained, and the result is the same.
    let again = home.run(&format!("--json {line}"));
    assert_eq!(again.stderr.matches("already done").count(), 4, "{}", again.stderr);
    assert!(!again.stderr.contains("training on"), "{}", again.stderr);
    assert_eq!(serde_json::from_str::<Value>(&again.stdout).unwrap(), crossed);

    // A model that was removed is trained again.
    fs::remove_dir_all(home.path("cv/fold-type_1/seed-2")).unwrap();
    let again = home.run(&format!("--json {line}"));
    assert_eq!(again.stderr.matches("already done").count(), 3, "{}", again.stderr);
    assert_eq!(serde_json::from_str::<Value>(&again.stdout).unwrap()["mean"], crossed["mean"]);

    // Another scale judges the models that are there; another seed trains only its own.
    let raw = home.run(&format!("{line} --readout raw"));
    assert!(!raw.stderr.contains("training on"), "{}", raw.stderr);
    let lines: Vec<&str> = raw.stdout.lines().collect();
    assert!(
        lines[0].starts_with("fold") && lines[1].starts_with("type_0") && lines[2].starts_with("type_1"),
        "{}",
        raw.stdout
    );
    assert!(raw.stdout.contains("± seeds") && raw.stdout.contains("ceiling"), "{}", raw.stdout);
    let more = home.run(&line.replace("--seeds 2", "--seeds 3"));
    assert_eq!(more.stderr.matches("training on").count(), 2, "{}", more.stderr);

    let other = home.refused(2, &format!("{line} --set train.lr=0.5"));
    says(&other, &["cv were trained with different settings", "--out"]);
    let other = home.refused(2, &line.replace("leave-out:cell_type", "random:0.5"));
    says(&other, &["a different --scheme"]);
}

#[test]
fn models_of_other_lists_of_genes_are_not_put_together() {
    let home = Home::with_atlas();
    let genes = Atlas::open(home.path("s.atlas")).unwrap().genes().to_vec();
    let list = |count: usize| fs::write(home.path("genes.txt"), genes[..count].join("\n")).unwrap();
    let scheme = "--scheme leave-out:cell_type --epochs 1 --genes genes.txt";
    let line = format!("crossval s.atlas {scheme} {TINY}");
    list(20);
    let crossed = home.json(&format!("{line} --out cv"));
    home.json(&format!("{line} --shard 0/2 --shard-out 0"));
    list(15);
    says(&home.refused(2, &format!("{line} --out cv")), &["the list of genes is not as it was when the models in cv"]);
    says(&home.refused(65, &format!("{line} --shard 0/2 --shard-out 0")), &["the checksum of the list of genes is "]);
    home.json(&format!("{line} --shard 1/2 --shard-out 1"));
    says(&home.refused(65, "crossval --commit other --from 0 1"), &["the checksum of the list of genes is "]);
    list(20);
    fs::rename(home.path("genes.txt"), home.path("renamed.txt")).unwrap();
    let again = home.run(&format!("--json {} --out cv", line.replace("genes.txt", "renamed.txt")));
    assert_eq!(again.stderr.matches("already done").count(), 2, "{}", again.stderr);
    assert_eq!(serde_json::from_str::<Value>(&again.stdout).unwrap()["mean"], crossed["mean"]);
}

#[test]
fn progress_is_reported_within_epochs_too() {
    let home = Home::with_atlas();
    let line = format!("--progress json crossval s.atlas --scheme combos:0.5 --epochs 5000 {TINY}");
    let never = "--set train.early_stopping_patience=0";
    let mut run = home.command(&format!("{line} {never}")).stderr(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(run.stderr.take().unwrap()).lines();
    let events = lines.map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap());
    let within = |event: &Value| {
        let (done, all) = (event["done"].as_u64().unwrap(), event["of"].as_u64().unwrap());
        assert_eq!(event["unit"], "cells");
        assert!(event["message"].as_str().unwrap().contains(" of 5000)"), "{event}");
        done % (all / 5000) != 0
    };
    let found = events.filter(|event| event["event"] == "progress").take(60).any(|event| within(&event));
    run.kill().unwrap();
    run.wait().unwrap();
    assert!(found, "every event is about the end of an epoch");
}

#[test]
fn without_a_folder_no_model_stays() {
    let home = Home::with_atlas();
    fs::create_dir(home.path("temporary")).unwrap();
    let before = home.listing();
    let mut run = home.command(&format!("--json crossval s.atlas --scheme combos:0.5 --epochs 1 {TINY}"));
    let output = run.env("TMPDIR", home.path("temporary")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let crossed: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(crossed["folds"].as_array().unwrap().len(), 2);
    assert_eq!(crossed["sd_seeds"]["r2_mean"], Value::Null, "one seed does not vary");
    assert_eq!(home.listing(), before);
}

#[test]
fn a_cross_validation_that_was_stopped_goes_on_as_if_it_had_not_been() {
    let home = Home::with_atlas();
    let line = |out: &str| {
        let settings = "--epochs 40 --set train.early_stopping_patience=0";
        format!("--json crossval s.atlas --scheme combos:0.5 {settings} {TINY} --out {out}")
    };
    let whole = home.run(&line("whole"));
    assert_eq!(whole.code, 0, "{}", whole.stderr);
    let mut run = home.command(&line("stopped")).stderr(Stdio::piped()).spawn().unwrap();
    let lines = || {
        let history = home.path("stopped/fold-2/seed-1/history.jsonl");
        fs::read_to_string(history).map_or(0, |text| text.lines().count())
    };
    let started = Instant::now();
    while lines() < 4 {
        assert!(started.elapsed() < Duration::from_secs(120), "training does not get on");
        assert!(run.try_wait().unwrap().is_none(), "training ended before it could be stopped");
        std::thread::sleep(Duration::from_millis(2));
    }
    assert!(Command::new("kill").args(["-TERM", &run.id().to_string()]).status().unwrap().success());
    let output = run.wait_with_output().unwrap();
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(75), "{message}");
    says(&message, &["stopped", "run the same command again"]);
    assert!(!home.path("stopped/crossval.json").exists());

    let resumed = home.run(&line("stopped"));
    assert_eq!(resumed.code, 0, "{}", resumed.stderr);
    assert_eq!(resumed.stderr.matches("already done").count(), 1, "{}", resumed.stderr);
    assert_eq!(resumed.stdout, whole.stdout);
}

#[test]
fn schemes_that_make_no_folds_are_refused_with_a_way_out() {
    let home = Home::with_atlas();
    let refused =
        |code, scheme: &str| home.refused(code, &format!("crossval s.atlas --scheme {scheme} --out cv {TINY}"));
    says(&refused(2, "nonsense"), &["`nonsense` is not a scheme", "leave-out:cell_type"]);
    says(&refused(2, "random:0.7"), &["`random:0.7` makes fewer than two folds", "a share of 0.2 makes five folds"]);
    says(&refused(2, "combos:0"), &["`combos:0` makes fewer than two folds"]);
    says(&refused(65, "leave-out:cell"), &["unknown covariate `cell`", "cell_type", "inspect"]);
    says(
        &home.refused(2, &format!("crossval s.atlas --scheme random:0.5 --out s.atlas {TINY}")),
        &["is not a cross-validation"],
    );
    says(&home.refused(2, &format!("crossval s.atlas --scheme random:0.5 --out cv {TINY} --set train.lr=-1")), &["lr"]);
    home.json("simulate --cells 100 --genes 30 --conditions 2 --combos 0 --cell-types 1 --out one.h5ad");
    home.json("ingest one.h5ad --out one.atlas");
    for scheme in ["leave-out:cell_type", "combos:0.5"] {
        let message = home.refused(2, &format!("crossval one.atlas --scheme {scheme} {TINY}"));
        says(&message, &["fold", "at least two", "inspect"]);
    }
}
