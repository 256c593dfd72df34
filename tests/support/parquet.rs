//! Parquet files as tests look at them: whole, column by column.

use std::{fs, path::Path};

use arrow::{
    array::{Array, AsArray, RecordBatch},
    compute::concat_batches,
    datatypes::{Float32Type, UInt64Type},
};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

/// All rows of a file, or of the only file of a folder.
pub fn read(path: &Path) -> RecordBatch {
    let path = if path.is_dir() { path.join("part-00000.parquet") } else { path.to_path_buf() };
    let builder = ParquetRecordBatchReaderBuilder::try_new(fs::File::open(path).unwrap()).unwrap();
    let schema = builder.schema().clone();
    let batches: Vec<RecordBatch> = builder.build().unwrap().map(Result::unwrap).collect();
    concat_batches(&schema, &batches).unwrap()
}

pub fn texts(table: &RecordBatch, column: &str) -> Vec<String> {
    let column = table.column_by_name(column).unwrap().as_string::<i32>();
    column.iter().map(|text| text.unwrap().to_owned()).collect()
}

/// Lists of numbers; a null one is empty.
pub fn lists(table: &RecordBatch, column: &str) -> Vec<Vec<f32>> {
    let lists = table.column_by_name(column).unwrap().as_fixed_size_list();
    let list = |row: usize| lists.value(row).as_primitive::<Float32Type>().values().to_vec();
    (0..lists.len()).map(|row| if lists.is_null(row) { Vec::new() } else { list(row) }).collect()
}

pub fn numbers(table: &RecordBatch, column: &str) -> Vec<f32> {
    table.column_by_name(column).unwrap().as_primitive::<Float32Type>().values().to_vec()
}

pub fn source_cells(table: &RecordBatch) -> Vec<u64> {
    table.column_by_name("source_cells").unwrap().as_primitive::<UInt64Type>().values().to_vec()
}

/// The genes that a table of predictions is about.
pub fn genes(table: &RecordBatch) -> Vec<String> {
    serde_json::from_str(&table.schema().metadata()["genes"]).unwrap()
}
