//! Parquet and Arrow tables of cells return the cells that were written, in any layout.

use std::{
    fs::{self, File},
    path::Path,
    sync::Arc,
};

use arrow::{
    array::{
        Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Float32Array, Int64Array, ListArray, RecordBatch,
        StringArray, TimestampMicrosecondArray, new_null_array,
    },
    compute::cast,
    datatypes::{DataType, Float32Type, Int64Type},
    ipc::writer::{FileWriter, StreamWriter},
};
use formats::{
    format::{self, Choice, ListStart},
    source::{self, Source},
};
use parquet::{arrow::ArrowWriter, file::properties::WriterProperties};
use schemas::{Error, error::ExitCode};

const CELLS: usize = 1000;
const GENES: usize = 7;

/// The value of a gene in a cell: zero for two out of three.
fn value(cell: usize, gene: usize) -> f32 {
    if (cell + gene).is_multiple_of(3) { [1.0, 2.0, 5.0][(cell * gene) % 3] } else { 0.0 }
}

/// The number by which lists refer to a gene.
fn number(gene: usize) -> i64 {
    i64::try_from(3 + 2 * (GENES - gene)).expect("a small number")
}

fn labels(name: &str) -> (&str, ArrayRef) {
    (name, Arc::new(StringArray::from_iter_values((0..CELLS).map(|cell| format!("{name}{}", cell % 4)))))
}

fn names() -> (&'static str, ArrayRef) {
    ("barcode", Arc::new(StringArray::from_iter_values((0..CELLS).map(|cell| format!("bc{cell}")))))
}

fn wide() -> RecordBatch {
    let doses: ArrayRef = Arc::new(Float32Array::from_iter_values((0..CELLS).map(|cell| [0.0, 0.5][cell % 2])));
    let genes = (0..GENES).map(|gene| {
        let values = Float32Array::from_iter_values((0..CELLS).map(|cell| value(cell, gene)));
        (format!("G{gene}"), Arc::new(values) as ArrayRef)
    });
    let others = [labels("drug"), ("dose", doses), names()].map(|(name, values)| (name.to_owned(), values));
    RecordBatch::try_from_iter(others.into_iter().chain(genes)).expect("columns of one length")
}

/// Lists that begin with a negative value, like those of Tahoe-100M.
fn lists() -> RecordBatch {
    let there = |cell: usize| (0..GENES).filter(move |gene| value(cell, *gene) != 0.0);
    let genes = (0..CELLS).map(|cell| Some(std::iter::once(Some(1)).chain(there(cell).map(|gene| Some(number(gene))))));
    let values = (0..CELLS)
        .map(|cell| Some(std::iter::once(Some(-2.0)).chain(there(cell).map(move |gene| Some(value(cell, gene))))));
    let genes: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(genes));
    let values: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Float32Type, _, _>(values));
    RecordBatch::try_from_iter([("genes", genes), ("expressions", values), labels("drug")])
        .expect("columns of one length")
}

fn write_parquet(path: &Path, batch: &RecordBatch, row_group: usize) {
    let properties = WriterProperties::builder().set_max_row_group_row_count(Some(row_group)).build();
    let file = File::create(path).expect("created");
    let mut writer = ArrowWriter::try_new(file, batch.schema(), Some(properties)).expect("begun");
    writer.write(batch).expect("written");
    writer.close().expect("closed");
}

fn write_arrow(path: &Path, batch: &RecordBatch) {
    let mut writer = FileWriter::try_new(File::create(path).expect("created"), &batch.schema()).expect("begun");
    writer.write(batch).expect("written");
    writer.finish().expect("finished");
}

fn write_genes(path: &Path) {
    let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values((0..GENES).map(number)));
    let symbols: ArrayRef = Arc::new(StringArray::from_iter_values((0..GENES).map(|gene| format!("G{gene}"))));
    let table = RecordBatch::try_from_iter([("gene_symbol", symbols), ("token_id", numbers)]);
    write_parquet(path, &table.expect("columns of one length"), 100);
}

fn open(path: &Path) -> Arc<dyn Source> {
    format::open(path, &Choice::default()).unwrap_or_else(|error| panic!("{error}"))
}

fn refused(path: &Path, choice: &Choice) -> Error {
    let error = format::open(path, choice).map(drop).expect_err("the table can't be taken");
    assert_eq!(error.exit_code(), ExitCode::Data, "{error}");
    error
}

fn gene_names(source: &dyn Source) -> Vec<String> {
    source.var().column(0).as_string::<i32>().iter().flatten().map(str::to_owned).collect()
}

/// Checks every value; `place` returns the name of the gene at each index.
#[track_caller]
fn has_every_value(source: Arc<dyn Source>, place: impl Fn(usize) -> String) {
    let genes = gene_names(&*source);
    let places: Vec<usize> =
        (0..GENES).map(|gene| genes.iter().position(|name| *name == place(gene)).expect("the gene is there")).collect();
    assert_eq!(source.cells(), CELLS as u64);
    let mut cell = 0;
    for chunk in source::chunks(source) {
        let chunk = chunk.unwrap_or_else(|error| panic!("{error}"));
        for row in 0..chunk.expression.rows() {
            let (genes, values) = chunk.expression.row(row);
            let mut expected: Vec<(usize, f32)> = (0..GENES).map(|gene| (places[gene], value(cell, gene))).collect();
            expected.retain(|(_, value)| *value != 0.0);
            expected.sort_by_key(|(place, _)| *place);
            let found: Vec<(usize, f32)> =
                genes.iter().map(|gene| *gene as usize).zip(values.iter().copied()).collect();
            assert_eq!(found, expected, "cell {cell}");
            let drug = chunk.obs.column_by_name("drug").expect("the column is there");
            assert_eq!(drug.as_string::<i32>().value(row), format!("drug{}", cell % 4));
            cell += 1;
        }
    }
    assert_eq!(cell, CELLS);
}

#[test]
fn a_wide_table_gives_its_values_whatever_its_row_groups() {
    let folder = tempfile::tempdir().expect("a folder");
    for row_group in [1, 64, 300, CELLS] {
        let path = folder.path().join(format!("{row_group}.parquet"));
        write_parquet(&path, &wide(), row_group);
        let source = open(&path);
        let obs = source.obs(400..402, &[0, 1, 2]).expect("two cells");
        let names: Vec<&str> = obs.column(0).as_string::<i32>().iter().flatten().collect();
        assert_eq!(names, ["bc400", "bc401"]);
        assert_eq!(obs.schema().field(2).name(), "dose");
        has_every_value(source, |gene| format!("G{gene}"));
    }
}

#[test]
fn arrow_files_and_streams_are_read_alike() {
    let folder = tempfile::tempdir().expect("a folder");
    let batch = wide();
    let file = folder.path().join("a.arrow");
    let mut writer = FileWriter::try_new(File::create(&file).expect("created"), &batch.schema()).expect("begun");
    let stream = folder.path().join("b.arrow");
    let mut streamer = StreamWriter::try_new(File::create(&stream).expect("created"), &batch.schema()).expect("begun");
    for first in [0, 600] {
        let part = batch.slice(first, (CELLS - first).min(600));
        writer.write(&part).expect("written");
        streamer.write(&part).expect("written");
    }
    writer.finish().expect("finished");
    streamer.finish().expect("finished");
    for path in [file, stream] {
        has_every_value(open(&path), |gene| format!("G{gene}"));
        let whole = fs::read(&path).expect("read");
        fs::write(&path, &whole[..whole.len() / 2]).expect("written");
        assert!(refused(&path, &Choice::default()).to_string().contains("cut short"));
    }
}

#[test]
fn lists_of_genes_give_their_values_with_and_without_a_table_of_genes() {
    let folder = tempfile::tempdir().expect("a folder");
    let batch = lists();
    write_parquet(&folder.path().join("0.parquet"), &batch.slice(0, 700), 200);
    write_parquet(&folder.path().join("1.parquet"), &batch.slice(700, 300), 200);
    let source = open(folder.path());
    assert_eq!(source.var().num_rows(), 3 + 2 * GENES + 1);
    assert_eq!(source.obs(999..1000, &[0]).expect("the last").column(0).as_string::<i32>().value(0), "cell999");
    has_every_value(source, |gene| format!("g{}", number(gene)));

    write_genes(&folder.path().join("gene_metadata.parquet"));
    let source = open(folder.path());
    assert_eq!(source.var().num_rows(), GENES);
    has_every_value(source, |gene| format!("G{gene}"));
}

#[test]
fn obs_columns_say_which_numbers_are_no_genes() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("wide.parquet");
    write_parquet(&path, &wide(), CELLS);
    let choice = |columns: &[&str]| Choice {
        obs_columns: Some(columns.iter().map(|name| (*name).to_owned()).collect()),
        ..Choice::default()
    };
    let source = format::open(&path, &choice(&["dose", "G0"])).expect("the columns are there");
    assert_eq!(gene_names(&*source)[0], "G1");
    let error = refused(&path, &choice(&["dosis"]));
    assert_eq!(error.to_string().split(',').next(), Some("unknown column `dosis`; the nearest known: dose"));
}

/// A wide table with a gene of floats and another column.
fn with_column(path: &Path, name: &str, column: ArrayRef) {
    let cells = column.len();
    let conditions: ArrayRef = Arc::new(StringArray::from_iter_values((0..cells).map(|cell| format!("c{cell}"))));
    let values: ArrayRef = Arc::new(Float32Array::from(vec![1.0; cells]));
    let columns = [("condition", conditions), ("G0", Arc::clone(&values)), ("G1", values), (name, column)];
    write_parquet(
        path,
        &RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true))).expect("columns"),
        2,
    );
}

#[test]
fn numbers_of_any_type_are_genes() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("wide.parquet");
    let wholes = Int64Array::from(vec![0, 2, 1]);
    let dictionary = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Int64));
    let flags: ArrayRef = Arc::new(BooleanArray::from(vec![false, true, true]));
    for kind in [DataType::Decimal128(10, 2), dictionary, DataType::Boolean] {
        let column =
            if kind == DataType::Boolean { Arc::clone(&flags) } else { cast(&wholes, &kind).expect("numbers") };
        with_column(&path, "TP53", column);
        let choice = Choice { obs_columns: Some(vec!["condition".into()]), ..Choice::default() };
        let source = format::open(&path, &choice).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(gene_names(&*source), ["G0", "G1", "TP53"], "{kind}");
        let rows = source.expression(0..3, schemas::chunk::CsrRows::default()).expect("all cells");
        assert_eq!(rows.row(0).0, [0, 1], "{kind}");
        assert_eq!(rows.row(2), (&[0, 1, 2][..], &[1.0; 3][..]), "{kind}");
        // If annotations are not named, flags are annotations.
        let genes = gene_names(&*open(&path)).len();
        assert_eq!(genes, if kind == DataType::Boolean { 2 } else { 3 }, "{kind}");
    }
}

#[test]
fn columns_that_are_neither_named_nor_genes_are_refused_with_their_types() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("wide.parquet");
    let named = |names: &[&str]| Choice {
        obs_columns: Some(names.iter().map(|name| (*name).to_owned()).collect()),
        ..Choice::default()
    };
    let binary: ArrayRef = Arc::new(BinaryArray::from(vec![&b"1"[..], b"2"]));
    let columns = [(new_null_array(&DataType::Null, 2), "`TP53` (no values)"), (binary, "`TP53` (Binary)")];
    for (column, message) in columns {
        with_column(&path, "TP53", column);
        let error = refused(&path, &named(&["condition"])).to_string();
        assert!(
            error.contains("wide.parquet: these columns are not in --obs-columns") && error.contains(message),
            "{error}"
        );
        assert!(format::open(&path, &named(&["condition", "TP53"])).is_ok());
    }
    // Text is an annotation even if it is not named.
    with_column(&path, "plate", Arc::new(StringArray::from(vec!["a", "b"])));
    assert!(format::open(&path, &named(&["condition"])).is_ok());
}

#[test]
fn tables_without_values_or_that_do_not_fit_together_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("0.parquet");
    write_parquet(&path, &wide().project(&[0, 1, 2]).expect("three columns"), CELLS);
    assert!(refused(&path, &Choice::default()).to_string().contains("no column of numbers that could be a gene"));
    write_parquet(&path, &wide(), CELLS);
    write_parquet(&folder.path().join("1.parquet"), &lists(), CELLS);
    let error = refused(folder.path(), &Choice::default()).to_string();
    assert!(error.contains("1.parquet: has a column `genes`") && error.contains("0.parquet lacks"), "{error}");
    fs::write(&path, &fs::read(&path).expect("read")[..500]).expect("written");
    assert!(refused(&path, &Choice::default()).to_string().contains("can't be read"));
}

#[test]
fn a_number_that_is_no_gene_is_refused_with_its_cell() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("cells.parquet");
    write_parquet(&path, &lists(), 200);
    let genes = folder.path().join("other.parquet");
    write_genes(&genes);
    let table = RecordBatch::try_from_iter([
        ("token_id", Arc::new(Int64Array::from(vec![4])) as ArrayRef),
        ("gene_symbol", Arc::new(StringArray::from(vec!["G"])) as ArrayRef),
    ]);
    write_parquet(&genes, &table.expect("two columns"), 1);
    let source = format::open(&path, &Choice { genes_table: Some(genes), ..Choice::default() }).expect("opened");
    let error = source.expression(300..310, schemas::chunk::CsrRows::default()).expect_err("no such gene").to_string();
    assert!(error.contains("cell 300: no gene has the number 17"), "{error}");
}

#[test]
fn a_value_below_zero_is_a_value_unless_every_list_begins_with_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("scaled.parquet");
    // The first is negative in most cells, as scaled values are.
    let cell = |cell: usize| (0..3).map(move |gene| Some([-1.5, 2.0, -0.5, 1.0][(cell + gene) % 4]));
    let genes: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(
        (0..20).map(|_| Some((0..3).map(Some).collect::<Vec<_>>())),
    ));
    let values: ArrayRef =
        Arc::new(ListArray::from_iter_primitive::<Float32Type, _, _>((0..20).map(|at| Some(cell(at)))));
    let table = RecordBatch::try_from_iter([("genes", genes), ("expressions", values)]).expect("columns of one length");
    write_parquet(&path, &table, 10);
    let first = |source: Arc<dyn Source>| {
        let rows = source.expression(0..1, schemas::chunk::CsrRows::default()).expect("a cell");
        let (genes, values) = rows.row(0);
        (genes.to_vec(), values.to_vec())
    };
    assert_eq!(first(open(&path)), (vec![0, 1, 2], vec![-1.5, 2.0, -0.5]));
    let marked = folder.path().join("marked.parquet");
    write_parquet(&marked, &lists(), 200);
    let entries = |list_start| {
        let source = format::open(&marked, &Choice { list_start, ..Choice::default() }).expect("a table");
        first(source).0.len()
    };
    let [auto, marker, gene] = [ListStart::Auto, ListStart::Marker, ListStart::Gene].map(entries);
    assert_eq!((auto, marker), (gene - 1, gene - 1));
}

/// A table with one more column at its end.
fn with_one_more(batch: &RecordBatch, name: &str, column: ArrayRef) -> RecordBatch {
    let schema = batch.schema();
    let columns = schema.fields().iter().map(|field| field.name().clone()).zip(batch.columns().iter().cloned());
    RecordBatch::try_from_iter(columns.chain([(name.to_owned(), column)])).expect("columns of one length")
}

#[test]
fn a_file_of_a_folder_with_a_column_more_or_less_is_refused_with_the_column() {
    let gene: ArrayRef = Arc::new(Float32Array::from(vec![7.0; CELLS]));
    let text: ArrayRef = Arc::new(StringArray::from(vec!["d"; CELLS]));
    let bytes: ArrayRef = Arc::new(BinaryArray::from_vec(vec![b"d"; CELLS]));
    for table in [wide(), lists()] {
        for column in [&gene, &text, &bytes] {
            let (less, more) = (table.clone(), with_one_more(&table, "more", Arc::clone(column)));
            for (first, second, what) in
                [(&less, &more, "has a column `more`, which"), (&more, &less, "lacks the column `more` of")]
            {
                for (name, write) in [
                    ("parquet", (|path, batch| write_parquet(path, batch, 300)) as fn(&Path, &RecordBatch)),
                    ("feather", write_arrow),
                ] {
                    let folder = tempfile::tempdir().expect("a folder");
                    write(&folder.path().join(format!("a.{name}")), first);
                    write(&folder.path().join(format!("b.{name}")), second);
                    let error = refused(folder.path(), &Choice::default());
                    let message = error.to_string();
                    assert!(message.contains(&format!("b.{name}: {what}")), "{message}");
                    assert!(message.contains(&format!("a.{name}")), "{message}");
                    assert!(error.hint().is_some_and(|hint| hint.contains("the same columns")), "{message}");
                }
            }
        }
    }
}

#[test]
fn a_column_that_has_another_type_in_another_file_is_refused_though_the_first_file_s_is_left_out() {
    let folder = tempfile::tempdir().expect("a folder");
    let bytes: ArrayRef = Arc::new(BinaryArray::from_vec(vec![b"d"; CELLS]));
    let gene: ArrayRef = Arc::new(Float32Array::from(vec![7.0; CELLS]));
    write_parquet(&folder.path().join("a.parquet"), &with_one_more(&wide(), "TP53", bytes), CELLS);
    write_parquet(&folder.path().join("b.parquet"), &with_one_more(&wide(), "TP53", gene), CELLS);
    let error = refused(folder.path(), &Choice::default()).to_string();
    assert!(error.contains("b.parquet: the column `TP53` is of type Float32, but of type Binary in"), "{error}");
}

#[test]
fn times_with_a_time_zone_annotate_cells() {
    let folder = tempfile::tempdir().expect("a folder");
    let noon = || TimestampMicrosecondArray::from(vec![1_704_110_400_000_000; 3]);
    for (zone, expected) in [
        ("UTC", "2024-01-01T12:00:00Z"),
        ("Europe/Berlin", "2024-01-01T13:00:00+01:00"),
        ("+02:00", "2024-01-01T14:00:00+02:00"),
    ] {
        let path = folder.path().join("zone.parquet");
        with_column(&path, "when", Arc::new(noon().with_timezone(zone)));
        let arrow = folder.path().join("zone.feather");
        let read = open(&path);
        assert_eq!(gene_names(&*read), ["G0", "G1"], "{zone}");
        let when = |source: &dyn Source| {
            let at = source.obs_schema().index_of("when").expect("the column is there");
            source.obs(0..3, &[at]).expect("three cells").column(0).as_string::<i32>().value(2).to_owned()
        };
        assert_eq!(when(&*read), expected);
        let values: ArrayRef = Arc::new(Float32Array::from(vec![1.0; 3]));
        let columns = [("G0", values), ("when", Arc::new(noon().with_timezone(zone)) as ArrayRef)];
        write_arrow(&arrow, &RecordBatch::try_from_iter(columns).expect("columns of one length"));
        assert_eq!(when(&*open(&arrow)), expected);
    }
}
