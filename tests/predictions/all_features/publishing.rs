//! How predictions are written: the same bytes whatever the number of threads, shards and tries, or nothing.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use arrow::{
    array::{AsArray, RecordBatch},
    datatypes::Float32Type,
};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use stages::sink::precision::to_bfloat16;

use crate::support::{Home, says};

/// Cells under every condition, in files so small that there are many.
const CELLS: &str = "predict m s.atlas --to observed --output cells --file-size 48KiB";
/// Means, a file each covariate combination.
const MEANS: &str = "predict m s.atlas --to observed --file-size 1KiB";

fn home() -> Home {
    Home::with_model("condition=G00034,dose=0.5")
}

/// Every file below a folder, with its bytes.
fn tree(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    fn walk(folder: &Path, root: &Path, found: &mut BTreeMap<PathBuf, Vec<u8>>) {
        for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            match path.is_dir() {
                true => walk(&path, root, found),
                false => _ = found.insert(path.strip_prefix(root).unwrap().into(), fs::read(&path).unwrap()),
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(folder, folder, &mut found);
    found
}

#[track_caller]
fn same(one: &Path, other: &Path) {
    let (one, other) = (tree(one), tree(other));
    assert!(one.keys().eq(other.keys()), "{:?} are not {:?}", one.keys(), other.keys());
    for (name, bytes) in &one {
        assert!(*bytes == other[name], "{} differs", name.display());
    }
}

fn batches(file: &Path) -> Vec<RecordBatch> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(fs::File::open(file).unwrap()).unwrap();
    builder.build().unwrap().map(Result::unwrap).collect()
}

/// All numbers of a column of lists, over the files of a folder in the order of their names.
fn numbers(folder: &Path, column: &str) -> Vec<f32> {
    let files = tree(folder).into_keys().filter(|name| name.extension().is_some_and(|kind| kind == "parquet"));
    let rows_of = |batch: &RecordBatch| {
        let lists = batch.column_by_name(column).unwrap().as_fixed_size_list();
        lists.values().as_primitive::<Float32Type>().values().to_vec()
    };
    files.flat_map(|name| batches(&folder.join(name))).flat_map(|batch| rows_of(&batch)).collect()
}

#[test]
fn the_number_of_threads_and_the_memory_change_no_byte() {
    let home = home();
    for (name, line) in [("cells", CELLS), ("means", MEANS)] {
        home.json(&format!("--threads 1 {line} --out {name}-1"));
        home.json(&format!("--threads 5 --memory 3MiB {line} --out {name}-5"));
        same(&home.path(&format!("{name}-1")), &home.path(&format!("{name}-5")));
        let files = tree(&home.path(&format!("{name}-1"))).len();
        assert!(files > 2, "{name}: one file shows nothing about parts");
    }
}

/// Products of matrices this large are divided among libtorch's threads, where there are several.
#[test]
fn libtorchs_own_threads_change_no_byte() {
    let home = Home::new();
    home.json("simulate --cells 300 --genes 2000 --conditions 10 --combos 0 --cell-types 6 --density 0.4 --out w.h5ad");
    home.json("ingest w.h5ad --out w.atlas");
    home.json("train w.atlas --out w --epochs 1 --preset residual --device cpu");
    for form in ["means", "cells --cells-per-condition 20 --file-size 300KiB"] {
        for threads in [1, 2, 4] {
            let line =
                format!("--json --threads {threads} predict w w.atlas --to observed --output {form} --out {threads}");
            let ran = home.command(&line).env_remove("OMP_NUM_THREADS").output().unwrap();
            assert!(ran.status.success(), "{line}");
        }
        for threads in ["2", "4"] {
            same(&home.path("1"), &home.path(threads));
        }
        ["1", "2", "4"].iter().for_each(|threads| fs::remove_dir_all(home.path(threads)).unwrap());
    }
}

#[test]
fn shards_in_any_order_and_with_retries_make_the_single_runs_tree() {
    let home = home();
    let parted = format!("{CELLS} --partition-by condition");
    for (name, line, counts) in [("cells", CELLS, &[1, 3, 9][..]), ("means", MEANS, &[3]), ("parted", &parted, &[2])] {
        home.json(&format!("{line} --out {name}"));
        for of in counts {
            let out = format!("{name}-{of}");
            for shard in (0..*of).rev().chain([of / 2]) {
                home.json(&format!("{line} --out {out} --shard {shard}/{of}"));
                assert!(!home.path(&out).exists(), "nothing is visible before it is committed");
            }
            let result = home.json(&format!("predict --commit {out}"));
            assert_eq!(result["files"], tree(&home.path(&out)).len() - 1);
            same(&home.path(name), &home.path(&out));
            assert!(!home.path(&format!(".{out}.shards")).exists(), "what was in the making is gone");
        }
    }
}

#[test]
fn what_a_killed_try_left_is_not_published() {
    let home = home();
    home.json(&format!("{MEANS} --out single"));
    home.json(&format!("{MEANS} --out p --shard 0/1"));
    let plan = fs::read_dir(home.path(".p.shards")).unwrap().next().unwrap().unwrap().path();
    fs::create_dir_all(plan.join("writing/1-2")).unwrap();
    fs::write(plan.join("writing/1-2/part-00000.parquet"), "half").unwrap();
    fs::write(plan.join("data/part-99999.parquet"), "of another version").unwrap();
    home.json("predict --commit p");
    same(&home.path("single"), &home.path("p"));
}

#[test]
fn what_is_missing_or_of_another_plan_is_named() {
    let home = home();
    says(&home.refused(66, "predict --commit p"), &[".p.shards"]);
    for shard in [0, 2] {
        home.json(&format!("{MEANS} --out p --shard {shard}/3"));
    }
    says(&home.refused(65, "predict --commit p"), &["1 of its 3 shards missing: 1/3", "--shard 1/3"]);
    home.json(&format!("{MEANS} --out p --shard 1/4"));
    says(&home.refused(65, "predict --commit p"), &["different counts", "0/3", "1/4"]);
    let plan = fs::read_dir(home.path(".p.shards")).unwrap().next().unwrap().unwrap().path();
    fs::remove_file(plan.join("shards/1-of-4.json")).unwrap();
    // A machine that would write another plan's shard says so before it computes, unless both begin at once.
    let other = format!("{MEANS} --shard 1/3 --precision bf16");
    let message = home.refused(65, &format!("{other} --out p"));
    says(
        &message,
        &["shard 1/3 is not of the plan of shard 0/3: the output is means in a wide table, as bf16", "not means"],
    );
    home.json(&format!("{other} --out q"));
    let of_other = fs::read_dir(home.path(".q.shards")).unwrap().next().unwrap().unwrap();
    fs::rename(of_other.path(), home.path(".p.shards").join(of_other.file_name())).unwrap();
    says(
        &home.refused(65, "predict --commit p"),
        &["2 plans", "0/3, 2/3", "1/3", "means in a wide table of the model", "as bf16, in files of"],
    );
    let name = plan.file_name().unwrap().to_owned();
    for other in fs::read_dir(home.path(".p.shards")).unwrap().map(Result::unwrap) {
        if other.file_name() != name {
            fs::remove_dir_all(other.path()).unwrap();
        }
    }
    home.json(&format!("{MEANS} --out p --shard 1/3"));
    home.json("predict --commit p");
    assert_eq!(home.json("verify p")["damaged"], serde_json::json!([]));
    says(&home.refused(2, "predict --commit p"), &["already exists"]);
    assert!(home.run(&format!("{MEANS} --out p --shard 1/3")).stdout.contains("earlier: it is complete"));
    says(&home.refused(2, &format!("{other} --out p")), &["already exists"]);
}

#[test]
fn shards_are_not_left_behind_a_folder_that_is_written_whole() {
    let home = home();
    home.json("predict m s.atlas --to observed --out p --shard 0/2");
    let whole = "predict m s.atlas --to observed --out p";
    says(&home.refused(2, whole), &["shards of p are in .p.shards", "publish them with --commit"]);
    home.json(&format!("{whole} --shard 1/2"));
    home.json("predict --commit p");
    assert!(!home.path(".p.shards").exists());
    fs::remove_dir_all(home.path("p")).unwrap();
    home.json(whole);
}

#[test]
fn a_damaged_shard_is_not_published() {
    let home = home();
    home.json(&format!("{MEANS} --out p --shard 0/1"));
    let plan = fs::read_dir(home.path(".p.shards")).unwrap().next().unwrap().unwrap().path();
    let file = plan.join("data/part-00000.parquet");
    let mut bytes = fs::read(&file).unwrap();
    bytes[100] ^= 1;
    fs::write(&file, bytes).unwrap();
    says(&home.refused(65, "predict --commit p"), &["part-00000.parquet", "damaged"]);
}

#[test]
fn what_can_not_be_written_so_is_refused_before_it_begins() {
    let home = home();
    for (line, parts) in [
        ("--out p --shard 4/4", &["shard 4/4 does not exist", "0/4 to 3/4"][..]),
        ("--out p --shard one", &["`one` is not a shard"]),
        ("--out p.parquet --shard 0/2", &["p.parquet is one file"]),
        ("--out p.parquet --partition-by condition", &["p.parquet is one file"]),
        ("--out p.h5ad --shard 0/2", &["is one file, but shards write a folder"]),
        ("--out p.h5ad --partition-by dose", &["no partitions"]),
        ("--out p.h5ad --layout long", &["--layout wide"]),
        ("--out p.h5ad --controls copy", &["--output cells"]),
        ("--out p --controls copy", &["--format h5ad"]),
        ("--out p --partition-by dose,dose", &["dose twice"]),
        ("--out p.csv", &["p.csv is named like a file in another format", ".parquet"]),
        ("--out p.h5ad --format parquet", &["p.h5ad is named like a file in another format"]),
        ("--out p.PARQUET --partition-by condition", &["p.PARQUET is one file"]),
        ("--out p --max-bytes 1KiB", &["--max-bytes allows 1,024", "hint"]),
        ("--out p --max-bytes much", &["`much` is not a number of bytes"]),
    ] {
        says(&home.refused(2, &format!("predict m s.atlas --to observed {line}")), parts);
    }
    let message = home.refused(65, "predict m s.atlas --to observed --out p --partition-by cell_typ");
    says(&message, &["cell_typ", "cell_type"]);
    says(&home.refused(2, "embed m s.atlas --out e.pdf"), &["e.pdf is named like a file in another format"]);
    says(&home.refused(2, "predict m s.atlas --commit p"), &["--commit"]);
    says(&home.refused(2, "predict"), &["MODEL", "ATLAS"]);
}

#[test]
fn a_dry_run_tells_the_rows_that_will_come_and_about_the_bytes() {
    let home = home();
    for line in [CELLS, MEANS] {
        let result = home.json(&format!("{line} --dry-run"));
        let written = home.json(&format!("{line} --out p"));
        assert_eq!(result["rows"], written["rows"]);
        assert_eq!(result["files"], written["files"]);
        assert!(result["bytes"].as_u64() <= result["value_bytes"].as_u64());
        home.json(&format!("{line} --out q --max-bytes {}", result["value_bytes"]));
        for name in ["p", "q"] {
            fs::remove_dir_all(home.path(name)).unwrap();
        }
    }
}

#[test]
fn partitions_are_named_by_condition_and_hold_every_row() {
    let home = home();
    home.json(&format!("{CELLS} --out whole"));
    let result = home.json(&format!("{CELLS} --partition-by condition,cell_type --out parted"));
    let folders: Vec<PathBuf> = tree(&home.path("parted")).into_keys().collect();
    let pair = folders.iter().find(|name| name.to_string_lossy().contains("%2B")).unwrap();
    let levels: Vec<_> = pair.components().map(|level| level.as_os_str().to_string_lossy().into_owned()).collect();
    assert!(levels[0].starts_with("condition=G") && levels[0].contains("%2BG"), "{levels:?}");
    assert!(levels[1].starts_with("cell_type=type_"), "{levels:?}");
    let table = &batches(&home.path("parted").join(pair))[0];
    assert!(table.column_by_name("condition").is_none(), "the folder shows it");
    assert!(table.column_by_name("dose").is_some());
    let sorted = |name: &str| {
        let mut numbers = numbers(&home.path(name), "expression");
        numbers.sort_by(f32::total_cmp);
        numbers
    };
    assert_eq!(sorted("parted"), sorted("whole"));
    let count = fs::read_to_string(home.path("whole/_manifest.json")).unwrap();
    let manifest: serde_json::Value = serde_json::from_str(&count).unwrap();
    assert_eq!(result["rows"], manifest["rows"]);
}

#[test]
fn a_partitioned_set_is_verified_file_by_file() {
    let home = home();
    home.json(&format!("{MEANS} --partition-by condition --out p"));
    assert_eq!(home.json("verify p")["damaged"], serde_json::json!([]));
    let name = tree(&home.path("p")).into_keys().find(|name| name.starts_with("condition=G00034")).unwrap();
    let file = home.path("p").join(&name);
    fs::remove_file(file).unwrap();
    let ran = home.run("--json verify p");
    assert_eq!(ran.code, 65);
    assert!(ran.stdout.contains(&*name.to_string_lossy()), "{}", ran.stdout);
}

#[test]
fn half_the_bits_are_the_nearest_bfloat16() {
    let home = home();
    for (name, line, column) in [("cells", CELLS, "expression"), ("means", MEANS, "variance")] {
        home.json(&format!("{line} --out {name}"));
        home.json(&format!("{line} --out {name}-half --precision bf16"));
        let (whole, half) = (numbers(&home.path(name), column), numbers(&home.path(&format!("{name}-half")), column));
        assert!(!whole.is_empty());
        assert!(whole.iter().zip(&half).all(|(whole, half)| to_bfloat16(*whole).to_bits() == half.to_bits()));
        assert_eq!(whole.len(), half.len());
    }
    let file = fs::File::open(home.path("means-half/part-00000.parquet")).unwrap();
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
    assert_eq!(reader.schema().metadata()["precision"], "bf16");
}

#[test]
fn a_single_file_has_the_rows_of_the_folder() {
    let home = home();
    home.json(&format!("{CELLS} --out p"));
    home.json(&format!("{CELLS} --out p.parquet"));
    let lists = |batch: &RecordBatch| {
        batch
            .column_by_name("expression")
            .unwrap()
            .as_fixed_size_list()
            .values()
            .as_primitive::<Float32Type>()
            .values()
            .to_vec()
    };
    let one: Vec<f32> = batches(&home.path("p.parquet")).iter().flat_map(lists).collect();
    assert_eq!(one, numbers(&home.path("p"), "expression"));
}

#[test]
fn an_h5ad_has_the_cells_and_real_controls_behind_them() {
    let home = home();
    let rows = |line: &str| home.json(&format!("predict m s.atlas --to observed {line}"))["rows"].as_u64().unwrap();
    let predicted = rows("--output cells --out p.h5ad");
    let both = rows("--output cells --out q.h5ad --controls copy");
    let controls = home.json("inspect s.atlas");
    let controls = controls["conditions"].as_array().unwrap().iter().find(|condition| condition["control"] == true);
    assert_eq!(both - predicted, controls.unwrap()["cells"].as_u64().unwrap());
    let found = home.json("inspect q.h5ad");
    assert_eq!((found["cells"].as_u64(), found["genes"].as_u64()), (Some(both), Some(60)));
    assert_eq!(rows("--out means.h5ad"), rows("--out means"));
}
