//! Tables of cells: Parquet and Arrow, wide and in lists, and damaged.

use std::{collections::BTreeMap, fs, fs::File, path::Path, sync::Arc};

use arrow::{
    array::{
        Array, ArrayRef, BooleanArray, Float32Array, Float32Builder, Float64Array, Int64Array, Int64Builder,
        ListBuilder, RecordBatch, StringArray, UInt64Array,
    },
    ipc::writer::{FileWriter, StreamWriter},
};
use parquet::arrow::ArrowWriter;
use schemas::chunk::Chunk;

use crate::support::{Home, h5ad::h5ad, says, simulator};

/// Rows of a record batch or row group, so that a table has several.
const PART_ROWS: usize = 30;

/// Cells with one column a gene.
fn wide(cells: &Chunk, genes: &[String]) -> RecordBatch {
    let rows = cells.expression.rows();
    let mut values = vec![0.0; genes.len() * rows];
    for row in 0..rows {
        for (gene, value) in entries(cells, row) {
            values[gene as usize * rows + row] = value;
        }
    }
    let values = values.chunks(rows).map(|values| Arc::new(Float32Array::from(values.to_vec())) as ArrayRef);
    RecordBatch::try_from_iter(annotations(cells).into_iter().chain(genes.iter().cloned().zip(values))).unwrap()
}

/// Cells with lists of values and of genes, given by odd numbers.
fn lists(cells: &Chunk) -> RecordBatch {
    let (mut genes, mut values) = (ListBuilder::new(Int64Builder::new()), ListBuilder::new(Float32Builder::new()));
    for row in 0..cells.expression.rows() {
        for (gene, value) in entries(cells, row) {
            genes.values().append_value(i64::from(gene) * 2 + 1);
            values.values().append_value(value);
        }
        genes.append(true);
        values.append(true);
    }
    let lists = [("genes", Arc::new(genes.finish()) as ArrayRef), ("expressions", Arc::new(values.finish()))];
    let lists = lists.into_iter().map(|(name, column)| (name.to_owned(), column));
    RecordBatch::try_from_iter(annotations(cells).into_iter().chain(lists)).unwrap()
}

/// Which gene an odd number is.
fn genes_table(genes: &[String]) -> RecordBatch {
    let numbers = Int64Array::from_iter_values((0..genes.len() as i64).map(|gene| gene * 2 + 1));
    let names = StringArray::from_iter_values(genes);
    RecordBatch::try_from_iter([("token_id", Arc::new(numbers) as ArrayRef), ("gene_symbol", Arc::new(names))]).unwrap()
}

fn entries(cells: &Chunk, row: usize) -> impl Iterator<Item = (u32, f32)> {
    let rows = &cells.expression;
    let entries = rows.row_pointers()[row] as usize..rows.row_pointers()[row + 1] as usize;
    rows.genes()[entries.clone()].iter().copied().zip(rows.values()[entries].iter().copied())
}

fn annotations(cells: &Chunk) -> Vec<(String, ArrayRef)> {
    let schema = cells.obs.schema();
    schema.fields().iter().map(|field| field.name().clone()).zip(cells.obs.columns().iter().cloned()).collect()
}

fn write_parquet(path: &Path, table: &RecordBatch) {
    let mut writer = ArrowWriter::try_new(File::create(path).unwrap(), table.schema(), None).unwrap();
    for start in (0..table.num_rows()).step_by(PART_ROWS) {
        writer.write(&table.slice(start, PART_ROWS.min(table.num_rows() - start))).unwrap();
        writer.flush().unwrap();
    }
    writer.close().unwrap();
}

fn write_arrow(path: &Path, table: &RecordBatch) {
    let mut writer = FileWriter::try_new(File::create(path).unwrap(), &table.schema()).unwrap();
    for start in (0..table.num_rows()).step_by(PART_ROWS) {
        writer.write(&table.slice(start, PART_ROWS.min(table.num_rows() - start))).unwrap();
    }
    writer.finish().unwrap();
}

fn write_stream(path: &Path, table: &RecordBatch) {
    let mut writer = StreamWriter::try_new(File::create(path).unwrap(), &table.schema()).unwrap();
    writer.write(table).unwrap();
    writer.finish().unwrap();
}

/// The files of an atlas that hold its cells.
fn cells_of(home: &Home, name: &str) -> BTreeMap<&'static str, Vec<u8>> {
    let files = ["matrix.bin", "blocks.bin", "cells.parquet", "conditions.parquet", "genes.parquet", "labels.bin"];
    files.map(|file| (file, fs::read(home.path(name).join(file)).unwrap())).into()
}

#[test]
fn a_table_of_any_kind_becomes_the_atlas_of_the_h5ad_with_the_same_cells() {
    let home = Home::new();
    h5ad(&home, "cells.h5ad", |_| {});
    let simulator = simulator(100, true);
    let (cells, genes) = (simulator.chunk(0..100).unwrap(), simulator.genes());
    write_parquet(&home.path("wide.parquet"), &wide(&cells, genes));
    write_arrow(&home.path("wide.arrow"), &wide(&cells, genes));
    write_stream(&home.path("stream.arrow"), &wide(&cells, genes));
    write_arrow(&home.path("lists.feather"), &lists(&cells));
    fs::create_dir(home.path("lists")).unwrap();
    write_parquet(&home.path("lists/part-0.parquet"), &lists(&cells).slice(0, 70));
    write_parquet(&home.path("lists/part-1.parquet"), &lists(&cells).slice(70, 30));
    write_parquet(&home.path("genes.parquet"), &genes_table(genes));

    home.json("ingest cells.h5ad --out cells.atlas");
    for (name, how) in [
        ("wide.parquet", ""),
        ("wide.arrow", ""),
        ("stream.arrow", ""),
        ("lists.feather", "--genes-table genes.parquet"),
        ("lists", "--genes-table genes.parquet"),
    ] {
        home.json(&format!("ingest {name} --out {name}.atlas {how}"));
        let found = cells_of(&home, &format!("{name}.atlas"));
        for (file, bytes) in cells_of(&home, "cells.atlas") {
            // The numbers in a table of genes are kept next to the names.
            let differs = file == "genes.parquet" && !how.is_empty();
            assert_eq!(found[file] == bytes, !differs, "{file} of {name}");
        }
    }
}

#[test]
fn an_arrow_file_is_read_by_its_footer() {
    let home = Home::new();
    let simulator = simulator(100, true);
    write_arrow(&home.path("whole.arrow"), &wide(&simulator.chunk(0..100).unwrap(), simulator.genes()));
    // Polars puts no message with the schema before the first batch: what stands there is nobody's.
    let mut bytes = fs::read(home.path("whole.arrow")).unwrap();
    let schema = u32::from_le_bytes(bytes[12..16].try_into().unwrap()) as usize;
    bytes[8..16 + schema].fill(0x2a);
    fs::write(home.path("footer.arrow"), &bytes).unwrap();
    home.json("ingest whole.arrow --out whole.atlas");
    home.json("ingest footer.arrow --out footer.atlas");
    assert!(cells_of(&home, "whole.atlas") == cells_of(&home, "footer.atlas"));
}

#[test]
fn an_arrow_file_or_stream_that_was_cut_is_refused() {
    let home = Home::new();
    let simulator = simulator(100, true);
    let table = wide(&simulator.chunk(0..100).unwrap(), simulator.genes());
    write_arrow(&home.path("whole.arrow"), &table);
    write_stream(&home.path("stream.arrow"), &table);
    for name in ["whole.arrow", "stream.arrow"] {
        let bytes = fs::read(home.path(name)).unwrap();
        for length in [1, 9, 40, bytes.len() / 2, bytes.len() - 9] {
            fs::write(home.path("cut.arrow"), &bytes[..length]).unwrap();
            says(&home.refused(65, "ingest cut.arrow --out cut.atlas"), &["cut.arrow", "damaged or cut short"]);
        }
    }
}

/// A table of cells with two genes, a condition and a column of numbers.
fn with_numbers(path: &Path, name: &str, numbers: ArrayRef) {
    let cells = numbers.len();
    let conditions = (0..cells).map(|cell| ["ctrl", "A"][cell % 2]);
    let values: ArrayRef = Arc::new(Float32Array::from_iter_values((0..cells).map(|cell| [1.0, 0.0, 3.0][cell % 3])));
    let columns: [(&str, ArrayRef); 4] = [
        ("condition", Arc::new(StringArray::from_iter_values(conditions))),
        (name, numbers),
        ("G1", Arc::clone(&values)),
        ("G2", values),
    ];
    write_parquet(path, &RecordBatch::try_from_iter(columns).unwrap());
}

#[test]
fn a_missing_number_is_missing_and_no_value_of_its_own() {
    let home = Home::new();
    let plates = [1.0, 1.0, f64::NAN, 2.0, 2.5, f64::NAN];
    with_numbers(&home.path("s.parquet"), "plate", Arc::new(Float64Array::from(plates.to_vec())));
    let ingest = "ingest s.parquet --obs-columns plate --out";
    says(
        &home.refused(65, &format!("{ingest} n.atlas --batch plate")),
        &["obs column `plate`, row 2: the value is missing", "--filter 'plate!=nan'"],
    );
    let some = home.json(&format!("{ingest} some.atlas --batch plate --filter plate!=nan"));
    assert_eq!(some["covariates"]["plate"], serde_json::json!({ "1": 2, "2": 1, "2.5": 1 }));
    let one = home.json(&format!("{ingest} one.atlas --filter plate=1.0"));
    assert_eq!(one["cells"], 2);
    let dropped = "--perturbation plate --control 1 --drop-label nan --dose=";
    let labels = home.json(&format!("{ingest} labels.atlas {dropped}"));
    assert_eq!((&labels["cells"], labels["conditions"].as_array().unwrap().len()), (&4.into(), 3));
}

#[test]
fn numbers_that_are_equal_are_one_category_of_joined_files() {
    let home = Home::new();
    with_numbers(&home.path("a.parquet"), "plate", Arc::new(Int64Array::from(vec![1, 2, 1, 2])));
    with_numbers(&home.path("b.parquet"), "plate", Arc::new(Float64Array::from(vec![1.0, 2.0, 2.5, f64::NAN])));
    with_numbers(&home.path("c.parquet"), "plate", Arc::new(StringArray::from(vec!["1", "x"])));
    let line = "ingest a.parquet b.parquet c.parquet --out all.atlas --obs-columns plate --batch plate";
    let all = home.json(&format!("{line} --filter plate!=nan"));
    assert_eq!(all["covariates"]["plate"], serde_json::json!({ "1": 4, "2": 3, "2.5": 1, "x": 1 }));
    let split = home.json("split all.atlas --name n --hold-out plate=2.0");
    assert_eq!(split["cells"]["ood"], 3);
    with_numbers(&home.path("c.parquet"), "plate", Arc::new(StringArray::from(vec!["1", "2.50"])));
    let ran = home.run(&line.replace("all.atlas", "more.atlas").replace("--batch plate", ""));
    assert!(ran.stderr.contains("the text `2.50` and the number 2.5 are two values"), "{}", ran.stderr);
}

#[test]
fn large_numbers_that_are_equal_are_one_category_too() {
    let home = Home::new();
    let wholes = vec![10_000_000_000_000_000, 1 << 53, (1 << 53) + 1];
    with_numbers(&home.path("a.parquet"), "plate", Arc::new(Int64Array::from(wholes)));
    with_numbers(&home.path("b.parquet"), "plate", Arc::new(Float64Array::from(vec![1e16, 9_007_199_254_740_992.0])));
    let all = home.json("ingest a.parquet b.parquet --out all.atlas --obs-columns plate --batch plate");
    let plates = serde_json::json!({ "10000000000000000": 2, "9007199254740992": 2, "9007199254740993": 1 });
    assert_eq!(all["covariates"]["plate"], plates);
}

#[test]
fn flags_among_genes_are_annotations_with_a_warning() {
    let home = Home::new();
    with_numbers(&home.path("s.parquet"), "TP53", Arc::new(BooleanArray::from(vec![true, false, true, false])));
    let ran = home.run("ingest s.parquet --out s.atlas");
    let warning = "s.parquet: 2 columns are read as genes, but these are not: `TP53` (true or false)";
    assert!(ran.code == 0 && ran.stderr.contains(warning), "{}", ran.stderr);
    let output = home.run("ingest s.parquet --out genes.atlas --obs-columns condition");
    assert!(output.code == 0 && output.stdout.contains("3 genes"), "{} {}", output.stdout, output.stderr);
}

#[test]
fn numbers_with_usual_names_of_annotations_are_no_genes_and_are_named() {
    let home = Home::new();
    for name in ["nperts", "treatment", "dose"] {
        with_numbers(&home.path("s.parquet"), name, Arc::new(Int64Array::from(vec![0, 1, 0, 1])));
        let ran = home.run("ingest s.parquet --out s.atlas --force --perturbation condition");
        let note = format!("2 columns are read as genes, the others are not: --obs-columns {name}");
        assert!(ran.code == 0 && ran.stderr.contains(&note), "{}", ran.stderr);
    }
}

#[test]
fn a_table_with_one_row_for_each_value_is_refused_and_no_atlas_of_one_gene() {
    let home = Home::new();
    let text = |values: [&'static str; 3]| Arc::new(StringArray::from(values.to_vec())) as ArrayRef;
    let number = |values: [i64; 3]| Arc::new(Int64Array::from(values.to_vec())) as ArrayRef;
    let cells = ("cell", text(["c1", "c1", "c2"]));
    let labels = ("condition", text(["ctrl", "ctrl", "A"]));
    let genes = [("gene", text(["G1", "G2", "G1"])), ("gene_id", number([0, 1, 0]))];
    for (gene, value) in genes.into_iter().zip(["value", "count"]) {
        let names =
            ["one row for each value", &format!("`{}`", gene.0), &format!("`{value}`"), "pivot"].map(str::to_owned);
        let columns = [cells.clone(), labels.clone(), gene, (value, number([3, 1, 2]))];
        write_parquet(&home.path("s.parquet"), &RecordBatch::try_from_iter(columns).unwrap());
        for flags in ["", "--obs-columns cell,condition"] {
            says(
                &home.refused(65, &format!("ingest s.parquet --out s.atlas {flags}")),
                &names.each_ref().map(String::as_str),
            );
        }
    }
}

#[test]
fn numbers_of_64_bits_without_a_sign_stay_apart() {
    let home = Home::new();
    let large = vec![1, u64::MAX, u64::MAX - 1, 1 << 63];
    with_numbers(&home.path("a.parquet"), "plate", Arc::new(UInt64Array::from(large)));
    with_numbers(&home.path("b.parquet"), "plate", Arc::new(Int64Array::from(vec![1, -1])));
    let ingest = |files: &str, out: &str| {
        let atlas = home.json(&format!("ingest {files} --out {out} --obs-columns plate --batch plate"));
        atlas["covariates"]["plate"].clone()
    };
    let mut plates = serde_json::json!({
        "1": 1, "18446744073709551615": 1, "18446744073709551614": 1, "9223372036854775808": 1
    });
    assert_eq!(ingest("a.parquet", "a.atlas"), plates);
    plates["1"] = 2.into();
    plates["-1"] = 1.into();
    assert_eq!(ingest("a.parquet b.parquet", "both.atlas"), plates);
    let split = home.json("split a.atlas --name n --hold-out plate=18446744073709551615");
    assert_eq!(split["cells"]["ood"], 1);
}

#[test]
fn flags_mean_the_same_however_a_file_has_them() {
    let home = Home::new();
    with_numbers(&home.path("a.parquet"), "treated", Arc::new(BooleanArray::from(vec![true, false, true, false])));
    let words = ["True", "FALSE", "true", "unknown"];
    with_numbers(&home.path("b.parquet"), "treated", Arc::new(StringArray::from(words.to_vec())));
    with_numbers(&home.path("c.parquet"), "treated", Arc::new(Float64Array::from(vec![1.0, 0.0, 2.0])));
    let ingest = |files: &str| {
        let ran = home.run(&format!("--json ingest {files} --out all.atlas --obs-columns treated --batch treated"));
        fs::remove_dir_all(home.path("all.atlas")).unwrap();
        let atlas: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
        (atlas["covariates"]["treated"].clone(), ran.stderr)
    };
    let (treated, message) = ingest("a.parquet b.parquet");
    assert_eq!(treated, serde_json::json!({ "true": 4, "false": 3, "unknown": 1 }));
    assert!(!message.contains("warning"), "{message}");
    let (treated, message) = ingest("c.parquet a.parquet");
    assert_eq!(treated, serde_json::json!({ "true": 3, "false": 3, "2": 1 }));
    let warning = "obs column `treated` is true or false in a.parquet, but holds numbers in c.parquet: \
                   1 is read as true, 0 as false";
    assert!(message.contains(warning), "{message}");
    // Words of two files are words, not flags.
    let (treated, _) = ingest("b.parquet c.parquet");
    let words = serde_json::json!({ "True": 1, "FALSE": 1, "true": 1, "unknown": 1, "1": 1, "0": 1, "2": 1 });
    assert_eq!(treated, words);
}

#[test]
fn tables_in_folders_below_are_refused_and_not_left_out() {
    let home = Home::new();
    fs::create_dir_all(home.path("all/deep/er")).unwrap();
    let numbers = || Arc::new(Int64Array::from(vec![1, 2])) as ArrayRef;
    with_numbers(&home.path("all/a.parquet"), "plate", numbers());
    // Atlases, hidden files and links to folders above are ignored.
    home.json("ingest all/a.parquet --out all/one.atlas --obs-columns plate");
    with_numbers(&home.path("all/deep/.hidden.parquet"), "plate", numbers());
    std::os::unix::fs::symlink("..", home.path("all/deep/up")).unwrap();
    assert_eq!(home.json("ingest all --out two.atlas --obs-columns plate")["cells"], 2);
    with_numbers(&home.path("all/deep/er/b.parquet"), "plate", numbers());
    says(
        &home.refused(65, "ingest all --out n.atlas --obs-columns plate"),
        &[
            "all: contains tables, and so does one of its subfolders (all/deep/er/b.parquet)",
            "move all tables of cells into one folder",
        ],
    );
    let both = home.json("ingest all/deep/er all/a.parquet --out both.atlas --obs-columns plate");
    assert_eq!(both["cells"], 4);
}

#[test]
fn tables_of_metadata_in_a_subfolder_are_left_out_with_a_warning() {
    let home = Home::new();
    fs::create_dir_all(home.path("all/metadata")).unwrap();
    with_numbers(&home.path("all/a.parquet"), "plate", Arc::new(Int64Array::from(vec![1, 2])));
    let samples: [(&str, ArrayRef); 2] =
        [("sample", Arc::new(StringArray::from(vec!["s1"]))), ("depth", Arc::new(Float64Array::from(vec![1.5])))];
    write_parquet(&home.path("all/metadata/samples.parquet"), &RecordBatch::try_from_iter(samples).unwrap());
    let ran = home.run("ingest all --out one.atlas --obs-columns plate");
    let warning = "all: the tables in all/metadata have none of its columns of values and are not read";
    assert!(ran.code == 0 && ran.stderr.contains(warning), "{}", ran.stderr);
    // A table that can't be opened may hold cells.
    fs::write(home.path("all/metadata/broken.parquet"), "PAR1").unwrap();
    let message = home.refused(65, "ingest all --out n.atlas --obs-columns plate");
    says(&message, &["one of its subfolders (all/metadata/broken.parquet)"]);
}

#[test]
fn a_folder_and_a_file_in_it_hold_the_same_cells() {
    let home = Home::new();
    fs::create_dir_all(home.path("all")).unwrap();
    for name in ["all/a.parquet", "all/b.parquet", "c.parquet"] {
        with_numbers(&home.path(name), "plate", Arc::new(Int64Array::from(vec![1, 2])));
    }
    let refused = |inputs: &str| home.refused(2, &format!("ingest {inputs} --out n.atlas --obs-columns plate"));
    says(&refused("all all/b.parquet"), &["all and all/b.parquet hold the same cells", "give each file once"]);
    says(&refused("c.parquet all/a.parquet all"), &["all/a.parquet and all hold the same cells"]);
    std::os::unix::fs::symlink("all/a.parquet", home.path("link.parquet")).unwrap();
    says(&refused("all link.parquet"), &["all and link.parquet hold the same cells"]);
    let both = home.json("ingest all c.parquet --out both.atlas --obs-columns plate");
    assert_eq!(both["cells"], 6);
}

#[test]
fn a_number_of_a_table_that_float32_can_not_hold_is_refused() {
    let home = Home::new();
    with_numbers(&home.path("s.parquet"), "G3", Arc::new(Int64Array::from(vec![1, 16_777_217])));
    says(&home.refused(65, "ingest s.parquet --out n.atlas"), &["s.parquet: 16777217 is a whole number"]);
}
