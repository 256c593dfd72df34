//! How chunks were encoded, and the way back.

use serde_json::{Map, Value};

use super::{
    bytes::{reverse_words, transposed},
    element::Element,
    metadata::{Named, Refused, named, shape_of_chunk},
    packing::{Packing, unpack},
    shards::ShardLayout,
};

/// Chunks that unpack to more can't be read.
pub(super) const MOST_CHUNK_BYTES: u64 = 1 << 30;
/// Bytes before each text, and before all of them.
const TEXT_LENGTH_BYTES: usize = 4;

/// The codecs of an array.
#[derive(Debug)]
pub(super) struct Codecs {
    /// Those of each chunk.
    pub(super) chunk: ChunkCodecs,
    /// Where chunks lie in the files that hold several.
    pub(super) shards: Option<ShardLayout>,
}

/// The codecs of a chunk, of one shape.
#[derive(Debug)]
pub(super) struct ChunkCodecs {
    pub(super) shape: Vec<u64>,
    element: Element,
    /// How many values there are.
    values: usize,
    /// Columns stand one after another instead of rows.
    by_columns: bool,
    is_big: bool,
    packings: Vec<Packing>,
}

/// Values of a chunk.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Decoded {
    /// One after another, row by row, with the lowest byte first.
    Bytes(Vec<u8>),
    /// Texts, and where each of them ends.
    Texts { text: Vec<u8>, ends: Vec<usize> },
}

/// The codecs of an array of version 2.
pub(super) fn version_2(array: &Map<String, Value>, element: Element, is_big: bool, chunk: &[u64]) -> Refused<Codecs> {
    let filters = array.get("filters").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let id = |codec: &Value| codec.get("id").and_then(Value::as_str).unwrap_or("a codec without a name").to_owned();
    let mut packings = Vec::new();
    let mut is_text = false;
    for filter in filters {
        match id(filter).as_str() {
            "vlen-utf8" if element == Element::Text && packings.is_empty() => is_text = true,
            name => packings.push(Packing::of(name, filter.as_object())?),
        }
    }
    if element == Element::Text && !is_text {
        return Err("holds Python objects that are no texts".into());
    }
    if let Some(compressor) = array.get("compressor").filter(|compressor| !compressor.is_null()) {
        packings.push(Packing::of(&id(compressor), compressor.as_object())?);
    }
    let by_columns = array.get("order").and_then(Value::as_str) == Some("F") && 1 < chunk.len();
    Ok(Codecs { chunk: ChunkCodecs::new(chunk, element, by_columns, is_big, packings)?, shards: None })
}

/// The codecs of an array of version 3.
pub(super) fn version_3(list: &[Value], element: Element, chunk: &[u64]) -> Refused<Codecs> {
    let codecs = list.iter().map(|codec| named(Some(codec), "name of a codec")).collect::<Refused<Vec<_>>>()?;
    let [Named { name: "sharding_indexed", configuration: Some(sharding) }] = codecs.as_slice() else {
        return Ok(Codecs { chunk: chain(&codecs, element, chunk)?, shards: None });
    };
    let inner = shape_of_chunk(sharding.get("chunk_shape"), chunk)?;
    let list = |name: &str| sharding.get(name).and_then(Value::as_array).ok_or(format!("has shards without {name}"));
    let codecs = list("codecs")?.iter().map(|codec| named(Some(codec), "name of a codec"));
    let codecs = chain(&codecs.collect::<Refused<Vec<_>>>()?, element, &inner)?;
    let shards = ShardLayout::of(sharding, list("index_codecs")?, chunk, &inner)?;
    Ok(Codecs { chunk: codecs, shards: Some(shards) })
}

/// Codecs of which one turns values into bytes: those before it change their order, those after it pack bytes.
fn chain(codecs: &[Named], element: Element, shape: &[u64]) -> Refused<ChunkCodecs> {
    let (mut by_columns, mut is_big, mut are_bytes, mut packings) = (false, false, false, Vec::new());
    for Named { name, configuration } in codecs {
        let setting = |setting: &str| configuration.and_then(|configuration| configuration.get(setting));
        match *name {
            "transpose" if !are_bytes => {
                let order = setting("order");
                by_columns ^= match order.and_then(Value::as_array) {
                    None => order.and_then(Value::as_str) == Some("F") && 1 < shape.len(),
                    Some(axes) => !axes.iter().map(Value::as_u64).eq((0..shape.len() as u64).map(Some)),
                };
            }
            "bytes" if !are_bytes && element != Element::Text => {
                (are_bytes, is_big) = (true, setting("endian").and_then(Value::as_str) == Some("big"));
            }
            "vlen-utf8" if !are_bytes && element == Element::Text => are_bytes = true,
            "sharding_indexed" => return Err("has shards within shards, or packed ones, which can't be read".into()),
            name if are_bytes => packings.push(Packing::of(name, *configuration)?),
            name => return Err(format!("has the codec `{name}`, which is not known here")),
        }
    }
    match are_bytes {
        true => ChunkCodecs::new(shape, element, by_columns, is_big, packings),
        false => Err("has no codec that turns its values into bytes".into()),
    }
}

impl ChunkCodecs {
    fn new(shape: &[u64], element: Element, by_columns: bool, is_big: bool, packings: Vec<Packing>) -> Refused<Self> {
        let values = shape.iter().try_fold(1_u64, |values, length| values.checked_mul(*length));
        let value_bytes = element.stored_bytes().unwrap_or(TEXT_LENGTH_BYTES) as u64;
        let fitting =
            values.filter(|values| values.checked_mul(value_bytes).is_some_and(|all| all <= MOST_CHUNK_BYTES));
        let values = fitting.and_then(|values| usize::try_from(values).ok());
        let values = values.ok_or_else(|| format!("has chunks of the shape {shape:?}, of more than 1 GiB each"))?;
        Ok(Self { shape: shape.to_vec(), element, values, by_columns, is_big, packings })
    }

    /// The values of a chunk.
    ///
    /// # Errors
    /// Bytes that the codecs can't have made, in words.
    pub(super) fn decode(&self, stored: Vec<u8>) -> Refused<Decoded> {
        let most = match self.element.stored_bytes() {
            Some(bytes) => bytes * self.values,
            None => usize::try_from(MOST_CHUNK_BYTES).unwrap_or(usize::MAX),
        };
        let bytes = unpack(&self.packings, stored, most)?;
        let Some(value_bytes) = self.element.stored_bytes() else {
            return texts(bytes, self.values);
        };
        if bytes.len() != value_bytes * self.values {
            let expected = value_bytes * self.values;
            return Err(format!("unpacks to {} bytes, but its shape needs {expected}", bytes.len()));
        }
        let mut bytes = match (self.by_columns, self.shape.as_slice()) {
            (true, [rows, columns]) => transposed(&bytes, *rows, *columns, value_bytes),
            _ => bytes,
        };
        if self.is_big {
            reverse_words(&mut bytes, self.element.word_bytes());
        }
        if self.element == Element::Half {
            bytes = super::bytes::widened(&bytes);
        }
        Ok(Decoded::Bytes(bytes))
    }
}

/// Texts, each with its length before it; before all of them stands how many there are.
fn texts(bytes: Vec<u8>, values: usize) -> Refused<Decoded> {
    let cut = || "holds texts that are cut short".to_owned();
    let (count, mut rest) = bytes.split_first_chunk::<TEXT_LENGTH_BYTES>().ok_or_else(cut)?;
    if u32::from_le_bytes(*count) as usize != values {
        return Err(format!("holds {} texts, but its shape needs {values}", u32::from_le_bytes(*count)));
    }
    if rest.len() / TEXT_LENGTH_BYTES < values {
        return Err(cut());
    }
    let (mut text, mut ends) = (Vec::new(), Vec::with_capacity(values));
    for _ in 0..values {
        let (length, after) = rest.split_first_chunk::<TEXT_LENGTH_BYTES>().ok_or_else(cut)?;
        let (one, after) = after.split_at_checked(u32::from_le_bytes(*length) as usize).ok_or_else(cut)?;
        text.extend_from_slice(one);
        ends.push(text.len());
        rest = after;
    }
    Ok(Decoded::Texts { text, ends })
}
