//! Programs of others read predictions, and see the same values: pyarrow, DuckDB, Polars, pandas, anndata and cell-eval.

use std::fs;

use arrow::{
    array::{AsArray, RecordBatch},
    datatypes::Float32Type,
};
use serde_json::{Map, Value, json};
use stages::reader::atlas::Atlas;

use crate::support::{self, Home, parquet::read, python};

/// The expected content of a table.
fn truth(table: &RecordBatch, keys: &[&str], column: &str, parted: bool, genes: &[String]) -> Value {
    let text = |key: &str, row: usize| table.column_by_name(key).unwrap().as_string::<i32>().value(row).to_owned();
    let lists = table.column_by_name(column).unwrap().as_fixed_size_list();
    let row = |row: usize| {
        let labels: Vec<String> = keys.iter().map(|key| text(key, row)).collect();
        json!({ "labels": labels, "values": lists.value(row).as_primitive::<Float32Type>().values().to_vec() })
    };
    let rows: Vec<Value> = (0..table.num_rows()).map(row).collect();
    json!({ "rows": rows, "keys": keys, "column": column, "parted": parted, "genes": genes })
}

#[test]
fn readers_of_tables_see_the_same_values() {
    let packages = ["pyarrow", "duckdb", "polars", "pandas", "anndata"];
    let Some(python) = python::python_with("readers", &packages) else { return };
    let home = Home::with_model("condition=G00034,dose=0.5");
    let genes = Atlas::open(home.path("s.atlas")).unwrap().genes().to_vec();
    let all = ["condition", "dose", "cell_type", "extrapolation"];
    let of_cells = ["cell", "condition", "dose", "cell_type", "source_condition"];
    let line = "predict m s.atlas --to observed --file-size 64KiB";
    let mut sets = Map::new();
    for (name, flags, keys, column) in [
        ("means", "", &all[..], "mean"),
        ("variances", "", &all, "variance"),
        ("half", "--precision bf16", &all, "delta"),
        ("parted", "--partition-by condition", &all, "mean"),
        ("cells", "--output cells", &of_cells, "expression"),
        ("cells-half", "--output cells --precision bf16", &of_cells, "expression"),
        ("cells-parted", "--output cells --partition-by condition,dose --precision bf16", &of_cells, "expression"),
    ] {
        let whole = flags.split("--partition-by").next().unwrap();
        let precision = if flags.contains("bf16") && !whole.contains("bf16") { "--precision bf16" } else { "" };
        home.json(&format!("{line} {whole} {precision} --out truth.parquet"));
        let table = read(&home.path("truth.parquet"));
        fs::remove_file(home.path("truth.parquet")).unwrap();
        home.json(&format!("{line} {flags} --out {name}"));
        sets.insert(name.to_owned(), truth(&table, keys, column, flags.contains("--partition-by"), &genes));
        if !flags.contains("--partition-by") {
            let name = format!("{name}.h5ad");
            home.json(&format!("{line} {flags} --out {name}"));
            sets.insert(name, truth(&table, keys, column, false, &genes));
        }
    }
    let truth_path = home.path("truth.json");
    fs::write(&truth_path, Value::from(sets).to_string()).unwrap();
    let output = python::run(&python, include_str!("../../python/read_predictions.py"), &[&home.path(""), &truth_path]);
    assert_eq!(output.lines().count(), 7 * 4 + 5, "{output}");
}

#[test]
fn cell_eval_takes_predicted_cells_beside_real_controls() {
    let Some(python) = python::python_with("cell-eval", &["cell-eval"]) else { return };
    let home = Home::new();
    home.json(
        "simulate --cells 1500 --genes 80 --conditions 4 --combos 1 --cell-types 1 --doses 1 --density 0.5 --out s.h5ad",
    );
    home.json("ingest s.h5ad --out s.atlas");
    home.json(&format!("train s.atlas --out m --epochs 3 {}", support::TINY));
    home.json("predict m s.atlas --to observed --output cells --cells-per-condition 100 --controls copy --out p.h5ad");
    let paths = [home.path("p.h5ad"), home.path("s.h5ad"), home.path("scored")];
    let output =
        python::run(&python, include_str!("../../python/run_cell_eval.py"), &[&paths[0], &paths[1], &paths[2]]);
    let scores: Vec<Value> = serde_json::from_str(&output).unwrap();
    assert_eq!(scores.len(), 4, "a row a condition: {output}");
    assert!(scores.iter().all(|score| score["mse"].as_f64().is_some_and(f64::is_finite)), "{output}");
}
