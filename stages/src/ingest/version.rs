//! What tells one version of a file or folder of cells from another.

use std::{
    fs,
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

use schemas::{Error, Result, atlas::SourceVersion, numbers::saturating};

use crate::disk::{checksum_of, checksum_of_text, files_below};

/// Length and time of the last change: of a folder, the sum and the newest of all files below it.
///
/// # Errors
/// What can't be read.
pub fn length_and_time(path: &Path) -> Result<(u64, u64)> {
    let (mut bytes, mut newest) = (0, 0);
    for file in files(path)? {
        let metadata = fs::metadata(&file).map_err(Error::io("read", &file))?;
        let modified = metadata.modified().map_err(Error::io("read", &file))?;
        let nanoseconds = modified.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
        // What 64 bits don't hold is five centuries away.
        newest = newest.max(saturating(nanoseconds));
        bytes += metadata.len();
    }
    Ok((bytes, newest))
}

/// XXH3-64 of a file's bytes; of a folder, of the names and checksums of all files below it.
///
/// # Errors
/// What can't be read.
pub fn checksum(path: &Path) -> Result<String> {
    let of_file = |file: &Path| Ok::<_, Error>(checksum_of(file)?.checksum.unwrap_or_default());
    if !path.is_dir() {
        return of_file(path);
    }
    let mut text = String::new();
    for file in files(path)? {
        let name = file.strip_prefix(path).unwrap_or(&file);
        text += &format!("{}\t{}\n", name.display(), of_file(&file)?);
    }
    Ok(checksum_of_text(&text))
}

/// The version of a file or folder that was read since it had this length and time.
///
/// # Errors
/// What can't be read, or was changed meanwhile.
pub fn version_since(path: &Path, before: (u64, u64)) -> Result<SourceVersion> {
    let checksum = checksum(path)?;
    let (bytes, modified) = length_and_time(path)?;
    if (bytes, modified) != before {
        let message = "was changed by another program while it was read";
        return Err(Error::data(
            path.display().to_string(),
            message,
            "wait until that has ended, then run the command again",
        ));
    }
    Ok(SourceVersion { bytes, modified, checksum })
}

/// Whether a file or folder is still what it was: its time says so, or else its checksum.
///
/// # Errors
/// What can't be read.
pub fn is_same(path: &Path, known: &SourceVersion) -> Result<bool> {
    let (bytes, modified) = length_and_time(path)?;
    Ok(bytes == known.bytes && (modified == known.modified || checksum(path)? == known.checksum))
}

fn files(path: &Path) -> Result<Vec<PathBuf>> {
    let mut files = if path.is_dir() { files_below(path)? } else { vec![path.to_path_buf()] };
    // A link to nothing holds nothing.
    files.retain(|file| file.exists() || file.as_path() == path);
    Ok(files)
}
