//! A model with an offset starts from what mean profiles say, keeps it, and is as good as they are where it has learned nothing.

use std::fs;

use serde_json::Value;
use stages::{model::saved::Model, torch::parameters::read_safetensors};
use tch::{Device, Kind};

use crate::support::{
    Home, TINY,
    h5ad::{h5ad, set_column},
    parquet::{lists, numbers, read, texts},
};

/// Cells of three types under four perturbations, most of them in pairs too, enough of each to have a mean.
const SIMULATE: &str = "simulate --cells 6000 --genes 120 --conditions 9 --combos 5 --cell-types 3 --doses 3 \
    --density 0.4 --batches 1 --out s.h5ad";
/// A network that never moves from where it starts.
const STILL: &str = "--set train.lr=0 --set train.doser_lr=0 --epochs 1 --seed 1 --device cpu";

fn home() -> Home {
    let home = Home::new();
    home.json(SIMULATE);
    home.json("ingest s.h5ad --out s.atlas --covariates cell_type --dose dose --perturbation condition --control ctrl");
    home
}

fn first(home: &Home, pair: bool) -> String {
    let result = home.json("inspect s.atlas");
    let names = result["conditions"].as_array().unwrap().iter().map(|condition| condition["name"].as_str().unwrap());
    names.filter(|name| *name != "ctrl" && name.contains('+') == pair).min().unwrap().to_owned()
}

fn score(result: &Value, of: &str, name: &str) -> f64 {
    let scores = if of == "model" { &result["mean"] } else { &result["baselines"][of] };
    scores[name].as_f64().unwrap_or_else(|| panic!("{of} has no {name}: {scores}"))
}

#[test]
fn before_it_learns_it_predicts_as_well_as_the_baselines_that_it_starts_from() {
    let home = home();
    let (single, pair) = (first(&home, false), first(&home, true));
    let held = [
        ("shrinkage", format!("--hold-out condition={single},cell_type=type_1"), "linear"),
        ("shrinkage", format!("--hold-out condition={pair}"), "additive"),
        ("additive", format!("--hold-out condition={single},cell_type=type_1"), "additive"),
    ];
    for (at, (offset, hold_out, baseline)) in held.into_iter().enumerate() {
        home.json(&format!("train s.atlas --out m{at} {hold_out} {STILL} --set model.offset={offset}"));
        let result = home.json(&format!("evaluate m{at} s.atlas"));
        let [model, other] = ["model", baseline].map(|of| score(&result, of, "pearson_delta"));
        assert!(other - 0.05 < model, "{offset}, {hold_out}: {model} against {other} of {baseline}");
        assert!(model > 0.2, "{model}");
    }
}

#[test]
fn shifts_of_few_cells_are_known_to_be_noisy() {
    let home = home();
    home.json(&format!("train s.atlas --out m {STILL}"));
    let model = Model::load(home.path("m"), Device::Cpu).unwrap();
    let noises = read_safetensors(&home.path("m/model.safetensors")).unwrap().remove("offset.noises").unwrap();
    let noises: Vec<f64> = noises.to_kind(Kind::Double).try_into().unwrap();
    let perturbed = model.card.vocabulary.trained.iter().filter(|group| !group.perturbations.is_empty());
    let cells: Vec<f64> = perturbed.map(|group| group.cells as f64).collect();
    assert_eq!(noises.len(), cells.len());
    let ends = |numbers: &[f64]| {
        let least = numbers.iter().copied().fold(f64::INFINITY, f64::min);
        (least, numbers.iter().copied().fold(0.0, f64::max))
    };
    let ((least, most), (smallest, largest)) = (ends(&noises), ends(&cells));
    assert!(least > 0.0 && 1.5 * smallest < largest, "{least}, {smallest} to {largest} cells");
    let ratio = (most / least) / (largest / smallest);
    assert!((0.5..2.0).contains(&ratio), "noises of {least} to {most}, {smallest} to {largest} cells");
}

#[test]
fn a_condition_lies_nearer_if_it_was_trained_on_in_this_context() {
    let home = home();
    let single = first(&home, false);
    let distances = [String::new(), format!("--hold-out condition={single},cell_type=type_1")].map(|hold_out| {
        let out = format!("m{}", home.listing().len());
        home.json(&format!("train s.atlas --out {out} {hold_out} {STILL}"));
        home.json(&format!("predict {out} s.atlas --to condition={single} --out {out}.parquet"));
        let table = read(&home.path(&format!("{out}.parquet")));
        let row = texts(&table, "cell_type").iter().position(|cell_type| cell_type == "type_1").unwrap();
        numbers(&table, "distance")[row]
    });
    assert!(0.0 < distances[0] && distances[0] < distances[1], "{distances:?}");
}

#[test]
fn the_effect_of_a_dose_grows_from_nothing_through_that_of_trained_ones() {
    let home = home();
    let single = first(&home, false);
    home.json(&format!("train s.atlas --out m {STILL}"));
    let result = home.json(&format!("response m s.atlas --condition {single} --doses 0,0.2,0.5,0.9,3"));
    for curve in result["curves"].as_array().unwrap() {
        let sizes: Vec<f64> =
            curve["points"].as_array().unwrap().iter().map(|point| point["effect_size"].as_f64().unwrap()).collect();
        assert!(sizes[0] < 1e-3 && sizes.is_sorted(), "{sizes:?}");
        assert!(sizes[4] < 2.0 * sizes[3], "an effect saturates: {sizes:?}");
    }
}

#[test]
fn perturbed_cells_at_dose_0_are_trained_on_and_say_nothing_of_effects() {
    let home = Home::new();
    h5ad(&home, "s.h5ad", |chunk| {
        set_column(chunk, "dose", "dose", |row, before| match row % 4 {
            0 => vec!["0"; before.split('+').count()].join("+"),
            _ => before.into(),
        });
    });
    home.json("ingest s.h5ad --out s.atlas");
    home.json(&format!("train s.atlas --out m {STILL}"));
    home.json("evaluate m s.atlas --on train");
}

#[test]
fn both_engines_and_every_reconstruction_start_from_the_same_offset() {
    let home = home();
    let single = first(&home, false);
    let means = |set: &str| {
        let out = format!("m{}", home.listing().len());
        home.json(&format!("train s.atlas --out {out} {STILL} {set}"));
        home.json(&format!("predict {out} s.atlas --to condition={single} --out {out}.parquet"));
        let means = lists(&read(&home.path(&format!("{out}.parquet"))), "mean").concat();
        fs::remove_dir_all(home.path(&out)).unwrap();
        means
    };
    let plain = means("--set train.engine=plain");
    assert_eq!(plain, means("--set train.engine=fused"), "the last epoch is the first");
    let far = |other: &[f32]| {
        let off: f32 = plain.iter().zip(other).map(|(a, b)| (a - b).abs()).sum();
        off / plain.iter().sum::<f32>()
    };
    assert!(far(&means("--set train.objective=paired --set train.sampling=paired")) < 0.01);
    assert!(far(&means("--set model.recon_loss=gauss")) < 0.2, "means of values are means of counts");
}

#[test]
fn a_run_with_offsets_that_ended_is_resumed_to_the_same_model() {
    let home = home();
    let line = format!("train s.atlas --out m --epochs 2 {}", TINY.replace("--preset cpa ", ""));
    home.json(&line);
    let weights = || fs::read(home.path("m/model.safetensors")).unwrap();
    let before = weights();
    fs::remove_file(home.path("m/model.json")).unwrap();
    home.json(&format!("{line} --resume"));
    assert!(before == weights(), "offsets are taken from the checkpoint");
}
