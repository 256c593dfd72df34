//! Everything that reads what others wrote, as functions of bytes: whatever the bytes, each returns. Those of `fuzz/` call them,
//! and so does the test that replays its corpora.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use schemas::{
    atlas::{FileEntry, Manifest, files},
    config::{Preset, Settings},
    ids::BlockIndex,
};
use stages::{
    encoder::embedding_table,
    formats::{
        format::{Choice, open},
        source::chunks,
    },
    reader::{
        atlas::{Access, Atlas},
        split::Split,
    },
    storage::disk::{checksum_of, checksum_of_text},
};
use xxhash_rust::xxh3::xxh3_64;

/// The names of the targets, each with the ending of its files.
pub const TARGETS: [(&str, &str); 12] = [
    ("h5ad", "h5ad"),
    ("tenx", "h5"),
    ("mtx", "mtx"),
    ("parquet", "parquet"),
    ("arrow", "arrow"),
    ("split", "parquet"),
    ("manifest", "json"),
    ("blocks", "bin"),
    ("packed_blocks", "bin"),
    ("safetensors", "safetensors"),
    ("settings", "toml"),
    ("embeddings", "npy"),
];

/// Where small files of a known atlas are taken from, and where bytes become files.
pub struct Ground {
    /// An atlas that is whole, for targets that are a part of one.
    pub atlas: PathBuf,
    /// Another one, of packed rows.
    pub packed_rows: PathBuf,
    /// A folder for files that go again.
    pub scratch: PathBuf,
    /// The program that reads HDF5 files in its own process; none reads them here.
    pub worker: Option<PathBuf>,
}

/// The result for some bytes: the data read, or the error.
pub type Outcome = Result<(), String>;

/// Gives bytes to a target.
pub fn run(target: &str, bytes: &[u8], ground: &Ground) -> Outcome {
    let (_, ending) = TARGETS.iter().find(|(name, _)| *name == target).expect("a target");
    let path = ground.scratch.join(format!("input.{ending}"));
    let to_text = |error: schemas::Error| error.to_string();
    match target {
        "manifest" => with_atlas(&ground.atlas, ground, |folder| {
            let write =
                |bytes| fs::write(folder.join(files::MANIFEST), bytes).expect("the scratch folder can be written to");
            write(bytes);
            let read = read_atlas(folder);
            // As whoever knows the format would have written it.
            match serde_json::from_slice::<Manifest>(bytes) {
                Ok(manifest) if read.is_err() => {
                    write(&sealed(manifest));
                    read_atlas(folder)
                }
                _ => read,
            }
        }),
        "blocks" => with_atlas(&ground.atlas, ground, |folder| hostile_blocks(folder, bytes)),
        "packed_blocks" => with_atlas(&ground.packed_rows, ground, |folder| hostile_blocks(folder, bytes)),
        "settings" => {
            let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
            Settings::layered(Preset::default(), Some(("input.toml", text)), &[]).map(drop).map_err(to_text)
        }
        _ => {
            fs::write(&path, bytes).expect("the scratch folder can be written to");
            match target {
                "safetensors" => stages::torch::parameters::read_safetensors(&path).map(drop).map_err(to_text),
                "embeddings" => {
                    fs::write(path.with_extension("txt"), "A\nB\n").expect("the scratch folder can be written to");
                    embedding_table::read(&path).map(drop).map_err(to_text)
                }
                "split" => Split::read_file(&whole(ground), "input", &path).map(drop).map_err(to_text),
                _ => read_source(&path, ground),
            }
        }
    }
}

/// Reads every cell of a file.
fn read_source(path: &Path, ground: &Ground) -> Outcome {
    let choice = Choice { worker: ground.worker.clone(), ..Choice::default() };
    let source = open(path, &choice).map_err(|error| error.to_string())?;
    // A file may say that it has any number of empty cells.
    const MOST_CHUNKS: usize = 64;
    for chunk in chunks(source).take(MOST_CHUNKS) {
        chunk.map_err(|error| error.to_string())?;
    }
    Ok(())
}

fn whole(ground: &Ground) -> Atlas {
    static WHOLE: OnceLock<Atlas> = OnceLock::new();
    WHOLE.get_or_init(|| Atlas::open(&ground.atlas).expect("the atlas is whole")).clone()
}

fn is_interrupted(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::Interrupted
}

/// A copy of the atlas, to be damaged.
fn with_atlas(atlas: &Path, ground: &Ground, spoil: impl FnOnce(&Path) -> Outcome) -> Outcome {
    let folder = ground.scratch.join("input.atlas");
    fs::create_dir_all(&folder).expect("the scratch folder can be written to");
    for entry in fs::read_dir(atlas).expect("the atlas is there").flatten() {
        if entry.path().is_file() {
            // A fuzzer's alarm interrupts it.
            let mut copies = std::iter::repeat_with(|| fs::copy(entry.path(), folder.join(entry.file_name())));
            let copied = copies.find(|copied| !copied.as_ref().is_err_and(is_interrupted));
            copied.expect("it ends").expect("the scratch folder can be written to");
        }
    }
    spoil(&folder)
}

fn read_atlas(folder: &Path) -> Outcome {
    let text = |error: schemas::Error| error.to_string();
    for access in [Access::Map, Access::Read] {
        let atlas = Atlas::open_with(folder, access).map_err(text)?;
        for block in 0..u32::try_from(atlas.manifest().blocks()).map_err(|error| error.to_string())? {
            let held = atlas.block(BlockIndex(block)).map_err(text)?;
            let mapped = atlas.mapped_block(BlockIndex(block)).map_err(text)?;
            for view in [Some(held.view()), mapped].into_iter().flatten() {
                view.check_rows(atlas.manifest().genes)?;
            }
        }
        for batch in atlas.obs(&["cell"]).map_err(text)? {
            batch.map_err(|error| error.to_string())?;
        }
    }
    Ok(())
}

/// An atlas whose writer knows the format and means ill: its checksums are right. The bytes are `blocks.bin` and `matrix.bin`,
/// one behind the other; of blocks whose place allows it the checksum is put right as well.
fn hostile_blocks(folder: &Path, bytes: &[u8]) -> Outcome {
    use schemas::atlas::BLOCK_ENTRY_BYTES;
    let path = folder.join(files::MANIFEST);
    let text = fs::read_to_string(&path).expect("the manifest is there");
    let mut manifest: Manifest = serde_json::from_str(&text).expect("the manifest is whole");
    let blocks = usize::try_from(manifest.blocks()).expect("a small atlas") * BLOCK_ENTRY_BYTES;
    let (entries, matrix) = bytes.split_at(bytes.len().min(blocks));
    let mut entries = entries.to_vec();
    for entry in entries.as_chunks_mut::<BLOCK_ENTRY_BYTES>().0 {
        let number = |at: usize| usize::try_from(u64::from_le_bytes(entry[at..at + 8].try_into().expect("8 bytes")));
        if let (Ok(start), Ok(length)) = (number(0), number(8))
            && let Some(block) = start.checked_add(length).and_then(|end| matrix.get(start..end))
        {
            entry[16..24].copy_from_slice(&xxh3_64(block).to_le_bytes());
        }
    }
    for (name, bytes) in [(files::BLOCKS, &entries[..]), (files::MATRIX, matrix)] {
        fs::write(folder.join(name), bytes).expect("the scratch folder can be written to");
        let mut entry: FileEntry = checksum_of(&folder.join(name)).expect("it was just written");
        if name == files::MATRIX {
            entry.checksum = None;
        }
        manifest.files.insert(name.into(), entry);
    }
    fs::write(&path, sealed(manifest)).expect("the scratch folder can be written to");
    read_atlas(folder)
}

/// A manifest with the checksum of what it says.
pub fn sealed(mut manifest: Manifest) -> Vec<u8> {
    manifest.checksum = checksum_of_text(&manifest.checked_text().expect("a manifest is JSON"));
    serde_json::to_vec_pretty(&manifest).expect("a manifest is JSON")
}

/// The files of a corpus, by name.
pub fn corpus(target: &str) -> BTreeMap<String, Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let entries = fs::read_dir(&folder).unwrap_or_else(|_| panic!("{} is not there", folder.display()));
    let paths = entries.map(|entry| entry.expect("a folder").path());
    paths.map(|path| (path.display().to_string(), fs::read(&path).expect("a file"))).collect()
}
