//! Chooses the genes of a model: `order → read → batch → sums` over the training cells, twice for counts, once for logarithms.

use std::sync::Arc;

use schemas::{
    Error, Result,
    atlas::ValueKind,
    config::{DataSettings, GeneChoice},
    gene_selection::{GeneSelection, Method},
    numbers::to_usize,
};
use stages::{
    reader::{
        atlas::Atlas,
        split::{Split, SplitPart},
    },
    trainer::{
        gene_choice::ChosenGenes,
        variability::{
            Trend, dispersions, largest,
            sums::{GeneSums, SumGenes, ValueTransform},
        },
    },
};

use crate::flows::stored_order::rows_as_stored;
use crate::flows::{Resources, completed, rows};

/// The atlas restricted to the model's genes, and how they were chosen. Only training cells are used.
///
/// # Errors
/// Lists that can't be read or name genes that the atlas does not have, values without a ranking method, or a
/// run that was stopped.
pub fn choose_genes(
    atlas: &Atlas,
    split: &Arc<Split>,
    data: &DataSettings,
    resources: &Resources,
) -> Result<(Atlas, GeneSelection)> {
    let gene_count = atlas.genes().len() as u64;
    let mut genes = ChosenGenes::none(atlas);
    let mut cells = 0;
    let method = match &data.genes {
        GeneChoice::All => {
            return Ok((
                atlas.clone(),
                GeneSelection { of: gene_count, chosen: gene_count, ..GeneSelection::default() },
            ));
        }
        GeneChoice::Listed(file) => {
            genes.add_listed(file)?;
            Method::List
        }
        GeneChoice::Variable(count) => {
            let ranking = Ranking { atlas, split, resources };
            let ranked = match atlas.manifest().values {
                ValueKind::Counts => ranking.of_counts()?,
                ValueKind::Continuous => ranking.of_logarithms()?,
            };
            let most = to_usize(*count);
            genes.add(largest(&ranked.scores, most));
            cells = ranked.cells;
            ranked.method
        }
    };
    let chosen = genes.count();
    genes.keep(&data.genes_keep)?;
    let kept = genes.count() - chosen;
    Ok((atlas.with_genes(&genes.names())?, GeneSelection { method, of: gene_count, chosen, kept, cells }))
}

/// Scores of all genes; the largest are chosen.
struct RankedGenes {
    method: Method,
    scores: Vec<f64>,
    /// Number of cells from which they were computed.
    cells: u64,
}

struct Ranking<'a> {
    atlas: &'a Atlas,
    split: &'a Arc<Split>,
    resources: &'a Resources,
}

impl Ranking<'_> {
    fn of_counts(&self) -> Result<RankedGenes> {
        let sums = self.sums(ValueTransform::Values)?;
        let trend = Trend::fit(&sums);
        let cut_off = self.sums(ValueTransform::AtMost(trend.bounds()))?;
        Ok(RankedGenes { method: Method::SeuratV3, scores: trend.normalised(&cut_off), cells: sums.cells })
    }

    fn of_logarithms(&self) -> Result<RankedGenes> {
        let sums = self.sums(ValueTransform::Unlogged)?;
        if sums.any_negative || sums.squares.iter().any(|sum| !sum.is_finite()) {
            return Err(Error::data(
                self.atlas.path().display().to_string(),
                "its values are not logarithms of normalised counts: some are below 0 or too large",
                "ingest the layer that holds the raw counts, or name the genes in a file: --genes FILE",
            ));
        }
        Ok(RankedGenes { method: Method::Seurat, scores: dispersions(&sums), cells: sums.cells })
    }

    fn sums(&self, summed: ValueTransform) -> Result<GeneSums> {
        let split = Arc::clone(self.split);
        let plans = rows_as_stored(self.atlas, move |cell| split.part(cell) == SplitPart::Train);
        let sink = SumGenes::new(self.atlas.genes().len(), summed);
        let again = "run the same command again: nothing was written";
        let (sums, _) = completed(rows(self.atlas, plans, self.resources).run("sums", sink), again)?;
        if sums.cells < 2 {
            let message = "choosing variable genes takes at least two training cells";
            return Err(Error::data(self.atlas.path().display().to_string(), message, "hold out less"));
        }
        Ok(sums)
    }
}
