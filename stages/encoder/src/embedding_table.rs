//! Reads tables of embeddings of perturbations.
//!
//! Two kinds of files are supported. A `.parquet` file has the names in its first column of text, and the numbers either in one
//! column of equally long lists, or in the other columns, which must then be numeric. A `.npy` file has a matrix of f4 or
//! f8 in C order, with a `.txt` file of the same name next to it, one name per line.

use std::{
    fs,
    path::{Path, PathBuf},
};

use arrow::{
    array::{Array, ArrayRef, AsArray, RecordBatch},
    compute::{cast, concat_batches},
    datatypes::{DataType, Float32Type},
};
use schemas::{
    Error, Result,
    embedding_table::{EmbeddingTable, HINT},
    numbers::to_usize,
};
use storage::parquet_read::{self, Batches};

/// Reads a table.
///
/// # Errors
/// A missing file or another kind of file; as for [`EmbeddingTable::new`].
pub fn read(path: &Path) -> Result<EmbeddingTable> {
    if !path.exists() {
        return Err(Error::Missing { path: path.into(), kind: "table of embeddings" });
    }
    let rows = match path.extension().and_then(|extension| extension.to_str()) {
        Some("npy") => read_npy(path)?,
        _ => read_parquet(path)?,
    };
    EmbeddingTable::new(path, rows.names, rows.width, rows.values)
}

/// The files of a table: its own, and next to an `.npy` file that of the names.
#[must_use]
pub fn files_of(path: &Path) -> Vec<PathBuf> {
    let is_matrix = path.extension().is_some_and(|extension| extension == "npy");
    [path.to_path_buf()].into_iter().chain(is_matrix.then(|| path.with_extension("txt"))).collect()
}

struct NamedRows {
    names: Vec<String>,
    /// Numbers per name.
    width: usize,
    values: Vec<f32>,
}

fn read_parquet(path: &Path) -> Result<NamedRows> {
    let bad = |message: String| Error::data(path.display().to_string(), message, HINT);
    let unreadable = |error: &dyn std::error::Error| Error::damaged(path, error.to_string());
    let file = fs::File::open(path).map_err(Error::io("open", path))?;
    let builder = parquet_read::parquet(file).map_err(|error| unreadable(&error))?;
    let schema = builder.schema().clone();
    let batches = Batches::new(builder).map_err(|error| unreadable(&error))?;
    let batches: Vec<RecordBatch> = batches.collect::<Result<_, _>>().map_err(|error| unreadable(&error))?;
    let table = concat_batches(&schema, &batches).map_err(|error| unreadable(&error))?;
    let is_text =
        |data_type: &DataType| matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Dictionary(..));
    let fields = schema.fields();
    let named = fields.iter().position(|field| is_text(field.data_type()));
    let named = named.ok_or_else(|| bad("it has no column of names".into()))?;
    let texts = cast(table.column(named), &DataType::Utf8).map_err(|error| unreadable(&error))?;
    let texts = texts.as_string::<i32>();
    if let Some(row) = (0..texts.len()).find(|row| texts.is_null(*row)) {
        return Err(bad(format!("row {row} has no name in `{}`", fields[named].name())));
    }
    let names: Vec<String> = texts.iter().flatten().map(str::to_owned).collect();
    let lists = fields.iter().position(|field| {
        matches!(field.data_type(), DataType::FixedSizeList(..) | DataType::List(..) | DataType::LargeList(..))
    });
    let numbers = |column: &ArrayRef, name: &str| {
        let column = cast(column, &DataType::Float32).map_err(|error| bad(format!("column `{name}`: {error}")))?;
        let column = column.as_primitive::<Float32Type>();
        // A missing number becomes NaN.
        Ok::<_, Error>(column.iter().map(|value| value.unwrap_or(f32::NAN)).collect::<Vec<_>>())
    };
    if let Some(at) = lists {
        let name = fields[at].name();
        let item = arrow::datatypes::Field::new("item", DataType::Float32, true);
        let as_lists = cast(table.column(at), &DataType::LargeList(item.into()))
            .map_err(|error| bad(format!("column `{name}`: {error}")))?;
        let as_lists = as_lists.as_list::<i64>();
        let mut values = Vec::new();
        let mut width = None;
        for (row, owner) in names.iter().enumerate() {
            let list = numbers(&as_lists.value(row), name)?;
            if *width.get_or_insert(list.len()) != list.len() {
                return Err(bad(format!("`{owner}` has {} numbers, but earlier rows have {width:?}", list.len())));
            }
            values.extend(list);
        }
        return Ok(NamedRows { names, width: width.unwrap_or(0), values });
    }
    // An index of numbers counts rows, and says nothing of perturbations.
    let index = parquet_read::pandas_index(&schema);
    let is_index = |name: &String| index.contains(name);
    let columns = fields.iter().enumerate().filter(|(at, field)| *at != named && !is_index(field.name()));
    let columns = columns.map(|(at, field)| match field.data_type().is_numeric() {
        true => numbers(table.column(at), field.name()),
        false => {
            let (name, what) = (field.name(), field.data_type());
            Err(bad(format!("column `{name}` is of type {what}, which is not a number: leave it out")))
        }
    });
    let columns: Vec<Vec<f32>> = columns.collect::<Result<_>>()?;
    let rows = 0..names.len();
    let values = rows.flat_map(|row| columns.iter().map(move |column| column[row])).collect();
    Ok(NamedRows { names, width: columns.len(), values })
}

/// Reads the `.npy` format: a magic, a version, the length of a header, a header that is a Python dictionary,
/// the numbers.
fn read_npy(path: &Path) -> Result<NamedRows> {
    let bad = |message: String| Error::data(path.display().to_string(), message, HINT);
    let bytes = fs::read(path).map_err(Error::io("read", path))?;
    let header = || {
        let version = *bytes.strip_prefix(b"\x93NUMPY")?.first()?;
        let (length, from): (usize, usize) = match version {
            1 => (usize::from(u16::from_le_bytes(bytes.get(8..10)?.try_into().ok()?)), 10),
            _ => (to_usize(u32::from_le_bytes(bytes.get(8..12)?.try_into().ok()?)), 12),
        };
        Some((std::str::from_utf8(bytes.get(from..from.checked_add(length)?)?).ok()?, from + length))
    };
    let (header, from) = header().ok_or_else(|| bad("it is not an .npy file".into()))?;
    let value_of = |key: &str| header.split_once(&format!("'{key}':")).map(|(_, rest)| rest.trim_start());
    let shape = value_of("shape").and_then(|rest| rest.strip_prefix('(')?.split_once(')')).map(|(shape, _)| shape);
    let shape: Vec<usize> = shape
        .unwrap_or_default()
        .split(',')
        .map(str::trim)
        .filter(|size| !size.is_empty())
        .filter_map(|size| size.parse().ok())
        .collect();
    let [rows, width] = shape[..] else {
        return Err(bad(format!("its shape is {shape:?}; it needs one row per name and one column per number")));
    };
    if !value_of("fortran_order").is_some_and(|rest| rest.starts_with("False")) {
        return Err(bad("it is in Fortran order; save it in C order".into()));
    }
    let data = &bytes[from..];
    let kind = value_of("descr").unwrap_or_default();
    #[expect(clippy::cast_possible_truncation, reason = "models compute in single precision")]
    let values: Vec<f32> = if kind.starts_with("'<f4'") {
        data.as_chunks().0.iter().map(|number| f32::from_le_bytes(*number)).collect()
    } else if kind.starts_with("'<f8'") {
        data.as_chunks().0.iter().map(|number| f64::from_le_bytes(*number) as f32).collect()
    } else {
        return Err(bad(format!(
            "its numbers are {}; save them as float32",
            kind.split(',').next().unwrap_or_default()
        )));
    };
    if Some(values.len()) != rows.checked_mul(width) {
        return Err(Error::damaged(path, format!("it holds {} numbers, not {rows} times {width}", values.len())));
    }
    let beside = path.with_extension("txt");
    let text = fs::read_to_string(&beside).map_err(Error::io("read", &beside))?;
    let names: Vec<String> = text.lines().map(|line| line.trim().to_owned()).collect();
    if names.len() != rows {
        let message = format!("it has {} names for the {rows} rows of {}", names.len(), path.display());
        return Err(Error::data(beside.display().to_string(), message, HINT));
    }
    Ok(NamedRows { names, width, values })
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, path::PathBuf, sync::Arc};

    use arrow::array::{FixedSizeListArray, Float64Array, Int32Array, StringArray};
    use parquet::arrow::ArrowWriter;

    use super::*;

    fn write(folder: &Path, name: &str, columns: Vec<(&str, ArrayRef)>) -> PathBuf {
        let path = folder.join(name);
        let batch = RecordBatch::try_from_iter(columns).expect("columns of one length");
        let file = fs::File::create(&path).expect("a file");
        let mut writer = ArrowWriter::try_new(file, batch.schema(), None).expect("a writer");
        writer.write(&batch).expect("rows");
        writer.close().expect("a footer");
        path
    }

    #[test]
    fn an_index_is_no_number_of_a_perturbation_and_other_columns_are_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let names = || -> ArrayRef { Arc::new(StringArray::from(vec!["A", "B"])) };
        let numbers = |numbers: [i32; 2]| -> ArrayRef { Arc::new(Int32Array::from(numbers.to_vec())) };
        // As pandas writes a table whose rows were sorted.
        let columns = vec![("name", names()), ("x", numbers([3, 4])), ("__index_level_0__", numbers([1, 0]))];
        let batch = RecordBatch::try_from_iter(columns).expect("columns of one length");
        let pandas = [("pandas".to_owned(), r#"{"index_columns": ["__index_level_0__"]}"#.to_owned())];
        let schema = Arc::new(batch.schema().as_ref().clone().with_metadata(HashMap::from(pandas)));
        let path = folder.path().join("p.parquet");
        let mut writer = ArrowWriter::try_new(fs::File::create(&path).expect("a file"), Arc::clone(&schema), None)
            .expect("a writer");
        writer.write(&batch.with_schema(schema).expect("the same columns")).expect("rows");
        writer.close().expect("a footer");
        let table = read(&path).expect("a good table");
        assert_eq!((table.width(), table.row("B")), (1, Some([4.0].as_slice())));

        let path =
            write(folder.path(), "t.parquet", vec![("name", names()), ("x", numbers([3, 4])), ("class", names())]);
        assert!(read(&path).expect_err("text").to_string().contains("column `class` is of type Utf8"));
    }

    fn npy(descr: &str, shape: &str, data: &[u8]) -> Vec<u8> {
        let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n");
        let length = u16::try_from(header.len()).expect("a short header").to_le_bytes();
        [b"\x93NUMPY\x01\x00".as_slice(), &length, header.as_bytes(), data].concat()
    }

    #[test]
    fn lists_columns_and_npy_are_the_same_table() {
        let folder = tempfile::tempdir().expect("a folder");
        let names = || -> ArrayRef { Arc::new(StringArray::from(vec!["A", "B"])) };
        let list = FixedSizeListArray::from_iter_primitive::<Float32Type, _, _>(
            [vec![Some(1.0), Some(2.0)], vec![Some(3.0), Some(4.0)]].map(Some),
            2,
        );
        let lists = write(folder.path(), "l.parquet", vec![("name", names()), ("embedding", Arc::new(list))]);
        let first: ArrayRef = Arc::new(Float64Array::from(vec![1.0, 3.0]));
        let second: ArrayRef = Arc::new(Int32Array::from(vec![2, 4]));
        let columns = write(folder.path(), "c.parquet", vec![("x", first), ("gene", names()), ("y", second)]);
        let numbers = [1.0_f32, 2.0, 3.0, 4.0].map(f32::to_le_bytes).concat();
        fs::write(folder.path().join("n.npy"), npy("<f4", "(2, 2)", &numbers)).expect("a file");
        fs::write(folder.path().join("n.txt"), "A\nB\n").expect("a file");
        for path in [lists, columns, folder.path().join("n.npy")] {
            let table = read(&path).expect("a good table");
            assert_eq!((table.names(), table.width()), (["A".to_owned(), "B".to_owned()].as_slice(), 2));
            assert_eq!((table.row("B"), table.row("C")), (Some([3.0, 4.0].as_slice()), None));
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let table = |names: [&str; 2], numbers: [f64; 2]| {
            let names: ArrayRef = Arc::new(StringArray::from(names.to_vec()));
            let numbers: ArrayRef = Arc::new(Float64Array::from(numbers.to_vec()));
            let path = write(folder.path(), "t.parquet", vec![("name", names), ("x", numbers)]);
            read(&path).expect_err("a bad table").to_string()
        };
        assert!(table(["A", "A"], [1.0, 2.0]).contains("`A` appears twice"));
        assert!(table(["A", "B"], [1.0, f64::NAN]).contains("`B` is NaN"));
        let path = folder.path().join("n.npy");
        fs::write(&path, npy("<i8", "(1, 1)", &[0; 8])).expect("a file");
        assert!(read(&path).expect_err("integers").to_string().contains("float32"));
        fs::write(&path, npy("<f4", "(3, 1)", &[0; 8])).expect("a file");
        assert!(read(&path).expect_err("too short").to_string().contains("not 3 times 1"));
        fs::write(&path, b"\x93NUMPY\x01\x00\xff\xff{").expect("a file");
        assert!(read(&path).expect_err("cut short").to_string().contains("not an .npy"));
    }
}
