//! Arrays of a store as columns: numbers, flags and texts.

use std::{ops::Range, sync::Arc};

use arrow::{
    array::{ArrayRef, BooleanArray, Float32Array, Float64Array, Int64Array, StringArray, StringBuilder},
    datatypes::DataType,
};
use schemas::Result;

use super::{
    array::{Array, Run},
    element::{Element, Fill},
    numbers::ZarrNumbers,
};
use crate::{
    element,
    ingest::anndata::{
        group::{Numbers, Values},
        index,
    },
};

/// A vector of a known type.
#[derive(Debug)]
pub(super) enum ZarrValues {
    Numbers(ZarrNumbers),
    Flags(Array),
    Texts(Array),
}

impl ZarrValues {
    /// A vector; none if the array has another number of dimensions.
    pub(super) fn new(array: Array) -> Result<Option<Self>> {
        if array.dimensions != 1 {
            return Ok(None);
        }
        Ok(Some(match array.element {
            Element::Number(_) | Element::Half => Self::Numbers(ZarrNumbers::new(array)?),
            Element::Flag => Self::Flags(array),
            Element::Text | Element::Bytes(_) | Element::Letters(_) => Self::Texts(array),
        }))
    }
}

impl Values for ZarrValues {
    fn len(&self) -> Result<usize> {
        match self {
            Self::Numbers(numbers) => index(numbers.rows()),
            Self::Flags(array) | Self::Texts(array) => index(array.rows),
        }
    }

    fn data_type(&self) -> DataType {
        match self {
            Self::Numbers(numbers) => match numbers.element() {
                element::Element::F32 => DataType::Float32,
                element::Element::F64 => DataType::Float64,
                _ => DataType::Int64,
            },
            Self::Flags(_) => DataType::Boolean,
            Self::Texts(_) => DataType::Utf8,
        }
    }

    fn read(&self, rows: Range<usize>) -> Result<ArrayRef> {
        let numbers = match self {
            Self::Numbers(numbers) => numbers,
            Self::Flags(_) => return Ok(Arc::new(self.flags(rows)?)),
            Self::Texts(array) => return Ok(Arc::new(texts(array, rows)?)),
        };
        let wide = rows.start as u64..rows.end as u64;
        Ok(match numbers.element() {
            element::Element::F32 => {
                let mut values: Vec<f32> = Vec::new();
                numbers.read(wide, &mut values)?;
                Arc::new(Float32Array::from(values))
            }
            element::Element::F64 => {
                let mut values: Vec<f64> = Vec::new();
                numbers.read(wide, &mut values)?;
                Arc::new(Float64Array::from(values))
            }
            _ => Arc::new(Int64Array::from(self.codes(rows)?)),
        })
    }

    fn codes(&self, rows: Range<usize>) -> Result<Vec<i64>> {
        match self {
            Self::Numbers(numbers) => {
                let mut values = Vec::new();
                numbers.integers(rows.start as u64..rows.end as u64, &mut values)?;
                Ok(values)
            }
            Self::Flags(array) => bytes(array, rows).map(|bytes| bytes.into_iter().map(i64::from).collect()),
            Self::Texts(array) => Err(array.place.error("is no vector of numbers", "check how the store was written")),
        }
    }

    fn flags(&self, rows: Range<usize>) -> Result<BooleanArray> {
        let is_set: Vec<bool> = match self {
            Self::Flags(array) => bytes(array, rows)?.into_iter().map(|byte| byte != 0).collect(),
            _ => self.codes(rows)?.into_iter().map(|code| code != 0).collect(),
        };
        Ok(BooleanArray::from(is_set))
    }
}

/// A byte a row.
fn bytes(array: &Array, rows: Range<usize>) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    array.for_each(rows.start as u64..rows.end as u64, |run| {
        match run {
            Run::Bytes(bytes) => out.extend_from_slice(bytes),
            Run::Fill(Fill::Bytes(bytes), count) => out.extend(bytes.repeat(index(count)?)),
            Run::Fill(Fill::Text(_), _) | Run::Text(_) => {}
        }
        Ok(())
    })?;
    Ok(out)
}

fn texts(array: &Array, rows: Range<usize>) -> Result<StringArray> {
    let (mut texts, mut row) = (StringBuilder::new(), rows.start);
    let mut append = |bytes: &[u8]| {
        let text = std::str::from_utf8(bytes).map_err(|_| {
            array.place.error(format!("the text at row {row} is not UTF-8"), "write the store again with UTF-8 text")
        })?;
        if i32::try_from(texts.values_slice().len() + text.len()).is_err() {
            return Err(array
                .place
                .error("holds more than 2 GiB of text", "leave the column out, or make it categorical"));
        }
        texts.append_value(text);
        row += 1;
        Ok(())
    };
    array.for_each(rows.start as u64..rows.end as u64, |run| match (run, array.element) {
        (Run::Text(text), _) => append(text),
        (Run::Bytes(bytes), Element::Letters(length)) => {
            bytes.chunks_exact(length).try_for_each(|letters| append(letters_of(letters).as_bytes()))
        }
        (Run::Bytes(bytes), Element::Bytes(length)) => bytes
            .chunks_exact(length)
            .try_for_each(|text| append(&text[..text.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)])),
        (Run::Bytes(_), _) | (Run::Fill(Fill::Bytes(_), _), _) => Ok(()),
        (Run::Fill(Fill::Text(text), count), _) => (0..count).try_for_each(|_| append(text.as_bytes())),
    })?;
    Ok(texts.finish())
}

/// Text of four bytes a letter, padded with zeros; what is no letter stands for one that is unknown.
fn letters_of(bytes: &[u8]) -> String {
    let letters = bytes.as_chunks::<4>().0.iter().map(|letter| u32::from_le_bytes(*letter));
    let letters = letters.map(|letter| char::from_u32(letter).unwrap_or(char::REPLACEMENT_CHARACTER));
    letters.collect::<String>().trim_end_matches('\0').to_owned()
}
