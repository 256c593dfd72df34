//! Columns of joined files: of the same type, or converted to text such that equal values are the same text.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use arrays::text::as_text;
use arrow::{
    array::{ArrayRef, AsArray, StringArray},
    compute::cast,
    datatypes::{DataType, Field, SchemaRef},
    error::ArrowError,
};

/// All columns that occur in any file, in order of first appearance.
///
/// Columns of different types become text. Equal numbers become the same text; if a file has flags (true or
/// false), then `true` and 1 are the same in all files, in any capitalisation, as are `false` and 0.
#[derive(Debug)]
pub(super) struct JoinedColumns {
    fields: Vec<Field>,
    /// Whether the column holds flags in some files, and something else in others.
    mixes_flags: Vec<bool>,
    /// For each column, whether it holds numbers in some files and text in others, and that was not yet warned of.
    mixes_numbers: Vec<AtomicBool>,
}

impl JoinedColumns {
    /// Joins the columns of files, `obs` or `var`, each given with the file's name; warns about numbers that are
    /// read as flags.
    pub(super) fn from_files(frame: &str, files: Vec<(String, SchemaRef)>) -> Self {
        let mut fields: Vec<Field> = Vec::new();
        for field in files.iter().flat_map(|(_, schema)| schema.fields()) {
            match fields.iter_mut().find(|known| known.name() == field.name()) {
                None => fields.push(field.as_ref().clone().with_nullable(true)),
                Some(known) if known.data_type() != field.data_type() => known.set_data_type(DataType::Utf8),
                Some(_) => {}
            }
        }
        let mixes_flags = |joined: &Field| {
            let first = |fits: &dyn Fn(&DataType) -> bool| {
                let has = |schema: &SchemaRef| {
                    schema.field_with_name(joined.name()).is_ok_and(|field| fits(field.data_type()))
                };
                files.iter().find(|(_, schema)| has(schema)).map(|(file, _)| file)
            };
            let flags = first(&|data_type| *data_type == DataType::Boolean);
            if let (Some(flags), Some(numbers)) = (flags, first(&DataType::is_numeric)) {
                tracing::warn!(
                    "{frame} column `{}` is true or false in {flags}, but holds numbers in {numbers}: 1 is read as true, 0 as false",
                    joined.name()
                );
            }
            flags.is_some() && *joined.data_type() != DataType::Boolean
        };
        let mixes_flags = fields.iter().map(mixes_flags).collect();
        let mixes_numbers = |joined: &Field| {
            let kinds = files.iter().filter_map(|(_, schema)| schema.field_with_name(joined.name()).ok());
            let (numbers, others): (Vec<&Field>, Vec<&Field>) = kinds.partition(|field| field.data_type().is_numeric());
            AtomicBool::new(!numbers.is_empty() && others.iter().any(|field| *field.data_type() == DataType::Utf8))
        };
        let mixes_numbers = fields.iter().map(mixes_numbers).collect();
        Self { fields, mixes_flags, mixes_numbers }
    }

    /// The names and types of the columns.
    pub(super) fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// A file's column, converted to the type of the joined one.
    pub(super) fn converted(&self, at: usize, column: &ArrayRef) -> Result<ArrayRef, ArrowError> {
        if *column.data_type() == DataType::Utf8 && self.mixes_numbers[at].load(Ordering::Relaxed) {
            self.warn_of_other_notations(at, column.as_string::<i32>());
        }
        match self.fields[at].data_type() {
            DataType::Utf8 if self.mixes_flags[at] => {
                let texts = as_text(column)?;
                let texts = texts.as_string::<i32>().iter().map(|text| text.map(as_flag));
                Ok(Arc::new(texts.collect::<StringArray>()))
            }
            DataType::Utf8 => as_text(column),
            other => cast(column, other),
        }
    }
}

impl JoinedColumns {
    /// Warns once of a text that is equal to a number, but not written as those of other files: it is a value of its own.
    fn warn_of_other_notations(&self, at: usize, texts: &StringArray) {
        let Some((text, number)) = texts.iter().flatten().find_map(|text| Some((text, other_notation(text)?))) else {
            return;
        };
        if self.mixes_numbers[at].swap(false, Ordering::Relaxed) {
            tracing::warn!(
                "column `{}` holds numbers in some files and text in others: the text `{text}` and the number {number} are two values; \
                 write it as a number, or as `{number}`, to make them one",
                self.fields[at].name()
            );
        }
    }
}

/// How a number is written, if a text is that number in another notation.
pub(super) fn other_notation(text: &str) -> Option<String> {
    let number = match text.parse::<i128>() {
        Ok(number) => number.to_string(),
        Err(_) => text.parse::<f64>().ok().filter(|number| number.is_finite())?.to_string(),
    };
    (number != text).then_some(number)
}

/// A value of a column in which other values are true or false.
fn as_flag(text: &str) -> &str {
    match text {
        _ if text.eq_ignore_ascii_case("true") || text == "1" => "true",
        _ if text.eq_ignore_ascii_case("false") || text == "0" => "false",
        other => other,
    }
}
