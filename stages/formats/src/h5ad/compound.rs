//! Data frames as stored before anndata 0.7: one table of compound records, whose first member is the index.
//! For categorical columns, the table has codes, and `uns/COLUMN_categories` has the names.

use std::{ops::Range, sync::Arc};

use arrays::place::ObjectPlace;
use arrow::{
    array::{ArrayRef, BooleanArray, Float32Array, Float64Array, Int64Array, StringBuilder, UInt64Array},
    datatypes::DataType,
};
use hdf5::{CompoundTable, RecordMember};
use hdf5_metno::{
    Dataset, Group,
    types::{FloatSize, IntSize, TypeDescriptor},
};
use schemas::{
    Result,
    numbers::{saturating, to_usize},
};

use super::{
    super::anndata::{
        column::{MOST_CATEGORIES, named},
        group::Column,
    },
    values::{DatasetValues, append_text},
};

/// One column of a table of records.
#[derive(Debug)]
struct RecordField {
    records: Arc<CompoundTable>,
    member: RecordMember,
    kind: FieldType,
    place: ObjectPlace,
}

/// A column whose values are codes of categories.
#[derive(Debug)]
struct CodedField {
    codes: RecordField,
    categories: ArrayRef,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FieldType {
    Signed(IntSize),
    Unsigned(IntSize),
    Float32,
    Float64,
    Flag,
    /// Text of this many bytes, padded with zeros.
    Text(usize),
    /// Text in the heap.
    LongText,
}

/// The columns of a table, by name; the index comes first. Columns of an unknown kind are left out, with a
/// warning.
pub(super) fn columns(table: &Dataset, root: &Group, place: &ObjectPlace) -> Result<Vec<(String, Box<dyn Column>)>> {
    let records = Arc::new(CompoundTable::open(table, place.clone())?);
    let categories = root.group("uns").ok();
    let mut columns = Vec::new();
    for member in records.members() {
        let place = place.child(&member.name);
        let Some(kind) = kind(&member.kind) else {
            if columns.is_empty() {
                return Err(place.error("the index has an unsupported type", "write the file again with anndata"));
            }
            tracing::warn!("{place}: the column has an unsupported type and is left out");
            continue;
        };
        let field = RecordField { records: Arc::clone(&records), member: member.clone(), kind, place };
        let names = categories.as_ref().and_then(|uns| uns.dataset(&format!("{}_categories", member.name)).ok());
        let column = match names {
            Some(names) if !columns.is_empty() => field.with_categories(names)?,
            _ => Box::new(field),
        };
        columns.push((member.name.clone(), column));
    }
    Ok(columns)
}

fn kind(stored: &TypeDescriptor) -> Option<FieldType> {
    Some(match stored {
        TypeDescriptor::Integer(size) => FieldType::Signed(*size),
        TypeDescriptor::Unsigned(size) => FieldType::Unsigned(*size),
        TypeDescriptor::Float(FloatSize::U4) => FieldType::Float32,
        TypeDescriptor::Float(FloatSize::U8) => FieldType::Float64,
        TypeDescriptor::Boolean => FieldType::Flag,
        TypeDescriptor::FixedAscii(bytes) | TypeDescriptor::FixedUnicode(bytes) => FieldType::Text(*bytes),
        TypeDescriptor::VarLenAscii | TypeDescriptor::VarLenUnicode => FieldType::LongText,
        _ => return None,
    })
}

impl Column for RecordField {
    fn len(&self) -> usize {
        to_usize(self.records.rows())
    }

    fn data_type(&self) -> DataType {
        match self.kind {
            FieldType::Unsigned(IntSize::U8) => DataType::UInt64,
            FieldType::Signed(_) | FieldType::Unsigned(_) => DataType::Int64,
            FieldType::Float32 => DataType::Float32,
            FieldType::Float64 => DataType::Float64,
            FieldType::Flag => DataType::Boolean,
            FieldType::Text(_) | FieldType::LongText => DataType::Utf8,
        }
    }

    fn read(&self, rows: Range<usize>) -> Result<ArrayRef> {
        Ok(match self.kind {
            FieldType::Unsigned(IntSize::U8) => Arc::new(UInt64Array::from(
                self.collect(rows, |bytes| Some(u64::from_le_bytes(*bytes.first_chunk()?)))?,
            )),
            FieldType::Signed(_) | FieldType::Unsigned(_) => Arc::new(Int64Array::from(self.integers(rows)?)),
            FieldType::Float32 => Arc::new(Float32Array::from(
                self.collect(rows, |bytes| Some(f32::from_le_bytes(*bytes.first_chunk()?)))?,
            )),
            FieldType::Float64 => Arc::new(Float64Array::from(
                self.collect(rows, |bytes| Some(f64::from_le_bytes(*bytes.first_chunk()?)))?,
            )),
            FieldType::Flag => Arc::new(BooleanArray::from(self.collect(rows, |bytes| Some(*bytes.first()? != 0))?)),
            FieldType::Text(bytes) => {
                let (mut texts, mut row) = (StringBuilder::new(), rows.start);
                self.for_each(rows, |member| {
                    let text = member.get(..bytes).unwrap_or(member);
                    let end = text.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
                    append_text(&mut texts, &text[..end], row, &self.place)?;
                    row += 1;
                    Ok(())
                })?;
                Arc::new(texts.finish())
            }
            FieldType::LongText => {
                let (mut texts, mut row, mut heap) = (StringBuilder::new(), rows.start, self.records.heap());
                self.for_each(rows, |member| {
                    append_text(&mut texts, heap.get(member)?, row, &self.place)?;
                    row += 1;
                    Ok(())
                })?;
                Arc::new(texts.finish())
            }
        })
    }
}

impl Column for CodedField {
    fn len(&self) -> usize {
        self.codes.len()
    }

    fn data_type(&self) -> DataType {
        self.categories.data_type().clone()
    }

    fn read(&self, rows: Range<usize>) -> Result<ArrayRef> {
        let first = rows.start;
        named(self.codes.integers(rows)?, &self.categories, first, &self.codes.place)
    }
}

impl RecordField {
    /// Whole numbers, such as codes of categories; those too large for an `i64`, which are not codes, become the
    /// largest `i64`.
    fn integers(&self, rows: Range<usize>) -> Result<Vec<i64>> {
        let kind = self.kind;
        self.collect(rows, |bytes| {
            Some(match kind {
                FieldType::Signed(IntSize::U1) => i8::from_le_bytes(*bytes.first_chunk()?).into(),
                FieldType::Signed(IntSize::U2) => i16::from_le_bytes(*bytes.first_chunk()?).into(),
                FieldType::Signed(IntSize::U4) => i32::from_le_bytes(*bytes.first_chunk()?).into(),
                FieldType::Signed(IntSize::U8) => i64::from_le_bytes(*bytes.first_chunk()?),
                FieldType::Unsigned(IntSize::U1) => u8::from_le_bytes(*bytes.first_chunk()?).into(),
                FieldType::Unsigned(IntSize::U2) => u16::from_le_bytes(*bytes.first_chunk()?).into(),
                FieldType::Unsigned(IntSize::U4) => u32::from_le_bytes(*bytes.first_chunk()?).into(),
                FieldType::Unsigned(IntSize::U8) => saturating(u64::from_le_bytes(*bytes.first_chunk()?)),
                FieldType::Float32
                | FieldType::Float64
                | FieldType::Flag
                | FieldType::Text(_)
                | FieldType::LongText => return None,
            })
        })
    }

    /// The column with its codes replaced by names; unchanged if a code has no name, because then the names
    /// belong to another table's column with this name.
    fn with_categories(self, names: Dataset) -> Result<Box<dyn Column>> {
        if !matches!(self.kind, FieldType::Signed(_) | FieldType::Unsigned(_)) {
            return Ok(Box::new(self));
        }
        let place = self.place.clone();
        let Some(names) = DatasetValues::open(names, place.clone()) else { return Ok(Box::new(self)) };
        let known = names.len();
        if known > MOST_CATEGORIES {
            return Err(place.error(format!("{known} categories are too many"), "check how the file was written"));
        }
        let mut are_all_named = true;
        self.for_codes(|code| are_all_named &= usize::try_from(code).map_or(code == -1, |code| code < known))?;
        match are_all_named {
            true => Ok(Box::new(CodedField { codes: self, categories: names.read(0..known)? })),
            false => Ok(Box::new(self)),
        }
    }

    fn for_codes(&self, mut see: impl FnMut(i64)) -> Result<()> {
        const ROWS_AT_ONCE: usize = 1 << 14;
        let rows = self.len();
        for start in (0..rows).step_by(ROWS_AT_ONCE) {
            self.integers(start..rows.min(start + ROWS_AT_ONCE))?.into_iter().for_each(&mut see);
        }
        Ok(())
    }

    fn collect<T>(&self, rows: Range<usize>, number: impl Fn(&[u8]) -> Option<T>) -> Result<Vec<T>> {
        let mut numbers = Vec::new();
        self.for_each(rows, |member| {
            let cut_short = || self.place.error("is shorter than its type says", "the file is damaged; write it again");
            numbers.push(number(member).ok_or_else(cut_short)?);
            Ok(())
        })?;
        Ok(numbers)
    }

    fn for_each(&self, rows: Range<usize>, show: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        self.records.for_each(rows.start as u64..rows.end as u64, &self.member, show)
    }
}
