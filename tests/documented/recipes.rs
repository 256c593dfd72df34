//! The recipes run as printed, on small files with the columns and labels of the published ones.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    path::Path,
    sync::Arc,
};

use arrow::{
    array::{ArrayRef, Float32Array, Int64Array, ListArray, RecordBatch, StringArray},
    datatypes::{Float32Type, Int64Type},
};
use parquet::arrow::ArrowWriter;
use serde_json::Value;

use super::{
    read,
    support::{
        Home,
        h5ad::write_h5ad,
        python::{self, python_with},
        simulator,
    },
    words,
};

const CELLS: usize = 120;
const PAGE: &str = "docs/recipes.md";

/// A column of `obs`: its name, and the values that are repeated over the cells.
type Column = (&'static str, &'static [&'static str]);

/// A published layout: the file's name, its columns, and the conditions that a recipe should find, control first.
struct PublishedLayout {
    file: &'static str,
    columns: &'static [Column],
    conditions: &'static [&'static str],
}

/// Four kinds of cells, so that a combination has thirty.
const PAIRS: &[&str] = &["control", "A", "B", "A+B"];
const PAIR_CONDITIONS: &[&str] = &["control", "A", "A+B", "B"];

const LAYOUTS: [PublishedLayout; 14] = [
    PublishedLayout {
        file: "norman_2019.h5ad",
        columns: &[("guide_identity", &["x", "y"]), ("perturbation_name", PAIRS), ("gemgroup", &["1", "2", "3"])],
        conditions: PAIR_CONDITIONS,
    },
    PublishedLayout {
        file: "NormanWeissman2019_filtered.h5ad",
        columns: &[
            ("perturbation", &["control", "A", "B", "A_B"]),
            ("nperts", &["0", "1", "1", "2"]),
            ("cell_line", &["K562"]),
            ("gemgroup", &["1", "2", "3"]),
        ],
        conditions: &["control", "A", "A_B", "B"],
    },
    PublishedLayout {
        file: "Norman2019.h5ad",
        columns: &[
            ("cond_harm", &["ctrl", "A+ctrl", "B+ctrl", "A+B"]),
            ("dose_value", &["1", "1+1", "1+1", "1+1"]),
            ("cell_type", &["A549"]),
        ],
        conditions: &["ctrl", "A", "A+B", "B"],
    },
    PublishedLayout {
        file: "norman_guides.h5ad",
        columns: &[
            (
                "guide_identity",
                &[
                    "NegCtrl0_NegCtrl10__NegCtrl0_NegCtrl10",
                    "A_NegCtrl0__A_NegCtrl0",
                    "NegCtrl0_B__NegCtrl0_B",
                    "A_B__A_B",
                ],
            ),
            ("gemgroup", &["1", "2", "3"]),
        ],
        conditions: &["NegCtrl0", "A", "A_B", "B"],
    },
    PublishedLayout {
        file: "K562_essential_raw_singlecell_01.h5ad",
        columns: &[
            ("gem_group", &["1", "2", "3"]),
            ("gene", &["non-targeting", "A", "B"]),
            ("gene_transcript", &["non-targeting", "A_P1", "B_P1P2"]),
        ],
        conditions: &["non-targeting", "A", "B"],
    },
    PublishedLayout {
        file: "rpe1_raw_singlecell_01.h5ad",
        columns: &[("gem_group", &["1", "2"]), ("gene", &["non-targeting", "A", "B"])],
        conditions: &["non-targeting", "A", "B"],
    },
    PublishedLayout {
        file: "ReplogleWeissman2022_K562_essential.h5ad",
        columns: &[("perturbation", &["control", "A", "B"]), ("nperts", &["0", "1", "1"]), ("cell_line", &["K562"])],
        conditions: &["control", "A", "B"],
    },
    PublishedLayout {
        file: "sciplex3.h5ad",
        columns: &[
            ("product_name", &["Vehicle", "A (x)", "B"]),
            ("treatment", &["S0000", "S1", "S2"]),
            ("dose", &["0", "10", "10000"]),
            ("cell_type", &["A549", "K562"]),
            ("replicate", &["rep1", "rep2"]),
        ],
        conditions: &["Vehicle", "A (x)", "B"],
    },
    PublishedLayout {
        file: "SrivatsanTrapnell2020_sciplex3.h5ad",
        columns: &[
            ("perturbation", &["control", "A", "B"]),
            ("dose_value", &["0", "10", "10000"]),
            ("cell_line", &["A549", "K562"]),
        ],
        conditions: &["control", "A", "B"],
    },
    PublishedLayout {
        file: "plate3.h5ad",
        columns: &[
            ("drugname_drugconc", &["[('DMSO_TF', 0.0, 'uM')]", "[('A', 0.05, 'uM')]", "[('A', 5.0, 'uM')]"]),
            ("drug", &["DMSO_TF", "A", "A"]),
            ("cell_line", &["CVCL_0023", "CVCL_0131"]),
            ("plate", &["plate3"]),
            ("pass_filter", &["full", "full", "full", "minimal"]),
        ],
        conditions: &["DMSO_TF", "A", "A"],
    },
    PublishedLayout {
        file: "plate4.h5ad",
        columns: &[
            ("drugname_drugconc", &["[('DMSO_TF', 0.0, 'uM')]", "[('A', 0.05, 'uM')]", "[('A', 5.0, 'uM')]"]),
            ("drug", &["DMSO_TF", "A", "A"]),
            ("cell_line", &["CVCL_0023", "CVCL_0131"]),
            ("plate", &["plate4"]),
            ("pass_filter", &["full", "full", "full", "minimal"]),
        ],
        conditions: &["DMSO_TF", "A", "A"],
    },
    PublishedLayout {
        file: "FILE.h5ad",
        columns: &[("perturbation", &["control", "A", "B"]), ("cell_line", &["K562"])],
        conditions: &["control", "A", "B"],
    },
    PublishedLayout {
        file: "papalexi_rna.h5ad",
        columns: &[
            ("guide_ID", &["NTg1", "Ag1", "Bg2"]),
            ("perturbation", &["NT", "Perturbed", "Perturbed"]),
            ("gene_target", &["NT", "A", "B"]),
            ("replicate", &["rep1", "rep2"]),
        ],
        conditions: &["NT", "A", "B"],
    },
    PublishedLayout {
        file: "perturb_processed.h5ad",
        columns: &[
            ("condition", &["ctrl", "A+ctrl", "ctrl+B", "A+B"]),
            ("cell_type", &["A549"]),
            ("dose_val", &["1", "1+1", "1+1", "1+1"]),
            ("condition_name", &["A549_ctrl_1", "A549_A+ctrl_1+1", "A549_ctrl+B_1+1", "A549_A+B_1+1"]),
        ],
        conditions: &["ctrl", "A", "A+B", "B"],
    },
];

#[test]
fn every_recipe_runs_on_files_of_its_layout() {
    let home = Home::new();
    LAYOUTS.iter().for_each(|layout| write(&home, layout));
    write_tahoe_tables(&home);
    let mut has_layer = true;
    let mut run = BTreeSet::new();
    for command in commands() {
        let words = words(command.strip_prefix("perturbine ").expect("a command of ours"));
        let layout =
            LAYOUTS.iter().find(|layout| words.iter().any(|word| word.rsplit('/').next() == Some(layout.file)));
        if words.iter().any(|word| word == "--layer") {
            has_layer = add_layer(&home.path("Norman2019.h5ad"));
            if !has_layer {
                continue;
            }
        }
        if let Some(at) = words.iter().position(|word| word == "--out") {
            // Several recipes write an atlas of one name.
            _ = fs::remove_dir_all(home.path(&words[at + 1]));
        }
        let output = home.command("--json").args(&words).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{PAGE}: {command} failed\n{stderr}");
        if let Some(layout) = layout.filter(|_| words[0] == "ingest") {
            let value: Value = serde_json::from_slice(&output.stdout).unwrap();
            let conditions = value["conditions"].as_array().unwrap();
            let names: Vec<&str> = conditions.iter().map(|one| one["name"].as_str().unwrap()).collect();
            assert_eq!(names, layout.conditions, "{command}\n{stderr}");
            let controls: Vec<bool> = conditions.iter().map(|one| one["control"].as_bool().unwrap()).collect();
            assert!(controls[0] && !controls[1..].contains(&true), "{command}: {controls:?}");
            run.insert(layout.file);
        }
    }
    // Of two files that are joined, the first stands for both.
    let joined = ["rpe1_raw_singlecell_01.h5ad", "plate4.h5ad"];
    let is_left_out = |file: &str| joined.contains(&file) || (!has_layer && file == "Norman2019.h5ad");
    let missing: Vec<&str> =
        LAYOUTS.iter().map(|layout| layout.file).filter(|file| !run.contains(file) && !is_left_out(file)).collect();
    assert!(missing.is_empty(), "{PAGE} has no recipe for {missing:?}");
}

#[test]
fn a_column_that_says_only_whether_a_cell_is_perturbed_is_not_taken_for_that_of_perturbations() {
    let home = Home::new();
    let layout = LAYOUTS.iter().find(|layout| layout.file == "papalexi_rna.h5ad").unwrap();
    write(&home, layout);
    let error = home.refused(65, "ingest papalexi_rna.h5ad --out a.atlas");
    assert!(
        error.contains("perturbation (Perturbed, NT); gene_target (") && error.contains("--perturbation gene_target"),
        "{error}"
    );
}

#[test]
fn names_and_codes_of_the_same_drugs_are_no_ambiguity() {
    let home = Home::new();
    let layout = LAYOUTS.iter().find(|layout| layout.file == "sciplex3.h5ad").unwrap();
    write(&home, layout);
    let ran = home.run("ingest sciplex3.h5ad --out a.atlas");
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(
        ran.stderr.contains("--perturbation product_name") && ran.stderr.contains("--control Vehicle"),
        "{}",
        ran.stderr
    );
    assert!(
        ran.stderr.contains("`treatment` has other names for the same groups of cells as `product_name`"),
        "{}",
        ran.stderr
    );
}

/// The commands of the page's recipes.
fn commands() -> Vec<String> {
    let (mut commands, mut is_recipe) = (Vec::new(), false);
    for line in read(PAGE).lines() {
        match line {
            "```sh" => is_recipe = true,
            "```" => is_recipe = false,
            _ if is_recipe && !line.starts_with('#') => commands.push(line.to_owned()),
            _ => {}
        }
    }
    assert!(commands.len() > 10, "{commands:?}");
    commands
}

fn write(home: &Home, layout: &PublishedLayout) {
    let simulator = simulator(CELLS as u64, true);
    let mut chunk = simulator.chunk(0..CELLS as u64).unwrap();
    let cells = Arc::clone(chunk.obs.column(0));
    let column = |(name, values): &Column| {
        let values = (0..CELLS).map(|cell| values[cell % values.len()]);
        ((*name).to_owned(), Arc::new(StringArray::from_iter_values(values)) as ArrayRef)
    };
    let columns = std::iter::once(("cell".to_owned(), cells)).chain(layout.columns.iter().map(column));
    chunk.obs = RecordBatch::try_from_iter(columns).unwrap();
    // The recipe of GEARS names a folder.
    let folder = if layout.file == "perturb_processed.h5ad" { home.path("norman") } else { home.path("") };
    fs::create_dir_all(&folder).unwrap();
    write_h5ad(&folder.join(layout.file), simulator.genes(), &chunk);
}

/// The Parquet files of Tahoe: cells as lists of genes and counts, each with a marker first.
fn write_tahoe_tables(home: &Home) {
    let text = |values: &[&str]| {
        Arc::new(StringArray::from_iter_values((0..CELLS).map(|cell| values[cell % values.len()]))) as ArrayRef
    };
    let genes = (0..CELLS).map(|cell| Some([1, 3 + (cell % 2) as i64, 5].map(Some)));
    let counts = (0..CELLS).map(|cell| Some([-2.0, 1.0 + (cell % 3) as f32, 2.0].map(Some)));
    let cells = RecordBatch::try_from_iter([
        ("genes", Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(genes)) as ArrayRef),
        ("expressions", Arc::new(ListArray::from_iter_primitive::<Float32Type, _, _>(counts))),
        ("drug", text(&["DMSO_TF", "A", "B"])),
        ("cell_line_id", text(&["CVCL_0023", "CVCL_0131"])),
        ("plate", text(&["plate3", "plate4"])),
        ("score", Arc::new(Float32Array::from_iter_values((0..CELLS).map(|_| 0.5)))),
    ]);
    let names: ArrayRef = Arc::new(StringArray::from_iter_values(["X", "Y", "Z"]));
    let tokens: ArrayRef = Arc::new(Int64Array::from_iter_values([3, 4, 5]));
    let table = RecordBatch::try_from_iter([("gene_symbol", names), ("token_id", tokens)]);
    for (path, batch) in [("data/part-0.parquet", cells), ("metadata/gene_metadata.parquet", table)] {
        let path = home.path("Tahoe-100M").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let batch = batch.unwrap();
        let mut writer = ArrowWriter::try_new(File::create(path).unwrap(), batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
    }
}

/// Copies `X` to the layer `counts`, where there is a Python with h5py.
fn add_layer(path: &Path) -> bool {
    let Some(python) = python_with("h5py", &["h5py", "numpy"]) else { return false };
    let script =
        "import sys, h5py\nf = h5py.File(sys.argv[1], 'r+')\nf.copy(f['X'], f.require_group('layers'), name='counts')";
    python::run(&python, script, &[path]);
    true
}
