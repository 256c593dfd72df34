//! Groups of a store: folders with metadata.

use std::{fs, path::PathBuf};

use schemas::{Error, Result};
use serde_json::Value;

use super::{
    array::Array,
    metadata::{ArrayMetadata, Attributes, Metadata},
    numbers::ZarrNumbers,
    values::ZarrValues,
};
use crate::{
    ingest::anndata::group::{Column, Gaps, Group, Member, Numbers, Values},
    place::Place,
};

/// A group, and what it is called in errors.
#[derive(Debug)]
pub(super) struct ZarrGroup {
    folder: PathBuf,
    place: Place,
    attributes: Attributes,
}

impl ZarrGroup {
    pub(super) fn new(folder: PathBuf, place: Place, attributes: Attributes) -> Self {
        Self { folder, place, attributes }
    }

    /// Checks that the store is one of a single AnnData object.
    pub(super) fn expect_anndata(&self) -> Result<()> {
        let has = |name: &str| self.member(name).map(|member| member != Member::Missing);
        if has("mod")? {
            let modalities = self.group("mod")?.names()?;
            let message = format!("is a MuData store, which holds several data sets: {}", modalities.join(", "));
            return Err(self.place.error(message, "give one of the folders below `mod`"));
        }
        if has("tables")? && !has("obs")? {
            let tables = self.group("tables")?.names()?;
            let message = format!("is a SpatialData store, whose tables are: {}", tables.join(", "));
            return Err(self.place.error(message, "give one of the folders below `tables`"));
        }
        if has("X")? || has("obs")? || has("var")? {
            return Ok(());
        }
        let members = self.names()?.join(", ");
        let message = format!("is no AnnData store (`X`, `obs`, `var`); it holds {members}");
        Err(self.place.error(message, "give the folder that `adata.write_zarr(...)` wrote"))
    }

    /// What a member is; none where its name can't be one, or leads nowhere.
    fn metadata(&self, name: &str) -> Result<Option<Metadata>> {
        match self.path(name) {
            Some(path) => Metadata::read(&path, &self.place.child(name)),
            None => Ok(None),
        }
    }

    /// Where a member lies. Names come from the store, and must not lead out of it.
    fn path(&self, name: &str) -> Option<PathBuf> {
        let is_safe = !name.is_empty() && name.split('/').all(|part| !part.is_empty() && part != "." && part != "..");
        is_safe.then(|| self.folder.join(name))
    }

    fn array(&self, name: &str, gaps: Gaps) -> Result<Array> {
        let place = self.place.child(name);
        match (self.metadata(name)?, self.path(name)) {
            (Some(Metadata::Array(metadata)), Some(path)) => Array::new(path, place, *metadata, gaps),
            (Some(Metadata::Group(_)), _) => Err(place.error("is a group, not an array", "write the store again")),
            _ => Err(place.error("is missing", "copy the store again, all of its files, or write it again")),
        }
    }
}

impl Group for ZarrGroup {
    fn place(&self) -> &Place {
        &self.place
    }

    fn member(&self, name: &str) -> Result<Member> {
        Ok(match self.metadata(name)? {
            // A folder whose metadata is lost.
            None if self.path(name).is_some_and(|path| path.is_dir()) => Member::Other,
            None => Member::Missing,
            Some(Metadata::Group(_)) => Member::Group,
            Some(Metadata::Array(_)) => Member::Array,
        })
    }

    fn names(&self) -> Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.folder).map_err(Error::io("read", &self.folder))? {
            let entry = entry.map_err(Error::io("read", &self.folder))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if super::is_one(&entry.path()) {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    fn group(&self, name: &str) -> Result<Box<dyn Group>> {
        let place = self.place.child(name);
        match (self.metadata(name)?, self.path(name)) {
            (Some(Metadata::Group(attributes)), Some(path)) => Ok(Box::new(Self::new(path, place, attributes))),
            (Some(_), _) => Err(place.error("is an array, not a group", "write the store again")),
            (None, _) => Err(place.error("is missing", "copy the store again, all of its files, or write it again")),
        }
    }

    fn numbers(&self, name: &str, gaps: Gaps) -> Result<Box<dyn Numbers>> {
        Ok(Box::new(ZarrNumbers::new(self.array(name, gaps)?)?))
    }

    fn values(&self, name: &str, gaps: Gaps) -> Result<Option<Box<dyn Values>>> {
        let values = ZarrValues::new(self.array(name, gaps)?)?;
        Ok(values.map(|values| Box::new(values) as Box<dyn Values>))
    }

    fn texts(&self, attribute: &str) -> Option<Vec<String>> {
        match self.attributes.get(attribute)? {
            Value::String(text) => Some(vec![text.clone()]),
            Value::Array(texts) => texts.iter().map(|text| text.as_str().map(str::to_owned)).collect(),
            _ => None,
        }
    }

    fn integers(&self, attribute: &str) -> Option<Vec<i64>> {
        self.attributes.get(attribute)?.as_array()?.iter().map(Value::as_i64).collect()
    }

    /// The column holds codes, and an attribute names the array of the names.
    fn old_categories(&self, column: &str) -> Result<Option<Option<Box<dyn Values>>>> {
        let Some(Metadata::Array(metadata)) = self.metadata(column)? else { return Ok(None) };
        let ArrayMetadata { attributes, .. } = *metadata;
        match attributes.get("categories").and_then(Value::as_str) {
            Some(_) if self.member("__categories")? == Member::Group => {
                self.group("__categories")?.values(column, Gaps::Filled).map(Some)
            }
            _ => Ok(None),
        }
    }

    fn records(&self, name: &str) -> Result<Vec<(String, Box<dyn Column>)>> {
        let hint = "read it with anndata, and write it again";
        Err(self.place.child(name).error("is an array, not a data frame", hint))
    }
}
