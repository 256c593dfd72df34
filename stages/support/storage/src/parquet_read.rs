//! Decodes files with other crates. These trust some of a file's content, and panic if it contradicts itself;
//! this module turns such a panic into an ordinary error about the file.
#![expect(clippy::disallowed_methods, reason = "this is the place that reads Parquet")]

use std::{
    any::Any,
    cell::Cell,
    fmt::Display,
    fs::File,
    panic::{AssertUnwindSafe, catch_unwind},
};

use arrow::array::RecordBatch;
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
    footer::check(&file).map_err(Undecodable)?;
    decoded(|| ParquetRecordBatchReaderBuilder::try_new(Pages(file)))
}

/// The metadata of a Parquet file.
///
/// # Errors
/// A file that is not Parquet, or is damaged.
pub fn parquet_metadata(file: &File) -> Result<ArrowReaderMetadata, Undecodable> {
    footer::check(file).map_err(Undecodable)?;
    decoded(|| ArrowReaderMetadata::load(file, ArrowReaderOptions::new()))
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
    use super::*;

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
