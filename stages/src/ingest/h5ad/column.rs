//! One column of `obs` or `var`: plain, nullable or categorical, in any of anndata's encodings.

use std::ops::Range;

use arrow::{
    array::{ArrayRef, Int64Array},
    compute,
    datatypes::DataType,
};
use hdf5_metno::{Dataset, Group, LocationType, ObjectReference1, ReferencedObject};
use schemas::{Error, Result};

use super::{
    compound::Field,
    values::{Values, text_attribute},
};
use crate::h5::Place;

/// More categories than any column has; what says otherwise is damaged, and must not make us allocate.
pub(super) const MOST_CATEGORIES: usize = 1 << 24;

/// A column that is read by slices; of a categorical one the category names are held.
#[derive(Debug)]
pub(super) enum Column {
    Flat(Flat),
    Categorical { codes: Values, categories: ArrayRef },
    Field(Field),
    CodedField { codes: Field, categories: ArrayRef },
}

/// A column whose values stand in the file row by row.
#[derive(Debug)]
pub(super) struct Flat {
    values: Values,
    /// True where a value is missing.
    mask: Option<Values>,
}

impl Column {
    /// Opens the column `name` of a data frame; none if its encoding is unknown here.
    pub(super) fn open(frame: &Group, name: &str, place: &Place) -> Result<Option<Self>> {
        if !frame.link_exists(name) {
            return Err(place.error("is listed among the columns, but is not there", "write the file again"));
        }
        if let Some(categories) = old_categories(frame, name) {
            let codes = dataset(frame, name, place)?;
            return categorical(codes, Flat::of_dataset(categories, place), place);
        }
        let LocationType::Group = location_type(frame, name, place)? else {
            return Ok(Flat::open(frame, name, place)?.map(Self::Flat));
        };
        let group = frame.group(name).map_err(|error| place.unreadable(error))?;
        if text_attribute(&group, "encoding-type").as_deref() != Some("categorical") {
            return Ok(Flat::open(frame, name, place)?.map(Self::Flat));
        }
        let categories = Flat::open(&group, "categories", &place.child("categories"))?;
        categorical(dataset(&group, "codes", place)?, categories, place)
    }

    pub(super) fn len(&self) -> Result<usize> {
        match self {
            Self::Flat(flat) => Ok(flat.values.len()),
            Self::Categorical { codes, .. } => Ok(codes.len()),
            Self::Field(field) | Self::CodedField { codes: field, .. } => field.len(),
        }
    }

    pub(super) fn data_type(&self) -> DataType {
        match self {
            Self::Flat(flat) => flat.values.data_type(),
            Self::Categorical { categories, .. } | Self::CodedField { categories, .. } => {
                categories.data_type().clone()
            }
            Self::Field(field) => field.data_type(),
        }
    }

    pub(super) fn read(&self, rows: Range<usize>) -> Result<ArrayRef> {
        let first = rows.start;
        match self {
            Self::Flat(flat) => flat.read(rows),
            Self::Categorical { codes, categories } => {
                named(codes.numbers::<i64>(rows)?, categories, first, codes.place())
            }
            Self::Field(field) => field.read(rows),
            Self::CodedField { codes, categories } => named(codes.integers(rows)?, categories, first, codes.place()),
        }
    }
}

/// The names of codes that stand from row `first` on; a missing value has the code -1.
fn named(codes: Vec<i64>, categories: &ArrayRef, first: usize, place: &Place) -> Result<ArrayRef> {
    let known = i64::try_from(categories.len()).unwrap_or(i64::MAX);
    if let Some(row) = codes.iter().position(|code| known <= *code) {
        let message = format!("code {} at row {}, but there are {known} categories", codes[row], first + row);
        return Err(place.error(message, "the file is damaged; write it again"));
    }
    let codes: Int64Array = codes.into_iter().map(|code| (0 <= code).then_some(code)).collect();
    compute::take(categories, &codes, None).map_err(|error| Error::Bug(error.to_string()))
}

impl Flat {
    fn open(parent: &Group, name: &str, place: &Place) -> Result<Option<Self>> {
        let LocationType::Group = location_type(parent, name, place)? else {
            return Ok(Self::of_dataset(dataset(parent, name, place)?, place));
        };
        let group = parent.group(name).map_err(|error| place.unreadable(error))?;
        let encoding = text_attribute(&group, "encoding-type");
        let Some("nullable-integer" | "nullable-boolean" | "nullable-string-array") = encoding.as_deref() else {
            return Ok(None);
        };
        let values = Values::open(dataset(&group, "values", place)?, place.child("values"));
        let mask = Values::open(dataset(&group, "mask", place)?, place.child("mask"));
        match (values, mask) {
            (Some(values), Some(mask)) if values.len() != mask.len() => {
                let message = format!("has {} values, but {} in its mask", values.len(), mask.len());
                Err(place.error(message, "the file is damaged; write it again"))
            }
            (Some(values), Some(mask)) if matches!(mask.data_type(), DataType::Boolean | DataType::Int64) => {
                Ok(Some(Self { values, mask: Some(mask) }))
            }
            _ => Ok(None),
        }
    }

    fn of_dataset(dataset: Dataset, place: &Place) -> Option<Self> {
        Values::open(dataset, place.clone()).map(|values| Self { values, mask: None })
    }

    fn read(&self, rows: Range<usize>) -> Result<ArrayRef> {
        let values = self.values.read(rows.clone())?;
        let Some(mask) = &self.mask else { return Ok(values) };
        compute::nullif(&values, &mask.flags(rows)?).map_err(|error| Error::Bug(error.to_string()))
    }
}

fn categorical(codes: Dataset, categories: Option<Flat>, place: &Place) -> Result<Option<Column>> {
    let (Some(codes), Some(categories)) = (Values::open(codes, place.clone()), categories) else { return Ok(None) };
    if codes.data_type() != DataType::Int64 {
        return Ok(None);
    }
    let count = categories.values.len();
    if MOST_CATEGORIES < count {
        return Err(place.error(format!("{count} categories are more than can be"), "check how the file was written"));
    }
    let categories = categories.read(0..count)?;
    Ok(Some(Column::Categorical { codes, categories }))
}

/// The categories of a column as anndata 0.7 keeps them: the column holds codes, and an attribute points to the names.
fn old_categories(frame: &Group, name: &str) -> Option<Dataset> {
    let column = frame.dataset(name).ok()?;
    let attribute = column.attr("categories").ok()?;
    let reference = attribute.read_scalar::<ObjectReference1>();
    if let Ok(ReferencedObject::Dataset(categories)) = reference.and_then(|reference| column.dereference(&reference)) {
        return Some(categories);
    }
    frame.group("__categories").ok()?.dataset(name).ok()
}

fn dataset(group: &Group, name: &str, place: &Place) -> Result<Dataset> {
    group.dataset(name).map_err(|error| place.unreadable(error))
}

fn location_type(group: &Group, name: &str, place: &Place) -> Result<LocationType> {
    group.loc_type_by_name(name).map_err(|error| place.unreadable(error))
}
