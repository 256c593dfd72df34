//! Arrays of a store as columns: numbers, flags and texts.

use std::{ops::Range, sync::Arc};

use arrow::{
    array::{ArrayRef, BooleanArray, Float32Array, Float64Array, Int64Array, StringArray, StringBuilder, UInt64Array},
    datatypes::DataType,
};
use schemas::{Result, atlas::StoredNumber, numbers::to_usize};

use super::{array::Array, element::Element};
use crate::anndata::group::ValueVector;

impl ValueVector for Array {
    fn len(&self) -> usize {
        to_usize(self.rows)
    }

    fn data_type(&self) -> DataType {
        match (self.element, self.element.number()) {
            (Element::Flag, _) => DataType::Boolean,
            (_, Some(StoredNumber::F32)) => DataType::Float32,
            (_, Some(StoredNumber::F64)) => DataType::Float64,
            (_, Some(StoredNumber::U64)) => DataType::UInt64,
            (_, Some(_)) => DataType::Int64,
            (_, None) => DataType::Utf8,
        }
    }

    fn read(&self, rows: Range<usize>) -> Result<ArrayRef> {
        Ok(match self.data_type() {
            DataType::Float32 => Arc::new(Float32Array::from(self.vector::<f32>(rows)?)),
            DataType::Float64 => Arc::new(Float64Array::from(self.vector::<f64>(rows)?)),
            DataType::UInt64 => Arc::new(UInt64Array::from(self.vector::<u64>(rows)?)),
            DataType::Boolean => Arc::new(self.flags(rows)?),
            DataType::Utf8 => Arc::new(texts(self, rows)?),
            _ => Arc::new(Int64Array::from(self.codes(rows)?)),
        })
    }

    fn codes(&self, rows: Range<usize>) -> Result<Vec<i64>> {
        self.vector(rows)
    }

    fn flags(&self, rows: Range<usize>) -> Result<BooleanArray> {
        Ok(self.codes(rows)?.into_iter().map(|code| Some(code != 0)).collect())
    }
}

fn texts(array: &Array, rows: Range<usize>) -> Result<StringArray> {
    let (mut texts, mut row) = (StringBuilder::new(), rows.start);
    let mut append = |bytes: &[u8]| {
        let text = std::str::from_utf8(bytes).map_err(|_| {
            array.place.error(format!("the text at row {row} is not UTF-8"), "write the store again with UTF-8 text")
        })?;
        if i32::try_from(texts.values_slice().len() + text.len()).is_err() {
            let hint = "leave out the column, or make it categorical";
            return Err(array.place.error("holds more than 2 GiB of text", hint));
        }
        texts.append_value(text);
        row += 1;
        Ok(())
    };
    array.for_each(rows.start as u64..rows.end as u64, |bytes| match array.element {
        Element::Letters(length) => {
            bytes.chunks_exact(length).try_for_each(|letters| append(letters_of(letters).as_bytes()))
        }
        _ => append(bytes),
    })?;
    Ok(texts.finish())
}

/// Decodes text of four bytes per letter, padded with zeros; an invalid letter becomes the replacement
/// character.
fn letters_of(bytes: &[u8]) -> String {
    let letters = bytes.as_chunks::<4>().0.iter().map(|letter| u32::from_le_bytes(*letter));
    let letters = letters.map(|letter| char::from_u32(letter).unwrap_or(char::REPLACEMENT_CHARACTER));
    letters.collect::<String>().trim_end_matches('\0').to_owned()
}
