//! Files and folders that are either whole or absent.
//!
//! All writing of the workspace goes through [`disk`]: a file is written under a hidden name next to its
//! target, locked by its writer, and renamed when it is complete. [`sealed`] adds a checksum to JSON,
//! [`parquet_checksum`] to a table;
//! [`mmap`] maps files and survives their truncation, [`parquet_file`] writes tables, and [`parquet_read`]
//! reads them and turns a decoder's panic into an error about the file. [`output_name`] checks the names that users give.
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
pub mod output_name;
pub mod parquet_checksum;
pub mod parquet_file;
pub mod parquet_read;
pub mod sealed;
