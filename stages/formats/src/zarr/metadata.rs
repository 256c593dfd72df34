//! Metadata of a store's groups and arrays, in either version: JSON files next to the chunks.

use std::{fs::File, io::Read, path::Path};

use arrays::place::ObjectPlace;
use schemas::{Error, Result};
use serde_json::{Map, Value, json};
use zarrs::array::ArrayMetadata;

use super::packing;

/// The files that make a folder a group or an array.
pub(super) const NAMES: [&str; 4] = ["zarr.json", ".zgroup", ".zarray", ".zattrs"];
/// Maximum size of metadata; consolidated metadata of large stores has a few megabytes.
const MOST_BYTES: u64 = 1 << 28;
/// The hint about an unsupported array.
pub(super) const WRITE_AGAIN: &str =
    "write the store again with anndata, with its usual compressors, or convert it to .h5ad";

pub(super) type Attributes = Map<String, Value>;

/// A group or an array.
#[derive(Debug)]
pub(super) enum NodeMetadata {
    Group(Attributes),
    Array(Box<ArrayMetadata>, Attributes),
}

/// A result for metadata that may be unusable; the error describes the problem.
pub(super) type MetadataResult<T> = std::result::Result<T, String>;

impl NodeMetadata {
    /// Reads a folder's metadata; `None` if it is neither a group nor an array.
    ///
    /// # Errors
    /// Metadata that can't be read, or has unknown content.
    pub(super) fn read(folder: &Path, place: &ObjectPlace) -> Result<Option<Self>> {
        let (array, attributes) = if let Some(mut whole) = json(folder, "zarr.json", place)? {
            let attributes = whole.remove("attributes").unwrap_or_default();
            (if whole.get("node_type") == Some(&json!("group")) { None } else { Some(whole) }, attributes)
        } else {
            let array = json(folder, ".zarray", place)?;
            if array.is_none() && json(folder, ".zgroup", place)?.is_none() {
                return Ok(None);
            }
            (array, json(folder, ".zattrs", place)?.unwrap_or_default().into())
        };
        let attributes = if let Value::Object(attributes) = attributes { attributes } else { Attributes::new() };
        let Some(array) = array else { return Ok(Some(Self::Group(attributes))) };
        let array = parse_checked(array).map_err(|what| place.error(what, WRITE_AGAIN))?;
        Ok(Some(Self::Array(Box::new(array), attributes)))
    }
}

/// Reads a file with a JSON object in a folder; `None` if there is no such file.
fn json(folder: &Path, name: &str, place: &ObjectPlace) -> Result<Option<Attributes>> {
    let path = folder.join(name);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io("read", &path)(error)),
    };
    let mut text = Vec::new();
    file.take(MOST_BYTES).read_to_end(&mut text).map_err(Error::io("read", &path))?;
    serde_json::from_slice(&text).map(Some).map_err(|error| {
        let hint = "the store may be damaged; restore it from a copy, or write it again";
        place.child(name).error(format!("is not a JSON object ({error})"), hint)
    })
}

/// Parses an array's metadata, after checking that its codecs stay within memory limits.
fn parse_checked(mut array: Attributes) -> MetadataResult<ArrayMetadata> {
    if array.get("zarr_format") == Some(&json!(2)) {
        let filters = array.get("filters").and_then(Value::as_array).cloned().unwrap_or_default();
        array.insert("filters".into(), packing::watched(&filters, "id")?.into());
        let compressor = array.remove("compressor").filter(|compressor| !compressor.is_null());
        let compressor = packing::watched(compressor.as_slice(), "id")?.pop();
        array.insert("compressor".into(), compressor.into());
    } else {
        if array.get("chunk_grid").and_then(|grid| grid.get("name")) != Some(&json!("regular")) {
            return Err("has an irregular chunk grid, which is not supported".into());
        }
        let codecs = array.get("codecs").and_then(Value::as_array).cloned().unwrap_or_default();
        array.insert("codecs".into(), packing::watched(&codecs, "name")?.into());
    }
    serde_json::from_value(Value::Object(array)).map_err(|error| format!("has metadata that can't be used ({error})"))
}

/// Whether a folder is a zarr store.
#[must_use]
pub fn is_one(path: &Path) -> bool {
    NAMES.iter().any(|name| path.join(name).is_file())
}
