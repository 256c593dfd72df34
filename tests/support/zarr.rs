//! Small zarr stores of AnnData, written as the specification says, chunk by chunk.

use std::{fs, path::Path};

use arrow::array::{AsArray, StringArray};
use schemas::chunk::Chunk;
use serde_json::{Value, json};

/// How a store is laid out.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    pub version: u8,
    pub matrix: Matrix,
    /// Values of a chunk, in each dimension; less for the columns of a dense matrix.
    pub chunk: usize,
    pub packing: Packing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Matrix {
    Csr,
    Csc,
    Dense,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    None,
    Zstd,
    /// Chunks packed with zstd, three to a file.
    Shards,
    /// As `Shards`, but for two of these to a file.
    NestedShards,
}

/// Values of a type: its names in both versions, and the bytes of each value.
struct Values {
    version_2: &'static str,
    version_3: &'static str,
    bytes: Vec<Vec<u8>>,
}

/// Writes the cells of a chunk as a store.
pub fn write(store: &Path, cells: &Chunk, genes: &[String], layout: Layout) {
    layout.group(store, &json!({ "encoding-type": "anndata", "encoding-version": "0.1.0" }));
    let schema = cells.obs.schema();
    let columns: Vec<&String> = schema.fields().iter().skip(1).map(|field| field.name()).collect();
    layout.frame(&store.join("obs"), &columns);
    for (at, column) in cells.obs.columns().iter().enumerate() {
        let name = if at == 0 { "_index" } else { columns[at - 1] };
        layout.texts(&store.join("obs").join(name), column.as_string());
    }
    layout.frame(&store.join("var"), &[]);
    layout.texts(&store.join("var/_index"), &StringArray::from_iter_values(genes));
    layout.matrix(&store.join("X"), cells, genes.len());
}

fn floats(values: impl IntoIterator<Item = f32>) -> Values {
    let bytes = values.into_iter().map(|value| value.to_le_bytes().to_vec()).collect();
    Values { version_2: "<f4", version_3: "float32", bytes }
}

fn narrow(values: impl IntoIterator<Item = u32>) -> Values {
    let bytes = values.into_iter().map(|value| value.to_le_bytes().to_vec()).collect();
    Values { version_2: "<i4", version_3: "int32", bytes }
}

fn wide(values: impl IntoIterator<Item = u32>) -> Values {
    let bytes = values.into_iter().map(|value| u64::from(value).to_le_bytes().to_vec()).collect();
    Values { version_2: "<i8", version_3: "int64", bytes }
}

impl Layout {
    fn group(self, folder: &Path, attributes: &Value) {
        fs::create_dir_all(folder).unwrap();
        if self.version == 2 {
            save(&folder.join(".zgroup"), &json!({ "zarr_format": 2 }));
            save(&folder.join(".zattrs"), attributes);
        } else {
            let whole = json!({ "zarr_format": 3, "node_type": "group", "attributes": attributes });
            save(&folder.join("zarr.json"), &whole);
        }
    }

    fn frame(self, folder: &Path, columns: &[&String]) {
        self.group(folder, &json!({ "encoding-type": "dataframe", "_index": "_index", "column-order": columns }));
    }

    fn matrix(self, folder: &Path, cells: &Chunk, genes: usize) {
        let rows = &cells.expression;
        let count = rows.rows();
        let mut entries: Vec<(u32, u32, f32)> = Vec::new();
        for row in 0..count {
            let (row_genes, values) = rows.row(row);
            entries.extend(row_genes.iter().zip(values).map(|(gene, value)| (count_of(row), *gene, *value)));
        }
        if self.matrix == Matrix::Dense {
            let mut dense = vec![0.0; count * genes];
            entries.iter().for_each(|(row, gene, value)| dense[*row as usize * genes + *gene as usize] = *value);
            return self.array(folder, &[count, genes], &[self.chunk, self.chunk / 2], &floats(dense));
        }
        let by_rows = self.matrix == Matrix::Csr;
        let encoding = if by_rows { "csr_matrix" } else { "csc_matrix" };
        self.group(folder, &json!({ "encoding-type": encoding, "encoding-version": "0.1.0", "shape": [count, genes] }));
        let major = |entry: &(u32, u32, f32)| if by_rows { entry.0 } else { entry.1 };
        entries.sort_by_key(major);
        let lines = count_of(if by_rows { count } else { genes });
        let pointers = (0..=lines).map(|line| count_of(entries.partition_point(|entry| major(entry) < line)));
        let minor = entries.iter().map(|entry| if by_rows { entry.1 } else { entry.0 });
        self.vector(&folder.join("indptr"), &wide(pointers));
        self.vector(&folder.join("indices"), &narrow(minor));
        self.vector(&folder.join("data"), &floats(entries.iter().map(|entry| entry.2)));
    }

    fn vector(self, folder: &Path, values: &Values) {
        self.array(folder, &[values.bytes.len()], &[self.chunk], values);
    }

    fn texts(self, folder: &Path, values: &StringArray) {
        let with_length = |text: &str| [count_of(text.len()).to_le_bytes().to_vec(), text.as_bytes().to_vec()].concat();
        let bytes = values.iter().map(|text| with_length(text.unwrap())).collect();
        self.vector(folder, &Values { version_2: "|O", version_3: "string", bytes });
    }

    fn array(self, folder: &Path, shape: &[usize], chunk: &[usize], values: &Values) {
        fs::create_dir_all(folder).unwrap();
        let is_text = values.version_3 == "string";
        let fill = if is_text { json!("") } else { json!(0) };
        // How many chunks a file has in each dimension, how many a part of the file has, and so on.
        let counts: &[usize] = match self.packing {
            Packing::None | Packing::Zstd => &[1],
            Packing::Shards => &[3, 1],
            Packing::NestedShards => &[6, 3, 1],
        };
        let parts: Vec<Vec<usize>> =
            counts.iter().map(|count| chunk.iter().map(|chunk| chunk * count).collect()).collect();
        if self.version == 2 {
            assert_eq!(parts.len(), 1, "shards are of version 3");
            let compressor =
                if self.packing == Packing::Zstd { json!({ "id": "zstd", "level": 1 }) } else { Value::Null };
            let filters = if is_text { json!([{ "id": "vlen-utf8" }]) } else { Value::Null };
            let metadata = json!({ "zarr_format": 2, "shape": shape, "chunks": chunk, "dtype": values.version_2,
                "fill_value": fill, "order": "C", "filters": filters, "compressor": compressor });
            save(&folder.join(".zarray"), &metadata);
        } else {
            let first = if is_text { json!({ "name": "vlen-utf8" }) } else { little() };
            let packed = if self.packing == Packing::None { json!([first]) } else { json!([first, zstd()]) };
            let codecs = parts[1..].iter().rev().fold(packed, |codecs, part| {
                json!([{ "name": "sharding_indexed", "configuration": { "chunk_shape": part, "codecs": codecs,
                    "index_codecs": [little()], "index_location": "start" } }])
            });
            let metadata = json!({ "zarr_format": 3, "node_type": "array", "shape": shape, "data_type": values.version_3,
                "chunk_grid": { "name": "regular", "configuration": { "chunk_shape": parts[0] } },
                "chunk_key_encoding": { "name": "default" }, "fill_value": fill, "codecs": codecs, "attributes": {} });
            save(&folder.join("zarr.json"), &metadata);
        }
        for at in grid(shape, &parts[0]) {
            let numbers: Vec<String> = at.iter().map(usize::to_string).collect();
            let path = match self.version {
                2 => folder.join(numbers.join(".")),
                _ => folder.join("c").join(numbers.join("/")),
            };
            let first: Vec<usize> = at.iter().zip(&parts[0]).map(|(at, length)| at * length).collect();
            if let Some(bytes) = self.part(values, shape, &first, &parts) {
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, bytes).unwrap();
            }
        }
    }

    /// The bytes of a part of a file, from a row and column on: of a chunk, or of a shard of smaller parts.
    fn part(self, values: &Values, shape: &[usize], first: &[usize], parts: &[Vec<usize>]) -> Option<Vec<u8>> {
        let [whole, smaller @ ..] = parts else { return None };
        let Some(part) = smaller.first() else {
            let chunk = cut(values, shape, first, whole);
            return if self.packing == Packing::None {
                chunk
            } else {
                Some(::zstd::encode_all(&chunk?[..], 1).unwrap())
            };
        };
        let chunks = grid(whole, part).into_iter().map(|within| {
            let first: Vec<usize> = (0..shape.len()).map(|axis| first[axis] + within[axis] * part[axis]).collect();
            self.part(values, shape, &first, smaller)
        });
        shard(&chunks.collect::<Vec<_>>())
    }
}

fn count_of(things: usize) -> u32 {
    u32::try_from(things).unwrap()
}

fn little() -> Value {
    json!({ "name": "bytes", "configuration": { "endian": "little" } })
}

fn zstd() -> Value {
    json!({ "name": "zstd", "configuration": { "level": 1, "checksum": false } })
}

fn save(path: &Path, value: &Value) {
    fs::write(path, value.to_string()).unwrap();
}

/// Where the parts of an array lie, in an order like that of its values.
fn grid(whole: &[usize], part: &[usize]) -> Vec<Vec<usize>> {
    let counts = whole.iter().zip(part).map(|(whole, part)| whole.div_ceil(*part));
    counts.fold(vec![Vec::new()], |grid, count| {
        grid.into_iter().flat_map(|at| (0..count).map(move |next| [at.clone(), vec![next]].concat())).collect()
    })
}

/// The bytes of a chunk; none of one without anything but the fill value, as zarr-python leaves it out.
fn cut(values: &Values, shape: &[usize], first: &[usize], chunk: &[usize]) -> Option<Vec<u8>> {
    let is_text = values.version_3 == "string";
    let one = if is_text { 4 } else { values.bytes.first().map_or(0, Vec::len) };
    let all = grid(chunk, &vec![1; chunk.len()]);
    let value = |at: &Vec<usize>| {
        let at: Vec<usize> = at.iter().zip(first).map(|(at, first)| at + first).collect();
        let is_inside = at.iter().zip(shape).all(|(at, length)| at < length);
        let flat = at.iter().zip(shape).fold(0, |flat, (at, length)| flat * length + at);
        if is_inside { values.bytes[flat].clone() } else { vec![0; one] }
    };
    let bytes: Vec<u8> = all.iter().flat_map(value).collect();
    let head = if is_text { count_of(all.len()).to_le_bytes().to_vec() } else { Vec::new() };
    bytes.iter().any(|byte| *byte != 0).then(|| [head, bytes].concat())
}

/// Chunks in one file, with an index at its start.
fn shard(chunks: &[Option<Vec<u8>>]) -> Option<Vec<u8>> {
    let (mut index, mut content) = (Vec::new(), Vec::new());
    for chunk in chunks {
        let entry = match chunk {
            Some(chunk) => [(chunks.len() * 16 + content.len()) as u64, chunk.len() as u64],
            None => [u64::MAX; 2],
        };
        index.extend(entry.iter().flat_map(|number| number.to_le_bytes()));
        content.extend_from_slice(chunk.as_deref().unwrap_or_default());
    }
    (!content.is_empty()).then(|| [index, content].concat())
}
