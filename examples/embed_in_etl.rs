//! A step of somebody else's ETL job: record batches come in from an iterator and go on as an iterator, with bounded memory
//! between the threads.
//!
//! ```sh
//! cargo run --release --example embed_in_etl
//! ```
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::{num::NonZeroUsize, sync::Arc};

use arrow::{
    array::{ArrayRef, AsArray, Float32Array, RecordBatch, StringArray},
    datatypes::Float32Type,
    error::ArrowError,
};
use perturbine::{Capacity, Pipeline};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Whatever yields Result<RecordBatch, E> is a source: a Parquet reader, a Flight stream, a database cursor.
    let batches = (0..20).map(rows_of_a_plate);
    let capacity = Capacity { items: 4, bytes: 16 << 20 };
    let stream = Pipeline::from_source("read", capacity, batches)
        .map("log1p", NonZeroUsize::new(2).ok_or("no workers")?, |batch| Ok(log1p(&batch)?))
        .stream();

    // A running pipeline is an iterator of Result<RecordBatch, Error>: it can feed the next writer, or the next pipeline.
    let mut rows = 0;
    let mut last = String::new();
    for batch in stream {
        let batch = batch?;
        rows += batch.num_rows();
        last = batch.column(0).as_string::<i32>().value(batch.num_rows() - 1).to_owned();
    }
    println!("{rows} rows, in order: the last one is {last}");
    Ok(())
}

fn rows_of_a_plate(plate: u32) -> Result<RecordBatch, ArrowError> {
    let names: Vec<String> = (0..1000).map(|well| format!("plate {plate}, well {well}")).collect();
    let counts: Vec<f32> = (0..1000_u16).map(|well| f32::from(well % 7)).collect();
    let columns: Vec<(&str, ArrayRef)> =
        vec![("cell", Arc::new(StringArray::from(names))), ("counts", Arc::new(Float32Array::from(counts)))];
    RecordBatch::try_from_iter(columns)
}

fn log1p(batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let counts = batch.column(1).as_primitive::<Float32Type>();
    let logs: Float32Array = counts.unary(f32::ln_1p);
    RecordBatch::try_from_iter([("cell", Arc::clone(batch.column(0))), ("log1p", Arc::new(logs) as ArrayRef)])
}
