//! A model and an atlas must agree on the kind of their values, and on what a gene is called.

use arrow::{
    array::{AsArray, RecordBatch},
    datatypes::Float32Type,
};
use perturbine::flows::ingesting::IngestOptions;
use schemas::chunk::{Chunk, CsrRows};
use stages::hdf5::h5ad_write::{DenseFrame, DenseH5adWriter, H5adColumn, H5adKind, H5adWriteOptions};

use crate::support::{Home, TINY, ingest_chunk, parquet::read, says, simulator};

/// The atlas `s.atlas` of counts with the model `m`, `log.atlas` of continuous values with the model `l`, and a perturbation.
fn home() -> (Home, String) {
    let home = Home::with_atlas();
    let atlas = stages::reader::atlas::Atlas::open(home.path("s.atlas")).unwrap();
    let [first, second, ..] = atlas.manifest().conditions.perturbations() else { panic!("too few perturbations") };
    home.json("ingest s.h5ad --values log1p --out log.atlas");
    for (atlas, model) in [("s.atlas", "m"), ("log.atlas", "l")] {
        home.json(&format!("split {atlas} --name s --hold-out condition={second}"));
        home.json(&format!("train {atlas} --split s --out {model} --epochs 1 {TINY}"));
    }
    (home, first.clone())
}

#[test]
fn values_of_another_kind_than_the_model_s_are_refused_by_every_command() {
    let (home, perturbation) = home();
    let kinds = [("m", "log.atlas", "continuous", "counts"), ("l", "s.atlas", "counts", "continuous")];
    for (model, atlas, here, trained) in kinds {
        let lines = [
            format!("predict {model} {atlas} --to observed --out p.parquet"),
            format!("explain predict {model} {atlas} --to observed --out p.parquet"),
            format!("embed {model} {atlas} --out e.parquet"),
            format!("response {model} {atlas} --condition {perturbation} --doses 1"),
            format!("evaluate {model} {atlas} --split s"),
        ];
        for line in lines {
            let message = home.refused(65, &line);
            let parts = [atlas, &format!("its values are {here}"), trained, "--layer", "--raw", "--values"];
            says(&message, &parts);
        }
    }
}

#[test]
fn the_matrix_that_would_do_is_named() {
    let home = Home::new();
    let simulator = simulator(200, true);
    let chunk = simulator.chunk(0..200).unwrap();
    let genes = simulator.genes();
    let mut counts = vec![0.0; 200 * genes.len()];
    for (row, range) in chunk.expression.row_pointers().windows(2).enumerate() {
        for entry in range[0] as usize..range[1] as usize {
            counts[row * genes.len() + chunk.expression.genes()[entry] as usize] = chunk.expression.values()[entry];
        }
    }
    let logarithms: Vec<f32> = counts.iter().map(|count: &f32| count.ln_1p()).collect();
    let columns = chunk.obs.schema().fields().iter().skip(1).map(|field| field.name().clone()).collect::<Vec<_>>();
    let frame = DenseFrame {
        genes: genes.to_vec(),
        columns: columns.into_iter().map(|name| H5adColumn { name, kind: H5adKind::Category }).collect(),
        layers: vec!["counts".into()],
        ..DenseFrame::default()
    };
    let mut writer = DenseH5adWriter::create(&home.path("both.h5ad"), &frame, H5adWriteOptions::default()).unwrap();
    writer.append(&chunk.obs, &[&logarithms, &counts]).unwrap();
    writer.finish().unwrap();
    home.json("ingest both.h5ad --out log.atlas");
    home.json("ingest both.h5ad --layer counts --out counts.atlas");
    for atlas in ["log", "counts"] {
        home.json(&format!("train {atlas}.atlas --out {atlas} --epochs 1 {TINY}"));
    }
    let refused =
        |model: &str, atlas: &str| home.refused(65, &format!("predict {model} {atlas} --to observed --out p.parquet"));
    says(&refused("counts", "log.atlas"), &["both.h5ad also holds counts: ingest it again with --layer counts"]);
    // Neither is a split asked for, which would not make the values fit.
    for line in ["predict counts log.atlas --to ood --out p.parquet", "evaluate counts log.atlas"] {
        says(&home.refused(65, line), &["its values are continuous", "ingest it again with --layer counts"]);
    }
    says(
        &refused("log", "counts.atlas"),
        &["ingest both.h5ad again without --layer and --raw, as the data of the model"],
    );
}

#[test]
fn a_gene_of_the_model_that_the_atlas_has_twice_is_refused_with_its_name() {
    let home = Home::with_atlas();
    let (simulator, atlas) = (simulator(600, true), home.path("twice.atlas"));
    let mut genes = simulator.genes().to_vec();
    let (first, other) = (genes[0].clone(), genes[2].clone());
    std::fs::write(home.path("genes.txt"), format!("{first}\n{other}\n")).unwrap();
    home.json(&format!("train s.atlas --genes genes.txt --out few --epochs 1 {TINY}"));
    genes[1].clone_from(&first);
    let chunk = simulator.chunk(0..600).unwrap();
    ingest_chunk(&chunk, &genes, &atlas, &IngestOptions::default());
    home.json("split twice.atlas --name s --hold-out cell_type=type_1");
    let lines = [
        "predict few twice.atlas --to observed --out p.parquet",
        "embed few twice.atlas --out e.parquet",
        "evaluate few twice.atlas --split s",
    ];
    for line in lines {
        let message = home.refused(65, line);
        says(&message, &["twice.atlas", "several genes of the same name", &first, "var_names_make_unique"]);
        assert!(!message.contains(&other), "{message}");
    }
    // Where the model has as many, the first is the first; in the atlas of the training no gene is ambiguous.
    home.json(&format!("train twice.atlas --out both --epochs 1 {TINY}"));
    home.json("predict both twice.atlas --to observed --out both.parquet");
    home.json(&format!("train twice.atlas --genes genes.txt --out own --epochs 1 {TINY}"));
    home.json("predict own twice.atlas --to observed --out own.parquet");
    // In the same order, the genes are the same ones; in another order, it is unknown which is which.
    ingest_chunk(
        &chunk,
        &genes,
        &home.path("again.atlas"),
        &IngestOptions { shuffle: None, ..IngestOptions::default() },
    );
    home.json("predict both again.atlas --to observed --out again.parquet");
    genes.swap(3, 4);
    ingest_chunk(&chunk, &genes, &home.path("moved.atlas"), &IngestOptions::default());
    for line in ["predict both moved.atlas --to observed --out p.parquet", "embed both moved.atlas --out e.parquet"] {
        says(&home.refused(65, line), &["moved.atlas", "several genes of the same name", &first]);
    }
}

#[test]
fn genes_in_another_order_are_found_by_their_names_and_predicted_alike() {
    let home = Home::new();
    let simulator = simulator(600, true);
    let (chunk, last) = (simulator.chunk(0..600).unwrap(), u32::try_from(simulator.genes().len()).unwrap() - 1);
    let reversed = |rows: &CsrRows| {
        let genes = rows.genes().iter().map(|gene| last - gene).collect();
        CsrRows::canonical(rows.row_pointers().to_vec(), genes, rows.values().to_vec(), last + 1).unwrap()
    };
    let names: Vec<String> = simulator.genes().iter().rev().cloned().collect();
    for (atlas, chunk, genes) in [
        ("plain", &chunk, simulator.genes()),
        ("reversed", &Chunk { expression: reversed(&chunk.expression), ..chunk.clone() }, &names[..]),
    ] {
        ingest_chunk(chunk, genes, &home.path(&format!("{atlas}.atlas")), &IngestOptions::default());
        if atlas == "plain" {
            home.json(&format!("train plain.atlas --out all --epochs 1 {TINY}"));
        }
        home.json(&format!("predict all {atlas}.atlas --to observed --layout long --out {atlas}.parquet"));
    }
    let [plain, reversed] = ["plain", "reversed"].map(|name| read(&home.path(&format!("{name}.parquet"))));
    assert_eq!(plain.column_by_name("gene"), reversed.column_by_name("gene"));
    for column in ["control_mean", "mean"] {
        let numbers = |rows: &RecordBatch| rows[column].as_primitive::<Float32Type>().values().to_vec();
        let pairs = numbers(&plain).into_iter().zip(numbers(&reversed));
        assert!(pairs.clone().count() > 0);
        pairs
            .for_each(|(one, other)| assert!((one - other).abs() <= 1e-4 * (1.0 + one), "{column}: {one} and {other}"));
    }
}

#[test]
fn a_control_that_is_a_perturbation_for_the_model_is_refused_with_its_name() {
    let (home, perturbation) = home();
    home.json(&format!("ingest s.h5ad --control ctrl --control {perturbation} --out other.atlas"));
    for line in ["predict m other.atlas --to observed --out p.parquet", "embed m other.atlas --out e.parquet"] {
        let message = home.refused(65, line);
        let count = format!("its cells labelled `{perturbation}` count as controls");
        says(&message, &["other.atlas", &count, "--control 'ctrl'"]);
    }
}

#[test]
fn a_stand_in_that_was_chosen_among_few_values_is_named_with_those_that_could_not_be_compared() {
    let home = Home::new();
    home.json("simulate --cells 600 --genes 60 --conditions 3 --cell-types 3 --out s.h5ad");
    home.json("ingest s.h5ad --filter cell_type!=type_2 --out trained.atlas");
    home.json("ingest s.h5ad --filter cell_type!=type_0 --out part.atlas");
    home.json("ingest s.h5ad --out all.atlas");
    home.json(&format!("train trained.atlas --out m --epochs 1 {TINY}"));
    let atlas = stages::reader::atlas::Atlas::open(home.path("all.atlas")).unwrap();
    let to = format!("--to condition={},cell_type=type_2", atlas.manifest().conditions.perturbations()[0]);
    let predict = |atlas: &str, out: &str| {
        let ran = home.run(&format!("predict m {atlas} {to} --unseen-covariate nearest --out {out}"));
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        ran.stderr
    };
    let warned = predict("part.atlas", "p.parquet");
    for part in ["cell_type `type_2` is replaced by `type_1`", "have no controls in the atlas: type_0"] {
        assert!(warned.contains(part), "{warned}");
    }
    let silent = predict("all.atlas", "a.parquet");
    assert!(!silent.contains("is replaced by"), "{silent}");
}
