//! Checks the structure of an HDF5 file before libhdf5 opens it.
//!
//! libhdf5 trusts much of what a file says about itself, so a damaged or hostile one can make it read or
//! write out of bounds. Here, the whole structure of a file is walked first, in safe Rust and with bounded
//! reads: superblock, object headers and their messages, groups, heaps and the indexes of chunks (HDF5 File
//! Format Specification, version 3.0). The check refuses anything that is outside the file or its block, has
//! a wrong signature, version or checksum, leads in circles or is used as two things at once, as well as
//! products that overflow and numbers that contradict one another. Parts that libhdf5 is never asked to read
//! (times, comments, free space) are ignored.
//!
//! Some things are valid but refused all the same: links and data that lead to other files, which would be
//! opened unchecked; filters whose decoders in libhdf5 trust their parameters; and structures that no writer
//! of cells produces (shared message tables, filtered heaps, images of the metadata cache).
//!
//! The values of datasets are not checked, so neither are the locations of their texts in the global heap;
//! those of attributes are. The check takes one read per structure, 13 ms for half a million chunks in
//! B-trees, and visits at most [`MOST_STEPS`](walk::MOST_STEPS) structures; whatever a file claims, the check
//! needs no more memory than a few times the file's size.
//!
//! ```text
//! superblock ─► objects ─► header ─► attribute, space, datatype, fill, filters, layout ─► chunks ─► btree1, btree2, arrays
//!                 ▲        └────► links ─► btree1, local_heap, btree2, fractal
//!                 └────────────────┘
//! ```

mod arrays;
mod attribute;
mod btree1;
mod btree2;
mod bytes;
mod checksum;
mod chunks;
mod datatype;
mod fill;
mod filters;
mod fractal;
mod global_heap;
mod header;
mod layout;
mod links;
mod local_heap;
mod objects;
mod space;
mod superblock;
#[cfg(test)]
mod tests;
mod walk;

use std::{fs::File, path::Path};

use ::arrays::place::ObjectPlace;
use schemas::{Error, Result};

use self::{bytes::StructureError, walk::Walk};

/// Walks the structure of a file.
///
/// # Errors
/// A file that can't be read, is not an HDF5 file, is cut short or damaged, or holds something that is not
/// supported here. The error names the object, if known, and the byte.
pub(super) fn check(path: &Path) -> Result<()> {
    let file = File::open(path).map_err(Error::io("read", path))?;
    let length = file.metadata().map_err(Error::io("read", path))?.len();
    let error_of = |object: &str, flaw: StructureError| {
        let place =
            object.split('/').filter(|name| !name.is_empty()).fold(ObjectPlace::root(path), |at, name| at.child(name));
        match flaw {
            StructureError::Damaged { at, what } => place.error(
                format!("is damaged at byte {at} ({what})"),
                "restore the file from a copy, or download it again",
            ),
            StructureError::Unread { at, what } => place.error(
                format!("holds something that is not supported, at byte {at}: {what}"),
                "write the file again without it, with anndata or h5py",
            ),
            StructureError::Io(source) => Error::io("read", path)(source),
            StructureError::NoHdf5 { why } => place.error(
                format!("is not an HDF5 file, or is cut short ({why})"),
                "an .h5ad or 10x .h5 file is expected; if it was downloaded, download it again",
            ),
        }
    };
    let image = superblock::read(&file, length).map_err(|flaw| error_of("", flaw))?;
    let mut walk = Walk::new(&image);
    walk.run().map_err(|flaw| error_of(&walk.object(), flaw))
}
