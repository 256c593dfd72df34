//! Columns of `obs` with odd names and values, and genes that are not there.

use std::{fs, sync::Arc};

use arrow::array::{ArrayRef, Float32Array, RecordBatch, StringArray};
use perturbine::flows::ingesting::IngestOptions;
use schemas::chunk::CsrRows;

use crate::support::{
    Home, TINY,
    h5ad::{h5ad, set_column},
    ingest_chunk, says, simulator,
};

#[test]
fn a_column_with_a_dot_in_its_name_becomes_a_split() {
    let home = Home::new();
    h5ad(&home, "s.h5ad", |chunk| {
        set_column(chunk, "batch", "orig.ident", |row, _| if row < 50 { "train" } else { "ood" }.into());
    });
    let atlas = home.json("ingest s.h5ad --out s.atlas --split orig.ident");
    assert_eq!(atlas["splits"]["orig.ident"]["ood"], 50);
    let split = home.json("split s.atlas --name again --from-obs orig.ident");
    assert_eq!(split["cells"]["train"], 50);
}

#[test]
fn a_split_that_can_not_be_made_is_refused_before_the_atlas_is_there() {
    let home = Home::new();
    h5ad(&home, "s.h5ad", |chunk| {
        set_column(chunk, "batch", "part", |row, _| if row == 70 { "tarin" } else { "train" }.into());
    });
    let message = home.refused(65, "ingest s.h5ad --out s.atlas --split part --no-shuffle");
    says(&message, &["s.atlas, obs column `part`, row 70", "`tarin` is not a part of a split"]);
    says(&home.refused(65, "ingest s.h5ad --out s.atlas --split prat"), &["unknown obs column `prat`", "part"]);
    home.json("ingest s.h5ad --out s.atlas");
}

#[test]
fn cells_without_a_name_are_called_by_their_place() {
    let home = Home::new();
    let text = |values: [Option<&str>; 4]| Arc::new(StringArray::from(values.to_vec())) as ArrayRef;
    let table = RecordBatch::try_from_iter_with_nullable([
        ("cell", text([Some("a"), None, Some("c"), None]), true),
        ("condition", text([Some("ctrl"), Some("A"), Some("A"), Some("ctrl")]), true),
        ("G1", Arc::new(Float32Array::from(vec![1.0, 2.0, 0.0, 3.0])) as ArrayRef, true),
    ]);
    let file = fs::File::create(home.path("s.parquet")).unwrap();
    let table = table.unwrap();
    let mut writer = parquet::arrow::ArrowWriter::try_new(file, table.schema(), None).unwrap();
    writer.write(&table).unwrap();
    writer.close().unwrap();
    let message = home.run("ingest s.parquet --out s.atlas --no-shuffle").stderr;
    assert!(message.contains("2 cells have no name and are named by position"), "{message}");
    home.json("split s.atlas --name n --scheme random:0.5");
    let split = crate::support::parquet::read(&home.path("s.atlas/splits/n.parquet"));
    assert_eq!(crate::support::parquet::texts(&split, "cell"), ["a", "cell1", "c", "cell3"]);
}

/// The JSON of a command whose arguments hold blanks.
#[track_caller]
fn json(home: &Home, arguments: &[&str]) -> serde_json::Value {
    let ran = home.command("--json").args(arguments).output().unwrap();
    assert_eq!(ran.status.code(), Some(0), "{arguments:?}: {}", String::from_utf8_lossy(&ran.stderr));
    serde_json::from_slice(&ran.stdout).unwrap()
}

#[test]
fn names_of_columns_with_separators_are_quoted() {
    let home = Home::new();
    h5ad(&home, "s.h5ad", |chunk| {
        set_column(chunk, "batch", "a,b=c", |row, _| ["x", "y, z", "q", "q"][row % 4].into());
    });
    let column = "\"a,b=c\"";
    let covariates = format!("cell_type, {column}");
    let filter = format!("{column}!=q");
    json(&home, &["ingest", "s.h5ad", "--out", "s.atlas", "--covariates", &covariates, "--filter", &filter]);
    let held_out = format!("{column}=\"y, z\"");
    let split = json(&home, &["split", "s.atlas", "--name", "n", "--hold-out", &held_out]);
    assert_eq!(split["cells"]["ood"], 25, "{split}");
    let ran = home.command("split s.atlas --name m --hold-out").arg("a,b=c=x").output().unwrap();
    says(&String::from_utf8_lossy(&ran.stderr), &["expected key=value, got `a` in `a,b=c=x`", "double quotes"]);
}

#[test]
fn values_of_covariates_that_look_missing_have_a_warning() {
    let home = Home::new();
    h5ad(&home, "s.h5ad", |chunk| {
        let values = ["nan", "None", "NA", "", "donor"];
        set_column(chunk, "batch", "donor", |row, _| values[row % values.len()].into());
    });
    let message = home.run("ingest s.h5ad --out s.atlas --covariates donor").stderr;
    for value in ["nan", "None", "NA", ""] {
        let warning = format!("some cells have the text `{value}` in the covariate `donor`");
        assert!(message.contains(&warning) && message.contains(&format!("--filter 'donor!={value}'")), "{message}");
        let line = "--json ingest s.h5ad --covariates donor --filter";
        let mut command = home.command(line);
        let ran = command.arg(format!("donor!={value}")).args(["--out", &format!("{value}.atlas")]).output().unwrap();
        let atlas: serde_json::Value = serde_json::from_slice(&ran.stdout).unwrap();
        assert_eq!(atlas["cells"], 80, "{value}");
    }
    assert!(!message.contains("the text `donor`"), "{message}");
}

#[test]
fn a_raw_matrix_that_is_not_there_is_not_a_missing_file() {
    let home = Home::new();
    h5ad(&home, "s.h5ad", |_| {});
    let message = home.refused(65, "ingest s.h5ad --raw --out s.atlas");
    says(&message, &["s.h5ad: the file has no raw/X", "leave out --raw to take X"]);
}

#[test]
fn no_model_is_trained_on_no_genes() {
    let home = Home::new();
    let mut chunk = simulator(100, true).chunk(0..100).unwrap();
    chunk.expression = CsrRows::canonical(vec![0; 101], Vec::new(), Vec::new(), 0).unwrap();
    ingest_chunk(&chunk, &[], &home.path("s.atlas"), &IngestOptions::default());
    says(&home.refused(65, &format!("train s.atlas --out m --epochs 1 {TINY}")), &["s.atlas", "no genes to train on"]);
}

#[test]
fn a_panic_on_any_thread_ends_in_the_code_of_a_bug() {
    let home = Home::with_atlas();
    // The first is one of the command's own thread, the others of a pipeline's.
    for (line, fault) in [
        ("split s.atlas --name n --scheme random:0.5", "panic@1"),
        ("ingest s.h5ad --out n.atlas", "panic@9"),
        ("ingest s.h5ad --out n.atlas", "panic@14"),
    ] {
        let ran = home.command(line).env("PERTURBINE_FAULT", fault).output().unwrap();
        let message = String::from_utf8_lossy(&ran.stderr);
        assert_eq!(ran.status.code(), Some(70), "{line}: {message}");
        assert!(message.contains("a panic was asked for"), "{line}: {message}");
    }
}
