//! The version of a file or folder of cells.

use std::{
    fs,
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

use schemas::{
    Error, Result,
    atlas::{FileStamp, SourceVersion},
    numbers::saturating,
};
use storage::disk::{checksum_of, checksum_of_text, files_below};

/// Length and modification time of a file or folder.
///
/// # Errors
/// A file that can't be read.
pub fn stamp_of(path: &Path) -> Result<FileStamp> {
    let (mut stamp, mut listing) = (FileStamp::default(), String::new());
    for file in files(path)? {
        let metadata = fs::metadata(&file).map_err(Error::io("read", &file))?;
        let modified = metadata.modified().map_err(Error::io("read", &file))?;
        let nanoseconds = modified.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
        // A time that 64 bits can't hold is five centuries away.
        let modified: u64 = saturating(nanoseconds);
        stamp.modified = stamp.modified.max(modified);
        stamp.bytes += metadata.len();
        listing += &format!("{}\t{}\t{modified}\n", name_below(path, &file), metadata.len());
    }
    stamp.listing = path.is_dir().then(|| checksum_of_text(&listing));
    Ok(stamp)
}

/// XXH3-64 of a file's bytes or, for a folder, of the names and checksums of all files below it.
///
/// # Errors
/// A file that can't be read.
pub fn checksum(path: &Path) -> Result<String> {
    let of_file = |file: &Path| Ok::<_, Error>(checksum_of(file)?.checksum.unwrap_or_default());
    if !path.is_dir() {
        return of_file(path);
    }
    let mut text = String::new();
    for file in files(path)? {
        text += &format!("{}\t{}\n", name_below(path, &file), of_file(&file)?);
    }
    Ok(checksum_of_text(&text))
}

/// The version of a file or folder that was read after it had this stamp.
///
/// # Errors
/// A file that can't be read, or that has changed since.
pub fn version_since(path: &Path, before: &FileStamp) -> Result<SourceVersion> {
    let checksum = checksum(path)?;
    let stamp = stamp_of(path)?;
    if stamp != *before {
        let message = "was changed by another program while it was read";
        return Err(Error::data(
            path.display().to_string(),
            message,
            "wait until it has finished, then run the command again",
        ));
    }
    Ok(SourceVersion { stamp, checksum })
}

/// Whether a file or folder is unchanged, judged by its modification time or else by its checksum.
///
/// # Errors
/// A file that can't be read.
pub fn is_same(path: &Path, known: &SourceVersion) -> Result<bool> {
    let stamp = stamp_of(path)?;
    Ok(stamp.is_unchanged_since(&known.stamp) || stamp.bytes == known.stamp.bytes && checksum(path)? == known.checksum)
}

fn name_below<'a>(folder: &Path, file: &'a Path) -> std::path::Display<'a> {
    file.strip_prefix(folder).unwrap_or(file).display()
}

fn files(path: &Path) -> Result<Vec<PathBuf>> {
    let mut files = if path.is_dir() { files_below(path)? } else { vec![path.to_path_buf()] };
    // A link without a target has no content.
    files.retain(|file| file.exists() || file.as_path() == path);
    Ok(files)
}
