//! The atlas next to a data file is made again when the data change: nothing that a user put into it is lost, and nothing in it is stale.

use std::{fs, os::unix::fs::symlink, sync::Arc, thread, time::Duration};

use arrow::array::{ArrayRef, Int64Array, ListArray, RecordBatch, StringArray};
use parquet::arrow::ArrowWriter;
use schemas::chunk::Chunk;
use stages::storage::disk::PathLock;

use crate::support::{
    Home, TINY,
    h5ad::{h5ad, set_column},
    says,
};

/// Puts a file with changed cells in the place of `s.h5ad`.
fn change(home: &Home, change: impl FnOnce(&mut Chunk)) {
    h5ad(home, "next.h5ad", change);
    fs::rename(home.path("next.h5ad"), home.path("s.h5ad")).unwrap();
}

/// Lets a column say of each cell which part of the split it belongs to: every tenth one is `ood`, from a first one on.
fn column_of_parts(first: usize) -> impl FnOnce(&mut Chunk) {
    move |chunk| {
        let part = move |row: usize, _: &str| if row % 10 == first { "ood" } else { "train" }.to_owned();
        set_column(chunk, "batch", "part", part);
    }
}

fn train(home: &Home, flags: &str) -> String {
    let ran = home.run(&format!("train s.h5ad {flags} --epochs 1 {TINY}"));
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    ran.stderr
}

fn held_out(home: &Home, name: &str) -> Vec<bool> {
    let atlas = stages::reader::atlas::Atlas::open(home.path("s.atlas")).unwrap();
    let split = stages::reader::split::Split::read(&atlas, name).unwrap();
    (0..100).map(|cell| split.part(schemas::ids::CellIndex(cell)) == stages::reader::split::SplitPart::Ood).collect()
}

#[test]
fn a_split_imported_from_a_column_follows_the_column() {
    let home = Home::new();
    h5ad(&home, "s.h5ad", column_of_parts(3));
    train(&home, "--split part --out a");
    assert!(held_out(&home, "part")[3]);
    change(&home, column_of_parts(4));
    train(&home, "--split part --out b");
    let now = held_out(&home, "part");
    assert!(now[4] && !now[3], "the column says otherwise by now");
}

#[test]
fn a_split_with_the_name_of_a_column_is_not_lost() {
    let home = Home::new();
    h5ad(&home, "s.h5ad", |_| {});
    train(&home, "--out a");
    home.json("split s.atlas --name cell_type --scheme random:0.2");
    let before = held_out(&home, "cell_type");
    change(&home, |chunk| set_column(chunk, "batch", "other", |_, batch| batch.to_owned()));
    assert!(train(&home, "--out b").contains("keeping its splits: cell_type"));
    assert_eq!(held_out(&home, "cell_type"), before);
}

#[test]
fn names_that_are_numbers_do_not_say_that_cells_are_in_the_same_order() {
    let home = Home::new();
    let numbered = |chunk: &mut Chunk| set_column(chunk, "cell", "cell", |row, _| row.to_string());
    h5ad(&home, "s.h5ad", numbered);
    train(&home, "--out a");
    home.json("split s.atlas --name mine --scheme random:0.2");
    change(&home, |chunk| {
        numbered(chunk);
        set_column(chunk, "batch", "other", |_, batch| batch.to_owned());
    });
    let refused = home.refused(2, &format!("train s.h5ad --out b --epochs 1 {TINY}"));
    says(&refused, &["can't be rebuilt without losing a split", "the cells are numbered"]);
}

#[test]
fn an_atlas_that_can_not_take_the_place_of_the_old_one_is_removed() {
    let made = || {
        let home = Home::new();
        h5ad(&home, "s.h5ad", |_| {});
        train(&home, "--out a");
        home
    };
    let line = "explain train s.h5ad --covariates= --out b";
    let is_last = |call: &String| call.starts_with("rename s.atlas ");
    let number = 1 + made().disk_calls(line).iter().position(is_last).unwrap();
    let home = made();
    let before = fs::read(home.path("s.atlas/manifest.json")).unwrap();
    let ran = home.run_with_fault(line, &format!("broken@{number}"));
    assert!([73, 74].contains(&ran.code), "{}", ran.stderr);
    assert_eq!(fs::read(home.path("s.atlas/manifest.json")).unwrap(), before);
    assert!(!home.path(".s.atlas.anew").exists());
}

#[test]
fn an_atlas_whose_maker_was_killed_before_it_had_its_name_is_found() {
    let home = Home::new();
    h5ad(&home, "s.h5ad", |_| {});
    train(&home, "--out a");
    home.json("split s.atlas --name mine --scheme random:0.2");
    let before = held_out(&home, "mine");
    // The old atlas had lost its name, and was partly removed.
    fs::rename(home.path("s.atlas"), home.path(".s.atlas.anew")).unwrap();
    fs::create_dir(home.path(".s.atlas.tmp-1-1")).unwrap();
    assert!(train(&home, "--out b").contains("using s.atlas"));
    assert_eq!(held_out(&home, "mine"), before);
    assert!(!home.path(".s.atlas.tmp-1-1").exists());
    // One that was killed earlier left something that is not whole.
    fs::create_dir(home.path(".s.atlas.anew")).unwrap();
    fs::remove_dir_all(home.path("s.atlas")).unwrap();
    assert!(train(&home, "--out c").contains("(once)"));
    assert!(!home.path(".s.atlas.anew").exists());
}

#[test]
fn a_file_that_is_read_in_place_may_change_its_length() {
    let home = Home::new();
    h5ad(&home, "s.h5ad", |_| {});
    assert!(train(&home, "--out a").contains("reading s.h5ad in place"));
    home.json("simulate --cells 130 --genes 60 --conditions 6 --combos 2 --cell-types 2 --doses 2 --out next.h5ad");
    fs::rename(home.path("next.h5ad"), home.path("s.h5ad")).unwrap();
    assert!(train(&home, "--out b").contains("its source has changed"));
    assert_eq!(home.json("inspect s.atlas")["cells"], 130);
}

#[test]
fn an_atlas_that_was_made_with_flags_is_not_made_again_without_them() {
    let home = Home::new();
    h5ad(&home, "s.h5ad", |_| {});
    train(&home, "--out a --filter cell_type=type_1");
    let cells = home.json("inspect s.atlas")["cells"].clone();
    assert!(cells.as_u64() < Some(100));
    change(&home, |chunk| set_column(chunk, "batch", "other", |_, batch| batch.to_owned()));
    let refused = home.refused(2, "predict a s.h5ad --to observed --out p");
    says(&refused, &["s.atlas is not up to date, and was made with flags", "with its flags"]);
    assert_eq!(home.json("inspect s.atlas")["cells"], cells);
}

#[test]
fn an_atlas_of_the_user_is_compared_with_every_flag() {
    let home = Home::new();
    h5ad(&home, "s.h5ad", |_| {});
    home.json("ingest s.h5ad --out s.atlas --covariates cell_type,batch");
    for flag in ["--covariates cell_type", "--covariates=", "--values log1p", "--on-bad-values drop"] {
        let refused = home.refused(2, &format!("train s.h5ad --out m --epochs 1 {TINY} {flag}"));
        let name = flag.split([' ', '=']).next().unwrap();
        says(&refused, &[&format!("s.atlas was made with a different {name}")]);
    }
    train(&home, "--out m --covariates batch,cell_type --values counts");
}

#[test]
fn an_atlas_of_the_user_is_compared_with_patterns_of_controls_and_how_tables_are_read() {
    let home = Home::new();
    h5ad(&home, "s.h5ad", |_| {});
    home.json("ingest s.h5ad --out s.atlas --control ctrl --dose=");
    let different = |flags: &str, name: &str| {
        let refused = home.refused(2, &format!("train s.h5ad --out m --epochs 1 {TINY} {flags}"));
        says(&refused, &[&format!("s.atlas was made with a different {name}")]);
    };
    different("--control G*", "--control");
    different("--control ctrl --control G*", "--control");
    different("--control ctrl --obs-columns condition", "--obs-columns, --genes-table or --list-start");
    train(&home, "--out m --control ct* --dose=");
}

#[test]
fn a_split_is_not_kept_for_other_controls() {
    let home = Home::new();
    h5ad(&home, "s.h5ad", |_| {});
    train(&home, "--out m");
    home.json("split s.atlas --name mine --scheme random:0.2");
    let inspected = home.json("inspect s.atlas");
    let perturbation = inspected["conditions"][1]["perturbations"][0].as_str().unwrap();
    let refused = home.refused(2, &format!("train s.h5ad --out n --epochs 1 --control {perturbation} {TINY}"));
    says(&refused, &["can't be rebuilt without losing a split", "other cells are controls now"]);
}

#[test]
fn a_link_to_an_atlas_stays_a_link() {
    let home = Home::new();
    h5ad(&home, "s.h5ad", |_| {});
    fs::create_dir(home.path("disk")).unwrap();
    train(&home, "--out a");
    fs::rename(home.path("s.atlas"), home.path("disk/s.atlas")).unwrap();
    symlink("disk/s.atlas", home.path("s.atlas")).unwrap();
    change(&home, |chunk| set_column(chunk, "batch", "other", |_, batch| batch.to_owned()));
    assert!(train(&home, "--out b").contains("its source has changed"));
    assert!(home.path("s.atlas").is_symlink() && home.path("disk/s.atlas").is_dir());
    fs::remove_dir_all(home.path("disk")).unwrap();
    let refused = home.refused(2, &format!("train s.h5ad --out c --epochs 1 {TINY}"));
    says(&refused, &["s.atlas is a link to disk/s.atlas, which does not exist"]);
}

#[test]
fn a_split_waits_for_the_command_that_makes_the_atlas_again() {
    let home = Home::new();
    h5ad(&home, "s.h5ad", |_| {});
    train(&home, "--out a");
    fs::create_dir(home.path("links")).unwrap();
    symlink("../s.atlas", home.path("links/other")).unwrap();
    for (atlas, name) in [("s.atlas", "mine"), ("links/other", "linked"), ("./s.atlas/.", "dotted")] {
        let lock = PathLock::try_take(&home.path("s.atlas").canonicalize().unwrap()).unwrap().expect("nobody has it");
        let mut child = home.command(&format!("split {atlas} --name {name} --scheme random:0.2")).spawn().unwrap();
        thread::sleep(Duration::from_millis(500));
        assert!(child.try_wait().unwrap().is_none(), "it did not wait for {atlas}");
        drop(lock);
        assert!(child.wait().unwrap().success());
        assert!(held_out(&home, name).contains(&true));
    }
}

/// A table of 60 cells with lists of numbered genes.
fn table(home: &Home, name: &str, first: usize) {
    let lists = || (first..first + 60).map(|cell| vec![0_i64, 1, 2 + i64::from(cell % 2 == 0)]);
    let genes = lists().map(|list| Some(list.into_iter().map(Some).collect::<Vec<_>>()));
    let values = lists().map(|list| Some(list.iter().map(|gene| Some((3 + gene) as f32)).collect::<Vec<_>>()));
    let labels = (first..first + 60).map(|cell| ["ctrl", "A"][cell % 2]);
    write(
        home,
        name,
        [
            ("genes", Arc::new(ListArray::from_iter_primitive::<arrow::datatypes::Int64Type, _, _>(genes)) as ArrayRef),
            (
                "expressions",
                Arc::new(ListArray::from_iter_primitive::<arrow::datatypes::Float32Type, _, _>(values)) as ArrayRef,
            ),
            ("condition", Arc::new(StringArray::from_iter_values(labels)) as ArrayRef),
        ],
    );
}

fn write<const N: usize>(home: &Home, name: &str, columns: [(&str, ArrayRef); N]) {
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let file = fs::File::create(home.path(name)).unwrap();
    let mut writer = ArrowWriter::try_new(file, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

fn genes(home: &Home, names: [&str; 4]) {
    let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..4));
    let names: ArrayRef = Arc::new(StringArray::from_iter_values(names));
    write(home, "genes.parquet", [("token_id", numbers), ("gene_symbol", names)]);
}

#[test]
fn a_table_of_genes_that_changed_is_read_again() {
    let home = Home::new();
    table(&home, "t.parquet", 0);
    genes(&home, ["w", "x", "y", "z"]);
    let train = |out: &str| home.json(&format!("train t.parquet --out {out} --epochs 1 {TINY}"));
    train("a");
    let genes_of = |model: &str| fs::read_to_string(home.path(model).join("genes.txt")).unwrap();
    let before = genes_of("a");
    genes(&home, ["z", "y", "x", "w"]);
    train("b");
    assert_ne!(genes_of("b"), before);
}

#[test]
fn a_table_of_genes_is_the_one_that_was_named_wherever_the_command_was_typed() {
    let home = Home::new();
    table(&home, "t.parquet", 0);
    for (folder, names) in [("one", ["w", "x", "y", "z"]), ("two", ["a", "b", "c", "d"])] {
        genes(&home, names);
        fs::create_dir(home.path(folder)).unwrap();
        fs::rename(home.path("genes.parquet"), home.path(folder).join("names.parquet")).unwrap();
        let mut command =
            home.command(&format!("train ../t.parquet --genes-table names.parquet --out m --epochs 1 {TINY}"));
        let ran = command.current_dir(home.path(folder)).output().unwrap();
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        let found = fs::read_to_string(home.path(folder).join("m/genes.txt")).unwrap();
        assert_eq!(found.lines().next(), Some(names[0]), "{folder}");
    }
}

#[test]
fn a_table_of_genes_that_comes_later_is_read() {
    let home = Home::new();
    table(&home, "t.parquet", 0);
    home.json(&format!("train t.parquet --out a --epochs 1 {TINY}"));
    genes(&home, ["w", "x", "y", "z"]);
    fs::rename(home.path("genes.parquet"), home.path("gene_metadata.parquet")).unwrap();
    home.json(&format!("train t.parquet --out b --epochs 1 {TINY}"));
    assert_eq!(fs::read_to_string(home.path("b/genes.txt")).unwrap().lines().next(), Some("w"));
}

#[test]
fn a_table_that_was_renamed_in_its_folder_is_seen() {
    let home = Home::new();
    fs::create_dir(home.path("t")).unwrap();
    table(&home, "t/a.parquet", 0);
    table(&home, "t/b.parquet", 1);
    let train = |out: &str| home.run(&format!("train t --out {out} --epochs 1 {TINY}"));
    assert_eq!(train("a").code, 0);
    assert!(train("b").stderr.contains("using t.atlas"));
    fs::rename(home.path("t/a.parquet"), home.path("t/c.parquet")).unwrap();
    let ran = train("c");
    assert!(ran.code == 0 && ran.stderr.contains("its source has changed"), "{}", ran.stderr);
}

#[test]
fn a_split_of_other_cells_or_of_another_order_is_refused() {
    let home = Home::new();
    h5ad(&home, "s.h5ad", |_| {});
    home.json("ingest s.h5ad --out s.atlas");
    home.json("split s.atlas --name mine --scheme random:0.2");
    let path = home.path("s.atlas/splits/mine.parquet");
    let file = fs::File::open(&path).unwrap();
    let reader = parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap();
    let batches: Vec<RecordBatch> = reader.map(Result::unwrap).collect();
    let batch = arrow::compute::concat_batches(&batches[0].schema(), &batches).unwrap();
    let order: ArrayRef = Arc::new(Int64Array::from_iter_values((0..100).rev()));
    let reversed = batch.columns().iter().map(|column| arrow::compute::take(column, &order, None).unwrap());
    let columns: Vec<ArrayRef> = reversed.collect();
    let write_as = |name: &str, columns: &[ArrayRef]| {
        write(
            &home,
            &format!("s.atlas/splits/{name}.parquet"),
            [("cell", Arc::clone(&columns[0])), ("split", Arc::clone(&columns[1]))],
        );
    };
    write_as("other", &columns);
    write_as("same", batch.columns());
    let refused = home.refused(65, &format!("train s.atlas --split other --out m --epochs 1 {TINY}"));
    says(&refused, &["other.parquet, row 0", "it names `", "in the order of cells.parquet"]);
    home.json(&format!("train s.atlas --split same --out m --epochs 1 {TINY}"));
    assert_ne!(home.run("verify s.atlas").code, 0, "one of its splits is of another order");
    let names: ArrayRef = Arc::new(StringArray::from(vec!["true"; 100]));
    let [cell, split] = [0, 1].map(|at| Arc::clone(batch.column(at)));
    write(&home, "s.atlas/splits/texts.parquet", [("cell", cell), ("split", split), ("reference", names)]);
    let refused = home.refused(65, &format!("train s.atlas --split texts --out t --epochs 1 {TINY}"));
    says(&refused, &["texts.parquet", "its column `reference` is of Utf8, not of booleans"]);
}

#[test]
fn a_training_does_not_go_on_with_another_atlas() {
    let home = Home::new();
    h5ad(&home, "s.h5ad", |_| {});
    home.json("ingest s.h5ad --out s.atlas");
    let train = format!("train s.atlas --out m --epochs 2 {TINY}");
    home.json(&train);
    fs::remove_dir_all(home.path("s.atlas")).unwrap();
    home.json("ingest s.h5ad --out s.atlas --covariates=");
    says(&home.refused(2, &format!("{train} --resume")), &["the atlas differs from that of the run in m"]);
}

#[test]
fn an_atlas_that_holds_a_model_of_the_users_is_not_rebuilt() {
    let home = Home::new();
    h5ad(&home, "s.h5ad", |_| {});
    train(&home, "--out s.atlas.model");
    fs::rename(home.path("s.atlas.model"), home.path("s.atlas/mine")).unwrap();
    change(&home, |chunk| set_column(chunk, "batch", "other", |_, batch| batch.to_owned()));
    let rebuild = format!("train s.h5ad --out b --epochs 1 {TINY}");
    says(&home.refused(2, &rebuild), &["s.atlas/mine would be lost when s.atlas is replaced", "move it"]);
    fs::rename(home.path("s.atlas/mine"), home.path("mine")).unwrap();
    fs::create_dir_all(home.path("s.atlas/splits")).unwrap();
    fs::write(home.path("s.atlas/splits/notes.txt"), "mine").unwrap();
    says(&home.refused(2, &rebuild), &["s.atlas/splits/notes.txt would be lost"]);
    fs::remove_file(home.path("s.atlas/splits/notes.txt")).unwrap();
    home.json(&rebuild);
}

#[test]
fn a_split_is_not_kept_for_cells_whose_conditions_were_corrected() {
    let home = Home::new();
    h5ad(&home, "s.h5ad", |_| {});
    train(&home, "--out a");
    home.json("split s.atlas --name mine --scheme random:0.2");
    change(&home, |chunk| set_column(chunk, "cell_type", "cell_type", |row, _| format!("type {}", row % 2)));
    let refused = home.refused(2, &format!("train s.h5ad --split mine --out b --epochs 1 {TINY}"));
    says(
        &refused,
        &["can't be rebuilt without losing a split", "mine.parquet", "another `cell_type`", "rename the atlas"],
    );
}
