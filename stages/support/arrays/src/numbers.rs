//! Any array of numbers that can be read by rows.

use std::{fmt::Debug, ops::Range};

use schemas::{
    Result,
    atlas::{StoredArray, StoredChunk},
};

use super::{exact, place::ObjectPlace};

/// A vector (with one column) or a matrix of numbers, read by rows on any number of threads. Reading appends
/// to the output.
pub trait Numbers: Debug + Send + Sync {
    /// The array's name in errors.
    fn place(&self) -> &ObjectPlace;

    /// Number of dimensions: 1 or 2.
    fn dimensions(&self) -> usize;

    /// Number of rows.
    fn rows(&self) -> u64;

    /// Number of columns; 1 for a vector.
    fn columns(&self) -> u64;

    /// Reads rows as f32; large numbers are rounded.
    fn rounded(&self, rows: Range<u64>, out: &mut Vec<f32>) -> Result<()>;

    /// Reads rows as f64.
    fn doubles(&self, rows: Range<u64>, out: &mut Vec<f64>) -> Result<()>;

    /// Reads expression values; fails for a whole number that f32 can't hold.
    fn floats(&self, rows: Range<u64>, out: &mut Vec<f32>) -> Result<()> {
        let first = out.len();
        self.rounded(rows.clone(), out)?;
        let kept = &out[first..];
        if !exact::may_be_rounded(kept) {
            return Ok(());
        }
        let mut stored = Vec::with_capacity(kept.len());
        self.doubles(rows.clone(), &mut stored)?;
        let Some((at, value)) = exact::first_rounded(&stored, kept) else { return Ok(()) };
        let at = at as u64;
        let place = match self.columns() {
            1 => format!("entry {}", rows.start + at),
            columns => format!("row {}, column {}", rows.start + at / columns, at % columns),
        };
        Err(self.place().error(format!("{place}: {}", exact::message(value)), exact::HINT))
    }

    /// Reads ids; a number that can't be an id becomes one that is too large.
    fn ids(&self, rows: Range<u64>, out: &mut Vec<u32>) -> Result<()>;

    /// Reads whole numbers.
    fn integers(&self, rows: Range<u64>, out: &mut Vec<i64>) -> Result<()>;

    /// Where the numbers are in their file, and their type, if they can be read without this source; their chunks
    /// are appended.
    fn stored(&self, _chunks: &mut Vec<StoredChunk>) -> Option<StoredArray> {
        None
    }
}
