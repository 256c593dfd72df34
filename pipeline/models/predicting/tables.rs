//! Predictions of cells in tables that another program hands over, one table after another.

use std::{collections::HashSet, sync::Arc};

use arrow::{
    array::{ArrayRef, RecordBatch, StringArray},
    datatypes::{Schema, SchemaRef},
};
use schemas::{
    Error, Result,
    arrow::ATLAS_KEY,
    atlas::{Codec, ValueKind},
    chunk::CsrRows,
    numbers::checked,
};
use stages::{
    formats::{
        memory::CellsInMemory,
        source::Source,
        table::handed::{HANDED_TABLE, HandedColumns},
    },
    ingest::{census::ValuesAs, keys::RequestedKeys},
    model::saved::Model,
    model_card::ModelCard,
    predictor::query::{OnNoControl, OnUnseenCovariate, Query, Request},
    reader::{atlas::Atlas, selector::Selector},
    storage::disk::ScratchFolder,
};

use super::{Library, PredictedGenes, Prediction, PredictionForm, Terms};
use crate::flows::{
    Resources,
    ingesting::{IngestOptions, ingest},
};

/// The largest size of an atlas, as a multiple of the bytes of its cells in memory plus a constant.
const ATLAS_SIZE: u64 = 4;
const ATLAS_BYTES: u64 = 16 << 20;

/// A model that predicts the cells of tables, with the same request for each.
///
/// A cell gets the rows that it would have among all others of an atlas, whatever else is in its table.
#[derive(Debug)]
pub struct TablePredictor {
    model: Model,
    query: Query,
    terms: Terms,
    columns: HandedColumns,
    options: IngestOptions,
    resources: Resources,
    schema: SchemaRef,
}

impl TablePredictor {
    /// Prepares the predictions of a query; a query that names no conditions is for all that the model was trained on. Genes that a
    /// table lacks are 0 if it `may_lack_genes`.
    ///
    /// # Errors
    /// A request that is wrong for any cells, or that depends on more cells than those of one table.
    pub fn new(
        model: Model,
        query: Query,
        terms: Terms,
        form: PredictionForm,
        may_lack_genes: bool,
        resources: Resources,
    ) -> Result<Self> {
        refuse_of_all_cells(&query, &terms, form)?;
        let card = &model.card;
        let to = if query.to.is_empty() { trained_conditions(card) } else { query.to };
        if to.is_empty() {
            let message = "the model does not say which conditions it was trained on";
            return Err(Error::usage(message, "name those to predict with --to"));
        }
        let covariates: Vec<String> =
            card.vocabulary.covariates.iter().map(|covariate| covariate.name.clone()).collect();
        let own = card.labels.as_ref().and_then(|labels| labels.keys.perturbation.clone());
        let columns = HandedColumns {
            conditions: own.into_iter().chain(["condition".to_owned()]).collect(),
            covariates: covariates.clone(),
            genes: card.genes.clone(),
            may_lack_genes,
            values: card.values,
        };
        let keys = RequestedKeys {
            no_perturbation: true,
            covariates: Some(covariates),
            batch: card.vocabulary.batch.clone(),
            rules_of_model: Some(card.rules.clone()),
            ..RequestedKeys::default()
        };
        let values = match card.values {
            ValueKind::Counts => ValuesAs::Counts,
            ValueKind::Continuous => ValuesAs::Continuous,
        };
        let options = IngestOptions { keys, values, codec: Codec::Raw, shuffle: None, ..IngestOptions::default() };
        let query = Query { to, no_control: OnNoControl::Skip, ..query };
        let schema = Arc::new(Schema::empty());
        let mut predictor = Self { model, query, terms, columns, options, resources, schema };
        let prediction = predictor.prepare(any_cell(&predictor.model.card)?)?;
        let mut schema = Schema::clone(&prediction.schema(form));
        // The atlas of a table is gone with it.
        schema.metadata.remove(ATLAS_KEY);
        predictor.schema = Arc::new(schema);
        Ok(predictor)
    }

    /// The schema of the predicted rows.
    #[must_use]
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The predictions from a table's controls; `None` if it has none.
    ///
    /// # Errors
    /// A table without the model's columns, or with other values than the model's; covariates that it does not know.
    pub fn predict(&self, table: &RecordBatch) -> Result<Option<Prediction>> {
        let rules = &self.model.card.rules;
        let cells = self.columns.cells(table, |label| rules.means_control(label))?;
        cells.map(|cells| self.prepare(cells)).transpose()
    }

    /// Prepares predictions from cells, which are written to an atlas for that. Once it is open, its files need no names.
    fn prepare(&self, cells: CellsInMemory) -> Result<Prediction> {
        let scratch = ScratchFolder::in_memory(ATLAS_BYTES + ATLAS_SIZE * cells.origin().bytes)?;
        let folder = scratch.path().join("cells.atlas");
        ingest(Arc::new(cells), &folder, &self.options, &self.resources)?;
        let atlas = Atlas::open(&folder)?.with_genes_or_zeros(&self.model.card.genes)?;
        Prediction::prepare(&atlas, &self.model, &self.query, None, self.resources.clone())?.with_terms(&self.terms)
    }
}

/// A cell with labels that the model knows, for checks before the first table.
fn any_cell(card: &ModelCard) -> Result<CellsInMemory> {
    let text = |text: &str| Arc::new(StringArray::from(vec![text])) as ArrayRef;
    let mut obs = vec![("cell", text("any"))];
    for covariate in &card.vocabulary.covariates {
        obs.push((&covariate.name, text(covariate.values.first().map_or("", String::as_str))));
    }
    let genes: ArrayRef = Arc::new(StringArray::from_iter_values(&card.genes));
    let batch = |columns: Vec<(&str, ArrayRef)>| {
        RecordBatch::try_from_iter(columns).map_err(|error| Error::Bug(error.to_string()))
    };
    let row = CsrRows::canonical(vec![0, 1], vec![0], vec![1.0], checked(card.genes.len(), "genes")?);
    let row = row.map_err(|error| Error::Bug(error.to_string()))?;
    CellsInMemory::new(HANDED_TABLE, batch(obs)?, batch(vec![("gene", genes)])?, row)
}

/// The conditions that a model was trained on, but for control.
fn trained_conditions(card: &ModelCard) -> Vec<Request> {
    let vocabulary = &card.vocabulary;
    let perturbed = vocabulary.trained.iter().filter(|group| !group.perturbations.is_empty());
    let mut known = HashSet::new();
    let named = perturbed.filter(|group| known.insert(&group.perturbations)).map(|group| {
        let names: Vec<&str> = group.perturbations.iter().map(|code| vocabulary.name(*code)).collect();
        Selector(vec![("condition".to_owned(), names.join(&card.rules.delimiter))])
    });
    named.map(Request::Named).collect()
}

/// Refuses options with which a cell's rows depend on other cells.
fn refuse_of_all_cells(query: &Query, terms: &Terms, form: PredictionForm) -> Result<()> {
    let request = query.to.iter().find_map(|request| match request {
        Request::Named(_) | Request::Listed(..) | Request::Pairs => None,
        Request::Observed => Some("--to observed"),
        Request::Missing => Some("--to missing"),
        Request::Ood => Some("--to ood"),
        Request::All => Some("--to all"),
    });
    let others = [
        ("--output means and changes", !matches!(form, PredictionForm::Cells | PredictionForm::Latent)),
        ("--from", query.from.is_some()),
        ("--match", query.matching.is_some()),
        ("--no-control borrow", query.no_control == OnNoControl::Borrow),
        ("--unseen-covariate nearest", query.unseen_covariate == OnUnseenCovariate::Nearest),
        ("--cells-per-condition", query.cells_per_condition.is_some()),
        ("--library median", terms.library == Library::Median),
        ("--samples", terms.samples.is_some()),
        ("--genes deg", terms.genes == PredictedGenes::Differential),
    ];
    let Some(flag) = request.or_else(|| others.into_iter().find_map(|(flag, given)| given.then_some(flag))) else {
        return Ok(());
    };
    let message = format!("tables of cells are predicted one by one, and {flag} depends on more than one table");
    let hint = "leave it out and name conditions, with --output cells or latent, or predict from an atlas of all cells";
    Err(Error::usage(message, hint))
}
