//! Tables of cells: Parquet and Arrow, wide and in lists, and damaged.

use std::{collections::BTreeMap, fs, fs::File, path::Path, sync::Arc};

use arrow::{
    array::{ArrayRef, Float32Array, Float32Builder, Int64Array, Int64Builder, ListBuilder, RecordBatch, StringArray},
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

/// Cells with lists of genes, told by odd numbers, and of values.
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
            // The numbers of a table of genes are kept beside the names.
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
