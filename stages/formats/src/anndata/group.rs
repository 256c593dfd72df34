//! The storage of an AnnData object, in any format: groups with attributes, arrays of numbers and columns.

use std::{fmt::Debug, ops::Range};

use arrays::{numbers::Numbers, place::ObjectPlace};
use arrow::{
    array::{ArrayRef, BooleanArray},
    datatypes::DataType,
};
use schemas::Result;

/// The kind of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MemberKind {
    Missing,
    Group,
    Array,
    Other,
}

/// The meaning of array parts that were never written, in formats that allow them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UnwrittenParts {
    /// They have the array's fill value.
    Filled,
    /// They were lost: no such array has a part that is entirely fill value.
    Lost,
}

/// A group of an HDF5 file or of a zarr store.
pub(crate) trait StoredGroup: Debug {
    fn place(&self) -> &ObjectPlace;

    /// The kind of the member with this name.
    fn member(&self, name: &str) -> Result<MemberKind>;

    /// The names of all members.
    fn names(&self) -> Result<Vec<String>>;

    /// A group in this one.
    fn group(&self, name: &str) -> Result<Box<dyn StoredGroup>>;

    /// An array of one or two dimensions that holds numbers.
    fn numbers(&self, name: &str, gaps: UnwrittenParts) -> Result<Box<dyn Numbers>>;

    /// A vector; `None` if its type is unknown.
    fn values(&self, name: &str, gaps: UnwrittenParts) -> Result<Option<Box<dyn ValueVector>>>;

    /// An attribute that is a text or a list of texts.
    fn texts(&self, attribute: &str) -> Option<Vec<String>>;

    /// An attribute that is a list of whole numbers.
    fn integers(&self, attribute: &str) -> Option<Vec<i64>>;

    /// The category names of a column as stored by anndata 0.7, separately from its codes. `None` if it is not
    /// such a column, and `Some(None)` if the names are of an unknown kind.
    fn old_categories(&self, column: &str) -> Result<Option<Option<Box<dyn ValueVector>>>>;

    /// The columns of a data frame that is a table of records, as stored before anndata 0.7.
    fn records(&self, name: &str) -> Result<Vec<(String, Box<dyn Column>)>>;

    /// The shape of an array, and the name of its type; `None` if they can't be read.
    fn array_type(&self, name: &str) -> Option<(Vec<u64>, String)>;

    /// An array without dimensions that holds one text, if the format has such.
    fn scalar_text(&self, _name: &str) -> Option<String> {
        None
    }

    /// An attribute that is one text.
    fn text(&self, attribute: &str) -> Option<String> {
        self.texts(attribute)?.into_iter().next()
    }
}

/// A vector of values of a known type.
pub(crate) trait ValueVector: Debug + Send + Sync {
    fn len(&self) -> usize;

    fn data_type(&self) -> DataType;

    fn read(&self, rows: Range<usize>) -> Result<ArrayRef>;

    /// Whole numbers, such as codes of categories.
    fn codes(&self, rows: Range<usize>) -> Result<Vec<i64>>;

    /// Flags, such as masks: every number except 0 is true.
    fn flags(&self, rows: Range<usize>) -> Result<BooleanArray>;
}

/// A column of a data frame, read by slices.
pub(crate) trait Column: Debug + Send + Sync {
    fn len(&self) -> usize;

    fn data_type(&self) -> DataType;

    fn read(&self, rows: Range<usize>) -> Result<ArrayRef>;
}
