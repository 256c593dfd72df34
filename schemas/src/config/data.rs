//! The genes of a model (`[data]`).

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
};

use serde::{Deserialize, Serialize};

/// The part of an atlas that a model uses (`[data]`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DataSettings {
    /// `all`, a number of highly variable genes, or a file that lists genes.
    pub genes: GeneChoice,
    /// Genes that are always included: `perturbed`, or files that list them.
    pub genes_keep: Vec<GenesKept>,
}

impl DataSettings {
    /// The files that list genes.
    pub fn lists(&self) -> impl Iterator<Item = &Path> {
        let chosen = match &self.genes {
            GeneChoice::Listed(file) => Some(file),
            GeneChoice::All | GeneChoice::Variable(_) => None,
        };
        let kept = self.genes_keep.iter().filter_map(|kept| match kept {
            GenesKept::Listed(file) => Some(file),
            GenesKept::Perturbed => None,
        });
        chosen.into_iter().chain(kept).map(PathBuf::as_path)
    }
}

/// The choice of genes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "StoredGeneChoice", into = "StoredGeneChoice")]
pub enum GeneChoice {
    /// Every gene of the atlas.
    #[default]
    All,
    /// This many of the genes that vary most between training cells.
    Variable(u32),
    /// The genes listed in a file, one per line.
    Listed(PathBuf),
}

/// Genes to add to the chosen ones.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum GenesKept {
    /// The genes with the name of a perturbation.
    Perturbed,
    /// The genes listed in a file, one per line.
    Listed(PathBuf),
}

/// Its form in a TOML file.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum StoredGeneChoice {
    Number(i64),
    Text(String),
}

impl FromStr for GeneChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "" => Err("it names neither a number of genes nor a file".into()),
            "all" => Ok(Self::All),
            number if number.bytes().all(|byte| byte.is_ascii_digit()) => match number.parse() {
                Ok(0) => Err("a model needs at least one gene".into()),
                Ok(count) => Ok(Self::Variable(count)),
                Err(_) => Err(format!("{number} genes are more than any atlas has")),
            },
            file => Ok(Self::Listed(file.into())),
        }
    }
}

impl fmt::Display for GeneChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Variable(count) => count.fmt(f),
            Self::Listed(file) => file.display().fmt(f),
        }
    }
}

impl TryFrom<StoredGeneChoice> for GeneChoice {
    type Error = String;

    fn try_from(value: StoredGeneChoice) -> Result<Self, String> {
        match value {
            StoredGeneChoice::Number(number) if number < 0 => Err(format!("{number} is not a number of genes")),
            StoredGeneChoice::Number(number) => number.to_string().parse(),
            StoredGeneChoice::Text(text) => text.parse(),
        }
    }
}

impl From<GeneChoice> for StoredGeneChoice {
    fn from(choice: GeneChoice) -> Self {
        match choice {
            GeneChoice::Variable(count) => Self::Number(count.into()),
            GeneChoice::All | GeneChoice::Listed(_) => Self::Text(choice.to_string()),
        }
    }
}

impl From<String> for GenesKept {
    fn from(text: String) -> Self {
        match text.as_str() {
            "perturbed" => Self::Perturbed,
            file => Self::Listed(file.into()),
        }
    }
}

impl From<GenesKept> for String {
    fn from(kept: GenesKept) -> Self {
        match kept {
            GenesKept::Perturbed => "perturbed".into(),
            GenesKept::Listed(file) => file.display().to_string(),
        }
    }
}
