//! Where something is in a file, or in a store of many files, as errors name it.

use std::{
    fmt::Display,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use schemas::Error;

/// An object of an HDF5 file or of a zarr store.
#[derive(Clone, Debug)]
pub struct ObjectPlace {
    file: Arc<ObjectFile>,
    object: String,
}

#[derive(Debug)]
struct ObjectFile {
    path: PathBuf,
    /// Opened once for all datasets that are read past libhdf5.
    opened: OnceLock<Option<Arc<fs::File>>>,
}

impl ObjectPlace {
    /// The file or store itself.
    #[must_use]
    pub fn root(path: &Path) -> Self {
        let file = ObjectFile { path: path.into(), opened: OnceLock::new() };
        Self { file: Arc::new(file), object: String::new() }
    }

    /// A member of this group.
    #[must_use]
    pub fn child(&self, name: &str) -> Self {
        Self { file: Arc::clone(&self.file), object: format!("{}/{name}", self.object) }
    }

    /// The file or store.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.file.path
    }

    /// The opened file; `None` if it can't be opened.
    #[must_use]
    pub fn opened(&self) -> Option<Arc<fs::File>> {
        let ObjectFile { path, opened } = &*self.file;
        opened.get_or_init(|| fs::File::open(path).ok().map(Arc::new)).clone()
    }

    /// An error about this object.
    pub fn error(&self, message: impl Into<String>, hint: impl Into<String>) -> Error {
        Error::data(self.to_string(), message, hint)
    }

    /// Turns the reason why this object can't be read into an error that names it; for `map_err`.
    pub fn unreadable(&self, error: impl Display) -> Error {
        self.error(
            format!("can't be read ({error})"),
            "the file may be damaged or cut short; restore it from a copy, or write it again",
        )
    }
}

impl Display for ObjectPlace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.object.strip_prefix('/') {
            None => self.file.path.display().fmt(f),
            Some(object) => write!(f, "{}: {object}", self.file.path.display()),
        }
    }
}
