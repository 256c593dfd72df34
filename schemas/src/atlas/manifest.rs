//! `manifest.json`: sizes, types, label rules, provenance, and the checksum of every other file.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Codec, GeneWidth, InPlaceMatrix, ValueKind, ValueWidth};
use crate::conditions::{ConditionTable, Covariate};

/// A file of the atlas as it was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Its length.
    pub bytes: u64,
    /// XXH3-64 of its bytes, as 16 hexadecimal digits; `matrix.bin` has none, its blocks have their own.
    pub checksum: Option<String>,
}

/// Where cells came from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Origin {
    /// File name.
    pub path: String,
    /// Its length; of a folder, that of its files.
    pub bytes: u64,
    /// Which matrix of it, where a format can hold several: `X`, `raw/X` or `layers/NAME`.
    pub matrix: String,
    /// What tells this version of it from others, where it was a file or folder and that was looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<SourceVersion>,
}

/// A file or folder as it was when it was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceVersion {
    /// Its length; of a folder, that of all files below it.
    pub bytes: u64,
    /// When it was changed last, in nanoseconds since 1970; of a folder, the newest of its files. No part of the atlas's checksum.
    pub modified: u64,
    /// XXH3-64 of its bytes, as 16 hexadecimal digits; of a folder, of the names and checksums of its files.
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

/// How the rows of the matrix lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RowOrder {
    /// As the source has its cells.
    Source,
    /// As one uniform random permutation of the cells has them.
    Shuffled,
}

/// Which columns of `obs` became labels.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Keys {
    /// The perturbation column; none makes an unlabelled atlas.
    pub perturbation: Option<String>,
    /// The dose column.
    pub dose: Option<String>,
    /// Which of the covariates is the batch.
    pub batch: Option<String>,
}

/// Which cells of the sources were taken.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selection {
    /// `key=value` or `key!=value`: a cell is taken if of every key it has one of the values, and none that is ruled out.
    pub filters: Vec<String>,
    /// Perturbation labels whose cells were left out; `*` stands for any text, `nan` for a missing label.
    pub drop_labels: Vec<String>,
    /// Cells that a condition had to have; control was always kept.
    pub min_cells: u64,
}

/// `manifest.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`super::FORMAT_VERSION`] at the time of writing.
    pub format: u32,
    /// Cells.
    pub cells: u64,
    /// Genes.
    pub genes: u32,
    /// Non-zeros.
    pub nonzeros: u64,
    /// What the values are.
    pub values: ValueKind,
    /// How gene ids are stored.
    pub gene_width: GeneWidth,
    /// The widest value of any block.
    pub value_width: ValueWidth,
    /// How blocks lie on disk.
    pub codec: Codec,
    /// Where the matrix lies, if it is read in place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_place: Option<InPlaceMatrix>,
    /// Rows of every block but the last.
    pub block_rows: u32,
    /// How the rows lie.
    pub order: RowOrder,
    /// Which columns became labels.
    pub keys: Keys,
    /// The conditions and how labels are read.
    pub conditions: ConditionTable,
    /// The covariates, batch last.
    pub covariates: Vec<Covariate>,
    /// Which cells were taken.
    pub selection: Selection,
    /// Where the cells came from.
    pub sources: Vec<Origin>,
    /// The program that wrote it.
    pub written_by: String,
    /// Every file but this one and the splits.
    pub files: BTreeMap<String, FileEntry>,
    /// XXH3-64 over everything above, as 16 hexadecimal digits: what models and predictions remember an atlas by.
    #[serde(default)]
    pub checksum: String,
}

impl Manifest {
    /// Number of blocks.
    #[must_use]
    pub fn blocks(&self) -> u64 {
        self.cells.div_ceil(u64::from(self.block_rows))
    }

    /// The manifest as text without its checksum: what the checksum is taken of.
    ///
    /// # Errors
    /// If serde can't write it.
    pub fn checked_text(&self) -> serde_json::Result<String> {
        let mut checked = Self { checksum: String::new(), ..self.clone() };
        // A copy of a file is the same data.
        checked
            .sources
            .iter_mut()
            .filter_map(|source| source.version.as_mut())
            .for_each(|version| version.modified = 0);
        serde_json::to_string(&checked)
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn numbers_read_back_as_they_were_written() {
        // Without a feature of serde_json some come back as their neighbours.
        for step in 1..20_000 {
            let dose = f64::from(step) / 7.0 * 1e-5;
            let text = serde_json::to_string(&dose).expect("a number");
            assert_eq!(serde_json::from_str::<f64>(&text).expect("a number").to_bits(), dose.to_bits(), "{text}");
        }
    }
}
