//! Messages and refusals where a result would otherwise be silently wrong.

use std::{fs, path::Path, sync::Arc};

use arrow::array::{ArrayRef, Float32Array, RecordBatch, StringArray};
use parquet::arrow::ArrowWriter;

use crate::support::{
    Home, TINY,
    h5ad::write_h5ad,
    parquet::{lists, read},
    python::{python_with, run},
    says, simulator,
};

/// A table of cells with one gene, and these columns of `obs`.
fn table(home: &Home, name: &str, columns: &[(&str, &[&str])]) {
    let text = |values: &[&str]| Arc::new(StringArray::from(values.to_vec())) as ArrayRef;
    let cells = columns[0].1.len();
    let names: Vec<String> = (0..cells).map(|cell| format!("c{cell}")).collect();
    let values = Float32Array::from_iter_values((0..cells).map(|cell| if cell % 2 == 0 { 1.0 } else { 2.0 }));
    let labels = columns.iter().map(|(name, values)| (*name, text(values)));
    let first = ("cell", text(&names.iter().map(String::as_str).collect::<Vec<_>>()));
    let all = std::iter::once(first).chain(labels).chain([("G1", Arc::new(values) as ArrayRef)]);
    let batch = RecordBatch::try_from_iter(all).unwrap();
    let mut writer = ArrowWriter::try_new(fs::File::create(home.path(name)).unwrap(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

/// The conditions of an atlas with their doses.
fn conditions(atlas: &serde_json::Value) -> Vec<(String, String)> {
    let all = atlas["conditions"].as_array().unwrap();
    all.iter().map(|one| (one["name"].as_str().unwrap().to_owned(), one["doses"].to_string())).collect()
}

#[test]
fn the_layouts_of_published_screens_are_read_as_their_authors_mean_them() {
    let home = Home::new();
    let named =
        |pairs: &[(&str, &str)]| pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect::<Vec<_>>();
    let tahoe: &[&str] = &["[('DMSO_TF', 0.0, 'uM')]", "[('Drug A', 0.5, 'uM')]", "[('Drug A', 5.0, 'uM')]"];
    table(&home, "tahoe.parquet", &[("drug", &["DMSO_TF", "Drug A", "Drug A"]), ("drugname_drugconc", tahoe)]);
    let atlas = home.json("ingest tahoe.parquet --out tahoe.atlas");
    assert_eq!(conditions(&atlas), named(&[("DMSO_TF", "[]"), ("Drug A", "[0.5]"), ("Drug A", "[5.0]")]));

    let scperturb: &[(&str, &[&str])] =
        &[("perturbation", &["control", "KLF1", "KLF1_MAP2K6"]), ("nperts", &["0", "1", "2"])];
    table(&home, "scperturb.parquet", scperturb);
    let ran = home.run("--json ingest scperturb.parquet --out scperturb.atlas");
    assert!(ran.stderr.contains("--delimiter \"_\""), "{}", ran.stderr);
    let atlas = home.json("inspect scperturb.atlas");
    assert_eq!(conditions(&atlas), named(&[("control", "[]"), ("KLF1", "[1.0]"), ("KLF1_MAP2K6", "[1.0,1.0]")]));

    table(&home, "sciplex.parquet", &[("product_name", &["Vehicle", "A", "A"]), ("dose", &["0", "10", "1000"])]);
    let atlas = home.json("ingest sciplex.parquet --out sciplex.atlas");
    assert_eq!(conditions(&atlas), named(&[("Vehicle", "[]"), ("A", "[10.0]"), ("A", "[1000.0]")]));

    table(&home, "replogle.parquet", &[("gene", &["non-targeting", "TP53", "MYC"])]);
    let atlas = home.json("ingest replogle.parquet --out replogle.atlas");
    assert_eq!(conditions(&atlas), named(&[("non-targeting", "[]"), ("MYC", "[1.0]"), ("TP53", "[1.0]")]));

    table(&home, "gears.parquet", &[("condition", &["ctrl", "TP53+ctrl", "ctrl+MYC", "TP53+MYC"])]);
    let atlas = home.json("ingest gears.parquet --out gears.atlas");
    let expected = [("ctrl", "[]"), ("MYC", "[1.0]"), ("TP53", "[1.0]"), ("TP53+MYC", "[1.0,1.0]")];
    assert_eq!(conditions(&atlas), named(&expected));

    table(&home, "eccite.parquet", &[("gene_target", &["NT", "STAT1", "IRF1"])]);
    let atlas = home.json("ingest eccite.parquet --out eccite.atlas");
    assert_eq!(conditions(&atlas), named(&[("NT", "[]"), ("IRF1", "[1.0]"), ("STAT1", "[1.0]")]));

    let norman: &[&str] = &[
        "NegCtrl0_NegCtrl10__NegCtrl0_NegCtrl10",
        "KLF1_NegCtrl0__KLF1_NegCtrl0",
        "NegCtrl10_KLF1__NegCtrl10_KLF1",
        "CEBPA_KLF1__CEBPA_KLF1",
        "KLF1_CEBPA__KLF1_CEBPA",
    ];
    table(&home, "norman.parquet", &[("guide_identity", norman)]);
    let ran = home.run("--json ingest norman.parquet --out norman.atlas");
    let guessed = r#"guessed: --perturbation guide_identity --delimiter "_" --control NegCtrl0 --control NegCtrl10"#;
    let halved = "`CEBPA_KLF1__CEBPA_KLF1` becomes `CEBPA_KLF1`";
    assert!(ran.stderr.contains(guessed) && ran.stderr.contains(halved), "{}", ran.stderr);
    let atlas: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    let expected = [("NegCtrl0", "[]", 1), ("CEBPA_KLF1", "[1.0,1.0]", 2), ("KLF1", "[1.0]", 2)];
    assert_eq!(conditions(&atlas), named(&expected.map(|(name, doses, _)| (name, doses))));
    let cells: Vec<u64> =
        atlas["conditions"].as_array().unwrap().iter().map(|one| one["cells"].as_u64().unwrap()).collect();
    assert_eq!(cells, expected.map(|(.., cells)| cells));
}

#[test]
fn a_perturbation_that_is_held_out_wholly_is_named_before_anything_is_trained() {
    let home = Home::with_atlas();
    let all = home.json("inspect s.atlas");
    let name = all["conditions"][1]["name"].as_str().unwrap().to_owned();
    let held: Vec<String> = conditions(&all)
        .into_iter()
        .filter(|(condition, _)| condition.split('+').any(|part| part == name))
        .map(|(condition, _)| format!("--hold-out condition={condition}"))
        .collect();
    let held = held.join(" ");
    let note = format!("all cells of {name} are held out");
    let ran = home.run(&format!("split s.atlas --name w {held}"));
    assert!(ran.code == 0 && ran.stderr.contains(&note), "{}", ran.stderr);
    let ran = home.run(&format!("train s.atlas --split w --out m --epochs 1 {TINY}"));
    assert!(ran.code == 0 && ran.stderr.contains(&note), "{}", ran.stderr);
    let message = home.refused(65, "predict m s.atlas --to ood --out p");
    says(
        &message,
        &[&format!("perturbation `{name}`: the atlas has it, but the model was not trained on it"), "--unseen"],
    );
    assert!(!message.contains("spelling"), "{message}");
    // The flag that the message names leaves such conditions out, and predicts the others.
    let rest = home.json("predict m s.atlas --to observed --unseen skip --out p.parquet");
    let skipped: Vec<&str> =
        rest["skipped"].as_array().unwrap().iter().map(|one| one["condition"].as_str().unwrap()).collect();
    assert!(!skipped.is_empty() && rest["rows"].as_u64() > Some(0), "{rest}");
    assert!(skipped.iter().all(|condition| condition.split('+').any(|part| part == name)), "{skipped:?}");
    let ran = home.run("split s.atlas --name part --scheme random:0.2");
    assert!(!ran.stderr.contains("held out"), "{}", ran.stderr);
}

#[test]
fn an_evaluation_of_other_cells_than_the_held_out_ones_does_not_replace_that_of_the_report() {
    let home = Home::with_model("condition=G00017,cell_type=type_0");
    home.json("evaluate m s.atlas");
    let kept = fs::read(home.path("m/evaluation.json")).unwrap();
    home.json("evaluate m s.atlas --on train");
    assert_eq!(fs::read(home.path("m/evaluation.json")).unwrap(), kept);
}

#[test]
fn an_evaluation_that_ends_after_its_model_was_replaced_is_not_taken_for_the_new_ones() {
    let home = Home::with_model("condition=G00017,cell_type=type_0");
    home.json("evaluate m s.atlas");
    assert!(home.json("inspect m")["evaluation"]["summary"].is_string());
    let kept = fs::read(home.path("m/evaluation.json")).unwrap();
    home.json(&format!("train s.atlas --out m --epochs 1 --force {TINY}"));
    fs::write(home.path("m/evaluation.json"), kept).unwrap();
    assert!(home.json("inspect m")["evaluation"].is_null());
    assert!(home.run("report m --out r.html").stderr.contains("the page has no evaluation"));
}

#[test]
fn counts_beside_values_that_were_made_from_them_are_pointed_out() {
    let home = Home::new();
    let simulator = simulator(100, true);
    let chunk = simulator.chunk(0..100).unwrap();
    let Some(python) = python_with("h5py", &["h5py", "numpy"]) else { return };
    // Processes that other tests start may hold the lock of the file that was just written.
    let script = "import sys, h5py, numpy as np\nf = h5py.File(sys.argv[1], 'r+', locking=False)\nlayers = f.require_group('layers')\n\
                  [f.copy(f['X'], layers, name=name) for name in sys.argv[2:]]\nf['X/data'][...] = np.log1p(f['X/data'][...])\n";
    for (layers, flag) in [(&["other", "counts"][..], "counts"), (&["spliced", "raw UMIs"], "'raw UMIs'")] {
        let path = home.path("s.h5ad");
        write_h5ad(&path, simulator.genes(), &chunk);
        let names: Vec<&Path> = layers.iter().map(Path::new).collect();
        run(&python, script, &[&[path.as_path()], &names[..]].concat());
        let ran = home.run("ingest s.h5ad --out s.atlas --force");
        let note = format!("s.h5ad also holds counts: --layer {flag} reads them instead");
        assert!(ran.stderr.contains(&note), "{}", ran.stderr);
        fs::remove_file(path).unwrap();
    }
    write_h5ad(&home.path("s.h5ad"), simulator.genes(), &chunk);
    let ran = home.run("ingest s.h5ad --out c.atlas");
    assert!(!ran.stderr.contains("also holds counts"), "{}", ran.stderr);
}

#[test]
fn predictions_of_values_that_are_never_negative_are_not_negative() {
    let home = Home::new();
    let simulator = simulator(300, true);
    let chunk = simulator.chunk(0..300).unwrap();
    write_h5ad(&home.path("s.h5ad"), simulator.genes(), &chunk);
    home.json("ingest s.h5ad --out s.atlas --values log1p");
    home.json("train s.atlas --out m --epochs 1 --preset residual --device cpu");
    for form in ["means", "cells"] {
        home.json(&format!("predict m s.atlas --to observed --output {form} --out {form}.parquet"));
        let table = read(&home.path(&format!("{form}.parquet")));
        let values = lists(&table, if form == "means" { "mean" } else { "expression" }).concat();
        assert!(
            values.iter().all(|value| *value >= 0.0) && values.contains(&0.0),
            "{form}: some are bounded, none is below 0"
        );
    }
}

#[test]
fn arguments_in_the_wrong_order_are_named_and_nothing_is_advised_that_loses_data() {
    let home = Home::with_model("condition=G00017");
    let (model, atlas) = ("m is a model, not an atlas", "s.atlas is an atlas, not a model");
    for (line, what) in [
        ("evaluate s.atlas m", model),
        ("predict s.atlas m --to ood --out p", atlas),
        ("embed s.atlas m --out e", atlas),
        ("train m --out n", model),
        ("split m --name n", model),
    ] {
        let message = home.refused(2, line);
        says(&message, &[what]);
        assert!(!message.contains("remove") && !message.contains("rebuilt"), "{message}");
    }
    says(&home.refused(2, "train s.atlas --out n --epochs 0"), &["--epochs must be at least 1"]);
    let negative = home.refused(2, "train s.atlas --out n --epochs -1");
    assert!(negative.contains("invalid value '-1'") && !negative.contains("-- -1"), "{negative}");
    says(&home.refused(2, "train s.atlas --out n --batch-size 0"), &["--batch-size must be at least 2", "auto"]);
}
