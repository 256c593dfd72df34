//! Groups of a store: folders with metadata.

use std::{fs, path::PathBuf};

use arrays::{numbers::Numbers, place::ObjectPlace};
use schemas::{Error, Result};
use serde_json::Value;

use super::{
    array::Array,
    metadata::{self, Attributes, NodeMetadata},
};
use crate::anndata::group::{Column, MemberKind, StoredGroup, UnwrittenParts, ValueVector};

/// The hint about a missing member.
const COPY_AGAIN: &str = "copy the store again, all of its files, or write it again";

/// A group, and its name in errors.
#[derive(Debug)]
pub(super) struct ZarrGroup {
    folder: PathBuf,
    place: ObjectPlace,
    attributes: Attributes,
}

impl ZarrGroup {
    pub(super) fn new(folder: PathBuf, place: ObjectPlace, attributes: Attributes) -> Self {
        Self { folder, place, attributes }
    }

    /// Checks that the store holds a single AnnData object.
    pub(super) fn expect_anndata(&self) -> Result<()> {
        let has = |name: &str| self.member(name).map(|member| member != MemberKind::Missing);
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
        let message = format!("is not an AnnData store (`X`, `obs`, `var`); it holds {members}");
        Err(self.place.error(message, "give the folder that `adata.write_zarr(...)` wrote"))
    }

    /// The path of a member, if the name is allowed. Names come from the store, and must not lead out of it.
    fn path(&self, name: &str) -> Option<PathBuf> {
        let is_safe = !name.is_empty() && name.split('/').all(|part| !part.is_empty() && part != "." && part != "..");
        is_safe.then(|| self.folder.join(name))
    }

    /// A member's folder and metadata; `None` if it does not exist.
    fn metadata(&self, name: &str) -> Result<Option<(PathBuf, NodeMetadata)>> {
        let Some(path) = self.path(name) else { return Ok(None) };
        Ok(NodeMetadata::read(&path, &self.place.child(name))?.map(|metadata| (path, metadata)))
    }

    fn array(&self, name: &str, gaps: UnwrittenParts) -> Result<Array> {
        let place = self.place.child(name);
        match self.metadata(name)? {
            Some((path, NodeMetadata::Array(metadata, _))) => Array::open(path, place.clone(), *metadata, gaps)
                .map_err(|what| place.error(what, metadata::WRITE_AGAIN)),
            Some(_) => Err(place.error("is a group, not an array", "write the store again")),
            None => Err(place.error("is missing", COPY_AGAIN)),
        }
    }
}

/// The name of a type of numbers: `float32` for the `<f4` of zarr version 2.
fn type_name(stored: &str) -> String {
    let numpy = stored.trim_start_matches(['<', '>', '|', '=']);
    let (kind, bytes) = numpy.split_at(numpy.len().min(1));
    match (kind, bytes.parse::<u32>()) {
        ("f", Ok(bytes)) => format!("float{}", 8 * bytes),
        ("i", Ok(bytes)) => format!("int{}", 8 * bytes),
        ("u", Ok(bytes)) => format!("uint{}", 8 * bytes),
        ("b", Ok(_)) => "bool".to_owned(),
        _ => stored.to_owned(),
    }
}

impl StoredGroup for ZarrGroup {
    fn place(&self) -> &ObjectPlace {
        &self.place
    }

    fn member(&self, name: &str) -> Result<MemberKind> {
        Ok(match self.metadata(name)? {
            Some((_, NodeMetadata::Group(_))) => MemberKind::Group,
            Some((_, NodeMetadata::Array(..))) => MemberKind::Array,
            // A folder without its metadata.
            None if self.path(name).is_some_and(|path| path.is_dir()) => MemberKind::Other,
            None => MemberKind::Missing,
        })
    }

    fn names(&self) -> Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.folder).map_err(Error::io("read", &self.folder))? {
            let entry = entry.map_err(Error::io("read", &self.folder))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if metadata::is_one(&entry.path()) {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    fn group(&self, name: &str) -> Result<Box<dyn StoredGroup>> {
        let place = self.place.child(name);
        match self.metadata(name)? {
            Some((path, NodeMetadata::Group(attributes))) => Ok(Box::new(Self::new(path, place, attributes))),
            Some(_) => Err(place.error("is an array, not a group", "write the store again")),
            None => Err(place.error("is missing", COPY_AGAIN)),
        }
    }

    fn numbers(&self, name: &str, gaps: UnwrittenParts) -> Result<Box<dyn Numbers>> {
        let array = self.array(name, gaps)?;
        array.number()?;
        Ok(Box::new(array))
    }

    fn values(&self, name: &str, gaps: UnwrittenParts) -> Result<Option<Box<dyn ValueVector>>> {
        let array = self.array(name, gaps)?;
        Ok((array.chunk.len() == 1).then(|| Box::new(array) as Box<dyn ValueVector>))
    }

    fn array_type(&self, name: &str) -> Option<(Vec<u64>, String)> {
        let (_, NodeMetadata::Array(metadata, _)) = self.metadata(name).ok()?? else { return None };
        let metadata = serde_json::to_value(metadata).ok()?;
        let shape = metadata["shape"].as_array()?.iter().map(Value::as_u64).collect::<Option<_>>()?;
        let data_type = &metadata[if metadata["data_type"].is_null() { "dtype" } else { "data_type" }];
        Some((shape, data_type.as_str().map_or_else(|| data_type.to_string(), type_name)))
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

    /// The column holds codes, and an attribute names the array of category names.
    fn old_categories(&self, column: &str) -> Result<Option<Option<Box<dyn ValueVector>>>> {
        let Some((_, NodeMetadata::Array(_, attributes))) = self.metadata(column)? else { return Ok(None) };
        match attributes.get("categories").and_then(Value::as_str) {
            Some(_) if self.member("__categories")? == MemberKind::Group => {
                self.group("__categories")?.values(column, UnwrittenParts::Filled).map(Some)
            }
            _ => Ok(None),
        }
    }

    fn records(&self, name: &str) -> Result<Vec<(String, Box<dyn Column>)>> {
        let hint = "read it with anndata, and write it again";
        Err(self.place.child(name).error("is an array, not a data frame", hint))
    }
}
