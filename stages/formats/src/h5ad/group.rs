//! Groups of an HDF5 file.

use arrays::{numbers::Numbers, place::ObjectPlace};
use hdf5_metno::{
    Dataset, Group as Library, LocationType, ObjectReference1, ReferencedObject,
    types::{TypeDescriptor, VarLenUnicode},
};
use schemas::Result;

use super::{
    super::anndata::group::{Column, MemberKind, StoredGroup, UnwrittenParts, ValueVector},
    compound,
    values::{DatasetValues, text_list_attribute},
};

/// Maximum length of a list of numbers in an attribute.
const MOST_INTEGERS: usize = 16;

/// A group, and its name in errors.
#[derive(Debug)]
pub(crate) struct H5Group {
    group: Library,
    place: ObjectPlace,
}

impl H5Group {
    pub(crate) fn new(group: Library, place: ObjectPlace) -> Self {
        Self { group, place }
    }

    fn dataset(&self, name: &str) -> Result<Dataset> {
        self.group.dataset(name).map_err(|error| self.place.child(name).unreadable(error))
    }
}

/// Unwritten parts of a dataset are read through libhdf5 as its fill value: in HDF5 files, parts do not get
/// lost.
impl StoredGroup for H5Group {
    fn place(&self) -> &ObjectPlace {
        &self.place
    }

    fn member(&self, name: &str) -> Result<MemberKind> {
        if !self.group.link_exists(name) {
            return Ok(MemberKind::Missing);
        }
        match self.group.loc_type_by_name(name).map_err(|error| self.place.child(name).unreadable(error))? {
            LocationType::Group => Ok(MemberKind::Group),
            LocationType::Dataset => Ok(MemberKind::Array),
            LocationType::NamedDatatype | LocationType::TypeMap => Ok(MemberKind::Other),
        }
    }

    fn names(&self) -> Result<Vec<String>> {
        self.group.member_names().map_err(|error| self.place.unreadable(error))
    }

    fn group(&self, name: &str) -> Result<Box<dyn StoredGroup>> {
        let place = self.place.child(name);
        let group = self.group.group(name).map_err(|error| place.unreadable(error))?;
        Ok(Box::new(Self { group, place }))
    }

    fn numbers(&self, name: &str, _gaps: UnwrittenParts) -> Result<Box<dyn Numbers>> {
        let (dataset, place) = (self.dataset(name)?, self.place.child(name));
        expect_numbers(&dataset, &place)?;
        Ok(Box::new(hdf5::DatasetNumbers::open(dataset, place)?))
    }

    fn values(&self, name: &str, _gaps: UnwrittenParts) -> Result<Option<Box<dyn ValueVector>>> {
        Ok(boxed(DatasetValues::open(self.dataset(name)?, self.place.child(name))))
    }

    fn array_type(&self, name: &str) -> Option<(Vec<u64>, String)> {
        let dataset = self.dataset(name).ok()?;
        let data_type = dataset.dtype().and_then(|dtype| dtype.to_descriptor()).ok()?;
        let data_type = match data_type {
            TypeDescriptor::Compound(_) => "records".to_owned(),
            simple => simple.to_string(),
        };
        Some((dataset.shape().into_iter().map(|size| size as u64).collect(), data_type))
    }

    fn scalar_text(&self, name: &str) -> Option<String> {
        let dataset = self.dataset(name).ok()?;
        match dataset.dtype().and_then(|dtype| dtype.to_descriptor()).ok()? {
            TypeDescriptor::VarLenUnicode if dataset.is_scalar() => {
                dataset.read_scalar::<VarLenUnicode>().ok().map(|text| text.as_str().to_owned())
            }
            _ => None,
        }
    }

    fn texts(&self, attribute: &str) -> Option<Vec<String>> {
        text_list_attribute(&self.group, attribute)
    }

    fn integers(&self, attribute: &str) -> Option<Vec<i64>> {
        let attribute = self.group.attr(attribute).ok()?;
        if attribute.size() > MOST_INTEGERS { None } else { attribute.read_raw::<i64>().ok() }
    }

    /// The column holds codes, and an attribute refers to the names.
    fn old_categories(&self, name: &str) -> Result<Option<Option<Box<dyn ValueVector>>>> {
        let Ok(column) = self.group.dataset(name) else { return Ok(None) };
        let Ok(attribute) = column.attr("categories") else { return Ok(None) };
        let reference = attribute.read_scalar::<ObjectReference1>();
        let categories = match reference.and_then(|reference| column.dereference(&reference)) {
            Ok(ReferencedObject::Dataset(categories)) => Some(categories),
            _ => self.group.group("__categories").and_then(|group| group.dataset(name)).ok(),
        };
        Ok(categories.map(|categories| boxed(DatasetValues::open(categories, self.place.child(name)))))
    }

    fn records(&self, name: &str) -> Result<Vec<(String, Box<dyn Column>)>> {
        compound::columns(&self.dataset(name)?, &self.group, &self.place.child(name))
    }
}

fn boxed(values: Option<DatasetValues>) -> Option<Box<dyn ValueVector>> {
    values.map(|values| Box::new(values) as Box<dyn ValueVector>)
}

/// Refuses types that are known not to be numeric; types that are not known here are left to libhdf5 to
/// convert.
fn expect_numbers(dataset: &Dataset, place: &ObjectPlace) -> Result<()> {
    let found = match dataset.dtype().and_then(|dtype| dtype.to_descriptor()) {
        Ok(TypeDescriptor::Compound(_)) => "compound values",
        Ok(
            TypeDescriptor::VarLenAscii
            | TypeDescriptor::VarLenUnicode
            | TypeDescriptor::FixedAscii(_)
            | TypeDescriptor::FixedUnicode(_),
        ) => "texts",
        Ok(TypeDescriptor::FixedArray(..) | TypeDescriptor::VarLenArray(_)) => "lists",
        Ok(TypeDescriptor::Reference(_)) => "references",
        _ => return Ok(()),
    };
    Err(place.error(format!("holds {found}, where numbers are expected"), "check how the file was written"))
}
