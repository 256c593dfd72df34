//! A matrix reads the same whatever number types, filters and layouts it is stored with, by rows or by
//! columns.

use std::{os::unix::fs::FileExt, path::Path};

use arrow::{array::AsArray, datatypes::UInt64Type};
use formats::{
    format::{self, Choice},
    source::Source,
};
use hdf5_metno::{
    DatasetBuilder, File, Group,
    plist::dataset_create::AllocTime,
    types::{CompoundField, CompoundType, FloatSize, IntSize, TypeDescriptor, VarLenUnicode},
};
use schemas::{chunk::CsrRows, error::ExitCode};

const MATRIX: [[f32; 4]; 5] =
    [[1.0, 0.0, 0.0, 2.0], [0.0; 4], [0.0, 127.0, 0.0, 3.0], [4.0, 0.0, 0.0, 0.0], [0.0, 0.0, 100.0, 0.0]];

/// How a matrix is stored.
#[derive(Clone)]
struct Stored {
    encoding: &'static str,
    data: TypeDescriptor,
    indices: TypeDescriptor,
    pointers: TypeDescriptor,
    filters: fn(DatasetBuilder) -> DatasetBuilder,
}

const I32: TypeDescriptor = TypeDescriptor::Integer(IntSize::U4);
const I64: TypeDescriptor = TypeDescriptor::Integer(IntSize::U8);

fn plain() -> Stored {
    let data = TypeDescriptor::Float(FloatSize::U4);
    Stored { encoding: "csr_matrix", data, indices: I32, pointers: I32, filters: |builder| builder }
}

fn text(group: &Group, name: &str, value: &str) {
    let value: VarLenUnicode = value.parse().expect("a text");
    group.new_attr::<VarLenUnicode>().create(name).expect("an attribute").write_scalar(&value).expect("it is written");
}

fn frame(file: &File, name: &str, rows: usize) {
    let group = file.create_group(name).expect("a group");
    text(&group, "_index", "names");
    let names: Vec<i64> = (10..).take(rows).collect();
    group.new_dataset_builder().with_data(&names).create("names").expect("an index");
}

/// Pointers, indices and values by rows, or by columns.
fn compressed(by_rows: bool) -> (Vec<i64>, Vec<i64>, Vec<f64>) {
    let (mut pointers, mut indices, mut values) = (vec![0], Vec::new(), Vec::new());
    let (lines, across) = if by_rows { (5, 4) } else { (4, 5) };
    let value_at = |line: usize, at: usize| if by_rows { MATRIX[line][at] } else { MATRIX[at][line] };
    for line in 0..lines {
        for (index, at) in (0..).zip(0..across) {
            let value = value_at(line, at);
            if value != 0.0 {
                indices.push(index);
                values.push(f64::from(value));
            }
        }
        pointers.push(i64::try_from(values.len()).expect("few"));
    }
    (pointers, indices, values)
}

fn write(path: &Path, stored: &Stored, change: impl FnOnce(&mut Vec<i64>, &mut Vec<i64>)) {
    let file = File::create(path).expect("a file");
    frame(&file, "obs", 5);
    frame(&file, "var", 4);
    let (mut pointers, mut indices, values) = compressed(stored.encoding.starts_with("csr"));
    change(&mut pointers, &mut indices);
    let group = file.create_group("X").expect("a group");
    text(&group, "encoding-type", stored.encoding);
    group.new_attr_builder().with_data(&[5_i64, 4]).create("shape").expect("an attribute");
    let builder = || (stored.filters)(group.new_dataset_builder());
    builder().with_data_as(&values, &stored.data).create("data").expect("values");
    builder().with_data_as(&indices, &stored.indices).create("indices").expect("indices");
    builder().with_data_as(&pointers, &stored.pointers).create("indptr").expect("pointers");
    file.close().expect("it closes");
}

fn read(source: &dyn Source) -> schemas::Result<Vec<Vec<f32>>> {
    let mut dense = Vec::new();
    let mut first = 0;
    while first < source.cells() {
        let end = source.range_end(first)?;
        let rows = source.expression(first..end, CsrRows::default())?;
        for row in 0..rows.rows() {
            let mut values = vec![0.0; source.var().num_rows()];
            let (genes, row_values) = rows.row(row);
            genes.iter().zip(row_values).for_each(|(gene, value)| values[*gene as usize] = *value);
            dense.push(values);
        }
        first = end;
    }
    Ok(dense)
}

#[track_caller]
fn assert_is_read(stored: &Stored) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("matrix.h5ad");
    write(&path, stored, |_, _| {});
    let source = format::open(&path, &Choice::default()).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((source.cells(), source.nonzeros()), (5, Some(6)));
    let names = source.obs(4..5, &[0]).expect("the last name");
    assert_eq!(names.column(0).as_string::<i32>().value(0), "14", "an index of numbers is text");
    assert_eq!(read(&*source).unwrap_or_else(|error| panic!("{error}")), MATRIX);
}

#[test]
fn values_may_be_numbers_of_any_width() {
    let integers = [IntSize::U1, IntSize::U2, IntSize::U4, IntSize::U8];
    let signed = integers.map(TypeDescriptor::Integer);
    let unsigned = integers.map(TypeDescriptor::Unsigned);
    let floats = [FloatSize::U2, FloatSize::U4, FloatSize::U8].map(TypeDescriptor::Float);
    for data in signed.into_iter().chain(unsigned).chain(floats) {
        for encoding in ["csr_matrix", "csc_matrix"] {
            assert_is_read(&Stored { data: data.clone(), encoding, ..plain() });
        }
    }
}

#[test]
fn indices_and_pointers_may_be_integers_of_any_width() {
    let integers = [IntSize::U1, IntSize::U2, IntSize::U4, IntSize::U8];
    for size in integers {
        for kind in [TypeDescriptor::Integer, TypeDescriptor::Unsigned] {
            for encoding in ["csr_matrix", "csc_matrix"] {
                assert_is_read(&Stored { indices: kind(size), encoding, ..plain() });
                assert_is_read(&Stored { pointers: kind(size), encoding, ..plain() });
            }
        }
    }
}

#[test]
fn rows_without_filters_can_be_read_in_place() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("matrix.h5ad");
    let filtered: fn(DatasetBuilder) -> DatasetBuilder = |builder| builder.chunk(3).shuffle();
    let in_chunks: fn(DatasetBuilder) -> DatasetBuilder = |builder| builder.chunk(3);
    for (encoding, filters, can) in [
        ("csr_matrix", plain().filters, true),
        ("csr_matrix", in_chunks, true),
        ("csr_matrix", filtered, false),
        ("csc_matrix", plain().filters, false),
    ] {
        write(&path, &Stored { encoding, filters, ..plain() }, |_, _| {});
        let source = format::open(&path, &Choice::default()).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(source.in_place().is_some_and(|found| found.matrix.form.is_plain()), can, "{encoding}");
    }
}

#[test]
fn vectors_may_be_stored_with_any_filter() {
    let filters: [fn(DatasetBuilder) -> DatasetBuilder; 7] = [
        |builder| builder.chunk(2),
        |builder| builder.chunk(3).deflate(4),
        |builder| builder.chunk(4).shuffle().deflate(9),
        |builder| builder.chunk(2).lzf(),
        |builder| builder.chunk(3).shuffle().lzf(),
        |builder| builder.chunk(2).fletcher32(),
        |builder| builder.chunk(5).shuffle().deflate(1).fletcher32(),
    ];
    for filters in filters {
        for encoding in ["csr_matrix", "csc_matrix"] {
            assert_is_read(&Stored { filters, pointers: I64, encoding, ..plain() });
        }
    }
}

#[test]
fn names_of_encodings_from_before_anndata_0_7_are_known() {
    assert_is_read(&Stored { encoding: "csr", ..plain() });
    assert_is_read(&Stored { encoding: "csc", ..plain() });
}

#[test]
fn a_table_of_records_keeps_numbers_of_64_bits_without_a_sign() {
    const LARGE: [u64; 5] = [1 << 63, (1 << 63) + 1, u64::MAX, 0, u64::MAX - 1];
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("records.h5ad");
    write(&path, &plain(), |_, _| {});
    let file = File::open_rw(&path).expect("the file");
    file.unlink("obs").expect("removed");
    let fields = vec![
        CompoundField::new("index", TypeDescriptor::FixedAscii(8), 0, 0),
        CompoundField::new("plate", TypeDescriptor::Unsigned(IntSize::U8), 8, 1),
    ];
    let record = TypeDescriptor::Compound(CompoundType { fields, size: 16 });
    let builder = file.new_dataset_builder().empty_as(&record).alloc_time(Some(AllocTime::Early));
    let offset = builder.shape(5).create("obs").expect("a table").offset().expect("its place");
    file.close().expect("it closes");
    let records: Vec<u8> =
        LARGE.iter().flat_map(|number| [*b"c\0\0\0\0\0\0\0", number.to_le_bytes()]).flatten().collect();
    std::fs::File::options()
        .write(true)
        .open(&path)
        .expect("the file")
        .write_all_at(&records, offset)
        .expect("written");

    let source = format::open(&path, &Choice::default()).unwrap_or_else(|error| panic!("{error}"));
    let read = source.obs(0..5, &[0, 1]).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(read.column(0).as_string::<i32>().value(4), "c");
    assert_eq!(read.column(1).as_primitive::<UInt64Type>().values(), &LARGE);
}

#[test]
fn annotations_of_64_bits_without_a_sign_keep_their_numbers() {
    const LARGE: [u64; 5] = [1 << 63, (1 << 63) + 1, u64::MAX, 0, u64::MAX - 1];
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("large.h5ad");
    write(&path, &plain(), |_, _| {});
    let file = File::open_rw(&path).expect("the file");
    let obs = file.group("obs").expect("the cells");
    obs.new_dataset_builder().with_data(&LARGE).create("plain").expect("a column");
    obs.new_dataset_builder().with_data(&LARGE).deflate(1).create("packed").expect("a column");
    // A chunk that was never written means that libhdf5 reads the dataset.
    let gaps = obs.new_dataset::<u64>().chunk(1).shape(5).create("gaps").expect("a column");
    for (row, number) in LARGE.iter().enumerate().filter(|(_, number)| **number > 0) {
        gaps.write_slice(&[*number], row..row + 1).expect("a chunk");
    }
    let categories = obs.create_group("categories").expect("a group");
    text(&categories, "encoding-type", "categorical");
    categories.new_dataset_builder().with_data(&LARGE).create("categories").expect("the names");
    categories.new_dataset_builder().with_data(&[0_u64, 1, 2, 3, 4]).create("codes").expect("the codes");
    let nullable = obs.create_group("nullable").expect("a group");
    text(&nullable, "encoding-type", "nullable-integer");
    nullable.new_dataset_builder().with_data(&LARGE).create("values").expect("the values");
    nullable.new_dataset_builder().with_data(&[0_u64; 5]).create("mask").expect("a mask");
    drop((obs, gaps, categories, nullable));
    file.close().expect("it closes");

    let source = format::open(&path, &Choice::default()).unwrap_or_else(|error| panic!("{error}"));
    for name in ["plain", "packed", "gaps", "categories", "nullable"] {
        let column = source.obs_schema().index_of(name).expect("the column is read");
        let read = source.obs(0..5, &[column]).unwrap_or_else(|error| panic!("{error}"));
        let numbers = read.column(0).as_primitive_opt::<UInt64Type>().unwrap_or_else(|| panic!("{name} is not u64"));
        assert_eq!(numbers.values(), &LARGE, "{name}");
    }
}

/// The error for a matrix whose pointers and indices were changed.
fn refused(encoding: &'static str, change: impl FnOnce(&mut Vec<i64>, &mut Vec<i64>)) -> (String, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("matrix.h5ad");
    write(&path, &Stored { encoding, ..plain() }, change);
    let source = format::open(&path, &Choice::default()).unwrap_or_else(|error| panic!("{error}"));
    let error = read(&*source).expect_err("it is bad");
    assert_eq!(error.exit_code(), ExitCode::Data, "{error}");
    let (_, message) =
        error.to_string().rsplit_once("h5ad: ").map(|(a, b)| (a.to_owned(), b.to_owned())).expect("a place");
    (message, error.hint().expect("what would mend it"))
}

#[test]
fn pointers_that_have_overflowed_are_refused_with_what_mends_them() {
    for (encoding, line) in [("csr_matrix", "row"), ("csc_matrix", "column")] {
        let (message, hint) = refused(encoding, |pointers, _| pointers[2] = -2_147_483_000);
        assert_eq!(message, format!("X/indptr: at {line} 2: {line} pointer -2147483000 has overflowed 32 bits"));
        assert!(hint.contains("int64") && hint.contains("np.cumsum"), "{hint}");
    }
}

#[test]
fn a_matrix_by_columns_names_what_is_wrong_with_it() {
    let refused = |change: fn(&mut Vec<i64>, &mut Vec<i64>)| refused("csc_matrix", change).0;
    assert_eq!(refused(|_, rows| rows[5] = 5), "X/indices: row index 5 at column 3, but there are 5 rows");
    assert_eq!(refused(|_, rows| rows[0] = -1), "X/indices: row index -1 at column 0, but there are 5 rows");
    assert_eq!(
        refused(|pointers, _| pointers[4] = 7),
        "X/indptr: at column 4: column pointer 7 is outside the 6 entries"
    );
    assert_eq!(refused(|pointers, _| pointers[0] = 1), "X/indptr: at column 0: the first column pointer is 1, not 0");
    assert!(
        refused(|pointers, _| pointers[2] = 1).starts_with("X/indptr: at column 1: column pointers fall from 2 to 1")
    );
}

#[test]
fn entries_beyond_two_to_the_31_are_read_where_they_are() {
    const ROWS: usize = 22_001;
    const HEAVY: i64 = 100_000;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("long.h5ad");
    let file = File::create(&path).expect("a file");
    frame(&file, "obs", ROWS);
    frame(&file, "var", 30_000);
    // Rows of many entries that were never written, followed by one that was: the file is mostly a hole.
    let mut pointers: Vec<i64> = (0..).map(|row| row * HEAVY).take(ROWS).collect();
    let before = usize::try_from(pointers[ROWS - 1]).expect("an address");
    assert!(usize::try_from(1_u64 << 31).expect("an address") < before);
    pointers.push(pointers[ROWS - 1] + 3);
    let group = file.create_group("X").expect("a group");
    text(&group, "encoding-type", "csr_matrix");
    group.new_attr_builder().with_data(&[ROWS, 30_000]).create("shape").expect("an attribute");
    group.new_dataset_builder().with_data(&pointers).create("indptr").expect("pointers");
    let data = group.new_dataset::<u8>().shape(before + 3).create("data").expect("values");
    data.write_slice(&[7_u8, 8, 9], before..before + 3).expect("the last values");
    let indices = group.new_dataset::<u16>().shape(before + 3).create("indices").expect("indices");
    indices.write_slice(&[5_u16, 20_000, 29_999], before..before + 3).expect("the last indices");
    drop((data, indices, group));
    file.close().expect("it closes");

    let source = format::open(&path, &Choice::default()).expect("a source");
    assert_eq!((source.cells(), source.nonzeros()), (ROWS as u64, Some(before as u64 + 3)));
    let last = source.expression(ROWS as u64 - 1..ROWS as u64, CsrRows::default()).expect("the last row");
    assert_eq!(last.row(0), (&[5, 20_000, 29_999][..], &[7.0, 8.0, 9.0][..]));
}

#[test]
fn a_count_that_float32_can_not_hold_is_refused_with_its_value_and_place() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("large.h5ad");
    let unsigned = TypeDescriptor::Unsigned(IntSize::U4);
    for data in [I32, I64, unsigned, TypeDescriptor::Float(FloatSize::U8)] {
        for (value, is_taken) in [(16_777_216.0, true), (16_777_217.0, false), (16_777_218.0, true)] {
            let stored = Stored { data: data.clone(), ..plain() };
            write(&path, &stored, |_, _| {});
            let file = File::open_rw(&path).expect("the file");
            file.dataset("X/data").expect("values").write(&[1.0, 2.0, value, 3.0, 4.0, 100.0]).expect("written");
            file.close().expect("it closes");
            let found = read(&*format::open(&path, &Choice::default()).expect("it opens"));
            match (is_taken, found) {
                (true, found) => assert!(found.is_ok(), "{data:?} {value}: {found:?}"),
                (false, Ok(_)) => panic!("{data:?}: {value} is taken"),
                (false, Err(error)) => {
                    let message = error.to_string();
                    assert_eq!(error.exit_code(), ExitCode::Data);
                    assert!(message.contains("X/data: entry 2: 16777217 is a whole number that float32"), "{message}");
                }
            }
        }
    }
}
