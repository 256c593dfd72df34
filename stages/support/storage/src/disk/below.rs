//! All files below a folder, wherever links lead.

use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
};

use schemas::{Error, Result};

/// The files below a folder, by name. Links are followed; a folder reachable in several ways, including
/// through itself or its parents, is read once.
///
/// # Errors
/// Folders that can't be read.
pub fn files_below(folder: &Path) -> Result<Vec<PathBuf>> {
    let (mut files, mut folders, mut seen) = (Vec::new(), vec![folder.to_path_buf()], HashSet::new());
    while let Some(folder) = folders.pop() {
        if !seen.insert(fs::canonicalize(&folder).map_err(Error::io("read", &folder))?) {
            continue;
        }
        let mut within = Vec::new();
        for entry in fs::read_dir(&folder).map_err(Error::io("read", &folder))? {
            let path = entry.map_err(Error::io("read", &folder))?.path();
            if path.is_dir() { within.push(path) } else { files.push(path) }
        }
        // Of several paths to a folder, always the same one is chosen.
        within.sort_by(|a, b| b.cmp(a));
        folders.extend(within);
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_that_lead_in_circles_are_followed_once() {
        let home = tempfile::tempdir().expect("a folder");
        let home_path = |name: &str| home.path().join(name);
        fs::create_dir_all(home_path("a/b")).expect("folders");
        fs::create_dir(home_path("elsewhere")).expect("a folder");
        for file in ["a/b/1", "a/2", "elsewhere/3"] {
            fs::write(home_path(file), b"x").expect("a file");
        }
        for (link, to) in [("a/b/up", ".."), ("a/link", "../elsewhere"), ("a/self", "."), ("a/dangling", "nowhere")] {
            std::os::unix::fs::symlink(to, home_path(link)).expect("a link");
        }
        let found = files_below(&home_path("a")).expect("a folder");
        let names: Vec<_> =
            found.iter().map(|path| path.strip_prefix(home_path("a")).expect("below").to_path_buf()).collect();
        assert_eq!(names, ["2", "b/1", "dangling", "link/3"].map(PathBuf::from));
    }
}
