//! Which genes a model sees: chosen on training cells as scanpy chooses them, by list or by name, and then seen alone, from
//! training to evaluation.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use arrow::{
    array::{ArrayRef, AsArray},
    datatypes::Float32Type,
};
use perturbine::flows::ingesting::IngestOptions;
use schemas::chunk::{Chunk, CsrRows};
use serde_json::Value;
use stages::{
    reader::atlas::Atlas,
    simulate::{SimulateSettings, Simulator},
};

use crate::support::{Home, TINY, ingest_chunk, parquet::read, says, simulator, skipped};

/// The cells behind `golden/genes.json`.
fn simulated() -> (Chunk, Vec<String>) {
    let settings = SimulateSettings {
        cells: 1500,
        genes: 400,
        conditions: 8,
        combos: 2,
        cell_types: 3,
        seed: 7,
        ..SimulateSettings::default()
    };
    let simulator = Simulator::new(settings).unwrap();
    (simulator.chunk(0..1500).unwrap(), simulator.genes().to_vec())
}

/// The same cells with other values.
fn with_values(chunk: &Chunk, value: impl Fn(f32) -> f32) -> Chunk {
    let rows = &chunk.expression;
    let values = rows.values().iter().map(|count| value(*count)).collect();
    let expression = CsrRows::canonical(rows.row_pointers().to_vec(), rows.genes().to_vec(), values, u32::MAX).unwrap();
    Chunk { expression, ..chunk.clone() }
}

fn lines(path: &Path) -> Vec<String> {
    fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect()
}

fn genes_of(home: &Home, model: &str) -> Vec<String> {
    let card: Value = serde_json::from_str(&fs::read_to_string(home.path(model).join("model.json")).unwrap()).unwrap();
    let of_card: Vec<String> =
        card["genes"].as_array().unwrap().iter().map(|gene| gene.as_str().unwrap().to_owned()).collect();
    assert_eq!(lines(&home.path(model).join("genes.txt")), of_card);
    of_card
}

fn card(home: &Home, model: &str) -> Value {
    serde_json::from_str(&fs::read_to_string(home.path(model).join("model.json")).unwrap()).unwrap()
}

#[track_caller]
fn mostly_equal(found: &[String], expected: &[String]) {
    let (found, expected): (BTreeSet<_>, BTreeSet<_>) = (found.iter().collect(), expected.iter().collect());
    let common = found.intersection(&expected).count();
    assert!(
        found.len() == expected.len() && 99 * expected.len() <= 100 * common,
        "{common} of {} genes",
        expected.len()
    );
}

/// `tests/golden/README.md` says how the expected genes were made.
#[test]
fn the_most_variable_genes_are_those_that_scanpy_chooses_among_training_cells() {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/genes.json")).unwrap();
    let golden: Value = serde_json::from_str(&text).unwrap();
    let home = Home::new();
    let (counts, names) = simulated();
    ingest_chunk(&counts, &names, &home.path("s.atlas"), &IngestOptions::default());
    ingest_chunk(&with_values(&counts, f32::ln_1p), &names, &home.path("log.atlas"), &IngestOptions::default());
    for (atlas, method) in [("s.atlas", "seurat_v3"), ("log.atlas", "seurat")] {
        let expected: Vec<String> =
            golden[method].as_array().unwrap().iter().map(|gene| gene.as_str().unwrap().to_owned()).collect();
        let model = format!("{atlas}.model");
        let train = format!(
            "train {atlas} --out {model} --hold-out cell_type=type_1 --genes {} --set train.reference=0 --epochs 1 {TINY}",
            expected.len()
        );
        home.json(&train);
        let found = genes_of(&home, &model);
        mostly_equal(&found, &expected);
        let selection = &card(&home, &model)["gene_selection"];
        assert_eq!((&selection["method"], &selection["of"]), (&method.into(), &400.into()));
        let config = fs::read_to_string(home.path(&model).join("config.toml")).unwrap();
        assert!(config.contains(&format!("[data]\ngenes = {}\n", expected.len())), "{config}");
        home.json(&format!("{train} --resume"));
    }
}

/// The genes that scanpy chooses on all cells of a file, if `PERTURBINE_SCANPY` names a Python that has it.
fn scanpy(home: &Home, file: &Path, flavour: &str, count: usize) -> Option<Vec<String>> {
    let Some(python) = std::env::var_os("PERTURBINE_SCANPY") else {
        skipped("no comparison with scanpy itself: PERTURBINE_SCANPY names no Python that has it");
        return None;
    };
    let script = "import sys, scanpy\nf, flavour, n, out = sys.argv[1:]\na = scanpy.read_h5ad(f)\n\
        hvg = scanpy.pp.highly_variable_genes(a, flavor=flavour, n_top_genes=int(n), inplace=False)\n\
        open(out, 'w').write('\\n'.join(a.var_names[hvg.highly_variable.values]))";
    let out = home.path("scanpy.txt");
    let status =
        Command::new(python).args(["-c", script]).arg(file).args([flavour, &count.to_string()]).arg(&out).status();
    assert!(status.unwrap().success());
    Some(lines(&out))
}

#[test]
fn real_data_gives_the_genes_that_scanpy_chooses() {
    let shared = std::env::var_os("PERTURBINE_SHARED").map_or_else(|| PathBuf::from("../shared"), PathBuf::from);
    let all = "--set train.valid=0 --epochs 1";
    for (file, flavour, count, telling) in [
        ("kang_pbmc/kang_pbmc_counts.h5ad", "seurat_v3", 500, &["ISG15", "CXCL10", "IFIT1"][..]),
        ("norman_mcfaline/norman_mcfaline.h5ad", "seurat", 200, &[]),
    ] {
        let file = shared.join("data").join(file);
        if !file.exists() {
            skipped(&format!("{} is not there", file.display()));
            continue;
        }
        // Commands run in their own folder.
        let file = file.canonicalize().unwrap();
        let home = Home::new();
        home.json(&format!("ingest {} --out a.atlas", file.display()));
        home.json(&format!("train a.atlas --out m --genes {count} {all} {TINY}"));
        let found = genes_of(&home, "m");
        assert_eq!(found.len(), count);
        assert!(telling.iter().all(|gene| found.iter().any(|name| name == gene)), "{found:?}");
        if let Some(expected) = scanpy(&home, &file, flavour, count) {
            mostly_equal(&found, &expected);
        }
    }
}

#[test]
fn genes_are_taken_from_a_list_and_kept_by_name_in_the_order_of_the_atlas() {
    let home = Home::with_atlas();
    fs::write(home.path("list.txt"), "G00030\r\n\n G00007 \nG00030\n").unwrap();
    fs::write(home.path("more.txt"), "G00059\n").unwrap();
    home.json(&format!("train s.atlas --out list --genes list.txt --epochs 1 {TINY}"));
    assert_eq!(genes_of(&home, "list"), ["G00007", "G00030"]);
    home.json(&format!(
        "train s.atlas --out kept --genes 5 --genes-keep list.txt --genes-keep more.txt --epochs 1 {TINY}"
    ));
    let (kept, selection) = (genes_of(&home, "kept"), card(&home, "kept")["gene_selection"].clone());
    for name in ["G00007", "G00030", "G00059"] {
        assert!(kept.iter().any(|gene| gene == name), "{name} is not in {kept:?}");
    }
    assert_eq!(kept.len() as u64, 5 + selection["kept"].as_u64().unwrap());
    // A model's genes are a list for another one.
    home.json(&format!("train s.atlas --out again --genes kept/genes.txt --epochs 1 {TINY}"));
    assert_eq!(genes_of(&home, "again"), kept);
    // All genes are still the default, and more than there are is all of them.
    home.json(&format!("train s.atlas --out many --genes 1000 --epochs 1 {TINY}"));
    assert_eq!(genes_of(&home, "many").len(), 60);
}

#[test]
fn perturbed_genes_are_kept() {
    let home = Home::with_atlas();
    let atlas = Atlas::open(home.path("s.atlas")).unwrap();
    let perturbations = atlas.manifest().conditions.perturbations();
    assert!(!perturbations.is_empty() && perturbations.iter().all(|name| atlas.genes().contains(name)));
    home.json(&format!("train s.atlas --out m --genes 4 --genes-keep perturbed --epochs 1 {TINY}"));
    let found = genes_of(&home, "m");
    assert!(perturbations.iter().all(|name| found.contains(name)), "{perturbations:?} in {found:?}");
    assert!((4..=4 + perturbations.len()).contains(&found.len()), "{found:?}");
}

#[test]
fn genes_that_can_not_be_chosen_are_refused_in_words() {
    let home = Home::with_atlas();
    fs::write(home.path("wrong.txt"), "G00007\nGO0008\nnonsense\n").unwrap();
    fs::write(home.path("empty.txt"), "\n \n").unwrap();
    let refused = |code, genes: &str| home.refused(code, &format!("train s.atlas --out m {genes} --epochs 1 {TINY}"));
    says(&refused(65, "--genes wrong.txt"), &["wrong.txt, line 2", "unknown gene `GO0008`", "G00008", "2 of 3 names"]);
    says(&refused(65, "--genes 5 --genes-keep wrong.txt"), &["line 2"]);
    says(&refused(65, "--genes empty.txt"), &["names no genes"]);
    says(&refused(66, "--genes nowhere.txt"), &["nowhere.txt"]);
    says(&refused(2, "--set data.genes=0"), &["one gene"]);
    assert!(refused(2, "--genes 0").contains("one gene"));
    let (counts, names) = simulated();
    let scaled = with_values(&counts, |count| count - 2.5);
    ingest_chunk(&scaled, &names, &home.path("scaled.atlas"), &IngestOptions::default());
    let message = home.refused(65, &format!("train scaled.atlas --out m --genes 50 --epochs 1 {TINY}"));
    says(&message, &["scaled.atlas", "below 0", "--genes FILE"]);
    says(&refused(2, "--set data.genes=-1"), &["data.genes"]);
}

/// The same cells with the genes in reverse order and one more in front.
fn reversed(chunk: &Chunk, genes: &[String]) -> (Chunk, Vec<String>) {
    let last = u32::try_from(genes.len()).unwrap();
    let rows = &chunk.expression;
    let moved = rows.genes().iter().map(|gene| last - gene).collect();
    let expression = CsrRows::canonical(rows.row_pointers().to_vec(), moved, rows.values().to_vec(), last + 1).unwrap();
    let names = ["another".to_owned()].into_iter().chain(genes.iter().rev().cloned()).collect();
    (Chunk { expression, ..chunk.clone() }, names)
}

#[test]
fn a_model_predicts_and_is_judged_on_its_own_genes_wherever_they_lie() {
    let home = Home::new();
    let simulator = simulator(600, true);
    let chunk = simulator.chunk(0..600).unwrap();
    ingest_chunk(&chunk, simulator.genes(), &home.path("a.atlas"), &IngestOptions::default());
    let (other, names) = reversed(&chunk, simulator.genes());
    ingest_chunk(&other, &names, &home.path("b.atlas"), &IngestOptions::default());
    let combination =
        Atlas::open(home.path("a.atlas")).unwrap().manifest().conditions.combinations().last().unwrap().clone();
    let hold_out = format!("--hold-out condition={}", combination.name);
    for atlas in ["a.atlas", "b.atlas"] {
        home.json(&format!("split {atlas} --name held {hold_out}"));
    }
    home.json(&format!("train a.atlas --out m --split held --genes 20 --epochs 2 {TINY}"));
    let predicted = |atlas: &str, layout: &str| {
        let out = format!("{atlas}.{layout}.parquet");
        home.json(&format!("predict m {atlas} --to observed --layout {layout} --out {out}"));
        read(&home.path(&out))
    };
    let (a, b) = (predicted("a.atlas", "long"), predicted("b.atlas", "long"));
    assert_eq!(a.num_rows() % 20, 0);
    assert_eq!(a.columns()[..a.num_columns() - 4], b.columns()[..b.num_columns() - 4]);
    for (a, b) in a.columns().iter().zip(b.columns()).skip(a.num_columns() - 4) {
        let numbers = |column: &ArrayRef| column.as_primitive::<Float32Type>().values().to_vec();
        assert!(numbers(a).iter().zip(numbers(b)).all(|(a, b)| (a - b).abs() <= 1e-4 * (1.0 + b.abs())));
    }
    let wide = predicted("a.atlas", "wide");
    let genes: Vec<String> = serde_json::from_str(&wide.schema().metadata()["genes"]).unwrap();
    assert_eq!(genes, genes_of(&home, "m"));

    let (on_a, on_b) = (home.json("evaluate m a.atlas --split held"), home.json("evaluate m b.atlas --split held"));
    let r2 = |judged: &Value| judged["mean"]["r2_mean"].as_f64().unwrap();
    assert!((r2(&on_a) - r2(&on_b)).abs() < 1e-4, "{} and {}", on_a["mean"], on_b["mean"]);
    home.json("report m --out m.html");
    assert_eq!(home.json("inspect m")["genes"], 20);
}

#[test]
fn genes_that_an_atlas_lacks_are_refused_or_taken_for_zero() {
    let home = Home::new();
    let simulator = simulator(600, true);
    let chunk = simulator.chunk(0..600).unwrap();
    ingest_chunk(&chunk, simulator.genes(), &home.path("a.atlas"), &IngestOptions::default());
    home.json(&format!("train a.atlas --out m --genes 20 --epochs 2 {TINY}"));
    let other_names: Vec<String> = simulator.genes().iter().map(|name| name.replace('G', "g")).collect();
    ingest_chunk(&chunk, &other_names, &home.path("c.atlas"), &IngestOptions::default());
    let message = home.refused(65, "predict m c.atlas --to observed --missing-genes zero --out c.parquet");
    says(&message, &["c.atlas", "lacks 20 of the model's 20 genes"]);

    let lacking = &genes_of(&home, "m")[3];
    let without: Vec<String> = simulator.genes().iter().map(|name| name.replace(lacking, "unknown")).collect();
    ingest_chunk(&chunk, &without, &home.path("d.atlas"), &IngestOptions::default());
    says(&home.refused(65, "predict m d.atlas --to observed --out d.parquet"), &[lacking, "--missing-genes zero"]);
    home.json("predict m a.atlas --to observed --layout long --out a.parquet");
    let result = home.json("predict m d.atlas --to observed --layout long --missing-genes zero --out d.parquet");
    assert_eq!(result["missing_genes"], serde_json::json!([lacking]));
    let controls = |file: &str| -> Vec<f32> {
        let rows = read(&home.path(file));
        let means = rows.column_by_name("control_mean").unwrap().as_primitive::<Float32Type>().values().to_vec();
        let genes = rows.column_by_name("gene").unwrap().as_string::<i32>();
        means.into_iter().zip(genes).filter(|(_, gene)| *gene == Some(lacking)).map(|(mean, _)| mean).collect()
    };
    assert_eq!(controls("d.parquet").len(), controls("a.parquet").len());
    assert!(controls("d.parquet").iter().all(|mean| *mean == 0.0));
    assert!(controls("a.parquet").iter().any(|mean| *mean != 0.0));
}
