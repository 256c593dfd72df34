//! Files and folders that are whole or not there.
//!
//! All writing of the workspace goes through [`disk`]: a file is written under a hidden name beside its target, locked by its
//! writer, and renamed when it is complete. [`sealed`] adds a checksum to JSON, [`mmap`] maps files and survives their
//! truncation, [`parquet_file`] writes tables and [`parquet_read`] reads them so that a decoder's panic is an error of the file.
//!
//! ```
//! use storage::disk::{ScratchFolder, write_atomically};
//!
//! let folder = ScratchFolder::create()?;
//! let path = folder.path().join("notes.txt");
//! write_atomically(&path, b"whole")?;
//! assert_eq!(std::fs::read(&path).unwrap(), b"whole");
//! # Ok::<(), schemas::Error>(())
//! ```

pub mod disk;
pub mod mmap;
pub mod parquet_file;
pub mod parquet_read;
pub mod sealed;
