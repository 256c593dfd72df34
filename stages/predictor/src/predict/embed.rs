//! The latents of cells under their own conditions and covariates.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, RecordBatch, StringArray},
    datatypes::SchemaRef,
};
use model::{layers::Mode, saved::Model};
use reader::{atlas::Atlas, profiles::ExpressionRows};
use schemas::{Error, ids::ConditionId};
use stage::{BoxError, Stage};
use tch::{Kind, Tensor};
use torch::{OneThread, memory::on_device};

use super::{names::NamesByJob, rows::list_column, to_vec};

/// Computes the latents of cells; batches belong to one pass, with ascending cells.
///
/// If the model does not know a perturbation or covariate value, `corrected` and `after` are null; the basal
/// latent depends on neither.
pub struct Embed {
    model: Model,
    atlas: Atlas,
    schema: SchemaRef,
    names: NamesByJob,
    /// The latent term of each condition of the atlas, `[conditions, latent]`, and of each value of each
    /// covariate, `[values, latent]`.
    conditions: KnownLatents,
    covariates: Vec<KnownLatents>,
}

/// Rows of latents, some of which are unknown.
struct KnownLatents {
    rows: Tensor,
    known: Vec<bool>,
}

impl KnownLatents {
    fn from_rows(rows: Vec<Option<Tensor>>, zero: &Tensor) -> Self {
        let known = rows.iter().map(Option::is_some).collect();
        let rows: Vec<Tensor> = rows.into_iter().map(|row| row.unwrap_or_else(|| zero.shallow_clone())).collect();
        Self { rows: Tensor::cat(&rows, 0), known }
    }

    fn look_up(&self, codes: &[u32]) -> Tensor {
        let codes: Vec<i64> = codes.iter().map(|code| i64::from(*code)).collect();
        self.rows.index_select(0, &on_device(&codes, self.rows.device()))
    }
}

/// Latents of a batch, and which cells have one.
struct LatentSum {
    latent: Tensor,
    there: Vec<bool>,
}

impl LatentSum {
    fn add(&mut self, table: &KnownLatents, codes: &[u32]) {
        self.latent += table.look_up(codes);
        self.there.iter_mut().zip(codes).for_each(|(there, code)| *there &= table.known[*code as usize]);
    }

    fn snapshot(&self) -> Self {
        Self { latent: self.latent.copy(), there: self.there.clone() }
    }
}

impl std::fmt::Debug for Embed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Embed").field("schema", &self.schema).finish_non_exhaustive()
    }
}

impl Embed {
    /// Looks up every condition and covariate value of the atlas.
    ///
    /// # Errors
    /// An atlas with other covariates or another kind of values than the model's.
    pub fn new(model: Model, atlas: Atlas, schema: SchemaRef) -> Result<Self, Error> {
        crate::query::jobs::check_fits(&model.card, &atlas)?;
        let _no_grad = tch::no_grad_guard();
        let (network, vocabulary) = (&model.network, &model.card.vocabulary);
        let zero = Tensor::zeros([1, network.width()], (Kind::Float, network.parameters.device()));
        let ids = (0..atlas.manifest().conditions.conditions().len()).map(ConditionId::at);
        let of_condition =
            |id| vocabulary.parts(&atlas.manifest().conditions, id).map(|parts| network.condition_latent(&parts));
        let conditions = KnownLatents::from_rows(ids.map(of_condition).collect(), &zero);
        let here = atlas.manifest().covariates.iter().zip(&vocabulary.covariates).enumerate();
        let covariates = here.map(|(at, (covariate, trained))| {
            let row = |value: &String| {
                let code = on_device(&[i64::from(trained.code(value)?)], zero.device());
                Some(network.covariate_table(at).index_select(0, &code))
            };
            KnownLatents::from_rows(covariate.values.iter().map(row).collect(), &zero)
        });
        let covariates = covariates.collect();
        Ok(Self { names: NamesByJob::new(atlas.clone()), model, atlas, schema, conditions, covariates })
    }

    fn labels(&self, batch: &ExpressionRows, names: Vec<String>) -> Vec<ArrayRef> {
        let manifest = self.atlas.manifest();
        let codes = || batch.plan.cells.iter().map(|cell| self.atlas.codes(*cell));
        let text = |texts: Vec<&str>| Arc::new(StringArray::from(texts)) as ArrayRef;
        let table = &manifest.conditions;
        let doses: Vec<String> = codes().map(|codes| table.dose_label(ConditionId(codes[0]))).collect();
        let mut columns = vec![
            Arc::new(StringArray::from(names)) as ArrayRef,
            text(codes().map(|codes| table.name(ConditionId(codes[0]))).collect()),
            text(doses.iter().map(String::as_str).collect()),
        ];
        for (at, covariate) in manifest.covariates.iter().enumerate() {
            columns.push(text(codes().map(|codes| covariate.values[codes[1 + at] as usize].as_str()).collect()));
        }
        columns
    }
}

impl Stage for Embed {
    type In = ExpressionRows;
    type Out = RecordBatch;

    fn push(&mut self, batch: ExpressionRows, emit: &mut dyn FnMut(RecordBatch)) -> Result<(), BoxError> {
        let _one_thread = OneThread::hold();
        let names = self.names.for_cells(batch.plan.pass, &batch.plan.cells)?;
        let _no_grad = tch::no_grad_guard();
        let network = &self.model.network;
        let cells = network.cells(&batch.expression)?;
        let basal = network.encode(&cells, Mode::Eval);
        let codes_at =
            |at: usize| -> Vec<u32> { batch.plan.cells.iter().map(|cell| self.atlas.codes(*cell)[at]).collect() };
        let mut latent = LatentSum { latent: basal.copy(), there: vec![true; batch.plan.cells.len()] };
        latent.add(&self.conditions, &codes_at(0));
        let batch_at = network.batch_at();
        for (at, covariate) in self.covariates.iter().enumerate().filter(|(at, _)| batch_at != Some(*at)) {
            latent.add(covariate, &codes_at(1 + at));
        }
        let corrected = latent.snapshot();
        if let Some(at) = batch_at {
            latent.add(&self.covariates[at], &codes_at(1 + at));
        }
        let width = usize::try_from(network.width())?;
        let mut columns = self.labels(&batch, names);
        columns.push(list_column(to_vec(&basal)?, width, None)?);
        for sum in [corrected, latent] {
            columns.push(list_column(to_vec(&sum.latent)?, width, Some(sum.there))?);
        }
        emit(RecordBatch::try_new(Arc::clone(&self.schema), columns)?);
        Ok(())
    }
}
