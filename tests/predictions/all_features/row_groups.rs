//! Tables become files whose rows come back in order and as they were, and whose bytes are the same on any number of threads.

use std::{fs, num::NonZero, path::Path, sync::Arc};

use arrow::{
    array::{ArrayRef, AsArray, FixedSizeListArray, Float32Array, RecordBatch, StringArray},
    datatypes::{DataType, Field, Float32Type, Schema, SchemaRef},
};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use perturbine::{Capacity, Outcome, Pipeline, Resources, flows::publishing::encoded};
use proptest::prelude::*;
use schemas::arrow::{list_item, per_gene};
use stages::{
    BoxError,
    sink::{FileOptions, OutputLayout, OutputPrecision, PartRows, Publish, Published, precision::to_bfloat16},
};

/// Long enough that a thousand rows are more than a row group.
const WIDTH: usize = 3000;

fn schema() -> SchemaRef {
    let width = i32::try_from(WIDTH).unwrap();
    Arc::new(Schema::new(vec![Field::new("condition", DataType::Utf8, false), per_gene("expression", width)]))
}

/// Rows with their numbers; runs of them share a condition.
fn table(first: usize, rows: usize) -> RecordBatch {
    let conditions = (first..first + rows).map(|row| format!("A+{}", row / 7 % 3));
    let values: Vec<f32> = (first..first + rows).flat_map(|row| vec![row as f32; WIDTH]).collect();
    let lists = FixedSizeListArray::new(
        Arc::new(list_item()),
        i32::try_from(WIDTH).unwrap(),
        Arc::new(Float32Array::from(values)),
        None,
    );
    let columns: Vec<ArrayRef> = vec![Arc::new(StringArray::from_iter_values(conditions)), Arc::new(lists)];
    RecordBatch::try_new(schema(), columns).unwrap()
}

fn write(
    tables: &[RecordBatch],
    parts: &[u64],
    options: &FileOptions,
    threads: usize,
    memory: usize,
    out: &Path,
) -> Published {
    let parts = parts.iter().enumerate().map(|(number, rows)| PartRows { number, rows: *rows, folders: 3 }).collect();
    let schema = tables.first().map_or_else(schema, RecordBatch::schema);
    let layout = Arc::new(OutputLayout::new(&schema, options, parts).unwrap());
    let resources = Resources { threads: NonZero::new(threads).unwrap(), memory, ..Resources::default() };
    let source = Pipeline::from_source(
        "tables",
        Capacity { items: 2, bytes: 1 << 20 },
        Vec::from(tables).into_iter().map(Ok::<_, BoxError>),
    );
    let sink = Publish::create(out, Arc::clone(&layout), "plan").unwrap();
    match encoded(source, layout, &resources).unwrap().run("write", sink).unwrap().outcome {
        Outcome::Complete(published) => published,
        Outcome::Stopped => panic!("nobody stopped it"),
    }
}

/// The numbers of the rows of a file, in order.
fn rows(file: &Path) -> Vec<usize> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(fs::File::open(file).unwrap()).unwrap().build().unwrap();
    let rows_of = |batch: RecordBatch| {
        let lists = batch.column_by_name("expression").unwrap().as_fixed_size_list().clone();
        lists
            .values()
            .as_primitive::<Float32Type>()
            .values()
            .iter()
            .step_by(WIDTH)
            .map(|row| format!("{row}").parse().unwrap())
            .collect::<Vec<_>>()
    };
    reader.flat_map(|batch| rows_of(batch.unwrap())).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn rows_come_back_in_order_and_bytes_are_the_same(
        sizes in prop::collection::vec(0_usize..400, 1..8),
        cuts in prop::collection::vec(0_u64..100, 0..4),
        partition: bool,
        threads in 2_usize..6,
        memory in prop::sample::select(vec![1_usize << 12, 1 << 22, 1 << 28]),
    ) {
        let all: usize = sizes.iter().sum();
        let mut ends: Vec<u64> = cuts.iter().map(|cut| cut * all as u64 / 100).chain([all as u64]).collect();
        ends.sort_unstable();
        let parts: Vec<u64> = ends.iter().scan(0, |before, end| Some(end - std::mem::replace(before, *end))).collect();
        let starts = sizes.iter().scan(0, |next, size| Some(std::mem::replace(next, *next + size)));
        let tables: Vec<RecordBatch> = starts.zip(&sizes).map(|(first, size)| table(first, *size)).collect();
        let partition_by = if partition { vec!["condition".to_owned()] } else { Vec::new() };
        let options = FileOptions { partition_by, ..FileOptions::default() };
        let home = tempfile::tempdir().unwrap();
        let (one, many) = (home.path().join("one"), home.path().join("many"));
        let published = write(&tables, &parts, &options, 1, 1 << 28, &one);
        prop_assert_eq!(&published, &write(&tables, &parts, &options, threads, memory, &many));
        prop_assert_eq!(published.rows, all as u64);
        let mut found = Vec::new();
        for file in &published.files {
            prop_assert_eq!(fs::read(one.join(&file.name)).unwrap(), fs::read(many.join(&file.name)).unwrap());
            let rows = rows(&one.join(&file.name));
            prop_assert!(rows.is_sorted(), "{}: {:?}", file.name, rows);
            if partition && file.rows > 0 {
                let label = format!("condition=A%2B{}/", rows[0] / 7 % 3);
                prop_assert!(file.name.starts_with(&label), "{} is not below {label}", file.name);
                prop_assert!(rows.iter().all(|row| row / 7 % 3 == rows[0] / 7 % 3));
            }
            found.extend(rows);
        }
        if !partition {
            prop_assert!(found.is_sorted(), "files follow each other");
        }
        found.sort_unstable();
        prop_assert_eq!(found, (0..all).collect::<Vec<_>>());
    }

    #[test]
    fn numbers_come_back_bit_for_bit_whatever_pieces_they_come_in(
        length in prop::sample::select(vec![1_usize, 2, 63, 64, 130, WIDTH, 300_000]),
        sizes in prop::collection::vec(0_usize..150, 1..5),
        precision in prop::sample::select(vec![OutputPrecision::Single, OutputPrecision::Bfloat16]),
        seed: u32,
    ) {
        let per_list = i32::try_from(length).unwrap();
        let schema: SchemaRef = Arc::new(Schema::new(vec![per_gene("expression", per_list)]));
        // Few of the longest lists are many numbers; all bits of a number vary, infinities and NaN among them.
        let sizes: Vec<usize> = sizes.iter().map(|size| size.min(&(2_000_000 / length)).to_owned()).collect();
        let number = |at: usize| f32::from_bits((u32::try_from(at).unwrap() ^ seed).wrapping_mul(0x9e37_79b9));
        let table = |(at, rows): (usize, &usize)| {
            let values: Vec<f32> = (0..rows * length).map(|place| number(at << 24 | place)).collect();
            let lists = FixedSizeListArray::new(Arc::new(list_item()), per_list, Arc::new(Float32Array::from(values)), None);
            RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(lists)]).unwrap()
        };
        let tables: Vec<RecordBatch> = sizes.iter().enumerate().map(table).collect();
        let home = tempfile::tempdir().unwrap();
        let options = FileOptions { precision, ..FileOptions::default() };
        let rows = sizes.iter().sum::<usize>() as u64;
        let published = write(&tables, &[rows], &options, 2, 1 << 28, &home.path().join("out"));
        let bits = |table: &RecordBatch| -> Vec<u32> {
            let lists = table.column(0).as_fixed_size_list();
            lists.values().as_primitive::<Float32Type>().values().iter().map(|value| value.to_bits()).collect()
        };
        let stored = |bits: u32| match precision {
            OutputPrecision::Single => bits,
            OutputPrecision::Bfloat16 => to_bfloat16(f32::from_bits(bits)).to_bits(),
        };
        let file = fs::File::open(home.path().join("out").join(&published.files[0].name)).unwrap();
        let found = ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap();
        let found: Vec<u32> = found.flat_map(|table| bits(&table.unwrap())).collect();
        let expected: Vec<u32> = tables.iter().flat_map(bits).map(stored).collect();
        prop_assert!(found == expected, "{} numbers came back of {}", found.len(), expected.len());
    }
}

#[test]
fn rows_that_are_too_many_or_too_few_are_a_failure() {
    let home = tempfile::tempdir().unwrap();
    for (name, rows) in [("few", 9), ("many", 11)] {
        let out = home.path().join(name);
        let layout =
            OutputLayout::new(&schema(), &FileOptions::default(), vec![PartRows { number: 0, rows, folders: 1 }]);
        let layout = Arc::new(layout.unwrap());
        let source =
            Pipeline::from_source("tables", Capacity { items: 2, bytes: 1 << 20 }, [Ok::<_, BoxError>(table(0, 10))]);
        let sink = Publish::create(&out, Arc::clone(&layout), "plan").unwrap();
        assert!(encoded(source, layout, &Resources::default()).unwrap().run("write", sink).is_err(), "{name}");
        assert!(!out.exists(), "nothing is published");
    }
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 0, "nothing is left");
}
