//! The storage of an AnnData object in any format: groups with attributes, arrays of numbers and columns.

use std::{fmt::Debug, ops::Range};

use arrow::{
    array::{ArrayRef, BooleanArray},
    datatypes::DataType,
};
use schemas::{
    Result,
    atlas::{StoredArray, StoredChunk},
};

use crate::{ingest::exact, place::Place};

/// The kind of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::ingest) enum Member {
    Missing,
    Group,
    Array,
    Other,
}

/// The meaning of array parts that were never written, for formats that allow them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::ingest) enum Gaps {
    /// It has the array's fill value.
    Filled,
    /// It was lost: no such array has a part that is all fill value.
    Lost,
}

/// A group of an HDF5 file or of a zarr store.
pub(in crate::ingest) trait Group: Debug {
    fn place(&self) -> &Place;

    /// The kind of the member with this name.
    fn member(&self, name: &str) -> Result<Member>;

    /// The names of all members.
    fn names(&self) -> Result<Vec<String>>;

    /// A group within this one.
    fn group(&self, name: &str) -> Result<Box<dyn Group>>;

    /// An array of one or two dimensions that holds numbers.
    fn numbers(&self, name: &str, gaps: Gaps) -> Result<Box<dyn Numbers>>;

    /// A vector; none if its type is unknown here.
    fn values(&self, name: &str, gaps: Gaps) -> Result<Option<Box<dyn Values>>>;

    /// An attribute that is a text or a list of texts.
    fn texts(&self, attribute: &str) -> Option<Vec<String>>;

    /// An attribute that is a list of whole numbers.
    fn integers(&self, attribute: &str) -> Option<Vec<i64>>;

    /// The category names of a column as anndata 0.7 kept them, apart from its codes: none if it is not such a column, and none
    /// within if they are of an unknown kind.
    fn old_categories(&self, column: &str) -> Result<Option<Option<Box<dyn Values>>>>;

    /// The columns of a data frame that is a table of records, as anndata kept them before 0.7.
    fn records(&self, name: &str) -> Result<Vec<(String, Box<dyn Column>)>>;

    /// An attribute that is one text.
    fn text(&self, attribute: &str) -> Option<String> {
        self.texts(attribute)?.into_iter().next()
    }
}

/// A vector (of one column) or a matrix of numbers, read by rows on any number of threads. Reading appends.
pub(in crate::ingest) trait Numbers: Debug + Send + Sync {
    fn place(&self) -> &Place;

    /// 1 or 2.
    fn dimensions(&self) -> usize;

    fn rows(&self) -> u64;

    /// 1 of a vector.
    fn columns(&self) -> u64;

    /// The same numbers as f32, to which large ones are rounded.
    fn rounded(&self, rows: Range<u64>, out: &mut Vec<f32>) -> Result<()>;

    /// The same numbers as f64.
    fn doubles(&self, rows: Range<u64>, out: &mut Vec<f64>) -> Result<()>;

    /// Values of expression; a whole number that f32 can't hold is refused.
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

    /// Ids; what can be none becomes one that is too large.
    fn ids(&self, rows: Range<u64>, out: &mut Vec<u32>) -> Result<()>;

    /// Whole numbers.
    fn integers(&self, rows: Range<u64>, out: &mut Vec<i64>) -> Result<()>;

    /// Where they lie in their file, and what they are, if this source is not needed for them; their chunks are appended.
    fn stored(&self, _chunks: &mut Vec<StoredChunk>) -> Option<StoredArray> {
        None
    }
}

/// A vector of values of a known type.
pub(in crate::ingest) trait Values: Debug + Send + Sync {
    fn len(&self) -> usize;

    fn data_type(&self) -> DataType;

    fn read(&self, rows: Range<usize>) -> Result<ArrayRef>;

    /// Whole numbers, as codes of categories are.
    fn codes(&self, rows: Range<usize>) -> Result<Vec<i64>>;

    /// Flags, as masks are: every number but 0 is true.
    fn flags(&self, rows: Range<usize>) -> Result<BooleanArray>;
}

/// A column of a data frame, read by slices.
pub(in crate::ingest) trait Column: Debug + Send + Sync {
    fn len(&self) -> usize;

    fn data_type(&self) -> DataType;

    fn read(&self, rows: Range<usize>) -> Result<ArrayRef>;
}
