//! What a store says of its groups and arrays, in either version: JSON files beside the chunks.

use std::{fs::File, io::Read, path::Path};

use schemas::{Error, Result};
use serde_json::{Map, Value};

use super::{
    codecs::{self, Codecs},
    element::{Element, Fill},
};
use crate::place::Place;

/// The files that make a folder a group or an array.
pub(super) const NAMES: [&str; 4] = ["zarr.json", ".zgroup", ".zarray", ".zattrs"];
/// Larger metadata is not read. Consolidated metadata of large stores has some megabytes.
const MOST_BYTES: u64 = 1 << 28;

pub(super) type Attributes = Map<String, Value>;

/// A group or an array.
#[derive(Debug)]
pub(super) enum Metadata {
    Group(Attributes),
    Array(Box<ArrayMetadata>),
}

/// What is told of an array.
#[derive(Debug)]
pub(super) struct ArrayMetadata {
    pub(super) attributes: Attributes,
    pub(super) shape: Vec<u64>,
    pub(super) element: Element,
    pub(super) fill: Fill,
    pub(super) keys: Keys,
    pub(super) codecs: Codecs,
}

/// How chunks are called.
#[derive(Debug)]
pub(super) struct Keys {
    /// What stands first, with a separator after it.
    first: Option<&'static str>,
    separator: char,
}

impl Keys {
    /// The path of a chunk within its array.
    pub(super) fn path(&self, at: &[u64]) -> String {
        let numbers = at.iter().map(u64::to_string);
        let parts: Vec<String> = self.first.map(str::to_owned).into_iter().chain(numbers).collect();
        parts.join(&self.separator.to_string())
    }
}

/// Metadata that can't be used: what is wrong with it.
pub(super) type Refused<T> = std::result::Result<T, String>;

impl Metadata {
    /// What a folder is; none if it is neither a group nor an array.
    ///
    /// # Errors
    /// Metadata that can't be read, or says what is not known here.
    pub(super) fn read(folder: &Path, place: &Place) -> Result<Option<Self>> {
        let refused = |what: String| {
            let hint = "write the store again with anndata, with its usual compressors, or convert it to .h5ad";
            place.error(what, hint)
        };
        if let Some(whole) = json(folder, "zarr.json", place)? {
            return version_3(whole).map(Some).map_err(refused);
        }
        let array = json(folder, ".zarray", place)?;
        if array.is_none() && json(folder, ".zgroup", place)?.is_none() {
            return Ok(None);
        }
        let attributes = json(folder, ".zattrs", place)?.unwrap_or_default();
        match array {
            Some(array) => {
                version_2(&array, attributes).map(|array| Some(Self::Array(Box::new(array)))).map_err(refused)
            }
            None => Ok(Some(Self::Group(attributes))),
        }
    }
}

/// A file of a folder that holds a JSON object; none if there is no such file.
fn json(folder: &Path, name: &str, place: &Place) -> Result<Option<Attributes>> {
    let path = folder.join(name);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io("read", &path)(error)),
    };
    let mut text = Vec::new();
    file.take(MOST_BYTES).read_to_end(&mut text).map_err(Error::io("read", &path))?;
    let object = serde_json::from_slice(&text).map_err(|error| {
        let hint = "the store may be damaged; restore it from a copy, or write it again";
        place.child(name).error(format!("is no JSON object ({error})"), hint)
    })?;
    Ok(Some(object))
}

fn version_3(mut whole: Attributes) -> Refused<Metadata> {
    let attributes = match whole.remove("attributes") {
        Some(Value::Object(attributes)) => attributes,
        _ => Attributes::new(),
    };
    match whole.get("node_type").and_then(Value::as_str) {
        Some("group") => return Ok(Metadata::Group(attributes)),
        Some("array") => {}
        other => return Err(format!("has the node type {other:?} in `zarr.json`")),
    }
    if whole.get("storage_transformers").and_then(Value::as_array).is_some_and(|list| !list.is_empty()) {
        return Err("has storage transformers, which are not known here".into());
    }
    let grid = named(whole.get("chunk_grid"), "chunk grid")?;
    if grid.name != "regular" {
        return Err(format!("has a chunk grid of the kind `{}`, which is not known here", grid.name));
    }
    let keys = named(whole.get("chunk_key_encoding"), "chunk key encoding")?;
    let separator = keys.configuration.and_then(|keys| keys.get("separator")).and_then(Value::as_str);
    let keys = match (keys.name, separator) {
        ("default", None | Some("/")) => Keys { first: Some("c"), separator: '/' },
        ("default", Some(".")) => Keys { first: Some("c"), separator: '.' },
        ("v2", None | Some(".")) => Keys { first: None, separator: '.' },
        ("v2", Some("/")) => Keys { first: None, separator: '/' },
        (other, _) => return Err(format!("has chunk keys of the kind `{other}`, which is not known here")),
    };
    let data_type = named(whole.get("data_type"), "data type")?;
    let element = Element::version_3(data_type.name, data_type.configuration)?;
    let shape = shape(whole.get("shape"), "shape")?;
    let chunk = shape_of_chunk(grid.configuration.and_then(|grid| grid.get("chunk_shape")), &shape)?;
    let list = whole.get("codecs").and_then(Value::as_array).ok_or("has no list of codecs")?;
    let codecs = codecs::version_3(list, element, &chunk)?;
    let fill = Fill::of(element, whole.get("fill_value"))?;
    Ok(Metadata::Array(Box::new(ArrayMetadata { attributes, shape, element, fill, keys, codecs })))
}

fn version_2(array: &Attributes, attributes: Attributes) -> Refused<ArrayMetadata> {
    let separator = match array.get("dimension_separator").and_then(Value::as_str) {
        None | Some(".") => '.',
        Some("/") => '/',
        Some(other) => return Err(format!("separates dimensions by `{other}`, which is not known here")),
    };
    let Some(data_type) = array.get("dtype").and_then(Value::as_str) else {
        return Err("has a data type of records, which is not known here".into());
    };
    let (element, is_big) = Element::version_2(data_type)?;
    let shape = shape(array.get("shape"), "shape")?;
    let chunk = shape_of_chunk(array.get("chunks"), &shape)?;
    let codecs = codecs::version_2(array, element, is_big, &chunk)?;
    let fill = Fill::of(element, array.get("fill_value"))?;
    let keys = Keys { first: None, separator };
    Ok(ArrayMetadata { attributes, shape, element, fill, keys, codecs })
}

/// An extension point of version 3: a name, alone or with a configuration.
pub(super) struct Named<'a> {
    pub(super) name: &'a str,
    pub(super) configuration: Option<&'a Map<String, Value>>,
}

pub(super) fn named<'a>(value: Option<&'a Value>, what: &str) -> Refused<Named<'a>> {
    let name = |value: Option<&'a Value>| value.and_then(Value::as_str).ok_or_else(|| format!("has no {what}"));
    match value {
        Some(Value::Object(object)) => Ok(Named {
            name: name(object.get("name"))?,
            configuration: object.get("configuration").and_then(Value::as_object),
        }),
        other => Ok(Named { name: name(other)?, configuration: None }),
    }
}

pub(super) fn shape(value: Option<&Value>, what: &str) -> Refused<Vec<u64>> {
    let lengths = value.and_then(Value::as_array).and_then(|list| list.iter().map(Value::as_u64).collect());
    lengths.ok_or_else(|| format!("has no {what} that is a list of numbers"))
}

/// The shape of chunks, in as many dimensions, none of them empty.
pub(super) fn shape_of_chunk(value: Option<&Value>, whole: &[u64]) -> Refused<Vec<u64>> {
    let chunk = shape(value, "chunk shape")?;
    match chunk.len() == whole.len() && !chunk.contains(&0) {
        true => Ok(chunk),
        false => Err(format!("has chunks of the shape {chunk:?}, but {} dimension(s)", whole.len())),
    }
}
