//! From files to an atlas, one file a step: chunks are cut into slabs, packed into blocks, labelled and stored.

pub mod label;
pub mod pack;
pub mod slab;
pub mod store;
