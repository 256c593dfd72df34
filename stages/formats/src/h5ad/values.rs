//! One-dimensional datasets of any type as Arrow arrays, and attributes as text.

use std::{ops::Range, sync::Arc};

use arrays::place::ObjectPlace;
use arrow::{
    array::{ArrayRef, BooleanArray, Float32Array, Float64Array, Int64Array, StringArray, StringBuilder, UInt64Array},
    datatypes::DataType,
};
use hdf5::{DatasetNumbers, LibraryNumber};
use hdf5_metno::{
    Container, Dataset, H5Type, Location,
    types::{FixedAscii, FixedUnicode, FloatSize, IntSize, TypeDescriptor, VarLenAscii, VarLenUnicode},
};
use schemas::Result;

use super::super::anndata::group;

/// A vector of values of a known type.
#[derive(Debug)]
pub(crate) struct DatasetValues {
    dataset: Dataset,
    /// The reader for numbers, if the values are numbers.
    numbers: Option<DatasetNumbers>,
    kind: ValueType,
    place: ObjectPlace,
}

#[derive(Clone, Copy, Debug)]
enum ValueType {
    Integer,
    /// `u64`, which holds larger numbers than an `i64`.
    Unsigned64,
    Float32,
    Float64,
    Flag,
    Text(TextEncoding),
}

#[derive(Clone, Copy, Debug)]
enum TextEncoding {
    Ascii,
    Unicode,
    FixedAscii(usize),
    FixedUnicode(usize),
}

/// Maximum length of the text in a fixed-length column; columns with longer text are left out, like any
/// unknown kind.
const LONGEST_FIXED_TEXT: usize = 4096;

/// Bytes of text that are read at once.
const TEXT_BYTES: usize = 1 << 20;

impl DatasetValues {
    /// Opens a vector; `None` if its type is unknown.
    pub(crate) fn open(dataset: Dataset, place: ObjectPlace) -> Option<Self> {
        if dataset.ndim() != 1 {
            return None;
        }
        let kind = match dataset.dtype().and_then(|dtype| dtype.to_descriptor()).ok()? {
            TypeDescriptor::Unsigned(IntSize::U8) => ValueType::Unsigned64,
            // anndata also reads enumerations as numbers.
            TypeDescriptor::Integer(_) | TypeDescriptor::Unsigned(_) | TypeDescriptor::Enum(_) => ValueType::Integer,
            TypeDescriptor::Float(FloatSize::U2 | FloatSize::U4) => ValueType::Float32,
            TypeDescriptor::Float(FloatSize::U8) => ValueType::Float64,
            TypeDescriptor::Boolean => ValueType::Flag,
            descriptor => ValueType::Text(text_kind(&descriptor)?),
        };
        let numbers = match kind {
            ValueType::Integer | ValueType::Unsigned64 | ValueType::Float32 | ValueType::Float64 => {
                Some(DatasetNumbers::open(dataset.clone(), place.clone()).ok()?)
            }
            ValueType::Flag | ValueType::Text(_) => None,
        };
        Some(Self { dataset, numbers, kind, place })
    }

    pub(crate) fn len(&self) -> usize {
        self.dataset.size()
    }

    pub(crate) fn data_type(&self) -> DataType {
        match self.kind {
            ValueType::Integer => DataType::Int64,
            ValueType::Unsigned64 => DataType::UInt64,
            ValueType::Float32 => DataType::Float32,
            ValueType::Float64 => DataType::Float64,
            ValueType::Flag => DataType::Boolean,
            ValueType::Text(_) => DataType::Utf8,
        }
    }

    pub(crate) fn read(&self, rows: Range<usize>) -> Result<ArrayRef> {
        Ok(match self.kind {
            ValueType::Integer => Arc::new(Int64Array::from(self.numbers::<i64>(rows)?)),
            ValueType::Unsigned64 => Arc::new(UInt64Array::from(self.numbers::<u64>(rows)?)),
            ValueType::Float32 => Arc::new(Float32Array::from(self.numbers::<f32>(rows)?)),
            ValueType::Float64 => Arc::new(Float64Array::from(self.numbers::<f64>(rows)?)),
            ValueType::Flag => Arc::new(self.flags(rows)?),
            ValueType::Text(kind) => Arc::new(self.text(kind, rows)?),
        })
    }

    /// Numbers, such as codes of categories.
    pub(crate) fn numbers<T: LibraryNumber>(&self, rows: Range<usize>) -> Result<Vec<T>> {
        let mut numbers = Vec::with_capacity(rows.len());
        match &self.numbers {
            Some(stored) => stored.read(rows.start as u64..rows.end as u64, &mut numbers)?,
            None => return Err(self.place.error("is not a vector of numbers", "check how the file was written")),
        }
        Ok(numbers)
    }

    /// Flags, such as masks: every number except 0 is true.
    pub(crate) fn flags(&self, rows: Range<usize>) -> Result<BooleanArray> {
        // The bytes are read as numbers, since a damaged file may hold one that is neither false nor true.
        let bytes = read_slice::<i8>(&self.dataset, rows, &self.place)?;
        Ok(bytes.into_iter().map(|byte| Some(byte != 0)).collect())
    }

    fn text(&self, kind: TextEncoding, rows: Range<usize>) -> Result<StringArray> {
        match kind {
            TextEncoding::Ascii => self.strings::<VarLenAscii>(rows),
            TextEncoding::Unicode => self.strings::<VarLenUnicode>(rows),
            // libhdf5 pads fixed-length text to the requested length, which must be known at compile time.
            TextEncoding::FixedAscii(..=64) => self.strings::<FixedAscii<64>>(rows),
            TextEncoding::FixedAscii(_) => self.strings::<FixedAscii<LONGEST_FIXED_TEXT>>(rows),
            TextEncoding::FixedUnicode(..=64) => self.strings::<FixedUnicode<64>>(rows),
            TextEncoding::FixedUnicode(_) => self.strings::<FixedUnicode<LONGEST_FIXED_TEXT>>(rows),
        }
    }

    fn strings<T: H5Type + AsRef<[u8]>>(&self, rows: Range<usize>) -> Result<StringArray> {
        let mut texts = StringBuilder::new();
        for start in rows.clone().step_by(TEXT_BYTES / size_of::<T>()) {
            let range = start..rows.end.min(start + TEXT_BYTES / size_of::<T>());
            for (row, bytes) in (start..).zip(read_slice::<T>(&self.dataset, range, &self.place)?) {
                append_text(&mut texts, bytes.as_ref(), row, &self.place)?;
            }
        }
        Ok(texts.finish())
    }
}

impl group::ValueVector for DatasetValues {
    fn len(&self) -> usize {
        self.len()
    }

    fn data_type(&self) -> DataType {
        self.data_type()
    }

    fn read(&self, rows: Range<usize>) -> Result<ArrayRef> {
        self.read(rows)
    }

    fn codes(&self, rows: Range<usize>) -> Result<Vec<i64>> {
        self.numbers(rows)
    }

    fn flags(&self, rows: Range<usize>) -> Result<BooleanArray> {
        self.flags(rows)
    }
}

/// Appends the text in a row.
pub(super) fn append_text(texts: &mut StringBuilder, bytes: &[u8], row: usize, place: &ObjectPlace) -> Result<()> {
    let text = std::str::from_utf8(bytes).map_err(|_| {
        place.error(format!("the text at row {row} is not UTF-8"), "write the file again with UTF-8 text")
    })?;
    if i32::try_from(texts.values_slice().len() + text.len()).is_err() {
        return Err(place.error("holds more than 2 GiB of text", "leave out the column, or make it categorical"));
    }
    texts.append_value(text);
    Ok(())
}

/// Some rows of a vector; `T` can be converted from any stored number type.
pub(crate) fn read_slice<T: H5Type>(dataset: &Dataset, rows: Range<usize>, place: &ObjectPlace) -> Result<Vec<T>> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let values = dataset.read_slice_1d::<T, _>(rows).map_err(|error| place.unreadable(error))?;
    Ok(values.into_raw_vec_and_offset().0)
}

/// An attribute that is a list of texts; an empty list may have any type.
pub(crate) fn text_list_attribute(location: &Location, name: &str) -> Option<Vec<String>> {
    let attribute = location.attr(name).ok()?;
    if attribute.size() == 0 {
        return Some(Vec::new());
    }
    match text_kind(&attribute.dtype().ok()?.to_descriptor().ok()?)? {
        TextEncoding::Ascii => texts::<VarLenAscii>(&attribute),
        TextEncoding::Unicode => texts::<VarLenUnicode>(&attribute),
        TextEncoding::FixedAscii(_) => texts::<FixedAscii<LONGEST_FIXED_TEXT>>(&attribute),
        TextEncoding::FixedUnicode(_) => texts::<FixedUnicode<LONGEST_FIXED_TEXT>>(&attribute),
    }
}

fn texts<T: H5Type + AsRef<[u8]>>(attribute: &Container) -> Option<Vec<String>> {
    let texts = attribute.read_raw::<T>().ok()?;
    texts.iter().map(|text| String::from_utf8(text.as_ref().to_vec()).ok()).collect()
}

fn text_kind(descriptor: &TypeDescriptor) -> Option<TextEncoding> {
    match *descriptor {
        TypeDescriptor::VarLenAscii => Some(TextEncoding::Ascii),
        TypeDescriptor::VarLenUnicode => Some(TextEncoding::Unicode),
        TypeDescriptor::FixedAscii(length) if length <= LONGEST_FIXED_TEXT => Some(TextEncoding::FixedAscii(length)),
        TypeDescriptor::FixedUnicode(length) if length <= LONGEST_FIXED_TEXT => {
            Some(TextEncoding::FixedUnicode(length))
        }
        _ => None,
    }
}
