//! Looks at how an HDF5 file is built before libhdf5 sees it.
//!
//! libhdf5 trusts much of what a file says of itself, so that a damaged or hostile one can make it read or write where
//! it must not. Here all of a file's structure is walked first, in safe Rust and by bounded reads: superblock, object
//! headers and their messages, groups, heaps and the indexes of chunks (HDF5 File Format Specification, version 3.0).
//! Refused is what lies outside the file or its block, what has another signature, version or checksum than it must
//! have, what leads in circles or is two things at once, products that overflow, and numbers that contradict one
//! another. What the walk does not need to understand because libhdf5 is never requested it (times, comments, free
//! space) is left alone.
//!
//! Some things are sound and refused all the same: links and data that lead to other files, which would be opened
//! unchecked; filters whose decoders in libhdf5 trust their parameters; and what no writer of cells makes (shared
//! message tables, filtered heaps, images of the metadata cache).
//!
//! The values of datasets are not looked at, and so not where texts of theirs lie in the global heap; those of
//! attributes are. It takes one read a structure, 13 ms for half a million chunks in B-trees, and no more than
//! [`MOST_STEPS`](walk::MOST_STEPS) structures; no claim of a file's makes it take more memory than the file has bytes,
//! a few times over.
//!
//! ```text
//! superblock ─► walk ─► header ─► attribute, space, datatype, fill, filters, layout ─► chunks ─► btree1, btree2, arrays
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
mod space;
mod superblock;
#[cfg(test)]
mod tests;
mod walk;

use std::{fs::File, path::Path};

use ::arrays::place::ObjectPlace;
use schemas::{Error, Result};

use self::{bytes::Flaw, walk::Walk};

/// Walks the structure of a file.
///
/// # Errors
/// A file that can't be read, is not an HDF5 file or cut short, is damaged, or holds what is not read here. The error names
/// the object, where one is known, and the byte.
pub(super) fn check(path: &Path) -> Result<()> {
    let file = File::open(path).map_err(Error::io("read", path))?;
    let length = file.metadata().map_err(Error::io("read", path))?.len();
    let error_of = |object: &str, flaw: Flaw| {
        let place =
            object.split('/').filter(|name| !name.is_empty()).fold(ObjectPlace::root(path), |at, name| at.child(name));
        match flaw {
            Flaw::Damaged { at, what } => place.error(
                format!("is damaged at byte {at} ({what})"),
                "restore the file from a copy, or download it again",
            ),
            Flaw::Unread { at, what } => place.error(
                format!("holds something that is not supported, at byte {at}: {what}"),
                "write the file again without it, with anndata or h5py",
            ),
            Flaw::Io(source) => Error::io("read", path)(source),
            Flaw::NoHdf5 { why } => place.error(
                format!("is not an HDF5 file, or is cut short ({why})"),
                "an .h5ad or 10x .h5 file is expected; if it was downloaded, download it again",
            ),
        }
    };
    let image = superblock::read(&file, length).map_err(|flaw| error_of("", flaw))?;
    let mut walk = Walk::new(&image);
    walk.run().map_err(|flaw| error_of(&walk.object(), flaw))
}
