//! `manifest.json`: sizes, types, label rules, provenance, and the checksum of every other file.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Codec, GeneWidth, InPlaceMatrix, ValueKind, ValueWidth};
use crate::conditions::{ConditionTable, Covariate};

/// The recorded state of a file of the atlas.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Its length.
    pub bytes: u64,
    /// XXH3-64 of its bytes, as 16 hexadecimal digits; `None` for `matrix.bin`, whose blocks have checksums.
    pub checksum: Option<String>,
}

/// The source of cells.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Origin {
    /// File name.
    pub path: String,
    /// Its length; for a folder, the total of its files.
    pub bytes: u64,
    /// The matrix in it, if the format can hold several: `X`, `raw/X` or `layers/NAME`.
    pub matrix: String,
    /// The flag that reads counts from another matrix of the file, if this one holds other values and there is one. Not part of the
    /// atlas's checksum.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counts: Option<String>,
    /// The flag that reads logarithms from another matrix of the file, if this one holds counts and there is one. Not part of the
    /// atlas's checksum.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub continuous: Option<String>,
    /// The version of a file or folder, if it was determined.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<SourceVersion>,
}

/// Length and modification time of a file or folder, which show without reading it whether it may have
/// changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileStamp {
    /// Its length; for a folder, that of all files below it.
    pub bytes: u64,
    /// The modification time, in nanoseconds since 1970; for a folder, that of its newest file. Not part of the
    /// atlas's checksum.
    pub modified: u64,
    /// For a folder: XXH3-64 of the names, lengths and times of its files, as 16 hexadecimal digits. Not part of
    /// the atlas's checksum.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listing: Option<String>,
}

impl FileStamp {
    /// Whether this later stamp shows that nothing has changed since `earlier`. Stamps of earlier versions have
    /// no listing.
    #[must_use]
    pub fn is_unchanged_since(&self, earlier: &Self) -> bool {
        let same_files = earlier.listing.is_none() || self.listing == earlier.listing;
        (self.bytes, self.modified) == (earlier.bytes, earlier.modified) && same_files
    }
}

/// The version of a file or folder at the time when it was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceVersion {
    /// Its length and modification time.
    #[serde(flatten)]
    pub stamp: FileStamp,
    /// XXH3-64 of its bytes, as 16 hexadecimal digits; for a folder, of the names and checksums of its files.
    pub checksum: String,
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.matrix.as_str() {
            "" => self.path.fmt(f),
            matrix => write!(f, "{}, {matrix}", self.path),
        }
    }
}

/// The order of the matrix's rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RowOrder {
    /// Source order.
    Source,
    /// A uniform random permutation of the cells.
    Shuffled,
}

/// The label columns of `obs`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Keys {
    /// The perturbation column; `None` for an unlabelled atlas.
    pub perturbation: Option<String>,
    /// The dose column.
    pub dose: Option<String>,
    /// The covariate that is the batch.
    pub batch: Option<String>,
}

/// The selection of source cells.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selection {
    /// `key=value` or `key!=value`: a cell is kept if for every key it has one of the values, and none of the excluded ones.
    pub filters: Vec<String>,
    /// Perturbation labels whose cells were left out; `*` matches any text, `nan` a missing label.
    pub drop_labels: Vec<String>,
    /// Minimum number of cells per condition; control was always kept.
    pub min_cells: u64,
}

/// `manifest.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`super::FORMAT_VERSION`] at the time of writing.
    pub format: u32,
    /// Number of cells.
    pub cells: u64,
    /// Number of genes.
    pub genes: u32,
    /// Number of non-zeros.
    pub nonzeros: u64,
    /// The kind of the values.
    pub values: ValueKind,
    /// Whether no continuous value is below 0; unknown for atlases of older versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub non_negative: Option<bool>,
    /// How gene ids are stored.
    pub gene_width: GeneWidth,
    /// The widest value of any block.
    pub value_width: ValueWidth,
    /// Storage of blocks on disk.
    pub codec: Codec,
    /// Location of the matrix, if it is read in place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_place: Option<InPlaceMatrix>,
    /// Rows of every block except the last.
    pub block_rows: u32,
    /// The order of the rows.
    pub order: RowOrder,
    /// The label columns.
    pub keys: Keys,
    /// The conditions and the label rules.
    pub conditions: ConditionTable,
    /// The covariates; the batch is last.
    pub covariates: Vec<Covariate>,
    /// The selection of cells.
    pub selection: Selection,
    /// The sources of the cells.
    pub sources: Vec<Origin>,
    /// The program that wrote it.
    pub written_by: String,
    /// All files except this one and the splits.
    pub files: BTreeMap<String, FileEntry>,
    /// XXH3-64 over everything above, as 16 hexadecimal digits; models and predictions identify an atlas by it.
    #[serde(default)]
    pub checksum: String,
}

impl Manifest {
    /// Number of blocks.
    #[must_use]
    pub fn blocks(&self) -> u64 {
        self.cells.div_ceil(u64::from(self.block_rows))
    }

    /// The manifest as text without its checksum, from which the checksum is computed.
    ///
    /// # Errors
    /// If serde can't write it.
    pub fn checked_text(&self) -> serde_json::Result<String> {
        let mut checked = Self { checksum: String::new(), ..self.clone() };
        for source in &mut checked.sources {
            (source.counts, source.continuous) = (None, None);
            // The time of a file is excluded, because a copy of it has the same data.
            if let Some(version) = &mut source.version {
                (version.stamp.modified, version.stamp.listing) = (0, None);
            }
        }
        serde_json::to_string(&checked)
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn numbers_read_back_as_they_were_written() {
        // Without a feature of serde_json, some numbers would change to a neighbouring one.
        for step in 1..20_000 {
            let dose = f64::from(step) / 7.0 * 1e-5;
            let text = serde_json::to_string(&dose).expect("a number");
            assert_eq!(serde_json::from_str::<f64>(&text).expect("a number").to_bits(), dose.to_bits(), "{text}");
        }
    }
}
