//! The genes through which an atlas is seen: all of them, or some.

use std::sync::Arc;

use schemas::Result;

use super::Atlas;
use crate::gene_subset::GeneSubset;

impl Atlas {
    /// The names of the genes that are seen, in the order of their columns.
    #[must_use]
    pub fn genes(&self) -> &[String] {
        self.1.as_ref().map_or(&self.0.genes, |subset| subset.names())
    }

    /// The same atlas, seen through these genes alone, in this order.
    ///
    /// # Errors
    /// Names that it does not have.
    pub fn with_genes(&self, names: &[String]) -> Result<Self> {
        let all = &self.0.genes;
        let subset = match all == names {
            true => None,
            false => Some(Arc::new(GeneSubset::by_name(names, all, &self.path().display().to_string())?)),
        };
        Ok(Self(Arc::clone(&self.0), subset))
    }

    /// Which genes are seen; none where all are.
    #[must_use]
    pub fn gene_subset(&self) -> Option<&Arc<GeneSubset>> {
        self.1.as_ref()
    }
}
