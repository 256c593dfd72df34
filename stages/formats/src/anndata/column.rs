//! One column of `obs` or `var`: plain, nullable or categorical, in any of anndata's encodings.

use std::ops::Range;

use arrays::place::ObjectPlace;
use arrow::{
    array::{ArrayRef, Int64Array},
    compute,
    datatypes::DataType,
};
use schemas::{Error, Result, numbers::to_i64};

use super::group::{Column, MemberKind, StoredGroup, UnwrittenParts, ValueVector};

/// Maximum number of categories of a column; a file that claims more is damaged, and no memory is allocated
/// for it.
pub(crate) const MOST_CATEGORIES: usize = 1 << 24;

/// A column whose values are stored row by row.
#[derive(Debug)]
struct FlatColumn {
    values: Box<dyn ValueVector>,
    /// True where a value is missing.
    mask: Option<Box<dyn ValueVector>>,
}

/// A column of codes, with the category names in memory.
#[derive(Debug)]
struct CategoricalColumn {
    codes: Box<dyn ValueVector>,
    categories: ArrayRef,
    place: ObjectPlace,
}

/// Opens the column `name` of a data frame; `None` if its encoding is unknown.
pub(super) fn open(frame: &dyn StoredGroup, name: &str, gaps: UnwrittenParts) -> Result<Option<Box<dyn Column>>> {
    let place = frame.place().child(name);
    let member = frame.member(name)?;
    if member == MemberKind::Missing {
        return Err(place.error("is listed among the columns, but does not exist", "write the file again"));
    }
    if let Some(categories) = frame.old_categories(name)? {
        let categories = categories.map(|values| FlatColumn { values, mask: None });
        return categorical(frame.values(name, UnwrittenParts::Filled)?, categories, &place);
    }
    if member == MemberKind::Group {
        let group = frame.group(name)?;
        if group.text("encoding-type").as_deref() == Some("categorical") {
            let categories = flat(&*group, "categories", UnwrittenParts::Filled)?;
            return categorical(group.values("codes", UnwrittenParts::Filled)?, categories, &place);
        }
    }
    Ok(flat(frame, name, gaps)?.map(|flat| Box::new(flat) as Box<dyn Column>))
}

fn flat(parent: &dyn StoredGroup, name: &str, gaps: UnwrittenParts) -> Result<Option<FlatColumn>> {
    if parent.member(name)? != MemberKind::Group {
        return Ok(parent.values(name, gaps)?.map(|values| FlatColumn { values, mask: None }));
    }
    let group = parent.group(name)?;
    let encoding = group.text("encoding-type");
    let Some("nullable-integer" | "nullable-boolean" | "nullable-string-array") = encoding.as_deref() else {
        return Ok(None);
    };
    let (Some(values), Some(mask)) = (group.values("values", gaps)?, group.values("mask", UnwrittenParts::Filled)?)
    else {
        return Ok(None);
    };
    if values.len() != mask.len() {
        let message = format!("has {} values, but {} in its mask", values.len(), mask.len());
        return Err(group.place().error(message, "the file is damaged; write it again"));
    }
    let is_mask = mask.data_type() == DataType::Boolean || mask.data_type().is_integer();
    Ok(is_mask.then_some(FlatColumn { values, mask: Some(mask) }))
}

fn categorical(
    codes: Option<Box<dyn ValueVector>>,
    categories: Option<FlatColumn>,
    place: &ObjectPlace,
) -> Result<Option<Box<dyn Column>>> {
    let (Some(codes), Some(categories)) = (codes, categories) else { return Ok(None) };
    if !codes.data_type().is_integer() {
        return Ok(None);
    }
    let count = categories.len();
    if count > MOST_CATEGORIES {
        return Err(place.error(format!("{count} categories are too many"), "check how the file was written"));
    }
    let categories = categories.read(0..count)?;
    Ok(Some(Box::new(CategoricalColumn { codes, categories, place: place.clone() })))
}

impl Column for FlatColumn {
    fn len(&self) -> usize {
        self.values.len()
    }

    fn data_type(&self) -> DataType {
        self.values.data_type()
    }

    fn read(&self, rows: Range<usize>) -> Result<ArrayRef> {
        let values = self.values.read(rows.clone())?;
        let Some(mask) = &self.mask else { return Ok(values) };
        compute::nullif(&values, &mask.flags(rows)?).map_err(|error| Error::Bug(error.to_string()))
    }
}

impl Column for CategoricalColumn {
    fn len(&self) -> usize {
        self.codes.len()
    }

    fn data_type(&self) -> DataType {
        self.categories.data_type().clone()
    }

    fn read(&self, rows: Range<usize>) -> Result<ArrayRef> {
        let first = rows.start;
        named(self.codes.codes(rows)?, &self.categories, first, &self.place)
    }
}

/// The names of codes, the first of which is in row `first`; a missing value has the code -1.
pub(crate) fn named(codes: Vec<i64>, categories: &ArrayRef, first: usize, place: &ObjectPlace) -> Result<ArrayRef> {
    let known = to_i64(categories.len());
    if let Some(row) = codes.iter().position(|code| known <= *code) {
        let message = format!("code {} at row {}, but there are {known} categories", codes[row], first + row);
        return Err(place.error(message, "the file is damaged; write it again"));
    }
    let codes: Int64Array = codes.into_iter().map(|code| (code >= 0).then_some(code)).collect();
    compute::take(categories, &codes, None).map_err(|error| Error::Bug(error.to_string()))
}
