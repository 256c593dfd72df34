//! Tables with an embedding for each perturbation, such as chemical fingerprints or gene embeddings.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
};

use crate::{Error, Result};

/// Tells users where the format of such a table is described.
pub const HINT: &str = "docs/model.md describes what a table of embeddings looks like";

/// A row of numbers for each name.
#[derive(Clone, Debug, PartialEq)]
pub struct EmbeddingTable {
    path: PathBuf,
    names: Vec<String>,
    width: usize,
    values: Vec<f32>,
}

impl EmbeddingTable {
    /// Creates a table from the names and `width` numbers for each of them, row by row; `path` names the file in
    /// errors.
    ///
    /// # Errors
    /// Rows of zero or inconsistent width, names that appear twice, or numbers that are not finite.
    pub fn new(path: &Path, names: Vec<String>, width: usize, values: Vec<f32>) -> Result<Self> {
        let bad = |message: String| Err(Error::data(path.display().to_string(), message, HINT));
        if width == 0 || values.len() != names.len() * width {
            return bad(format!(
                "{} names have {} numbers in all, which do not form rows of one width",
                names.len(),
                values.len()
            ));
        }
        let mut seen = HashSet::new();
        for (name, row) in names.iter().zip(values.chunks_exact(width)) {
            if !seen.insert(name) {
                return bad(format!("`{name}` appears twice"));
            }
            if let Some(at) = row.iter().position(|value| !value.is_finite()) {
                return bad(format!("number {at} of `{name}` is {}", row[at]));
            }
        }
        Ok(Self { path: path.into(), names, width, values })
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The names, in the file's order.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Numbers per name.
    #[must_use]
    pub fn width(&self) -> usize {
        self.width
    }

    /// The numbers of a name.
    #[must_use]
    pub fn row(&self, name: &str) -> Option<&[f32]> {
        let at = self.names.iter().position(|known| known == name)?;
        Some(&self.values[at * self.width..(at + 1) * self.width])
    }
}
