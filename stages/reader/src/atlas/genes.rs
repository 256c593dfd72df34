//! The visible genes of an atlas: all of them, or some.

use std::sync::Arc;

use schemas::{Error, Result};

use super::Atlas;
use crate::gene_subset::GeneSubset;

/// Number of genes that 16 bits can address.
const NARROW_GENES: usize = 1 << 16;
/// Maximum number of missing genes listed in an error.
const NAMED_GENES: usize = 5;

impl Atlas {
    /// The names of the visible genes, in column order.
    #[must_use]
    pub fn genes(&self) -> &[String] {
        self.1.as_ref().map_or(&self.0.genes, |subset| subset.names())
    }

    /// The same atlas, restricted to these genes, in this order.
    ///
    /// # Errors
    /// Genes that the atlas does not have, unless it is already
    /// [restricted with zeros](Atlas::with_genes_or_zeros).
    pub fn with_genes(&self, names: &[String]) -> Result<Self> {
        if self.genes() == names {
            return Ok(self.clone());
        }
        let atlas = self.with_genes_or_zeros(names)?;
        match atlas.missing_genes() {
            [] => Ok(atlas),
            missing => Err(lacks(&self.path().display().to_string(), missing, names.len())),
        }
    }

    /// The same, but [genes that the atlas does not have](Atlas::missing_genes) are 0 in every cell.
    ///
    /// # Errors
    /// An atlas that has none of them, or more genes than the atlas's gene ids can number.
    pub fn with_genes_or_zeros(&self, names: &[String]) -> Result<Self> {
        let all = &self.0.genes;
        if all == names {
            return Ok(Self(Arc::clone(&self.0), None));
        }
        let place = self.path().display().to_string();
        let subset = GeneSubset::by_name(names, all);
        if subset.missing().len() == names.len() {
            return Err(lacks(&place, subset.missing(), names.len()));
        }
        let room = if all.len() <= NARROW_GENES { NARROW_GENES } else { u32::MAX as usize };
        if room < names.len() {
            let message =
                format!("it has {} genes, which it numbers in 16 bits, but the model has {}", all.len(), names.len());
            return Err(Error::data(
                place,
                message,
                "ingest with --join outer, together with cells that have all of the genes",
            ));
        }
        Ok(Self(Arc::clone(&self.0), Some(Arc::new(subset))))
    }

    /// Genes that are 0 in every cell because the atlas does not have them.
    #[must_use]
    pub fn missing_genes(&self) -> &[String] {
        self.1.as_ref().map_or(&[], |subset| subset.missing())
    }

    /// Visible genes whose name occurs several times, in the atlas or in the request: the first gene of that name is taken for the
    /// first that was requested, and so on.
    #[must_use]
    pub fn ambiguous_genes(&self) -> &[String] {
        self.1.as_ref().map_or(&[], |subset| subset.ambiguous())
    }

    /// The visible genes; `None` if all genes are visible.
    #[must_use]
    pub fn gene_subset(&self) -> Option<&Arc<GeneSubset>> {
        self.1.as_ref()
    }
}

fn lacks(place: &str, missing: &[String], count: usize) -> Error {
    let message = format!("it lacks {} of the model's {count} genes: {}", missing.len(), some_of(missing));
    let hint = "use an atlas with the model's genes under the same names; with a few missing, `predict --missing-genes zero` sets them to 0";
    Error::data(place, message, hint)
}

/// The first of some names.
#[must_use]
pub fn some_of(names: &[String]) -> String {
    let more = if names.len() > NAMED_GENES { ", ..." } else { "" };
    format!("{}{more}", names[..names.len().min(NAMED_GENES)].join(", "))
}
