//! Every example runs to its end.

use std::{path::Path, process::Command};

fn run(name: &str) -> String {
    let path = Path::new(env!("CARGO_BIN_EXE_perturbine")).with_file_name("examples").join(name);
    let output = Command::new(&path)
        .output()
        .unwrap_or_else(|error| panic!("{}: {error}; `cargo test` without --test builds the examples", path.display()));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{name} failed:\n{text}\n{}", String::from_utf8_lossy(&output.stderr));
    text
}

#[test]
fn a_stage_of_ones_own_runs_in_a_pipeline() {
    assert!(run("own_stage").contains("the largest average is 0.584"));
}

#[test]
fn record_batches_go_in_and_come_out_in_order() {
    assert!(run("embed_in_etl").contains("20000 rows, in order: the last one is plate 19, well 999"));
}

#[cfg(all(feature = "torch", feature = "hdf5"))]
#[test]
fn a_tiny_atlas_is_trained_and_judged() {
    let text = run("train_tiny_atlas");
    assert!(text.contains("epoch 3: loss") && text.contains("held-out condition"), "{text}");
}

#[cfg(all(feature = "torch", feature = "hdf5"))]
#[test]
fn pairs_that_were_never_measured_are_predicted_to_parquet() {
    // Four single perturbations make six pairs, in each of three cell types.
    let text = run("predict_to_parquet");
    assert!(text.contains("18 conditions") && text.contains("18 rows in 1 file(s)"), "{text}");
}
