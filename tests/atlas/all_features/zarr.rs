//! AnnData in zarr stores, as anndata writes them, as the specification allows them, and damaged.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use arrow::{
    array::{AsArray, RecordBatch},
    datatypes::{Float32Type, Int64Type},
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use schemas::chunk::Chunk;
use serde_json::{Value, json};
use stages::formats::{
    format::{self, Choice},
    source::{Source, chunks},
};

use crate::support::{
    Home, TINY,
    h5ad::{h5ad, set_column},
    says, simulator,
    zarr::{Layout, Matrix, Packing, write},
};

const PLAIN: Layout = Layout { version: 3, matrix: Matrix::Csr, chunk: 64, packing: Packing::None };

/// A store that anndata 0.12 wrote, of 40 cells.
fn of_anndata(version: u8) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/data/anndata_v{version}.zarr"))
}

fn open(path: &Path, layer: Option<&str>) -> Arc<dyn Source> {
    let choice = Choice { layer: layer.map(str::to_owned), ..Choice::default() };
    format::open(path, &choice).unwrap_or_else(|error| panic!("{error}"))
}

fn all_of(source: Arc<dyn Source>) -> Vec<Chunk> {
    chunks(source).collect::<Result<_, _>>().unwrap_or_else(|error| panic!("{error}"))
}

/// The files of an atlas, but for the one that names what it was made of.
fn atlas(home: &Home, name: &str) -> BTreeMap<String, Vec<u8>> {
    let files = fs::read_dir(home.path(name)).unwrap().map(Result::unwrap).filter(|file| file.path().is_file());
    let files = files.map(|file| (file.file_name().into_string().unwrap(), fs::read(file.path()).unwrap()));
    files.filter(|(name, _)| name != "manifest.json").collect()
}

#[test]
fn the_atlas_of_a_store_is_that_of_the_h5ad_with_the_same_cells() {
    let home = Home::new();
    h5ad(&home, "s.h5ad", |_| {});
    home.json("ingest s.h5ad --out s.atlas");
    let expected = atlas(&home, "s.atlas");
    assert!(expected.contains_key("matrix.bin") && expected.contains_key("cells.parquet"));
    let simulator = simulator(100, true);
    let cells = simulator.chunk(0..100).unwrap();
    let mut number = 0;
    for matrix in [Matrix::Csr, Matrix::Csc, Matrix::Dense] {
        for (version, packing) in [
            (2, Packing::None),
            (2, Packing::Zstd),
            (3, Packing::Zstd),
            (3, Packing::Shards),
            (3, Packing::NestedShards),
        ] {
            number += 1;
            let chunk = if packing == Packing::None { 4096 } else { 16 };
            let layout = Layout { version, matrix, chunk, packing };
            write(&home.path(&format!("{number}.store")), &cells, simulator.genes(), layout);
            home.json(&format!("ingest {number}.store --out {number}.atlas"));
            assert!(atlas(&home, &format!("{number}.atlas")) == expected, "{layout:?}");
        }
    }
}

#[test]
fn stores_that_anndata_wrote_are_read_as_they_are() {
    for version in [2, 3] {
        let source = open(&of_anndata(version), None);
        assert_eq!((source.kind(), source.cells(), source.nonzeros()), ("zarr", 40, Some(240)));
        let text = |batch: &RecordBatch, column: &str, row: usize| {
            batch.column_by_name(column).unwrap().as_string::<i32>().value(row).to_owned()
        };
        assert_eq!([text(source.var(), "gene", 3), text(source.var(), "gene_id", 19)], ["G3", "ENSG00019"]);
        let columns: Vec<usize> = (0..source.obs_schema().fields().len()).collect();
        let obs = source.obs(5..40, &columns).unwrap();
        let found = ["cell", "condition", "cell_type", "note"].map(|column| text(&obs, column, 34));
        assert_eq!(found, ["cell39", "B", "T", "note 39 ü"]);
        assert_eq!(obs.column_by_name("count").unwrap().as_primitive::<Int64Type>().value(34), 39);
        let share = obs.column_by_name("share").unwrap().as_primitive::<Float32Type>().value(34);
        assert_eq!(share, 4.875);
        assert!(obs.column_by_name("flag").unwrap().as_boolean().value(34));
        let maybe = obs.column_by_name("maybe").unwrap();
        assert!(maybe.is_null(2) && maybe.as_primitive::<Int64Type>().value(34) == 39, "cell 7 has none");
        let read = all_of(source);
        let sum: f32 = read.iter().flat_map(|chunk| chunk.expression.values()).sum();
        assert_eq!(sum, 1114.0);
        let (genes, values) = read.last().unwrap().expression.row(39);
        assert_eq!((genes, values), (&[2, 3, 8, 10, 11, 13][..], &[4.0, 2.0, 8.0, 4.0, 1.0, 7.0][..]));
        for layer in ["dense", "genes"].into_iter().filter(|layer| version == 3 || *layer == "dense") {
            let layer = all_of(open(&of_anndata(version), Some(layer)));
            assert_eq!(layer[0].expression, read[0].expression);
        }
    }
}

#[test]
fn what_is_not_there_is_named() {
    let home = Home::new();
    home.copy(&of_anndata(3), "a.zarr");
    says(&home.refused(65, "ingest a.zarr --out n.atlas --layer counts"), &["unknown layer `counts`", "dense, genes"]);
    fs::rename(home.path("a.zarr/X"), home.path("a.zarr/Y")).unwrap();
    says(&home.refused(65, "ingest a.zarr --out n.atlas"), &["a.zarr: X: there is no such matrix", "--layer dense"]);
    fs::rename(home.path("a.zarr/Y"), home.path("a.zarr/X")).unwrap();
    fs::remove_dir_all(home.path("a.zarr/X/indices")).unwrap();
    says(&home.refused(65, "ingest a.zarr --out n.atlas"), &["a.zarr: X/indices: is missing", "copy the store again"]);
    fs::remove_file(home.path("a.zarr/X/zarr.json")).unwrap();
    says(&home.refused(65, "ingest a.zarr --out n.atlas"), &["a.zarr: X: is neither an array nor a group"]);
    fs::create_dir(home.path("empty.zarr")).unwrap();
    fs::write(home.path("empty.zarr/.zgroup"), r#"{"zarr_format": 2}"#).unwrap();
    says(&home.refused(65, "ingest empty.zarr --out n.atlas"), &["is not an AnnData store"]);
    home.copy(&of_anndata(2), "several.zarr/mod/rna");
    fs::copy(home.path("empty.zarr/.zgroup"), home.path("several.zarr/.zgroup")).unwrap();
    fs::copy(home.path("empty.zarr/.zgroup"), home.path("several.zarr/mod/.zgroup")).unwrap();
    says(&home.refused(65, "ingest several.zarr --out n.atlas"), &["MuData", "rna", "below `mod`"]);
}

#[test]
fn a_lost_chunk_of_entries_or_names_is_an_error_and_one_of_other_columns_a_warning() {
    let home = Home::new();
    for lost in ["X/data/3", "X/indices/0", "X/indptr/0", "obs/_index/2"] {
        let store = home.copy(&of_anndata(2), "a.zarr");
        fs::remove_file(store.join(lost)).unwrap();
        let (array, chunk) = lost.rsplit_once('/').unwrap();
        let message = home.refused(65, "ingest a.zarr --out n.atlas");
        says(&message, &[&format!("{array}: the chunk `{chunk}` is missing"), "copy the store again"]);
        fs::remove_dir_all(store).unwrap();
    }
    home.copy(&of_anndata(2), "a.zarr");
    let whole = home.run("ingest a.zarr --out whole.atlas");
    // All cells are of one type, whose code is the fill value: no chunk of that column was ever written.
    assert!(whole.code == 0 && !whole.stderr.contains("fill value"), "{}", whole.stderr);
    fs::remove_file(home.path("a.zarr/obs/condition/codes/1")).unwrap();
    let output = home.run("ingest a.zarr --out a.atlas");
    assert!(output.code == 0, "{}", output.stderr);
    assert!(output.stderr.contains("obs/condition/codes: the chunk `1` is missing"), "{}", output.stderr);
}

#[test]
fn a_damaged_chunk_is_named_with_its_array() {
    let home = Home::new();
    home.copy(&of_anndata(2), "v2.zarr");
    fs::write(home.path("v2.zarr/X/data/1"), b"none").unwrap();
    let message = home.refused(65, "ingest v2.zarr --out n.atlas");
    says(&message, &["X/data: the chunk `1` can't be read (it is not blosc data)", "restore"]);
    home.copy(&of_anndata(3), "v3.zarr");
    let shard = home.path("v3.zarr/X/indices/c/0");
    let mut bytes = fs::read(&shard).unwrap();
    let end = bytes.len() - 8;
    bytes[end] ^= 1;
    fs::write(&shard, &bytes).unwrap();
    let message = home.refused(65, "ingest v3.zarr --out n.atlas");
    says(&message, &["X/indices: the chunk `c/0` can't be read (the checksum is invalid)"]);
    fs::write(&shard, &bytes[..10]).unwrap();
    says(
        &home.refused(65, "ingest v3.zarr --out n.atlas"),
        &["X/indices: the chunk `c/0` can't be read (it is beyond the 10 bytes"],
    );
}

#[test]
fn a_chunk_that_claims_more_than_it_may_have_is_refused_before_memory_is_taken() {
    let home = Home::new();
    let simulator = simulator(100, true);
    let cells = simulator.chunk(0..100).unwrap();
    // A zstd frame with a declared size of 2^62 bytes.
    let frame = [0x28, 0xb5, 0x2f, 0xfd, 0xe0, 0, 0, 0, 0, 0, 0, 0, 0x40, 1, 0, 0];
    write(&home.path("zstd.zarr"), &cells, simulator.genes(), Layout { packing: Packing::Zstd, ..PLAIN });
    fs::write(home.path("zstd.zarr/X/data/c/0"), frame).unwrap();
    says(
        &home.refused(65, "ingest zstd.zarr --out n.atlas"),
        &["X/data: the chunk `c/0` can't be read (it is not zstd"],
    );
    for packing in [Packing::Shards, Packing::NestedShards] {
        write(&home.path("shards.zarr"), &cells, simulator.genes(), Layout { packing, ..PLAIN });
        let shard = home.path("shards.zarr/X/data/c/0");
        let whole = fs::read(&shard).unwrap();
        for entry in [[48, 1 << 60], [1 << 60, 4], [u64::MAX - 1, 2], [u64::MAX - 1, u64::MAX]] {
            let index = entry.map(u64::to_le_bytes).concat();
            fs::write(&shard, [&index, &whole[16..]].concat()).unwrap();
            says(&home.refused(65, "ingest shards.zarr --out n.atlas"), &["X/data: the chunk `c/0` can't be read"]);
        }
        fs::remove_dir_all(home.path("shards.zarr")).unwrap();
    }
}

/// Changes what a store says of an array.
fn edit(path: &Path, change: impl FnOnce(&mut Value)) {
    let mut metadata: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    change(&mut metadata);
    fs::write(path, metadata.to_string()).unwrap();
}

#[test]
fn metadata_that_claims_too_much_or_is_not_known_is_refused_at_once() {
    let home = Home::new();
    let changes: [(&str, &str, Value, &str); 8] = [
        ("X/data", "/chunk_grid/configuration/chunk_shape", json!([1_u64 << 50]), "X/data: has chunks of the shape"),
        ("X/data", "/chunk_grid/configuration/chunk_shape", json!([0]), "X/data: has metadata that can't be used"),
        ("X/data", "/shape", json!([1_u64 << 60]), "X/indices: has"),
        ("X/data", "/data_type", json!("json"), "X/data: has metadata that can't be used"),
        ("X/data", "/codecs", json!([{ "name": "pcodec" }]), "X/data: has the codec `pcodec`"),
        ("obs/_index", "/shape", json!([u64::MAX]), "obs/condition: has 100 rows, but the index has"),
        (
            "X",
            "/attributes/encoding-type",
            json!("coo_matrix"),
            "X: is coo_matrix, which is not a supported kind of matrix",
        ),
        ("X", "/attributes/shape", json!([1_u64 << 62, 60]), "X/indptr: has 101 row pointers"),
    ];
    let simulator = simulator(100, true);
    let cells = simulator.chunk(0..100).unwrap();
    for (array, what, value, expected) in changes {
        write(&home.path("s.zarr"), &cells, simulator.genes(), PLAIN);
        edit(&home.path("s.zarr").join(array).join("zarr.json"), |metadata| {
            *metadata.pointer_mut(what).unwrap() = value;
        });
        says(&home.refused(65, "ingest s.zarr --out n.atlas"), &[expected]);
        fs::remove_dir_all(home.path("s.zarr")).unwrap();
    }
}

#[test]
fn a_column_whose_name_leads_out_of_the_store_is_not_followed() {
    let home = Home::new();
    home.copy(&of_anndata(3), "other.zarr");
    home.copy(&of_anndata(3), "a.zarr");
    edit(&home.path("a.zarr/obs/zarr.json"), |metadata| {
        metadata["attributes"]["column-order"] = json!(["../../other.zarr/obs/note"]);
    });
    says(&home.refused(65, "ingest a.zarr --out n.atlas"), &["is listed among the columns, but does not exist"]);
}

#[test]
fn a_store_with_any_byte_changed_is_read_or_refused_and_no_more() {
    let home = Home::new();
    let mut random = ChaCha8Rng::seed_from_u64(11);
    for version in [2, 3] {
        let store = home.copy(&of_anndata(version), &format!("v{version}.zarr"));
        let files: Vec<PathBuf> =
            home.listing().into_iter().filter(|(_, bytes)| *bytes > 0).map(|found| found.0).collect();
        let files: Vec<PathBuf> = files.into_iter().map(|file| home.path("").join(file)).collect();
        for _ in 0..150 {
            let file = &files[random.random_range(0..files.len())];
            let whole = fs::read(file).unwrap();
            let mut damaged = whole.clone();
            for _ in 0..random.random_range(1..4) {
                let at = random.random_range(0..damaged.len());
                damaged[at] = random.random_range(0..=255);
            }
            fs::write(file, damaged).unwrap();
            for layer in [None, Some("dense".to_owned())] {
                let choice = Choice { layer, ..Choice::default() };
                if let Ok(source) = format::open(&store, &choice)
                    && source.cells() == 40
                {
                    chunks(source).for_each(drop);
                }
            }
            fs::write(file, whole).unwrap();
        }
        fs::remove_dir_all(store).unwrap();
    }
}

#[test]
fn a_column_that_is_called_as_the_names_of_cells_gets_a_name_that_no_other_has() {
    let home = Home::new();
    let simulator = simulator(100, true);
    let mut cells = simulator.chunk(0..100).unwrap();
    set_column(&mut cells, "batch", "obs_cell", |_, _| "theirs".into());
    set_column(&mut cells, "cell_type", "cell", |_, _| "of type B".into());
    write(&home.path("s.store"), &cells, simulator.genes(), PLAIN);
    let atlas = home.json("ingest s.store --out s.atlas --covariates obs_cell,obs_obs_cell");
    assert_eq!(atlas["covariates"], json!({ "obs_cell": { "theirs": 100 }, "obs_obs_cell": { "of type B": 100 } }));
}

#[test]
fn a_flag_that_names_a_column_means_that_of_the_file() {
    let home = Home::new();
    let simulator = simulator(100, true);
    let mut cells = simulator.chunk(0..100).unwrap();
    set_column(&mut cells, "batch", "cell", |row, _| ["train", "ood"][row % 2].into());
    write(&home.path("s.store"), &cells, simulator.genes(), PLAIN);
    let ran = home.run("ingest s.store --out s.atlas --covariates cell --split cell");
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let renamed = "s.store: obs column `cell` is called `obs_cell` in an atlas, where `cell` is the index of obs";
    assert!(ran.stderr.contains(renamed), "{}", ran.stderr);
    let atlas = home.json("inspect s.atlas");
    assert_eq!(atlas["covariates"], json!({ "obs_cell": { "train": 50, "ood": 50 } }));
    assert_eq!(atlas["splits"]["cell"]["ood"], 50);
    assert_eq!(home.json("split s.atlas --name again --from-obs cell")["cells"]["ood"], 50);
    assert_eq!(home.json("ingest s.store --out few.atlas --filter cell=ood")["cells"], 50);
    for (name, scheme) in
        [("own", "--hold-out cell=ood"), ("renamed", "--hold-out obs_cell=ood"), ("drawn", "--scheme leave-out:cell")]
    {
        let split = home.json(&format!("split s.atlas --name {name} {scheme}"));
        assert!(split["cells"]["ood"].as_u64().is_some_and(|cells| name == "drawn" || cells == 50), "{name}: {split}");
    }
    says(&home.refused(2, "split s.atlas --name both --hold-out cell=ood,obs_cell=ood"), &["`obs_cell` appears twice"]);
    home.json(&format!("train s.atlas --out m --epochs 1 {TINY}"));
    let rows = |name: &str| {
        home.json(&format!("predict m s.atlas --out {name} --to condition=G00034,{name}=ood --match {name}"))["rows"]
            .clone()
    };
    assert_eq!(rows("cell"), rows("obs_cell"));
}

#[test]
fn a_column_of_genes_that_does_not_exist_is_refused_for_one_file_too() {
    let home = Home::new();
    let simulator = simulator(20, true);
    write(&home.path("s.store"), &simulator.chunk(0..20).unwrap(), simulator.genes(), PLAIN);
    let message = home.refused(65, "ingest s.store --out s.atlas --gene-id nope");
    says(&message, &["s.store: unknown var column `nope`; the nearest known: gene", "--gene-id"]);
}

#[test]
fn numbers_of_64_bits_without_a_sign_stay_apart() {
    let home = Home::new();
    let simulator = simulator(100, true);
    write(&home.path("s.store"), &simulator.chunk(0..100).unwrap(), simulator.genes(), PLAIN);
    let column = home.path("s.store/obs/plate");
    fs::create_dir_all(column.join("c")).unwrap();
    let metadata = json!({ "zarr_format": 3, "node_type": "array", "shape": [100], "data_type": "uint64",
        "chunk_grid": { "name": "regular", "configuration": { "chunk_shape": [100] } },
        "chunk_key_encoding": { "name": "default" }, "fill_value": 0,
        "codecs": [{ "name": "bytes", "configuration": { "endian": "little" } }] });
    fs::write(column.join("zarr.json"), metadata.to_string()).unwrap();
    let plates: Vec<u8> = (0..100).flat_map(|cell| (u64::MAX - cell % 2).to_le_bytes()).collect();
    fs::write(column.join("c/0"), plates).unwrap();
    edit(&home.path("s.store/obs/zarr.json"), |frame| {
        frame["attributes"]["column-order"].as_array_mut().unwrap().push("plate".into());
    });
    let atlas = home.json("ingest s.store --out s.atlas --covariates plate");
    assert_eq!(atlas["covariates"]["plate"], json!({ "18446744073709551615": 50, "18446744073709551614": 50 }));
}

#[test]
fn entries_that_add_up_to_what_float32_can_not_hold_are_refused() {
    let home = Home::new();
    let simulator = simulator(100, true);
    let layout = Layout { version: 2, chunk: 1 << 14, ..PLAIN };
    for matrix in [Matrix::Csr, Matrix::Csc] {
        write(&home.path("s.store"), &simulator.chunk(0..100).unwrap(), simulator.genes(), Layout { matrix, ..layout });
        let change = |array: &str, change: &dyn Fn(&mut [u8])| {
            let path = home.path("s.store/X").join(array).join("0");
            let mut bytes = fs::read(&path).unwrap();
            change(&mut bytes);
            fs::write(path, bytes).unwrap();
        };
        // The first two entries, which are of one row or column.
        change("indices", &|bytes| bytes.copy_within(0..4, 4));
        change("data", &|bytes| {
            bytes[..4].copy_from_slice(&16_777_216_f32.to_le_bytes());
            bytes[4..8].copy_from_slice(&1_f32.to_le_bytes());
        });
        let message = home.refused(65, "ingest s.store --out n.atlas");
        says(&message, &["s.store: X: the entries of cell ", "add up to 16777217, which float32 can't hold"]);
        fs::remove_dir_all(home.path("s.store")).unwrap();
    }
}
