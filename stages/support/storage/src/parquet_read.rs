//! Decodes files with other crates. These trust some of a file's content, and panic if it contradicts itself;
//! this module turns such a panic into an ordinary error about the file.
#![expect(clippy::disallowed_methods, reason = "this is the place that reads Parquet")]

use std::{
    any::Any,
    cell::Cell,
    fmt::Display,
    fs::File,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use arrow::{
    array::RecordBatch,
    datatypes::{DataType, Field, Fields, Schema, SchemaRef},
};
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};

mod footer;
mod pages;

pub use self::pages::Pages;

thread_local! {
    static DECODING: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread is inside a decoder whose panics become errors, so that a panic hook stays silent.
#[must_use]
pub fn is_decoding() -> bool {
    DECODING.get()
}

/// Why a file could not be decoded: the decoder's message.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Undecodable(String);

/// Runs a decoder.
///
/// # Errors
/// Its error, or its panic message.
pub fn decoded<T, E: Display>(work: impl FnOnce() -> Result<T, E>) -> Result<T, Undecodable> {
    let before = DECODING.replace(true);
    let done = catch_unwind(AssertUnwindSafe(work));
    DECODING.set(before);
    match done {
        Ok(done) => done.map_err(|error| Undecodable(error.to_string())),
        Err(panic) => Err(Undecodable(format!("it contradicts itself: {}", panic_message(panic.as_ref())))),
    }
}

fn panic_message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref().copied()).unwrap_or("no details")
}

/// Opens a Parquet file.
///
/// # Errors
/// A file that is not Parquet, or is damaged.
pub fn parquet(file: File) -> Result<ParquetRecordBatchReaderBuilder<Pages>, Undecodable> {
    let metadata = parquet_metadata(&file)?;
    Ok(ParquetRecordBatchReaderBuilder::new_with_metadata(Pages(file), metadata))
}

/// The metadata of a Parquet file.
///
/// # Errors
/// A file that is not Parquet, or is damaged.
pub fn parquet_metadata(file: &File) -> Result<ArrowReaderMetadata, Undecodable> {
    footer::check(file).map_err(Undecodable)?;
    decoded(|| {
        let metadata = ArrowReaderMetadata::load(file, ArrowReaderOptions::new())?;
        let Some(schema) = without_categories_of_booleans(metadata.schema()) else { return Ok(metadata) };
        ArrowReaderMetadata::try_new(Arc::clone(metadata.metadata()), ArrowReaderOptions::new().with_schema(schema))
    })
}

/// The columns in which pandas stored the index of a table; an index that only counts is described instead of stored.
#[must_use]
pub fn pandas_index(schema: &Schema) -> Vec<String> {
    let described: Option<serde_json::Value> =
        schema.metadata().get("pandas").and_then(|text| serde_json::from_str(text).ok());
    let columns = described.as_ref().and_then(|described| described["index_columns"].as_array());
    columns.into_iter().flatten().filter_map(|column| column.as_str().map(str::to_owned)).collect()
}

/// The schema with categories of booleans, which the decoder does not know, as booleans; `None` if it has none.
fn without_categories_of_booleans(schema: &Schema) -> Option<SchemaRef> {
    let is_one = |field: &Field| matches!(field.data_type(), DataType::Dictionary(_, of) if **of == DataType::Boolean);
    if !schema.fields().iter().any(|field| is_one(field)) {
        return None;
    }
    let plain = |field: &Arc<Field>| match is_one(field) {
        true => Arc::new(field.as_ref().clone().with_data_type(DataType::Boolean)),
        false => Arc::clone(field),
    };
    let fields: Fields = schema.fields().iter().map(plain).collect();
    Some(Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone())))
}

/// The record batches of a Parquet file, in order.
pub struct Batches(ParquetRecordBatchReader);

impl Batches {
    /// Builds the reader.
    ///
    /// # Errors
    /// A damaged file.
    pub fn new(builder: ParquetRecordBatchReaderBuilder<Pages>) -> Result<Self, Undecodable> {
        decoded(|| builder.build()).map(Self)
    }
}

impl Iterator for Batches {
    type Item = Result<RecordBatch, Undecodable>;

    fn next(&mut self) -> Option<Self::Item> {
        decoded(|| self.0.next().transpose()).transpose()
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, AsArray, BooleanArray};
    use parquet::{
        arrow::{ArrowWriter, add_encoded_arrow_schema_to_metadata, arrow_writer::ArrowWriterOptions},
        file::properties::WriterProperties,
    };

    use super::*;

    #[test]
    fn categories_of_booleans_are_booleans() {
        // As pandas writes a categorical column of booleans: booleans, and a schema that calls them a dictionary.
        let flags: ArrayRef = Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)]));
        let batch = RecordBatch::try_from_iter([("flag", Arc::clone(&flags))]).expect("one column");
        let of_flags = DataType::Dictionary(Box::new(DataType::Int8), Box::new(DataType::Boolean));
        let mut properties = WriterProperties::builder().build();
        let schema = Schema::new(vec![Field::new("flag", of_flags, true)]);
        add_encoded_arrow_schema_to_metadata(&schema, &mut properties);
        let options = ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true);
        let file = tempfile::tempfile().expect("a temporary file");
        let copy = file.try_clone().expect("a second handle");
        let mut writer = ArrowWriter::try_new_with_options(copy, batch.schema(), options).expect("a writer");
        writer.write(&batch).expect("it is written");
        writer.close().expect("it is closed");

        let read: Vec<RecordBatch> = Batches::new(parquet(file).expect("it is Parquet"))
            .expect("it is read")
            .map(|of| of.expect("rows"))
            .collect();
        assert_eq!(read[0].column(0).as_boolean(), flags.as_boolean());
    }

    #[test]
    fn a_decoder_that_panics_is_an_error_with_what_it_said() {
        let work = || -> Result<(), &str> {
            assert!(is_decoding());
            panic!("row {} is missing", 3)
        };
        let refused = decoded(work).expect_err("it panicked");
        assert_eq!(refused.to_string(), "it contradicts itself: row 3 is missing");
        assert!(!is_decoding());
        assert_eq!(decoded(|| Err::<(), _>("no magic")).expect_err("it refused").to_string(), "no magic");
    }
}
