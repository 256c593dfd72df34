//! `predict --output changes`: what its numbers are, where they are unknown, and what its p-values are of nothing.

use std::fs;

use arrow::{
    array::{AsArray, RecordBatch},
    datatypes::{Float32Type, Float64Type},
};

use crate::support::{
    Home, TINY,
    h5ad::{set_column, write_h5ad},
    parquet::{read, texts},
    says, simulator,
};

/// A column of numbers; `None` where they are null.
fn column(table: &RecordBatch, name: &str) -> Vec<Option<f64>> {
    let values = table.column_by_name(name).unwrap();
    match values.as_primitive_opt::<Float32Type>() {
        Some(values) => values.iter().map(|value| value.map(f64::from)).collect(),
        None => values.as_primitive::<Float64Type>().iter().collect(),
    }
}

fn known(table: &RecordBatch, name: &str) -> Vec<f64> {
    column(table, name).into_iter().map(|value| value.unwrap_or_else(|| panic!("{name} is null"))).collect()
}

fn residual() -> String {
    TINY.replace("--preset cpa", "--preset residual")
}

/// An atlas in which two perturbations are controls under another name, with a model of all of its cells.
fn with_nothing() -> Home {
    let home = Home::new();
    let simulator = simulator(3000, true);
    let mut chunk = simulator.chunk(0..3000).unwrap();
    let mut controls = 0;
    let relabelled = std::cell::RefCell::new(&mut controls);
    set_column(&mut chunk, "condition", "condition", |_, label| {
        if label != "ctrl" {
            return label.to_owned();
        }
        let mut number = relabelled.borrow_mut();
        **number += 1;
        ["ctrl", "ctrl", "NOTHING", "NONE"][**number % 4].to_owned()
    });
    write_h5ad(&home.path("s.h5ad"), simulator.genes(), &chunk);
    home.json("ingest s.h5ad --out s.atlas");
    home.json(&format!("train s.atlas --out m --epochs 2 {}", residual()));
    home
}

#[test]
fn p_values_of_nothing_are_uniform_and_those_of_effects_are_small() {
    let home = with_nothing();
    home.json("predict m s.atlas --to observed --output changes --out c.parquet");
    let table = read(&home.path("c.parquet"));
    let (labels, p) = (texts(&table, "condition"), known(&table, "p"));
    let of = |names: &[&str]| {
        let mut chosen: Vec<f64> =
            labels.iter().zip(&p).filter(|(label, _)| names.contains(&label.as_str())).map(|(_, p)| *p).collect();
        chosen.sort_by(f64::total_cmp);
        chosen
    };
    let nothing = of(&["NOTHING", "NONE"]);
    assert!(nothing.len() >= 200, "{} p-values", nothing.len());
    let count = nothing.len() as f64;
    let distance = |(at, p): (usize, &f64)| (p - (at as f64 + 0.5) / count).abs();
    let largest = nothing.iter().enumerate().map(distance).fold(0.0, f64::max);
    // Kolmogorov's distance at a level of 0.1%.
    assert!(largest < 1.95 / count.sqrt(), "{largest} from uniform: {nothing:?}");
    let others: Vec<&str> =
        labels.iter().map(String::as_str).filter(|label| !["NOTHING", "NONE"].contains(label)).collect();
    let effects = of(&others);
    let small = effects.iter().filter(|p| **p < 0.001).count();
    assert!(small * 20 > effects.len(), "{small} of {} are small", effects.len());
    // A gene without an effect has less of a predicted change than its error suggests, and one with an effect more.
    let (changes, errors) = (known(&table, "log2_fold_change"), known(&table, "standard_error"));
    let beyond = |names: &[&str]| {
        let rows =
            || labels.iter().enumerate().filter(|(_, label)| names.contains(&label.as_str())).map(|(row, _)| row);
        rows().filter(|row| changes[*row].abs() > 3.0 * errors[*row]).count() as f64 / rows().count() as f64
    };
    assert!(beyond(&["NOTHING", "NONE"]) < beyond(&others), "effects stand out");
}

#[test]
fn a_change_is_one_of_predictions_on_the_mean_of_real_cells() {
    let home = Home::with_model("condition=G00034,dose=0.5");
    let line = "predict m s.atlas --to observed";
    let ran = home.json(&format!("{line} --output changes --out c.parquet"));
    let table = read(&home.path("c.parquet"));
    assert_eq!(ran["rows"].as_u64(), Some(table.num_rows() as u64));
    home.json(&format!("{line} --layout long --out l.parquet"));
    let long = read(&home.path("l.parquet"));
    for name in ["condition", "dose", "cell_type", "extrapolation", "gene"] {
        assert_eq!(texts(&table, name), texts(&long, name), "{name}");
    }
    let [control, mean, delta, fold] =
        ["control_mean", "mean", "delta", "log2_fold_change"].map(|name| known(&table, name));
    for row in 0..table.num_rows() {
        assert!(mean[row] >= 0.0 && (mean[row] - control[row] - delta[row]).abs() < 1e-5);
        assert!((fold[row] - delta[row] / std::f64::consts::LN_2).abs() < 1e-5);
    }
    // The same as an evaluation measures: the difference from the model's own prediction of control.
    let evaluated = home.json("evaluate m s.atlas");
    let held = texts(&table, "condition")
        .iter()
        .zip(texts(&table, "dose"))
        .filter(|(name, dose)| *name == "G00034" && dose == "0.5")
        .count();
    assert!(held > 0 && !evaluated["conditions"].as_array().unwrap().is_empty());
    // The original model has no measured shifts.
    assert!(["standard_error", "p"].iter().all(|name| column(&table, name).iter().all(Option::is_none)));
}

#[test]
fn a_csv_holds_the_table_and_only_a_long_one() {
    let home = Home::with_model("condition=G00034,dose=0.5");
    let line = "predict m s.atlas --to condition=G00034,dose=0.5 --output changes --top 7";
    home.json(&format!("{line} --out c.parquet"));
    let written = home.json(&format!("{line} --out c.csv"));
    let table = read(&home.path("c.parquet"));
    let text = fs::read_to_string(home.path("c.csv")).unwrap();
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split(',').collect()).collect();
    let names: Vec<String> = table.schema().fields().iter().map(|field| field.name().clone()).collect();
    assert_eq!(
        (lines[0].clone(), lines.len() as u64 - 1),
        (names.iter().map(String::as_str).collect(), written["rows"].as_u64().unwrap())
    );
    let place = |name: &str| names.iter().position(|own| own == name).unwrap();
    let delta = known(&table, "delta");
    let sizes: Vec<f64> = delta.iter().take(7).map(|delta| delta.abs()).collect();
    assert!(sizes.is_sorted_by(|one, other| one >= other), "{sizes:?}");
    for (row, line) in lines[1..].iter().enumerate() {
        assert_eq!(line[place("gene")], texts(&table, "gene")[row]);
        assert!((line[place("delta")].parse::<f64>().unwrap() - delta[row]).abs() < 1e-6);
        assert_eq!((line[place("standard_error")], line[place("p")]), ("", ""));
    }
    says(&home.refused(2, &format!("{line} --out c.csv")), &["c.csv"]);
    home.json(&format!("{line} --out c.csv --force"));
    says(&home.refused(2, "predict m s.atlas --out wide.csv"), &["wide.csv"]);
    says(
        &home.refused(2, &format!("{line} --out x.csv --shard 0/2")),
        &["x.csv is one file, but shards write a folder"],
    );
    says(&home.refused(2, &format!("{line} --out x.parquet --output-scale counts")), &["leave out --output-scale"]);
}

#[test]
fn values_that_are_no_logarithms_have_no_fold_change() {
    let home = Home::new();
    let simulator = simulator(400, true);
    let mut chunk = simulator.chunk(0..400).unwrap();
    let rows = &chunk.expression;
    let centred: Vec<f32> = rows.values().iter().map(|value| value.ln_1p() - 1.3).collect();
    chunk.expression =
        schemas::chunk::CsrRows::canonical(rows.row_pointers().to_vec(), rows.genes().to_vec(), centred, 60).unwrap();
    write_h5ad(&home.path("s.h5ad"), simulator.genes(), &chunk);
    home.json("ingest s.h5ad --out s.atlas");
    home.json(&format!("train s.atlas --out m --epochs 1 {}", residual()));
    home.json("predict m s.atlas --to observed --output changes --out c.parquet");
    let table = read(&home.path("c.parquet"));
    assert!(["log2_fold_change", "standard_error"].iter().all(|name| column(&table, name).iter().all(Option::is_none)));
    assert!(column(&table, "p").iter().any(Option::is_some));
    assert!(known(&table, "mean").iter().any(|mean| *mean < 0.0));
}

#[test]
fn changes_start_from_controls_alone() {
    let home = Home::with_model("condition=G00034,dose=0.5");
    let line = "predict m s.atlas --to condition=G00034,dose=0.5 --output changes";
    for (from, label) in [("condition=G00034,dose=0.5", "G00034"), ("cell_type=type_0", "G000")] {
        let message = home.refused(2, &format!("{line} --from {from} --out c.parquet"));
        says(&message, &["are not controls", label, "add condition=ctrl to --from"]);
    }
    home.json(&format!("{line} --from condition=ctrl,cell_type=type_0 --out c.parquet"));
}
