//! The terms of predictions: their scale, genes and library sizes.

use std::{
    collections::{BTreeSet, HashMap},
    num::{NonZeroU32, NonZeroUsize},
    path::PathBuf,
    sync::Arc,
};

use schemas::{Error, Result, atlas::ValueKind, numbers::to_i64};
use stages::{
    model_card::ModelCard,
    predictor::{
        predict::{Reading, Readout, batch_size},
        query::Jobs,
    },
    reader::{
        atlas::Atlas,
        group_statistics::{GroupSummary, summaries},
    },
    statistics::scale::TARGET_SUM,
    trainer::gene_choice::ChosenGenes,
};

use super::source_plans::source_plans;
use crate::flows::{Resources, completed, rows};

/// Default number of differential genes per condition.
const DIFFERENTIAL_GENES: usize = 50;
/// Number of source cells for a median library size, evenly spaced.
const MEDIAN_CELLS: u64 = 1 << 14;

/// The scale of predicted numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputScale {
    /// Counts at the cell's library size.
    Counts,
    /// Counts per ten thousand.
    Cp10k,
    /// log(1 + counts per ten thousand).
    Log1pCp10k,
    /// The continuous values of the atlas.
    Values,
}

impl OutputScale {
    /// Its name in the metadata of tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Counts => "counts",
            Self::Cp10k => "cp10k",
            Self::Log1pCp10k => "log1p_cp10k",
            Self::Values => "values",
        }
    }
}

/// The library size of a predicted cell.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Library {
    /// That of its source cell.
    #[default]
    Source,
    /// The median over the source cells.
    Median,
    /// A given number.
    Of(f64),
}

/// The genes of predictions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum PredictedGenes {
    /// All genes of the model.
    #[default]
    All,
    /// Genes listed in a file, one per line.
    Listed(PathBuf),
    /// Genes that distinguish the requested conditions from their controls in the atlas; for conditions without
    /// cells there, the genes of their perturbations.
    Differential,
}

/// The terms of predictions.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Terms {
    /// The scale; the model's own by default.
    pub scale: Option<OutputScale>,
    /// The library size.
    pub library: Library,
    /// Number of draws of each cell's latent from a variational encoder; by default, its mean is used.
    pub samples: Option<NonZeroU32>,
    /// The seed of the draws.
    pub seed: u64,
    /// The genes.
    pub genes: PredictedGenes,
    /// Maximum number of differential genes per condition; in long tables with other genes, of those with the
    /// largest predicted change.
    pub top: Option<NonZeroUsize>,
}

/// Terms that were checked against a model and an atlas.
#[derive(Clone, Debug)]
pub(in crate::models) struct CheckedTerms {
    pub(in crate::models) reading: Reading,
    pub(in crate::models) scale: OutputScale,
    /// Names of the predicted genes.
    pub(in crate::models) genes: Vec<String>,
    /// Number of rows per condition in a long table, if not all genes.
    pub(in crate::models) most_rows: Option<usize>,
}

impl CheckedTerms {
    /// The default terms of a model.
    pub(super) fn default_for(card: &ModelCard) -> Self {
        let scale = match card.values {
            ValueKind::Counts => OutputScale::Counts,
            ValueKind::Continuous => OutputScale::Values,
        };
        let reading = Reading { non_negative: card.non_negative, ..Readout::Expected.into() };
        Self { reading, scale, genes: card.genes.clone(), most_rows: None }
    }

    /// The terms of changes: of logarithms of counts, whatever the scale, and of values as they are.
    pub(super) fn of_changes(self) -> Self {
        let (readout, scale) = match self.scale {
            OutputScale::Values => (Readout::Expected, OutputScale::Values),
            _ => (Readout::CountedLog1pScaled(TARGET_SUM), OutputScale::Log1pCp10k),
        };
        // The two predictions of a change may be below 0, as long as the sum with the mean of the source cells is not.
        let reading = Reading { readout, noise: false, non_negative: false, ..self.reading };
        Self { reading, scale, ..self }
    }

    pub(super) fn new(
        terms: &Terms,
        card: &ModelCard,
        atlas: &Atlas,
        jobs: &Jobs,
        resources: &Resources,
    ) -> Result<Self> {
        let own = Self::default_for(card);
        let scale = terms.scale.unwrap_or(own.scale);
        if (scale == OutputScale::Values) != (own.scale == OutputScale::Values) {
            let message =
                format!("the model predicts {}, which can't be converted to {}", own.scale.name(), scale.name());
            return Err(Error::usage(message, format!("leave out --output-scale, or use {}", own.scale.name())));
        }
        let readout = match scale {
            OutputScale::Counts | OutputScale::Values => Readout::Expected,
            OutputScale::Cp10k => Readout::Scaled(1e4),
            OutputScale::Log1pCp10k => Readout::Log1pScaled(1e4),
        };
        if terms.library != Library::Source && own.scale == OutputScale::Values {
            return Err(Error::usage("a model of continuous values has no library size", "leave out --library"));
        }
        if terms.samples.is_some() && !card.config.model.variational {
            let message = "the model's encoder gives one latent per cell: there is nothing to sample";
            return Err(Error::usage(message, "leave out --samples, or train with --set model.variational=true"));
        }
        let library = match terms.library {
            Library::Source => None,
            Library::Of(library) if library > 0.0 && library <= f64::from(f32::MAX) => Some(library),
            Library::Of(library) => {
                return Err(Error::usage(
                    format!("a library size of {library} counts is not possible"),
                    "give a number above 0 that float32 can hold",
                ));
            }
            Library::Median => median_library(atlas, jobs, resources)?,
        };
        let chosen = match &terms.genes {
            PredictedGenes::All => None,
            PredictedGenes::Listed(file) => {
                let mut chosen = ChosenGenes::none(atlas);
                chosen.add_listed(file)?;
                Some(chosen.names().into_iter().collect())
            }
            PredictedGenes::Differential => {
                Some(differential(atlas, card, jobs, terms.top.map_or(DIFFERENTIAL_GENES, NonZeroUsize::get))?)
            }
        };
        let places: Option<Vec<usize>> = chosen.map(|chosen: BTreeSet<String>| {
            (0..card.genes.len()).filter(|at| chosen.contains(&card.genes[*at])).collect()
        });
        let genes = match &places {
            Some(places) => places.iter().map(|at| card.genes[*at].clone()).collect(),
            None => own.genes,
        };
        let places = places.map(|places| Arc::new(places.into_iter().map(to_i64).collect()));
        Ok(Self {
            reading: Reading {
                readout,
                noise: true,
                library,
                samples: terms.samples,
                seed: terms.seed,
                genes: places,
                non_negative: card.non_negative,
                offset_alone: false,
            },
            scale,
            genes,
            most_rows: terms.top.map(NonZeroUsize::get).filter(|_| terms.genes != PredictedGenes::Differential),
        })
    }
}

/// The median library size of the source cells; `None` if there are no cells.
fn median_library(atlas: &Atlas, jobs: &Jobs, resources: &Resources) -> Result<Option<f64>> {
    let cells = jobs.any_source_cells(atlas, MEDIAN_CELLS);
    let plans = source_plans(atlas, 0, 0, batch_size(1), cells.into_iter());
    let mut sums: Vec<f64> = Vec::new();
    let mut stream = rows(atlas, plans, resources).stream();
    for batch in &mut stream {
        let batch = match batch {
            Ok(batch) => batch,
            Err(error) => return completed(Err(error), "run the same command again").map(|(sum, _)| sum),
        };
        let first = sums.len();
        sums.resize(first + batch.plan.cells.len(), 0.0);
        batch.expression.for_each(|row, _, value| sums[first + row] += f64::from(value));
    }
    sums.sort_by(f64::total_cmp);
    let middle = sums.len() / 2;
    let median = match sums.len() {
        0 => return Ok(None),
        count if count % 2 == 1 => sums[middle],
        _ => f64::midpoint(sums[middle - 1], sums[middle]),
    };
    if median <= 0.0 {
        let place = atlas.path().display().to_string();
        return Err(Error::data(place, "half of the source cells have no counts", "give --library a number"));
    }
    Ok(Some(median))
}

/// The genes that distinguish conditions from their controls.
fn differential(atlas: &Atlas, card: &ModelCard, jobs: &Jobs, each: usize) -> Result<BTreeSet<String>> {
    let hint = "name the genes with --genes FILE, or ingest the cells again";
    let place = || atlas.path().display().to_string();
    let groups =
        summaries(atlas, usize::MAX)?.ok_or_else(|| Error::data(place(), "the atlas has no statistics", hint))?;
    let mut by_name: HashMap<&str, Vec<&GroupSummary>> = HashMap::new();
    for group in &groups {
        by_name.entry(&group.condition).or_default().push(group);
    }
    let mut chosen = BTreeSet::new();
    let known: BTreeSet<&String> = card.genes.iter().collect();
    for target in jobs.jobs.iter().flat_map(|job| &job.targets) {
        let singles: Vec<&str> = card.rules.parts(&target.condition).into_iter().map(str::trim).collect();
        let own = by_name.get(target.condition.as_str()).map(Vec::as_slice);
        let fallback = || singles.iter().filter_map(|name| by_name.get(name)).flatten().copied().collect::<Vec<_>>();
        let of_condition = own.map_or_else(fallback, <[&GroupSummary]>::to_vec);
        for group in of_condition {
            let genes = group.differential.iter().map(|gene| &gene.gene).filter(|gene| known.contains(gene));
            chosen.extend(genes.take(each).cloned());
        }
    }
    if chosen.is_empty() {
        return Err(Error::data(place(), "no gene distinguishes any of these conditions from its controls", hint));
    }
    Ok(chosen)
}
