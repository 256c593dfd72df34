//! One column of `obs` or `var`: plain, nullable or categorical, in any of anndata's encodings.

use std::ops::Range;

use arrays::place::Place;
use arrow::{
    array::{ArrayRef, Int64Array},
    compute,
    datatypes::DataType,
};
use schemas::{Error, Result, numbers::to_i64};

use super::group::{Column, Gaps, Group, Member, Values};

/// More categories than any column has; what says otherwise is damaged, and must not make us allocate.
pub(crate) const MOST_CATEGORIES: usize = 1 << 24;

/// A column whose values stand in the file row by row.
#[derive(Debug)]
struct Flat {
    values: Box<dyn Values>,
    /// True where a value is missing.
    mask: Option<Box<dyn Values>>,
}

/// A column of codes, whose category names are in memory.
#[derive(Debug)]
struct Categorical {
    codes: Box<dyn Values>,
    categories: ArrayRef,
    place: Place,
}

/// Opens the column `name` of a data frame; none if its encoding is unknown here.
pub(super) fn open(frame: &dyn Group, name: &str, gaps: Gaps) -> Result<Option<Box<dyn Column>>> {
    let place = frame.place().child(name);
    let member = frame.member(name)?;
    if member == Member::Missing {
        return Err(place.error("is listed among the columns, but does not exist", "write the file again"));
    }
    if let Some(categories) = frame.old_categories(name)? {
        let categories = categories.map(|values| Flat { values, mask: None });
        return categorical(frame.values(name, Gaps::Filled)?, categories, &place);
    }
    if member == Member::Group {
        let group = frame.group(name)?;
        if group.text("encoding-type").as_deref() == Some("categorical") {
            let categories = flat(&*group, "categories", Gaps::Filled)?;
            return categorical(group.values("codes", Gaps::Filled)?, categories, &place);
        }
    }
    Ok(flat(frame, name, gaps)?.map(|flat| Box::new(flat) as Box<dyn Column>))
}

fn flat(parent: &dyn Group, name: &str, gaps: Gaps) -> Result<Option<Flat>> {
    if parent.member(name)? != Member::Group {
        return Ok(parent.values(name, gaps)?.map(|values| Flat { values, mask: None }));
    }
    let group = parent.group(name)?;
    let encoding = group.text("encoding-type");
    let Some("nullable-integer" | "nullable-boolean" | "nullable-string-array") = encoding.as_deref() else {
        return Ok(None);
    };
    let (Some(values), Some(mask)) = (group.values("values", gaps)?, group.values("mask", Gaps::Filled)?) else {
        return Ok(None);
    };
    if values.len() != mask.len() {
        let message = format!("has {} values, but {} in its mask", values.len(), mask.len());
        return Err(group.place().error(message, "the file is damaged; write it again"));
    }
    let is_mask = mask.data_type() == DataType::Boolean || mask.data_type().is_integer();
    Ok(is_mask.then_some(Flat { values, mask: Some(mask) }))
}

fn categorical(
    codes: Option<Box<dyn Values>>,
    categories: Option<Flat>,
    place: &Place,
) -> Result<Option<Box<dyn Column>>> {
    let (Some(codes), Some(categories)) = (codes, categories) else { return Ok(None) };
    if !codes.data_type().is_integer() {
        return Ok(None);
    }
    let count = categories.len();
    if MOST_CATEGORIES < count {
        return Err(place.error(format!("{count} categories are too many"), "check how the file was written"));
    }
    let categories = categories.read(0..count)?;
    Ok(Some(Box::new(Categorical { codes, categories, place: place.clone() })))
}

impl Column for Flat {
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

impl Column for Categorical {
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

/// The names of codes that stand from row `first` on; a missing value has the code -1.
pub(crate) fn named(codes: Vec<i64>, categories: &ArrayRef, first: usize, place: &Place) -> Result<ArrayRef> {
    let known = to_i64(categories.len());
    if let Some(row) = codes.iter().position(|code| known <= *code) {
        let message = format!("code {} at row {}, but there are {known} categories", codes[row], first + row);
        return Err(place.error(message, "the file is damaged; write it again"));
    }
    let codes: Int64Array = codes.into_iter().map(|code| (0 <= code).then_some(code)).collect();
    compute::take(categories, &codes, None).map_err(|error| Error::Bug(error.to_string()))
}
