//! Reads the manifest and checks the files that it lists.

use std::{fs::File, path::Path};

use arrow::array::AsArray;
use schemas::{
    Error, Result,
    atlas::{BLOCK_ENTRY_BYTES, FORMAT_VERSION, Manifest, OLDEST_FORMAT_VERSION, files},
};
use storage::{
    disk::{checksum_of, hex},
    parquet_read::{self, Batches},
};
use xxhash_rust::xxh3::xxh3_64;

/// Reads the manifest of an atlas, and checks the files that it lists as far as every reader relies on them.
///
/// # Errors
/// A folder that is not an atlas, or that differs from what was written.
pub fn read_manifest(folder: &Path) -> Result<Manifest> {
    if !folder.exists() {
        return Err(Error::Missing { path: folder.into(), kind: "atlas" });
    }
    let path = folder.join(files::MANIFEST);
    let text = std::fs::read_to_string(&path)
        .map_err(|_| Error::damaged(folder, "it is not an atlas: manifest.json is missing or unreadable"))?;
    let format = serde_json::from_str::<serde_json::Value>(&text).ok().and_then(|value| value.get("format")?.as_u64());
    let known = u64::from(OLDEST_FORMAT_VERSION)..=u64::from(FORMAT_VERSION);
    if let Some(format) = format.filter(|format| !known.contains(format)) {
        let message =
            format!("the atlas has format {format}; this version reads {OLDEST_FORMAT_VERSION} to {FORMAT_VERSION}");
        return Err(Error::data(path.display().to_string(), message, "ingest the source again with this version"));
    }
    let manifest: Manifest = serde_json::from_str(&text).map_err(|error| Error::damaged(&path, error.to_string()))?;
    let checked = manifest.checked_text().map_err(|error| Error::damaged(&path, error.to_string()))?;
    if hex(xxh3_64(checked.as_bytes())) != manifest.checksum {
        return Err(Error::damaged(&path, "its checksum does not match its content"));
    }
    if let Some(name) =
        manifest.files.keys().find(|name| name.contains(['/', '\\', '\0']) || name.starts_with('.') || name.is_empty())
    {
        return Err(Error::damaged(&path, format!("it names a file outside the atlas: `{name}`")));
    }
    check_sizes(folder, &manifest)?;
    Ok(manifest)
}

/// Checks the length of every file, and the content of those that readers rely on.
fn check_sizes(folder: &Path, manifest: &Manifest) -> Result<()> {
    for (name, entry) in &manifest.files {
        let file = folder.join(name);
        let found = std::fs::symlink_metadata(&file)
            .map_err(|_| Error::damaged(&file, "the manifest lists it, but it does not exist"))?;
        if !found.is_file() {
            return Err(Error::damaged(&file, "it is a link or a device, not a file of the atlas"));
        }
        let length = found.len();
        if length != entry.bytes {
            return Err(Error::damaged(&file, format!("it has {length} bytes; the manifest says {}", entry.bytes)));
        }
    }
    if manifest.block_rows == 0 || u32::try_from(manifest.blocks()).is_err() {
        return Err(Error::damaged(folder.join(files::MANIFEST), "blocks of no rows, or more than 2^32 blocks"));
    }
    let needed = [files::CELLS, files::MEMBERS];
    if let Some(name) = needed.into_iter().find(|name| !manifest.files.contains_key(*name)) {
        return Err(Error::damaged(folder.join(files::MANIFEST), format!("it does not list {name}")));
    }
    for name in [files::BLOCKS, files::LABELS, files::GENES] {
        check_file(folder, name, manifest)?;
    }
    check_records(folder, manifest, files::BLOCKS, BLOCK_ENTRY_BYTES as u64, manifest.blocks())?;
    check_records(folder, manifest, files::LABELS, 4 * (1 + manifest.covariates.len() as u64), manifest.cells)
}

/// Checks that a file holds this many records of this many bytes.
pub(super) fn check_records(folder: &Path, manifest: &Manifest, name: &str, bytes: u64, count: u64) -> Result<()> {
    match count.checked_mul(bytes) {
        Some(length) if manifest.files.get(name).is_some_and(|entry| entry.bytes == length) => Ok(()),
        _ => Err(Error::damaged(folder.join(name), format!("it does not hold {count} records of {bytes} bytes"))),
    }
}

/// Checks a file's checksum.
pub(super) fn check_file(folder: &Path, name: &str, manifest: &Manifest) -> Result<()> {
    let path = folder.join(name);
    match manifest.files.get(name) {
        None => Err(Error::damaged(folder.join(files::MANIFEST), format!("it does not list {name}"))),
        Some(entry) if checksum_of(&path)? != *entry => {
            Err(Error::damaged(path, "its checksum does not match the manifest"))
        }
        Some(_) => Ok(()),
    }
}

/// The first column of `genes.parquet`.
pub(super) fn read_gene_names(path: &Path, genes: u32) -> Result<Vec<String>> {
    let file = File::open(path).map_err(Error::io("open", path))?;
    let bad = |what: String| Error::damaged(path, what);
    let reader = parquet_read::parquet(file).and_then(Batches::new);
    let mut names = Vec::new();
    for batch in reader.map_err(|error| bad(error.to_string()))? {
        let batch = batch.map_err(|error| bad(error.to_string()))?;
        let column = batch.columns().first().and_then(|column| column.as_string_opt::<i32>().cloned());
        let column = column.ok_or_else(|| bad("its first column does not hold names".into()))?;
        names.extend(column.iter().map(|name| name.unwrap_or_default().to_owned()));
    }
    if names.len() == genes as usize {
        Ok(names)
    } else {
        Err(bad(format!("it names {} genes; the manifest says {genes}", names.len())))
    }
}
