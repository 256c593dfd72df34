//! Names of files for a column that distinguishes them, as short as possible.

use std::{
    collections::{HashMap, HashSet},
    os::unix::fs::MetadataExt,
    path::{Component, Path},
};

use schemas::{Error, Result};

use super::format::files_of;

/// Extensions that only say how cells are stored.
const FORMATS: [&str; 12] =
    ["arrow", "feather", "gz", "h5", "h5ad", "hdf5", "ipc", "loom", "mtx", "parquet", "zarr", "zst"];

/// A name for each file or folder: its own name without the extension of its format, preceded by as many of
/// its parent folders as are needed to distinguish all names (`s1/cells`, `s2/cells`). If only extensions
/// differ, they are kept.
///
/// # Errors
/// A file that is named twice.
pub fn file_names(paths: &[impl AsRef<Path>]) -> Result<Vec<String>> {
    let parts: Vec<Vec<String>> = paths.iter().map(|path| parts(path.as_ref())).collect::<Result<_>>()?;
    let deepest = parts.iter().map(Vec::len).max().unwrap_or_default();
    for with_endings in [false, true] {
        for depth in 1..=deepest {
            let names: Vec<String> = parts.iter().map(|parts| name(parts, depth, with_endings)).collect();
            if names.iter().collect::<HashSet<_>>().len() == names.len() {
                return Ok(names);
            }
        }
    }
    let mut seen = HashSet::new();
    let twice = paths.iter().zip(&parts).find(|(_, parts)| !seen.insert(*parts));
    let path = twice.map_or_else(String::new, |(path, _)| path.as_ref().display().to_string());
    Err(Error::usage(
        format!("{path} is given twice, so its cells can't be distinguished by file"),
        "give each file once",
    ))
}

/// Refuses inputs that hold the same file: two paths to it, including through links, or a folder of tables
/// and a file in it. Paths that don't exist, and folders that can't be read, are not checked.
///
/// # Errors
/// Two such inputs.
pub fn check_different(paths: &[impl AsRef<Path>]) -> Result<()> {
    let mut seen: HashMap<(u64, u64), &Path> = HashMap::new();
    for path in paths.iter().map(AsRef::as_ref) {
        let files: HashSet<(u64, u64)> =
            files_of(path).unwrap_or_default().iter().filter_map(|file| id_of(file)).collect();
        for id in id_of(path).into_iter().chain(files) {
            let Some(first) = seen.insert(id, path) else { continue };
            let message = match first {
                _ if first == path => format!("{} is given twice", path.display()),
                _ if id_of(first) == id_of(path) => {
                    format!("{} and {} are the same file", first.display(), path.display())
                }
                _ => format!("{} and {} hold the same cells", first.display(), path.display()),
            };
            return Err(Error::usage(message, "give each file once"));
        }
    }
    Ok(())
}

/// Device and inode number of a file or folder, which are the same for all paths to it.
fn id_of(path: &Path) -> Option<(u64, u64)> {
    std::fs::metadata(path).ok().map(|found| (found.dev(), found.ino()))
}

/// The parent folders of a file, starting with the root, then the file itself.
fn parts(path: &Path) -> Result<Vec<String>> {
    let whole = std::path::absolute(path).map_err(Error::io("find", path))?;
    let mut parts: Vec<String> = Vec::new();
    for component in whole.components() {
        match component {
            Component::ParentDir => _ = parts.pop(),
            Component::Normal(part) => parts.push(part.to_string_lossy().into_owned()),
            Component::Prefix(_) | Component::RootDir | Component::CurDir => {}
        }
    }
    Ok(parts)
}

fn name(parts: &[String], depth: usize, with_ending: bool) -> String {
    let Some((own, folders)) = parts.split_last() else { return String::new() };
    let mut own = own.as_str();
    while let Some((start, ending)) = own.rsplit_once('.')
        && !with_ending
        && !start.is_empty()
        && FORMATS.contains(&ending.to_lowercase().as_str())
    {
        own = start;
    }
    let folders = &folders[folders.len().saturating_sub(depth - 1)..];
    folders.iter().map(String::as_str).chain([own]).collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(paths: &[&str]) -> Vec<String> {
        file_names(paths).expect("different files")
    }

    #[test]
    fn files_have_as_many_folders_in_their_names_as_tell_them_apart() {
        assert_eq!(names(&["a.h5ad", "x/b.h5ad"]), ["a", "b"]);
        assert_eq!(names(&["s1/cells.h5ad", "s2/cells.h5ad", "s2/more.h5ad"]), ["s1/cells", "s2/cells", "s2/more"]);
        let runs = ["run1/outs/filtered_feature_bc_matrix.h5", "./run2/outs/filtered_feature_bc_matrix.h5"];
        assert_eq!(names(&runs), ["run1/outs/filtered_feature_bc_matrix", "run2/outs/filtered_feature_bc_matrix"]);
    }

    #[test]
    fn what_is_no_ending_of_a_format_belongs_to_the_name() {
        assert_eq!(names(&["run.1", "run.2"]), ["run.1", "run.2"]);
        assert_eq!(names(&["day3.v2.h5ad", "matrix.mtx.gz"]), ["day3.v2", "matrix"]);
        let both = names(&["home/a.h5ad", "home/a.zarr"]);
        assert_eq!(both, ["a.h5ad", "a.zarr"]);
    }

    #[test]
    fn a_file_that_is_named_twice_is_refused_however_it_is_spelled() {
        let error = file_names(&["a.h5ad", "x/../a.h5ad"]).expect_err("one file");
        assert!(error.to_string().starts_with("x/../a.h5ad is given twice"), "{error}");
    }
}
