//! Results of `evaluate` on data whose truth is known: nothing where nothing changes, and the same whether a batch that changes
//! nothing is named or not.

use perturbine::flows::ingesting::IngestOptions;
use schemas::chunk::CsrRows;
use stages::ingest::keys::RequestedKeys;

use super::{CELLS, number, screen};
use crate::support::{Home, TINY, h5ad::set_column, ingest_chunk};

/// The default preset with a small network.
const RESIDUAL: &str = "--set model.n_latent=8 --set model.n_hidden_encoder=16 --set model.n_hidden_decoder=16 --batch-size 64 \
    --seed 1 --device cpu";

/// A number below `of` that depends on a cell, and on nothing that is measured in it.
fn drawn(cell: usize, of: usize) -> usize {
    let mixed = (cell as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    usize::try_from((mixed >> 33) % of as u64).unwrap()
}

/// Cells whose condition is their own, or drawn at random.
fn atlas(home: &Home, name: &str, at_random: bool, batch: Option<&str>) {
    let simulator = screen(300);
    let mut chunk = simulator.chunk(0..CELLS).unwrap();
    if at_random {
        let labels = ["ctrl", "ctrl", "ctrl", "A", "B", "C", "D"];
        set_column(&mut chunk, "condition", "condition", |cell, _| labels[drawn(cell, labels.len())].into());
    }
    set_column(&mut chunk, "batch", "batch", |cell, _| format!("plate {}", drawn(cell * 31 + 7, 8)));
    let keys = RequestedKeys {
        covariates: Some(vec!["cell_type".into()]),
        dose: Some(String::new()),
        batch: batch.map(str::to_owned),
        ..RequestedKeys::default()
    };
    ingest_chunk(&chunk, simulator.genes(), &home.path(name), &IngestOptions { keys, ..IngestOptions::default() });
}

#[test]
fn where_no_perturbation_does_anything_nothing_is_found() {
    let home = Home::new();
    atlas(&home, "null.atlas", true, None);
    let held_out = ["A", "B", "C"].map(|name| format!("--hold-out condition={name},cell_type=type_0"));
    let split = home.json(&format!("split null.atlas --name s {}", held_out.join(" ")));
    assert!(number(&split["cells"]["reference"]) >= 40.0, "{split}");
    for (preset, settings) in [("cpa", TINY), ("residual", RESIDUAL)] {
        home.json(&format!("train null.atlas --split s --out {preset} --epochs 5 {settings}"));
        let evaluation = home.json(&format!("evaluate {preset} null.atlas"));
        assert_eq!(evaluation["strict"], true);
        let correlation = number(&evaluation["mean"]["pearson_delta"]);
        assert!(correlation.abs() < 0.1, "{preset}: {correlation}");
        assert!(!evaluation["summary"].as_str().unwrap().contains("better than"), "{}", evaluation["summary"]);
    }

    home.json("split null.atlas --name none --hold-out condition=A,cell_type=type_0 --reference 0 --valid 0");
    home.json(&format!("train null.atlas --split none --out loose --epochs 1 {TINY}"));
    let loose = home.json("evaluate loose null.atlas");
    assert_eq!(loose["strict"], false, "the model was trained on all controls");
    assert!(loose["summary"].as_str().unwrap().starts_with("not strict: "), "{}", loose["summary"]);
}

#[test]
fn where_perturbations_do_something_it_is_found() {
    let home = Home::new();
    atlas(&home, "real.atlas", false, None);
    let perturbations = stages::reader::atlas::Atlas::open(home.path("real.atlas")).unwrap();
    let perturbations = perturbations.manifest().conditions.perturbations()[..2].to_vec();
    let held_out = perturbations.iter().map(|name| format!("--hold-out condition={name},cell_type=type_0"));
    home.json(&format!("split real.atlas --name s {}", held_out.collect::<Vec<_>>().join(" ")));
    home.json(&format!("train real.atlas --split s --out m --epochs 5 {RESIDUAL}"));
    let evaluation = home.json("evaluate m real.atlas");
    let correlation = number(&evaluation["mean"]["pearson_delta"]);
    assert!(correlation > 0.15, "the procedure that finds nothing where nothing is finds {correlation} here");
}

#[test]
fn naming_a_batch_that_changes_nothing_changes_no_score() {
    let home = Home::new();
    let evaluations = [("plain.atlas", None), ("batched.atlas", Some("batch"))].map(|(name, batch)| {
        atlas(&home, name, false, batch);
        let perturbation = stages::reader::atlas::Atlas::open(home.path(name)).unwrap();
        let perturbation = perturbation.manifest().conditions.perturbations()[0].clone();
        home.json(&format!("split {name} --name s --hold-out condition={perturbation},cell_type=type_0"));
        home.json(&format!("train {name} --split s --out {name}.model --epochs 1 {TINY}"));
        home.json(&format!("evaluate {name}.model {name}"))
    });
    let [plain, batched] = &evaluations;
    assert_eq!(plain["conditions"].as_array().unwrap().len(), batched["conditions"].as_array().unwrap().len());
    assert_eq!(batched["conditions"][0]["covariates"], serde_json::json!({ "cell_type": "type_0" }));
    for baseline in ["perturbed_mean", "additive", "linear"] {
        for score in ["pearson_delta", "r2_mean"] {
            let [plain, batched] = [plain, batched].map(|found| number(&found["baselines"][baseline][score]));
            assert!((plain - batched).abs() < 0.01, "{baseline}, {score}: {plain} and {batched}");
        }
    }
}

#[test]
fn a_baseline_does_not_take_a_batch_for_an_effect_where_perturbations_lie_in_one_batch_each() {
    let home = Home::new();
    let simulator = screen(300);
    let mut chunk = simulator.chunk(0..CELLS).unwrap();
    let labels = ["ctrl", "ctrl", "A", "B", "C", "D"];
    let label = |cell: usize| labels[drawn(cell, labels.len())];
    // Controls are on both plates, A, B and D on the second, C on the first.
    let is_second = |cell: usize| match label(cell) {
        "A" | "B" | "D" => true,
        "C" => false,
        _ => drawn(cell * 31 + 7, 2) == 1,
    };
    set_column(&mut chunk, "condition", "condition", |cell, _| label(cell).into());
    set_column(&mut chunk, "batch", "batch", |cell, _| if is_second(cell) { "second" } else { "first" }.into());
    let rows = &chunk.expression;
    let (pointers, genes, mut values) = (rows.row_pointers().to_vec(), rows.genes().to_vec(), rows.values().to_vec());
    for cell in (0..pointers.len() - 1).filter(|cell| is_second(*cell)) {
        for at in pointers[cell] as usize..pointers[cell + 1] as usize {
            values[at] *= if genes[at] % 2 == 0 { 40.0 } else { 1.0 };
        }
    }
    chunk.expression = CsrRows::canonical(pointers, genes, values, 300).unwrap();
    let keys = RequestedKeys {
        covariates: Some(vec!["cell_type".into()]),
        dose: Some(String::new()),
        batch: Some("batch".into()),
        ..RequestedKeys::default()
    };
    ingest_chunk(&chunk, simulator.genes(), &home.path("p.atlas"), &IngestOptions { keys, ..IngestOptions::default() });
    home.json("split p.atlas --name s --hold-out condition=D,cell_type=type_0");
    home.json(&format!("train p.atlas --split s --out m --epochs 1 {TINY}"));
    let evaluation = home.json("evaluate m p.atlas");
    let error = |baseline: &str| number(&evaluation["baselines"][baseline]["mse_delta"]);
    for baseline in ["perturbed_mean", "additive", "linear"] {
        let [found, none] = [error(baseline), error("control")];
        // Of few cells, shifts are noise.
        assert!(found < 3.0 * none, "{baseline} errs by {found}, and no change by {none}");
    }
}

#[test]
fn means_of_several_batches_in_one_h5ad_are_not_taken_for_cells() {
    let home = Home::new();
    atlas(&home, "b.atlas", false, Some("batch"));
    let perturbation = stages::reader::atlas::Atlas::open(home.path("b.atlas")).unwrap();
    let perturbation = perturbation.manifest().conditions.perturbations()[0].clone();
    home.json(&format!("split b.atlas --name s --hold-out condition={perturbation},cell_type=type_0"));
    home.json(&format!("train b.atlas --split s --out m --epochs 1 {TINY}"));
    for out in ["set", "rows.h5ad"] {
        home.json(&format!("predict m b.atlas --to ood --output-scale log1p_cp10k --out {out}"));
    }
    let judged = home.json("judge set rows.h5ad --truth b.atlas");
    let [set, rows] = [0, 1].map(|at| &judged["predictions"][at]["mean"]);
    for score in ["r2_var", "e_distance", "mmd"] {
        assert!(rows[score].is_null(), "{score} of means is {}", rows[score]);
    }
    let [set, rows] = [set, rows].map(|mean| number(&mean["pearson_delta"]));
    assert!((set - rows).abs() < 0.01, "{set} of the set, {rows} of the file");
}

#[test]
fn cells_that_a_model_was_trained_on_are_not_called_held_out() {
    let home = Home::with_model("cell_type=type_1,dose=0.5");
    home.json("split s.atlas --name other --hold-out cell_type=type_0,dose=0.5");
    let message = home.refused(65, "evaluate m s.atlas --split other");
    crate::support::says(&message, &["the model was trained on", "the split `other` holds out", "--on train"]);
    home.json("evaluate m s.atlas --split other --on train");
}
