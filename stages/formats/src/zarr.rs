//! Reads [`AnnData`] from zarr stores on disk, version 2 or 3: folders of arrays, each divided into chunks
//! that are packed one by one, with several chunks per file if they are sharded.
//!
//! The `zarrs` crate reads arrays, chunks and shards, on any thread; groups are read here. What metadata and
//! chunks claim is checked before memory is allocated for it, so that a damaged store only causes an error
//! that names the array.

mod array;
mod element;
mod files;
mod group;
mod metadata;
mod packing;
mod rows;
#[cfg(test)]
mod tests;
mod values;

use std::path::Path;

use arrays::place::ObjectPlace;
use schemas::Result;

pub use self::metadata::is_one;
use self::{group::ZarrGroup, metadata::NodeMetadata};
use super::{anndata::AnnData, choice::Choice, version::stamp_of};

/// Opens a store and checks its structure.
///
/// # Errors
/// Metadata that is damaged or of an unknown kind; no matrix, or one with an unknown encoding; an unknown
/// layer; shapes that disagree. The error names the object and how to fix it.
pub fn open(path: &Path, choice: &Choice) -> Result<AnnData> {
    let place = ObjectPlace::root(path);
    let root = match NodeMetadata::read(path, &place)? {
        Some(NodeMetadata::Group(attributes)) => ZarrGroup::new(path.to_path_buf(), place, attributes),
        Some(NodeMetadata::Array(..)) => {
            return Err(place.error("is a single zarr array, not a store of AnnData", "give the folder above it"));
        }
        None => return Err(place.error("is not a zarr store", "`adata.write_zarr(...)` writes one")),
    };
    root.expect_anndata()?;
    AnnData::open("zarr", &root, stamp_of(path)?.bytes, choice)
}
