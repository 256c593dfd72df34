//! Source cells go in, what they would be under other conditions comes out.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, AsArray, FixedSizeListArray, Float32Array, RecordBatch, StringArray, UInt64Array},
    datatypes::{DataType, Field, SchemaRef},
};
use schemas::{Error, ids::CellIndex};
use tch::{Kind, Tensor};

use crate::{
    BoxError, Stage,
    atlas::Atlas,
    model::{decoder::Output, input::Cells, layers::Mode, network::Network},
    profiles::Rows,
    query::{BatchTerm, Job, Target},
    saved::Model,
};

/// Cells decoded in one push, over all targets: what a request to stop waits for.
const DECODED_CELLS: usize = 1 << 16;
/// Cells of a batch at most: a bound on the dense tensors that live together.
const MOST_CELLS: usize = 256;
/// And at least: smaller matrix products waste the processor.
const FEWEST_CELLS: usize = 32;

/// What is averaged over cells.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Readout {
    /// Expected values; the variance is that of a cell: noise plus variation between cells.
    Expected,
    /// log(1 + expected values); the variance is that between cells.
    Log1p,
    /// Expected values scaled so that each cell's sum is this; the variance is that between cells.
    Scaled(f64),
}

/// Predicted means of one target.
#[derive(Clone, Debug, PartialEq)]
pub struct TargetMeans {
    /// The job it is of.
    pub job: usize,
    /// The target's place in its job.
    pub target: usize,
    /// How many source cells it was predicted from.
    pub source_cells: u64,
    /// Mean of each gene.
    pub mean: Vec<f32>,
    /// Variance of each gene.
    pub variance: Vec<f32>,
    /// Mean of each gene among the source cells themselves.
    pub control_mean: Vec<f32>,
}

impl schemas::ByteSize for TargetMeans {
    fn byte_size(&self) -> usize {
        12 * self.mean.len()
    }
}

/// Averages predictions over the source cells of each job.
#[derive(Debug)]
pub struct PredictMeans {
    model: Model,
    jobs: Arc<Vec<Job>>,
    readout: Readout,
    sums: Option<Sums>,
}

#[derive(Debug)]
struct Sums {
    cells: u64,
    /// Sums over cells, `[targets, genes]`: of what is averaged, of its square, and of the noise's variance.
    first: Tensor,
    second: Tensor,
    noise: Tensor,
    /// `[genes]`.
    control: Tensor,
}

impl PredictMeans {
    /// A predictor of jobs; the batches of job `j` are those of epoch `j`.
    #[must_use]
    pub fn new(model: Model, jobs: Arc<Vec<Job>>, readout: Readout) -> Self {
        Self { model, jobs, readout, sums: None }
    }

    fn add(&mut self, batch: &Rows) {
        let _no_grad = tch::no_grad_guard();
        let network = &self.model.network;
        let (kind, device) = (network.parameters.kind(), network.parameters.device());
        let job = &self.jobs[batch.plan.epoch as usize];
        let cells = Cells::new(&batch.expression, network.genes(), kind, device);
        let targets = i64::try_from(job.targets.len()).unwrap_or(i64::MAX);
        let zeros = |size: &[i64]| Tensor::zeros(size, (Kind::Double, device));
        let wide = [targets, network.genes()];
        let sums = self.sums.get_or_insert_with(|| Sums {
            cells: 0,
            first: zeros(&wide),
            second: zeros(&wide),
            noise: zeros(&wide),
            control: zeros(&wide[1..]),
        });
        sums.cells += batch.plan.cells.len() as u64;
        let over_cells = |x: &Tensor| x.sum_dim_intlist([0_i64].as_slice(), false, kind).to_kind(Kind::Double);
        sums.control += over_cells(&on_readout(&cells.dense(), &cells.library, self.readout));
        let basal = network.encode(&cells, Mode::Eval);
        for (row, target) in job.targets.iter().enumerate() {
            let row = i64::try_from(row).unwrap_or(i64::MAX);
            let added = added_latent(network, target);
            let output = network.decode(&(&basal + added), &cells.library, Mode::Eval);
            let x = on_readout(&output.mean(), &cells.library, self.readout);
            let mut first = sums.first.get(row);
            first += over_cells(&x);
            let mut second = sums.second.get(row);
            second += over_cells(&x.square());
            if self.readout == Readout::Expected || matches!(output, Output::Normal { .. }) {
                let mut noise = sums.noise.get(row);
                noise += over_cells(&output.variance());
            }
        }
    }

    fn emit(&mut self, job: usize, emit: &mut dyn FnMut(TargetMeans)) -> Result<(), BoxError> {
        let Some(Sums { cells, first, second, noise, control }) = self.sums.take() else { return Ok(()) };
        #[expect(clippy::cast_precision_loss, reason = "a mean needs no more than 52 bits of a count")]
        let count = cells as f64;
        let mean = first / count;
        let variance = (second / count - mean.square()).clamp_min(0.0) + noise / count;
        let control_mean = to_vec(&(control / count))?;
        for target in 0..self.jobs[job].targets.len() {
            let row = i64::try_from(target)?;
            emit(TargetMeans {
                job,
                target,
                source_cells: cells,
                mean: to_vec(&mean.get(row))?,
                variance: to_vec(&variance.get(row))?,
                control_mean: control_mean.clone(),
            });
        }
        Ok(())
    }
}

impl Stage for PredictMeans {
    type In = Rows;
    type Out = TargetMeans;

    fn push(&mut self, batch: Rows, emit: &mut dyn FnMut(TargetMeans)) -> Result<(), BoxError> {
        self.add(&batch);
        if batch.plan.last {
            self.emit(batch.plan.epoch as usize, emit)?;
        }
        Ok(())
    }
}

/// Predicts every source cell under every target.
pub struct PredictCells {
    model: Model,
    jobs: Arc<Vec<Job>>,
    schema: SchemaRef,
    atlas: Atlas,
    names: Option<(u32, CellNames)>,
}

impl std::fmt::Debug for PredictCells {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PredictCells").field("schema", &self.schema).finish_non_exhaustive()
    }
}

impl PredictCells {
    /// A predictor of jobs; the batches of job `j` are those of epoch `j`, their cells ascending.
    #[must_use]
    pub fn new(model: Model, jobs: Arc<Vec<Job>>, atlas: Atlas, schema: SchemaRef) -> Self {
        Self { model, jobs, schema, atlas, names: None }
    }

    fn names_of(&mut self, job: u32, cells: &[CellIndex]) -> Result<Vec<String>, BoxError> {
        if self.names.as_ref().is_none_or(|(of, _)| *of != job) {
            self.names = Some((job, CellNames::new(&self.atlas)?));
        }
        let names = self.names.as_mut().map(|(_, names)| names).ok_or("the names were just opened")?;
        cells.iter().map(|cell| names.get(*cell)).collect()
    }

    fn rows(&self, batch: &Rows, names: &[String], target: &Target, mean: &Tensor) -> Result<RecordBatch, BoxError> {
        let table = &self.atlas.manifest().conditions;
        let rows = batch.plan.cells.len();
        let mut columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from_iter_values(names)),
            Arc::new(StringArray::from_iter_values(
                batch.plan.cells.iter().map(|cell| table.name(self.atlas.condition(*cell))),
            )),
        ];
        columns.extend(label_columns(target, rows));
        columns.push(list_column(to_vec(&mean.view([-1]))?, self.model.card.genes.len())?);
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), columns)?)
    }
}

impl Stage for PredictCells {
    type In = Rows;
    type Out = RecordBatch;

    fn push(&mut self, batch: Rows, emit: &mut dyn FnMut(RecordBatch)) -> Result<(), BoxError> {
        let names = self.names_of(batch.plan.epoch, &batch.plan.cells)?;
        let _no_grad = tch::no_grad_guard();
        let network = &self.model.network;
        let cells =
            Cells::new(&batch.expression, network.genes(), network.parameters.kind(), network.parameters.device());
        let basal = network.encode(&cells, Mode::Eval);
        for target in &self.jobs[batch.plan.epoch as usize].targets {
            let output = network.decode(&(&basal + added_latent(network, target)), &cells.library, Mode::Eval);
            emit(self.rows(&batch, &names, target, &output.mean())?);
        }
        Ok(())
    }
}

/// Source cells of a batch, for so many targets.
#[must_use]
pub fn batch_size(targets: usize) -> usize {
    (DECODED_CELLS / targets.max(1)).clamp(FEWEST_CELLS, MOST_CELLS)
}

/// What a target's perturbations and covariates add to a latent, `[1, latent]`.
fn added_latent(network: &Network, target: &Target) -> Tensor {
    let device = network.parameters.device();
    let mut sum = network.condition_latent(&target.parts);
    for (at, code) in target.covariate_codes.iter().enumerate() {
        let table = network.covariate_table(at);
        match target.batch {
            BatchTerm::Average if network.batch_at() == Some(at) => {
                sum += table.mean_dim([0_i64].as_slice(), true, table.kind());
            }
            BatchTerm::LeftOut if network.batch_at() == Some(at) => {}
            _ => sum += table.index_select(0, &Tensor::from_slice(&[i64::from(*code)]).to_device(device)),
        }
    }
    sum
}

fn on_readout(mean: &Tensor, library: &Tensor, readout: Readout) -> Tensor {
    match readout {
        Readout::Expected => mean.shallow_clone(),
        Readout::Log1p => mean.log1p(),
        Readout::Scaled(sum) => mean / library.clamp_min(1.0) * sum,
    }
}

fn to_vec(tensor: &Tensor) -> Result<Vec<f32>, BoxError> {
    Ok(Vec::<f32>::try_from(tensor.to_kind(Kind::Float).to_device(tch::Device::Cpu).contiguous())?)
}

/// Predicted means as rows of [`schemas::arrow::means_schema`].
///
/// # Errors
/// None that data can cause.
pub fn means_rows(schema: &SchemaRef, target: &Target, means: &TargetMeans) -> Result<RecordBatch, BoxError> {
    let mut columns = label_columns(target, 1);
    columns.push(Arc::new(UInt64Array::from(vec![means.source_cells])));
    let delta = means.mean.iter().zip(&means.control_mean).map(|(mean, control)| mean - control).collect();
    for values in [means.mean.clone(), means.variance.clone(), means.control_mean.clone(), delta] {
        let genes = values.len();
        columns.push(list_column(values, genes)?);
    }
    Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
}

/// Predicted means as rows of [`schemas::arrow::long_means_schema`], one a gene.
///
/// # Errors
/// None that data can cause.
pub fn long_means_rows(
    schema: &SchemaRef,
    genes: &[String],
    target: &Target,
    means: &TargetMeans,
) -> Result<RecordBatch, BoxError> {
    let mut columns = label_columns(target, genes.len());
    columns.push(Arc::new(UInt64Array::from(vec![means.source_cells; genes.len()])));
    columns.push(Arc::new(StringArray::from_iter_values(genes)));
    let delta: Vec<f32> = means.mean.iter().zip(&means.control_mean).map(|(mean, control)| mean - control).collect();
    for values in [&means.mean, &means.variance, &means.control_mean, &delta] {
        columns.push(Arc::new(Float32Array::from(values.clone())));
    }
    Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
}

fn label_columns(target: &Target, rows: usize) -> Vec<ArrayRef> {
    let texts = [&target.condition, &target.dose].into_iter().chain(&target.covariates).map(String::as_str);
    let texts = texts.chain([target.extrapolation.name()]);
    texts.map(|text| Arc::new(StringArray::from_iter_values(std::iter::repeat_n(text, rows))) as ArrayRef).collect()
}

fn list_column(values: Vec<f32>, genes: usize) -> Result<ArrayRef, BoxError> {
    let item = Arc::new(Field::new("item", DataType::Float32, false));
    Ok(Arc::new(FixedSizeListArray::try_new(item, i32::try_from(genes)?, Arc::new(Float32Array::from(values)), None)?))
}

/// Names of ascending cells, read forward.
struct CellNames {
    reader: parquet::arrow::arrow_reader::ParquetRecordBatchReader,
    batch: Option<RecordBatch>,
    first: u64,
}

impl CellNames {
    fn new(atlas: &Atlas) -> Result<Self, Error> {
        Ok(Self { reader: atlas.obs(&["cell"])?, batch: None, first: 0 })
    }

    fn get(&mut self, cell: CellIndex) -> Result<String, BoxError> {
        loop {
            let rows = self.batch.as_ref().map_or(0, |batch| batch.num_rows() as u64);
            if let Some(batch) = &self.batch
                && (self.first..self.first + rows).contains(&cell.0)
            {
                return Ok(batch.column(0).as_string::<i32>().value(usize::try_from(cell.0 - self.first)?).to_owned());
            }
            self.first += rows;
            self.batch = Some(self.reader.next().ok_or("cells.parquet has fewer rows than the atlas has cells")??);
        }
    }
}
