//! Where the blocks of an atlas are, and how they are read.

use std::{fs::File, path::Path};

use schemas::{
    Error, Result,
    atlas::{Codec, Manifest, files},
};
use storage::mmap;

use super::{backed::RowsInPlace, manifest::check_file};

/// How the matrix is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Access {
    /// Through a memory map, without copies before the batch.
    #[default]
    Map,
    /// By plain reads, for file systems on which maps are slow or unsafe.
    Read,
}

/// The location of blocks.
#[derive(Debug)]
pub(super) enum BlockStorage {
    Empty,
    Map(mmap::MappedFile),
    Read(File),
    InPlace(Box<RowsInPlace>),
}

impl BlockStorage {
    pub(super) fn open(folder: &Path, manifest: &Manifest, access: Access) -> Result<Self> {
        let matrix_path = folder.join(files::MATRIX);
        let matrix_bytes = manifest.files.get(files::MATRIX).map_or(0, |entry| entry.bytes);
        Ok(match (access, manifest.codec) {
            (_, Codec::InPlace) => Self::in_place(folder, manifest, access)?,
            _ if matrix_bytes == 0 => Self::Empty,
            (Access::Map, _) => Self::Map(mmap::map(&matrix_path)?),
            (Access::Read, _) => Self::Read(File::open(&matrix_path).map_err(Error::io("open", &matrix_path))?),
        })
    }

    pub(super) fn check_map(&self) -> Result<()> {
        match self {
            Self::Map(map) => map.check(),
            Self::Empty | Self::Read(_) | Self::InPlace(_) => Ok(()),
        }
    }

    /// The matrix of an atlas whose matrix is stored in another file.
    fn in_place(folder: &Path, manifest: &Manifest, access: Access) -> Result<Self> {
        let damaged = |what: &str| Error::damaged(folder.join(files::MANIFEST), what);
        let described = manifest.in_place.as_ref().ok_or_else(|| damaged("it does not say where the matrix is"))?;
        if !described.form.is_plain() {
            return Err(damaged("its matrix can't be read in place"));
        }
        check_file(folder, files::CHUNKS, manifest)?;
        let path = folder.join(files::CHUNKS);
        let bytes = std::fs::read(&path).map_err(Error::io("read", &path))?;
        let chunks = schemas::atlas::StoredChunk::from_bytes(&bytes);
        Ok(Self::InPlace(Box::new(RowsInPlace::open(folder, manifest, described, &chunks, access)?)))
    }
}
