//! How the genes that a model sees were chosen among those of its atlas.

use serde::{Deserialize, Serialize};

/// How a model's genes were chosen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GeneSelection {
    /// By what rule.
    pub method: Method,
    /// How many genes the atlas has.
    pub of: u64,
    /// How many were chosen by the rule.
    pub chosen: u64,
    /// How many were added because they were to be kept.
    pub kept: u64,
    /// How many training cells the rule looked at.
    pub cells: u64,
}

/// A rule that chooses genes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// All of them.
    #[default]
    All,
    /// The largest variances of counts, as scanpy's flavour of that name has them.
    SeuratV3,
    /// The largest dispersions of log-normalised values, as scanpy's flavour of that name has them.
    Seurat,
    /// A file's.
    List,
}

impl std::fmt::Display for GeneSelection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { of, chosen, kept, cells, .. } = self;
        match self.method {
            Method::All => return f.write_str("all genes"),
            Method::SeuratV3 => {
                write!(f, "{chosen} of {of} genes vary most between {cells} training cells (seurat_v3)")?
            }
            Method::Seurat => write!(f, "{chosen} of {of} genes vary most between {cells} training cells (seurat)")?,
            Method::List => write!(f, "{chosen} of {of} genes are listed")?,
        }
        match kept {
            0 => Ok(()),
            kept => write!(f, ", {kept} more are kept"),
        }
    }
}
