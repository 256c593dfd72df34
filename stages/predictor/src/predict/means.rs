//! Predictions averaged over source cells.

use std::sync::Arc;

use model::{
    backpressure::Backpressure,
    expected::{add_expected_counts, add_expected_counts_of_targets, has_expected_sums, noise_of_sums},
    layers::Mode,
    network::Network,
    saved::Model,
};
use reader::profiles::ExpressionRows;
use schemas::numbers::to_i64;
use stage::{BoxError, Stage};
use statistics::scale::TARGET_SUM;
use tch::{Device, Kind, Tensor};
use torch::{CudaStream, OneThread, host_copy::to_host};

use super::{
    Reading,
    counted::CountedLog,
    latent::{TargetLatentTerms, TrainedLatents, basal},
    logarithms::CellsAsControl,
    to_vec,
};
use crate::{
    predict::Readout,
    query::{Job, Target},
};

/// Number of targets whose means are copied to the host at once.
const TARGETS_AT_ONCE: usize = 256;

/// Predicted means of one target.
#[derive(Clone, Debug, PartialEq)]
pub struct TargetMeans {
    /// Index of the job.
    pub job: usize,
    /// Index of the target in its job.
    pub target: usize,
    /// Number of source cells that it was predicted from.
    pub source_cells: u64,
    /// Distance from the training data: for a model with offsets, the expected error of the change, a root mean
    /// square over genes; otherwise the distance in the latent to the nearest trained condition and covariates.
    /// `None` if the training data are unknown.
    pub distance: Option<f32>,
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
    reading: Reading,
    trained: TrainedLatents,
    counted: Option<CountedLog>,
    under_way: Option<UnfinishedMeans>,
    backpressure: Backpressure,
}

/// A job of which some cells have been predicted.
#[derive(Debug)]
struct UnfinishedMeans {
    added: Vec<TargetLatentTerms>,
    source_cells: u64,
    /// Number of cells decoded for each target: one for each source cell and draw.
    decoded: u64,
    /// Sums over decoded cells, `[targets, genes]`: of the averaged values, and of their squares.
    first: Tensor,
    second: Tensor,
    /// Sums of the variance of the noise, if it does not follow from the two.
    noise: Option<Tensor>,
    /// Averages over the source cells themselves, `[genes]`.
    control: Tensor,
}

impl PredictMeans {
    /// Creates a predictor for jobs; the batches of job `j` are those of pass `j`.
    #[must_use]
    pub fn new(model: Model, jobs: Arc<Vec<Job>>, reading: impl Into<Reading>) -> Self {
        let _one_thread = OneThread::hold();
        let trained = tch::no_grad(|| TrainedLatents::new(&model.network, &model.card.vocabulary));
        let reading = reading.into();
        let device = model.network.parameters.device();
        let counted = reading.readout.is_counted().then(|| CountedLog::new(device));
        Self { model, jobs, reading, trained, counted, under_way: None, backpressure: Backpressure::default() }
    }

    fn add(&mut self, batch: &ExpressionRows) -> Result<(), BoxError> {
        let _no_grad = tch::no_grad_guard();
        let network = &self.model.network;
        let job = &self.jobs[batch.plan.job()];
        let cells = network.cells(&batch.expression)?;
        let job = self.under_way.get_or_insert_with(|| UnfinishedMeans::new(network, job, &self.reading));
        job.source_cells += batch.plan.cells.len() as u64;
        let library = self.reading.library(&cells.library).contiguous();
        let control = self.reading.at_library(cells.dense(), &cells.library, &library);
        job.control += over_cells(&self.reading.convert(&control, &library));
        for basal in basal(network, &cells, &self.reading, (batch.plan.pass, batch.plan.index)) {
            job.decoded += batch.plan.cells.len() as u64;
            job.decode(network, &basal, &library, (&self.reading, self.counted.as_ref()));
        }
        if let Device::Cuda(index) = network.parameters.device() {
            self.backpressure.given(&CudaStream::current(index)?)?;
        }
        Ok(())
    }

    /// The distance of targets from the training data: the expected error with offsets, otherwise a distance
    /// between latents.
    fn distances(&self, job: usize, added: &[TargetLatentTerms]) -> Result<Option<Vec<f32>>, BoxError> {
        let Some(offset) = self.model.network.offset() else {
            return self.trained.distances(added).map(|distances| to_vec(&distances)).transpose();
        };
        let uncertainty_of = |target: &Target| offset.uncertainty(&target.parts, &target.terms);
        let all: Vec<Tensor> = self.jobs[job].targets.iter().map(uncertainty_of).collect();
        Ok(Some(to_vec(&Tensor::stack(&all, 0))?))
    }

    fn emit(&mut self, job: usize, emit: &mut dyn FnMut(TargetMeans)) -> Result<(), BoxError> {
        let Some(done) = self.under_way.take() else { return Ok(()) };
        let _no_grad = tch::no_grad_guard();
        #[expect(clippy::cast_precision_loss, reason = "a mean needs no more than 52 bits of a count")]
        let (cells, decoded) = (done.source_cells as f64, done.decoded as f64);
        let distances = self.distances(job, &done.added)?;
        let noise = match &done.noise {
            Some(noise) => Some(noise.shallow_clone()),
            None if self.reading.readout == Readout::Expected => {
                noise_of_sums(&self.model.network, &done.first, &done.second)
            }
            None => None,
        };
        let control_mean = to_vec(&self.reading.chosen(done.control / cells))?;
        let targets = to_i64(done.added.len());
        for from in (0..targets).step_by(TARGETS_AT_ONCE) {
            let rows = |all: &Tensor| all.narrow(0, from, (targets - from).min(to_i64(TARGETS_AT_ONCE)));
            let mean = rows(&done.first) / decoded;
            let between = (rows(&done.second) / decoded - mean.square()).clamp_min(0.0);
            let variance = match &noise {
                Some(noise) => between + rows(noise) / decoded,
                None => between,
            };
            let all =
                [self.reading.bounded(mean), variance].map(|values| self.reading.chosen(values).to_kind(Kind::Float));
            let [mean, variance] = &to_host(&all.each_ref())?[..] else { unreachable!("as many as were given") };
            for row in 0..mean.size()[0] {
                let target = usize::try_from(from + row)?;
                emit(TargetMeans {
                    job,
                    target,
                    source_cells: done.source_cells,
                    distance: distances.as_ref().map(|distances| distances[target]),
                    mean: to_vec(&mean.get(row))?,
                    variance: to_vec(&variance.get(row))?,
                    control_mean: control_mean.clone(),
                });
            }
        }
        Ok(())
    }
}

impl UnfinishedMeans {
    fn new(network: &Network, job: &Job, reading: &Reading) -> Self {
        let targets = to_i64(job.targets.len());
        let wide = [targets, network.genes()];
        let zeros = |size: &[i64]| Tensor::zeros(size, (Kind::Double, network.parameters.device()));
        let terms = |target: &Target| match job.targets.first() {
            Some(control) if reading.offset_alone => TargetLatentTerms::of_offset_alone(network, control, target),
            _ => TargetLatentTerms::new(network, target),
        };
        Self {
            added: job.targets.iter().map(terms).collect(),
            source_cells: 0,
            decoded: 0,
            first: zeros(&wide),
            second: zeros(&wide),
            noise: None,
            control: zeros(&wide[1..]),
        }
    }

    /// Decodes cells with these basal latents under every target.
    fn decode(
        &mut self,
        network: &Network,
        basal: &Tensor,
        library: &Tensor,
        (reading, counted): (&Reading, Option<&CountedLog>),
    ) {
        if reading.readout == Readout::Expected {
            let targets =
                self.added.iter().map(|added| (added.all(), added.offset.as_ref().map(Tensor::shallow_clone)));
            let sums = [&self.first, &self.second];
            if add_expected_counts_of_targets(network, basal, &targets.collect::<Vec<_>>(), library, sums) {
                return;
            }
        }
        let logarithms = |means: &Tensor| reading.expected(counted, means, library);
        let control = self.added.first().filter(|_| reading.readout == Readout::CountedLog1pScaled(TARGET_SUM));
        let as_control = control.map(|control| CellsAsControl { network, basal, library, control, logarithms });
        let unmoved =
            as_control.as_ref().filter(|cells| cells.control.log_shift.is_some()).map(CellsAsControl::unmoved);
        for (row, added) in (0_i64..).zip(&self.added) {
            let (latent, offset) = (basal + added.all(), added.offset.as_ref());
            let (mut first, mut second) = (self.first.get(row), self.second.get(row));
            if reading.readout == Readout::Expected
                && add_expected_counts(network, &latent, offset, library, [&mut first, &mut second])
            {
                continue;
            }
            let moved = as_control.as_ref().zip(unmoved.as_ref());
            let moved = moved.and_then(|(cells, unmoved)| Some(unmoved + cells.change(added)?));
            let mut add = |x: &Tensor| {
                first += over_cells(x);
                second += over_cells(&x.square());
            };
            if let Some(moved) = moved.as_ref().filter(|_| !reading.noise) {
                add(moved);
                continue;
            }
            let output = network.decode(&latent, offset, library, Mode::Eval);
            add(&moved.unwrap_or_else(|| logarithms(&output.mean())));
            if reading.readout == Readout::Expected && has_expected_sums(&output) {
                continue;
            }
            if let Some(of_cells) = reading.noise_of(counted, &output, library) {
                let all = self.noise.get_or_insert_with(|| self.first.zeros_like());
                let mut noise = all.get(row);
                noise += over_cells(&of_cells);
            }
        }
    }
}

fn over_cells(x: &Tensor) -> Tensor {
    x.sum_dim_intlist([0_i64].as_slice(), false, x.kind()).to_kind(Kind::Double)
}

impl Stage for PredictMeans {
    type In = ExpressionRows;
    type Out = TargetMeans;

    fn push(&mut self, batch: ExpressionRows, emit: &mut dyn FnMut(TargetMeans)) -> Result<(), BoxError> {
        let _one_thread = OneThread::hold();
        self.add(&batch)?;
        if batch.plan.last {
            self.emit(batch.plan.job(), emit)?;
        }
        Ok(())
    }
}
