//! Given embeddings of perturbations: a table with one row each, such as chemical fingerprints or gene embeddings.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
};

use crate::{Error, Result};

/// Where users find what such a table looks like.
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
    /// A table from the file at `path`, which errors name: the names, and for each of them `width` numbers, row by row.
    ///
    /// # Errors
    /// Rows of no or another width, names that appear twice, or numbers that are not finite.
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
