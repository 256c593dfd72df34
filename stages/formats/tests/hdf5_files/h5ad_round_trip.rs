//! The reader reads everything that the writer writes, and refuses bad files by name.

use std::{fs, path::Path, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch, StringArray},
    datatypes::{DataType, Field, Float64Type, Int64Type, Schema},
};
use formats::{
    format::Choice,
    h5ad,
    source::{Source, chunks},
};
use hdf5::h5ad_write::{H5adColumn, H5adKind, H5adWriteOptions, H5adWriter};
use hdf5_metno::{File, Group, H5Type};
use schemas::{
    Error,
    chunk::{Chunk, CsrRows},
    error::ExitCode,
    ids::CellIndex,
};
use simulate::{SimulateSettings, Simulator};

fn column(name: &str, kind: H5adKind) -> H5adColumn {
    H5adColumn { name: name.into(), kind }
}

fn simulator() -> Simulator {
    let settings = SimulateSettings { cells: 300, genes: 50, conditions: 4, combos: 1, ..SimulateSettings::default() };
    Simulator::new(settings).expect("the settings are good")
}

/// Writes a small simulated atlas in two chunks, replacing an existing file.
fn write_simulated(path: &Path, gzip: Option<u8>) -> Chunk {
    if path.exists() {
        fs::remove_file(path).expect("it is removed");
    }
    let simulator = simulator();
    let columns = ["condition", "dose", "cell_type", "batch"].map(|name| column(name, H5adKind::Category));
    let mut writer = H5adWriter::create(path, simulator.genes(), &columns, H5adWriteOptions { gzip, cells: Some(300) })
        .expect("it begins");
    for range in [0..100, 100..300] {
        writer.append(&simulator.chunk(range).expect("the cells are there")).expect("it fits");
    }
    assert_eq!(writer.cells(), 300);
    writer.finish().expect("it ends");
    simulator.chunk(0..300).expect("the cells are there")
}

fn read_all(path: &Path) -> Vec<Chunk> {
    let reader = h5ad::open(path, &Choice::default()).unwrap_or_else(|error| panic!("{error}"));
    chunks(Arc::new(reader)).map(|chunk| chunk.unwrap_or_else(|error| panic!("{error}"))).collect()
}

fn first_error(path: &Path) -> Error {
    match h5ad::open(path, &Choice::default()) {
        Err(error) => error,
        Ok(reader) => {
            let mut results = chunks(Arc::new(reader));
            let error = results.find_map(Result::err).expect("the file is bad");
            assert!(results.next().is_none(), "the stream goes on after an error");
            error
        }
    }
}

#[test]
fn pointers_and_indices_are_of_one_type_as_scipy_wants_them() {
    let folder = tempfile::tempdir().expect("a folder");
    for gzip in [None, Some(1)] {
        let path = folder.path().join(format!("{gzip:?}.h5ad"));
        write_simulated(&path, gzip);
        let file = File::open(&path).expect("an HDF5 file");
        let matrix = file.group("X").expect("a matrix");
        for member in ["indptr", "indices"] {
            assert!(matrix.dataset(member).expect(member).dtype().expect(member).is::<i32>(), "{member}");
        }
        let pointers = matrix.dataset("indptr").expect("pointers").read_1d::<i64>().expect("numbers");
        let last = pointers.last().and_then(|last| usize::try_from(*last).ok());
        assert_eq!(last, Some(matrix.dataset("data").expect("data").size()));
    }
}

#[test]
fn what_is_written_is_read_back() {
    let folder = tempfile::tempdir().expect("a folder");
    for gzip in [None, Some(4)] {
        let path = folder.path().join("atlas.h5ad");
        let written = write_simulated(&path, gzip);
        let [read] = read_all(&path).try_into().expect("one chunk");
        assert_eq!(read.expression, written.expression);
        for (name, column) in ["cell", "condition", "dose", "cell_type", "batch"].iter().zip(written.obs.columns()) {
            assert_eq!(read.obs.column_by_name(name), Some(column), "{name}");
        }
        let reader = h5ad::open(&path, &Choice::default()).expect("it opens");
        assert_eq!(reader.nonzeros(), Some(written.expression.values().len() as u64));
        assert_eq!(reader.var().column(0).as_string::<i32>().value(49), "G00050");
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 1, "something is left behind");
    }
}

#[test]
fn any_range_of_cells_can_be_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("atlas.h5ad");
    let written = write_simulated(&path, Some(1));
    let reader = h5ad::open(&path, &Choice::default()).expect("it opens");
    for range in [0..1, 7..300, 0..300, 299..300, 12..12] {
        let rows = usize::try_from(range.start).expect("small")..usize::try_from(range.end).expect("small");
        let read = reader.expression(range.clone(), CsrRows::default()).expect("a range of the file");
        assert_eq!(read.rows(), rows.len());
        for row in 0..read.rows() {
            assert_eq!(read.row(row), written.expression.row(rows.start + row));
        }
        let obs = reader.obs(range, &[0]).expect("a range of the file");
        assert_eq!(obs.column(0), &written.obs.column(0).slice(rows.start, rows.len()));
    }
}

#[test]
fn every_kind_of_column_keeps_its_values() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("kinds.h5ad");
    let columns: Vec<(&str, H5adKind, ArrayRef)> = vec![
        ("label", H5adKind::Category, Arc::new(StringArray::from(vec![Some("b"), None, Some("a")]))),
        ("note", H5adKind::Text, Arc::new(StringArray::from(vec!["", "ä ß", "x"]))),
        ("count", H5adKind::Integer, Arc::new(Int64Array::from(vec![-1, 0, i64::MAX]))),
        ("score", H5adKind::Number, Arc::new(Float64Array::from(vec![Some(0.5), None, Some(-1.0)]))),
    ];
    let kinds: Vec<H5adColumn> = columns.iter().map(|(name, kind, _)| column(name, *kind)).collect();
    let mut fields = vec![Field::new("cell", DataType::Utf8, false)];
    let mut arrays: Vec<ArrayRef> = vec![Arc::new(StringArray::from(vec!["c0", "c1", "c2"]))];
    for (name, _, array) in &columns {
        fields.push(Field::new(*name, array.data_type().clone(), true));
        arrays.push(Arc::clone(array));
    }
    let obs = RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).expect("columns fit");
    let expression = CsrRows::canonical(vec![0, 1, 1, 2], vec![1, 0], vec![2.0, f32::NAN], 2).expect("good rows");
    let chunk = Chunk { first: CellIndex(0), expression, obs };
    let genes = ["g0".to_owned(), "g1".to_owned()];
    let mut writer = H5adWriter::create(&path, &genes, &kinds, H5adWriteOptions::default()).expect("it begins");
    writer.append(&chunk).expect("it fits");
    writer.finish().expect("it ends");

    let [read] = read_all(&path).try_into().expect("one chunk");
    let value = |name: &str| read.obs.column_by_name(name).expect("the column is there").clone();
    assert_eq!(&value("label"), &columns[0].2);
    assert_eq!(&value("note"), &columns[1].2);
    assert_eq!(value("count").as_primitive::<Int64Type>().value(2), i64::MAX);
    let scores = value("score");
    let scores = scores.as_primitive::<Float64Type>();
    assert!(scores.value(0) == 0.5 && scores.value(1).is_nan());
    assert!(read.expression.row(2).1[0].is_nan(), "what is not a number is passed on");
}

#[test]
fn an_unfinished_file_leaves_nothing_behind() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("atlas.h5ad");
    let simulator = simulator();
    let mut writer = H5adWriter::create(&path, simulator.genes(), &[], H5adWriteOptions::default()).expect("it begins");
    writer.append(&simulator.chunk(0..10).expect("the cells are there")).expect("it fits");
    assert!(!path.exists(), "the name is given when the file is whole");
    drop(writer);
    assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 0);
}

#[test]
fn a_file_that_exists_is_not_replaced() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("atlas.h5ad");
    let create = || H5adWriter::create(&path, &[], &[], H5adWriteOptions::default());
    let first = create().expect("it begins");
    fs::write(&path, "theirs").expect("a file");
    let error = first.finish().expect_err("it exists by now");
    assert_eq!(error.to_string(), format!("{} already exists", path.display()));
    let error = create().expect_err("it exists");
    assert_eq!(error.to_string(), format!("{} already exists", path.display()));
    assert_eq!(fs::read_to_string(&path).expect("the file"), "theirs");
    assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 1);
}

#[test]
fn what_can_not_be_written_is_refused_before_anything_is() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("atlas.h5ad");
    let refused = |columns: &[H5adColumn], gzip| {
        H5adWriter::create(&path, &[], columns, H5adWriteOptions { gzip, cells: None })
            .expect_err("it is refused")
            .exit_code()
    };
    assert_eq!(refused(&[], Some(10)), ExitCode::Usage);
    assert_eq!(refused(&[column("a/b", H5adKind::Text)], None), ExitCode::Usage);
    assert_eq!(refused(&[column("a", H5adKind::Text), column("a", H5adKind::Text)], None), ExitCode::Usage);
    fs::write(folder.path().join("file"), "no folder").expect("a file");
    let nowhere = folder.path().join("file/atlas.h5ad");
    let error = H5adWriter::create(&nowhere, &[], &[], H5adWriteOptions::default()).expect_err("there is no folder");
    assert_eq!(error.exit_code(), ExitCode::CantCreate);
    assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 1);
}

/// Writes a valid file of 300 cells by 50 genes, lets `damage` change it, and returns the error.
fn damaged(folder: &Path, damage: impl FnOnce(&File)) -> String {
    let path = folder.join("damaged.h5ad");
    write_simulated(&path, None);
    let file = File::open_rw(&path).expect("it opens");
    damage(&file);
    file.close().expect("it closes");
    let error = first_error(&path);
    assert_eq!(error.exit_code(), ExitCode::Data, "{error}");
    assert!(error.hint().is_some(), "{error}");
    error.to_string().strip_prefix(&format!("{}: ", path.display())).expect("the file is named").to_owned()
}

fn replace<T: H5Type>(group: &Group, name: &str, values: &[T]) {
    group.unlink(name).expect("it was there");
    group.new_dataset_builder().with_data(values).create(name).expect("it is replaced");
}

#[test]
fn damage_is_named_with_its_object_and_row() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    let group = |file: &File, name: &str| file.group(name).expect("the group is there");
    let pointers = |change: fn(&mut Vec<i64>)| {
        damaged(folder, |file| {
            let matrix = group(file, "X");
            let mut values = matrix.dataset("indptr").expect("it is there").read_raw().expect("it is read");
            change(&mut values);
            replace(&matrix, "indptr", &values);
        })
    };
    assert!(pointers(|values| values[7] = values[6] - 1).starts_with("X/indptr: at row 6: row pointers fall from"));
    assert!(
        pointers(|values| values[300] = 1 << 40).contains("X/indptr: at row 300: row pointer 1099511627776 is outside")
    );
    assert_eq!(pointers(|values| values[0] = 1), "X/indptr: at row 0: the first row pointer is 1, not 0");
    assert_eq!(pointers(|values| values.truncate(300)), "X/indptr: has 300 row pointers, but 300 rows need 301");

    let indices = |index: i64| {
        damaged(folder, |file| {
            let matrix = group(file, "X");
            let mut values: Vec<i64> = matrix.dataset("indices").expect("it is there").read_raw().expect("it is read");
            *values.last_mut().expect("there are values") = index;
            replace(&matrix, "indices", &values);
        })
    };
    assert_eq!(indices(50), "X/indices: gene index 50 at row 299, but there are 50 genes");
    assert!(indices(-1).starts_with("X/indices: gene index -1 at row 299"));
    assert!(indices(1 << 32).starts_with("X/indices: gene index"));

    let codes = damaged(folder, |file| replace(&group(file, "obs/batch"), "codes", &[9_i8; 300]));
    assert_eq!(codes, "obs/batch: code 9 at row 0, but there are 2 categories");
    let short = damaged(folder, |file| replace(&group(file, "obs/batch"), "codes", &[0_i8; 299]));
    assert_eq!(short, "obs/batch: has 299 rows, but the index has 300");
    let shape = |shape: [i64; 2]| {
        damaged(folder, |file| {
            let attribute = group(file, "X").attr("shape").expect("it is there");
            attribute.write(&shape).expect("it is replaced");
        })
    };
    assert_eq!(shape([300, 51]), "var: has 50 rows, but the matrix has 51 genes");
    assert!(shape([-1, 50]).starts_with("X: has the shape [-1, 50]"));
    assert!(shape([i64::MAX, 50]).starts_with("X/indptr: has 301 row pointers"));
    assert_eq!(damaged(folder, |file| file.unlink("X").expect("it was there")), "X: there is no such matrix");
    assert_eq!(damaged(folder, |file| file.unlink("obs").expect("it was there")), "obs: is missing");
    let column = damaged(folder, |file| file.unlink("obs/batch").expect("it was there"));
    assert_eq!(column, "obs/batch: is listed among the columns, but does not exist");
    let bare = damaged(folder, |file| {
        file.unlink("X").expect("it was there");
        file.create_group("X").expect("it is made");
    });
    assert!(bare.starts_with("X: is a group without an encoding-type"), "{bare}");
}

#[test]
fn a_file_that_is_missing_foreign_or_cut_short_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("atlas.h5ad");
    assert_eq!(first_error(&path).exit_code(), ExitCode::MissingInput);
    fs::write(&path, "gene,count\n").expect("a file");
    assert!(first_error(&path).to_string().contains("is not an HDF5 file, or is cut short"));
    write_simulated(&path, None);
    let whole = fs::read(&path).expect("a file");
    fs::write(&path, &whole[..whole.len() / 2]).expect("a file");
    assert!(first_error(&path).to_string().contains("is not an HDF5 file, or is cut short"));
}

#[test]
fn a_column_of_an_unknown_kind_is_left_out() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("atlas.h5ad");
    write_simulated(&path, None);
    let file = File::open_rw(&path).expect("it opens");
    file.unlink("obs/batch").expect("it was there");
    file.create_group("obs/batch").expect("it is made");
    file.close().expect("it closes");
    let [read] = read_all(&path).try_into().expect("one chunk");
    assert!(read.obs.column_by_name("batch").is_none() && read.obs.column_by_name("dose").is_some());
}

/// Replaces the matrix of a valid file by a dense one of the same shape.
fn dense<T: H5Type + Copy>(folder: &Path, values: [T; 3]) -> Vec<f32> {
    let path = folder.join("dense.h5ad");
    write_simulated(&path, None);
    let file = File::open_rw(&path).expect("it opens");
    file.unlink("X").expect("it was there");
    let zero = values[0];
    let mut rows = [[zero; 50]; 300];
    (rows[0][3], rows[299][49]) = (values[1], values[2]);
    let matrix = file.new_dataset::<T>().shape((300, 50)).create("X").expect("it is made");
    for (at, row) in rows.iter().enumerate() {
        matrix.write_slice(row, (at, ..)).expect("it is written");
    }
    // libhdf5 writes the rest once nobody holds the dataset any more.
    drop(matrix);
    file.close().expect("it closes");
    let [read] = read_all(&path).try_into().expect("one chunk");
    assert_eq!((read.expression.row(0).0, read.expression.row(299).0), (&[3][..], &[49][..]));
    read.expression.values().to_vec()
}

#[test]
fn a_dense_matrix_of_any_number_type_is_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    assert_eq!(dense(folder, [0_i8, -3, 127]), [-3.0, 127.0]);
    assert_eq!(dense(folder, [0_u16, 1, 65_535]), [1.0, 65_535.0]);
    assert_eq!(dense(folder, [0_i64, -7, 1 << 20]), [-7.0, 1_048_576.0]);
    assert_eq!(dense(folder, [0_u64, 9, 1 << 20]), [9.0, 1_048_576.0]);
    assert_eq!(dense(folder, [0.0_f32, 0.5, -2.0]), [0.5, -2.0]);
    assert_eq!(dense(folder, [0.0_f64, 0.25, 3.0]), [0.25, 3.0]);
}
