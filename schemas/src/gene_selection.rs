//! How the genes of a model were chosen from those of its atlas.

use serde::{Deserialize, Serialize};

/// How a model's genes were chosen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GeneSelection {
    /// The rule.
    pub method: Method,
    /// Number of genes in the atlas.
    pub of: u64,
    /// Number of genes chosen by the rule.
    pub chosen: u64,
    /// Number of genes added because they are always kept.
    pub kept: u64,
    /// Number of training cells used by the rule.
    pub cells: u64,
}

/// A rule that chooses genes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// All of them.
    #[default]
    All,
    /// The largest variances of counts, as in scanpy's flavour of that name.
    SeuratV3,
    /// The largest dispersions of log-normalised values, as in scanpy's flavour of that name.
    Seurat,
    /// The genes listed in a file.
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
