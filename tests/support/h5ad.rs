//! Small `.h5ad` files whose cells a test has changed.

use std::{fs, path::Path, sync::Arc};

use arrow::array::{ArrayRef, AsArray, RecordBatch, StringArray};
use schemas::chunk::{Chunk, CsrRows};
use stages::hdf5::h5ad_write::{H5adColumn, H5adKind, H5adWriteOptions, H5adWriter};

use super::{Home, simulator};

/// Writes `name`, an `.h5ad` of 100 cells whose rows were changed, in the place of another one.
pub fn h5ad(home: &Home, name: &str, change: impl FnOnce(&mut Chunk)) {
    let simulator = simulator(100, true);
    let mut chunk = simulator.chunk(0..100).unwrap();
    change(&mut chunk);
    let path = home.path(name);
    if path.exists() {
        fs::remove_file(&path).unwrap();
    }
    write_h5ad(&path, simulator.genes(), &chunk);
}

/// Writes cells to a new `.h5ad`, with every column of `obs` as a category.
pub fn write_h5ad(path: &Path, genes: &[String], chunk: &Chunk) {
    let schema = chunk.obs.schema();
    let columns = schema.fields().iter().skip(1);
    let columns: Vec<H5adColumn> =
        columns.map(|field| H5adColumn { name: field.name().clone(), kind: H5adKind::Category }).collect();
    let options = H5adWriteOptions { gzip: None, cells: Some(chunk.obs.num_rows() as u64) };
    // A program that another test starts has the locks of this process, too, until it begins.
    let create = || match H5adWriter::create(path, genes, &columns, options) {
        Err(error) if error.to_string().contains("unable to lock") => None,
        created => Some(created.unwrap()),
    };
    let mut writer = std::iter::repeat_with(create).take(10_000).flatten().next().expect("locks are released");
    writer.append(chunk).unwrap();
    writer.finish().unwrap();
}

/// Gives one cell another value of its `at`th non-zero gene, and says which gene that is.
pub fn set_value(chunk: &mut Chunk, cell: usize, at: usize, value: f32) -> u32 {
    let rows = &chunk.expression;
    let entry = rows.row_pointers()[cell] as usize + at;
    let mut values = rows.values().to_vec();
    values[entry] = value;
    let gene = rows.genes()[entry];
    chunk.expression = CsrRows::canonical(rows.row_pointers().to_vec(), rows.genes().to_vec(), values, 60).unwrap();
    gene
}

/// Renames a column of `obs`, and changes its values.
pub fn set_column(chunk: &mut Chunk, column: &str, name: &str, change: impl Fn(usize, &str) -> String) {
    let schema = chunk.obs.schema();
    let columns = schema.fields().iter().zip(chunk.obs.columns()).map(|(field, values)| {
        if field.name() != column {
            return (field.name().clone(), Arc::clone(values));
        }
        let values = values.as_string::<i32>().iter().enumerate().map(|(row, value)| change(row, value.unwrap()));
        (name.to_owned(), Arc::new(StringArray::from_iter_values(values)) as ArrayRef)
    });
    chunk.obs = RecordBatch::try_from_iter(columns.collect::<Vec<_>>()).unwrap();
}

/// Adds a column of obs with the values of another one.
pub fn copy_column(chunk: &mut Chunk, column: &str, name: &str) {
    let schema = chunk.obs.schema();
    let columns = schema.fields().iter().zip(chunk.obs.columns());
    let mut columns: Vec<_> = columns.map(|(field, values)| (field.name().clone(), Arc::clone(values))).collect();
    columns.push((name.to_owned(), Arc::clone(chunk.obs.column_by_name(column).unwrap())));
    chunk.obs = RecordBatch::try_from_iter(columns).unwrap();
}
