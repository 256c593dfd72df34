//! The data frames of a file: `var`, written at once, and `obs`, written row by row.

use std::collections::HashMap;

use arrays::place::ObjectPlace;
use arrow::{
    array::{Array, AsArray, RecordBatch, StringArray},
    compute,
    datatypes::{DataType, Float64Type, Int64Type},
};
use hdf5_metno::{File, Group};
use schemas::{Error, Result};

use super::vector::{Encoding, Vector, encode, write_text, write_texts};

/// The name of the index column within a data frame.
pub(super) const INDEX: &str = "_index";

/// Texts of `var`, or names of categories, that are compressed together.
const TEXT_CHUNK: usize = 4 << 10;

/// How a column of `obs` is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum H5adKind {
    /// Text that repeats (`Utf8`): stored as codes and category names; null is a missing value.
    Category,
    /// Text that does not repeat (`Utf8`); null is not allowed.
    Text,
    /// Whole numbers (any integer type); null is not allowed.
    Integer,
    /// Numbers (any number type); null becomes NaN.
    Number,
}

/// A column of `obs` other than the cells' names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct H5adColumn {
    /// The column's name, in the chunks and in the file.
    pub name: String,
    /// How it is stored.
    pub kind: H5adKind,
}

/// Writes `var`, which holds only the genes' names.
pub(super) fn write_var(file: &File, genes: &[String], gzip: Option<u8>) -> hdf5_metno::Result<()> {
    let frame = create_frame(file, "var", &[])?;
    Vector::create_texts(&frame, INDEX, TEXT_CHUNK, gzip)?.append_texts(genes.iter().map(String::as_str))
}

fn create_frame(file: &File, name: &str, columns: &[&str]) -> hdf5_metno::Result<Group> {
    let frame = file.create_group(name)?;
    encode(&frame, Encoding::Dataframe)?;
    write_text(&frame, "_index", INDEX)?;
    write_texts(&frame, "column-order", columns)?;
    Ok(frame)
}

/// The data frame `obs`, which grows.
#[derive(Debug)]
pub(super) struct ObsFrame {
    names: Vector,
    columns: Vec<(String, ObsColumn)>,
}

#[derive(Debug)]
enum ObsColumn {
    Category(CategoryColumn),
    Text(Vector),
    Integer(Vector),
    Number(Vector),
}

#[derive(Debug)]
struct CategoryColumn {
    group: Group,
    codes: Vector,
    /// The code of each name; codes are assigned in order of first appearance.
    known: HashMap<String, i32>,
    names: Vec<String>,
    gzip: Option<u8>,
}

impl ObsFrame {
    pub(super) fn create(
        file: &File,
        columns: &[H5adColumn],
        chunk: usize,
        gzip: Option<u8>,
    ) -> hdf5_metno::Result<Self> {
        let order: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
        let frame = create_frame(file, "obs", &order)?;
        let names = Vector::create_texts(&frame, INDEX, chunk, gzip)?;
        let created = columns.iter().map(|column| {
            let name = column.name.as_str();
            let storage = match column.kind {
                H5adKind::Category => ObsColumn::Category(CategoryColumn::create(&frame, name, chunk, gzip)?),
                H5adKind::Text => ObsColumn::Text(Vector::create_texts(&frame, name, chunk, gzip)?),
                H5adKind::Integer => ObsColumn::Integer(Vector::create_array::<i64>(&frame, name, chunk, gzip)?),
                H5adKind::Number => ObsColumn::Number(Vector::create_array::<f64>(&frame, name, chunk, gzip)?),
            };
            Ok((name.to_owned(), storage))
        });
        Ok(Self { names, columns: created.collect::<hdf5_metno::Result<_>>()? })
    }

    pub(super) fn append(&mut self, obs: &RecordBatch, file: &ObjectPlace) -> Result<()> {
        let place = file.child("obs");
        let failed = |error| crate::unwritable(file, error);
        let Some(names) = obs.columns().first().and_then(|names| names.as_string_opt::<i32>()) else {
            return Err(Error::Bug("the first column of obs is not the cells' names".into()));
        };
        self.names.append_texts(present(names, &place)?).map_err(failed)?;
        for (name, column) in &mut self.columns {
            let place = place.child(name);
            let Some(values) = obs.column_by_name(name) else {
                return Err(Error::unknown(
                    "column",
                    name,
                    obs.schema().fields().iter().map(|field| field.name().as_str()),
                ));
            };
            let data_type = column.data_type();
            let values = compute::cast(values, &data_type).map_err(|error| place.error(error.to_string(), ""))?;
            match column {
                ObsColumn::Category(category) => category.append(values.as_string::<i32>(), file)?,
                ObsColumn::Text(vector) => vector.append_texts(present(values.as_string(), &place)?).map_err(failed)?,
                ObsColumn::Integer(vector) => {
                    let values = values.as_primitive::<Int64Type>();
                    refuse_nulls(values, &place)?;
                    vector.append::<i64>(values.values()).map_err(failed)?;
                }
                ObsColumn::Number(vector) => {
                    let values = values.as_primitive::<Float64Type>().iter();
                    let values: Vec<f64> = values.map(|value| value.unwrap_or(f64::NAN)).collect();
                    vector.append(&values).map_err(failed)?;
                }
            }
        }
        Ok(())
    }

    pub(super) fn finish(self) -> hdf5_metno::Result<()> {
        self.columns.into_iter().try_for_each(|(_, column)| match column {
            ObsColumn::Category(category) => category.finish(),
            ObsColumn::Text(_) | ObsColumn::Integer(_) | ObsColumn::Number(_) => Ok(()),
        })
    }
}

impl ObsColumn {
    fn data_type(&self) -> DataType {
        match self {
            Self::Category(_) | Self::Text(_) => DataType::Utf8,
            Self::Integer(_) => DataType::Int64,
            Self::Number(_) => DataType::Float64,
        }
    }
}

impl CategoryColumn {
    fn create(frame: &Group, name: &str, chunk: usize, gzip: Option<u8>) -> hdf5_metno::Result<Self> {
        let group = frame.create_group(name)?;
        encode(&group, Encoding::Categorical)?;
        group.new_attr::<bool>().create("ordered")?.write_scalar(&false)?;
        // The number of categories is not known yet; pandas narrows the codes when it reads them.
        let codes = Vector::create_array::<i32>(&group, "codes", chunk, gzip)?;
        Ok(Self { group, codes, known: HashMap::new(), names: Vec::new(), gzip })
    }

    fn append(&mut self, values: &StringArray, file: &ObjectPlace) -> Result<()> {
        let codes = values.iter().map(|value| value.map_or(Ok(-1), |name| self.code(name)));
        let codes = codes.collect::<Result<Vec<i32>>>()?;
        self.codes.append(&codes).map_err(|error| crate::unwritable(file, error))
    }

    fn code(&mut self, name: &str) -> Result<i32> {
        if let Some(code) = self.known.get(name) {
            return Ok(*code);
        }
        let code = i32::try_from(self.names.len());
        let code = code.map_err(|_| Error::usage("too many categories", "store the column as text"))?;
        self.known.insert(name.to_owned(), code);
        self.names.push(name.to_owned());
        Ok(code)
    }

    fn finish(self) -> hdf5_metno::Result<()> {
        Vector::create_texts(&self.group, "categories", TEXT_CHUNK, self.gzip)?
            .append_texts(self.names.iter().map(String::as_str))
    }
}

/// The texts of a column without missing values.
fn present<'a>(texts: &'a StringArray, place: &ObjectPlace) -> Result<impl Iterator<Item = &'a str>> {
    refuse_nulls(texts, place)?;
    Ok(texts.iter().flatten())
}

fn refuse_nulls(values: &dyn Array, place: &ObjectPlace) -> Result<()> {
    match values.null_count() {
        0 => Ok(()),
        missing => {
            Err(place.error(format!("{missing} values are missing"), "store the column as categories or numbers"))
        }
    }
}
