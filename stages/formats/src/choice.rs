//! The user's choices about a file, and the formats to choose from.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use stage::interrupt::Interrupt;

/// Which matrix of a file to read, if the format can hold several, and how to read it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Choice {
    /// A layer to take instead of `X`.
    pub layer: Option<String>,
    /// Whether to take `raw/X` (and `raw/var`) instead of `X`.
    pub raw: bool,
    /// The genome to take from a 10x file that has several.
    pub genome: Option<String>,
    /// The columns of a table that annotate cells, as text and times do; all other numbers and flags are genes. By
    /// default, conventions decide.
    pub obs_columns: Option<Vec<String>>,
    /// A table with the names of genes that a table of cells refers to by number.
    pub genes_table: Option<PathBuf>,
    /// Whether the first entry of each list in a table is a gene's.
    pub list_start: ListStart,
    /// The program that reads HDF5 files in a separate process; without one, this process reads them. In either
    /// case, their structure is checked before libhdf5 opens them.
    pub worker: Option<PathBuf>,
    /// Whether [`Source::members`](super::source::Source::members) are listed.
    #[serde(default)]
    pub lists_members: bool,
    /// Stops long operations while a source is opened or read: transposing a matrix, and the worker.
    #[serde(skip)]
    pub interrupt: Interrupt,
}

/// The first entry of the lists in a table of cells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ListStart {
    /// A marker if every list begins with the same negative entry, whose number occurs nowhere else; otherwise a
    /// gene.
    #[default]
    Auto,
    /// A marker, which is left out.
    Marker,
    /// A gene, whatever its value.
    Gene,
}

impl Choice {
    /// The name of the matrix in the file.
    #[must_use]
    pub fn matrix(&self) -> String {
        match (&self.layer, self.raw) {
            (Some(layer), _) => format!("layers/{layer}"),
            (None, true) => "raw/X".into(),
            (None, false) => "X".into(),
        }
    }
}

/// The supported formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceFormat {
    /// A file written by anndata, or by another program in the same format.
    H5ad,
    /// A zarr store: a folder with the same content.
    Zarr,
    /// An HDF5 file of Cell Ranger or Space Ranger.
    TenX,
    /// A 10x folder, or a Matrix Market file.
    MatrixMarket,
    /// A Parquet or Arrow table of cells, or a folder of them.
    Table,
}
