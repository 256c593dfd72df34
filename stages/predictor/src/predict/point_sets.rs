//! Predicted cells as points: a few source cells of each context under every target.

use std::sync::Arc;

use model::{decoder::DecoderOutput, layers::Mode, saved::Model};
use reader::profiles::ExpressionRows;
use schemas::numbers::to_i64;
use stage::{BoxError, Stage};
use statistics::{
    axes::Axes,
    scale::{Anchor, CellScale, TARGET_SUM},
};
use tch::Tensor;
use xxhash_rust::xxh3::xxh3_64;

use super::{counted::CountedLog, latent::TargetLatentTerms, logarithms::CellsAsControl, reading::factor, to_vec};
use crate::query::Job;

/// Cells of one target, projected.
#[derive(Clone, Debug, PartialEq)]
pub struct TargetCells {
    /// Index of the job.
    pub job: usize,
    /// Index of the target in its job.
    pub target: usize,
    /// The cells, one after another.
    pub points: Vec<f32>,
}

impl schemas::ByteSize for TargetCells {
    fn byte_size(&self) -> usize {
        4 * self.points.len()
    }
}

/// Predicts cells and projects them; each job's first target is control, for which there is no output.
///
/// A predicted mean has no noise, so it can't be compared with real cells directly. When read
/// [anchored](Anchor::Anchored), a source cell keeps its own noise and is shifted by its predicted change.
/// When read [raw](Anchor::Raw), values are drawn from the predicted distribution; the seed depends only on
/// the batch.
#[derive(Debug)]
pub struct PredictPointSets {
    model: Model,
    jobs: Arc<Vec<Job>>,
    scale: CellScale,
    anchor: Anchor,
    counted: CountedLog,
    /// Loadings of the axes, `[genes, components]`.
    loadings: Tensor,
}

impl PredictPointSets {
    /// Creates a predictor for jobs; the batches of job `j` are those of pass `j`.
    #[must_use]
    pub fn new(model: Model, jobs: Arc<Vec<Job>>, axes: &Axes, anchor: Anchor) -> Self {
        let parameters = &model.network.parameters;
        let components = to_i64(axes.components());
        let loadings = Tensor::from_slice(axes.loadings())
            .view([model.network.genes(), components])
            .to_kind(parameters.kind())
            .to_device(parameters.device());
        let counted = CountedLog::new(parameters.device());
        Self { model, jobs, scale: axes.scale(), anchor, counted, loadings }
    }
}

impl PredictPointSets {
    /// Expected values of cells, on their scale before projection.
    fn expected(&self, means: &Tensor, library: &Tensor) -> Tensor {
        match self.scale {
            CellScale::Log1p => self.counted.expectation(means),
            CellScale::Scaled(sum) => self.counted.scaled_expectation(means, &factor(library, sum)),
            CellScale::Values => means.shallow_clone(),
        }
    }
}

impl Stage for PredictPointSets {
    type In = ExpressionRows;
    type Out = TargetCells;

    fn push(&mut self, batch: ExpressionRows, emit: &mut dyn FnMut(TargetCells)) -> Result<(), BoxError> {
        let _no_grad = tch::no_grad_guard();
        let network = &self.model.network;
        let kind = network.parameters.kind();
        let job = batch.plan.job();
        let seed = xxh3_64(&[u64::from(batch.plan.pass).to_le_bytes(), batch.plan.index.to_le_bytes()].concat());
        tch::manual_seed(i64::from_ne_bytes(seed.to_ne_bytes()));
        let cells = network.cells(&batch.expression)?;
        let basal = network.encode(&cells, Mode::Eval);
        let added: Vec<_> =
            self.jobs[job].targets.iter().map(|target| TargetLatentTerms::new(network, target)).collect();
        let Some(control) = added.first() else { return Ok(()) };
        let (library, logarithms) = (&cells.library, |means: &Tensor| self.expected(means, &cells.library));
        let as_control = CellsAsControl { network, basal: &basal, library, control, logarithms };
        let real = || on_scale(&cells.dense(), library, self.scale);
        let anchored = (self.anchor == Anchor::Anchored).then(|| (real(), as_control.unmoved()));
        for (at, added) in added.iter().enumerate().skip(1) {
            let decoded = || network.decode(&(&basal + added.all()), added.offset.as_ref(), library, Mode::Eval);
            let predicted = match &anchored {
                None => {
                    let drawn = sample(&decoded());
                    let sums = drawn.sum_dim_intlist([1_i64].as_slice(), true, kind);
                    on_scale(&drawn, &sums, self.scale)
                }
                Some((real, unmoved)) => {
                    let shifted =
                        (self.scale == CellScale::Scaled(TARGET_SUM)).then(|| as_control.change(added)).flatten();
                    real + shifted.unwrap_or_else(|| self.expected(&decoded().mean(), library) - unmoved)
                }
            };
            emit(TargetCells { job, target: at, points: to_vec(&predicted.matmul(&self.loadings))? });
        }
        Ok(())
    }
}

/// Values of cells on the scale used before projection.
fn on_scale(values: &Tensor, library: &Tensor, scale: CellScale) -> Tensor {
    match scale {
        CellScale::Log1p => values.log1p(),
        CellScale::Scaled(sum) => (values * factor(library, sum)).log1p(),
        CellScale::Values => values.shallow_clone(),
    }
}

/// Draws every value from the decoder's distribution; a negative binomial is a Poisson whose rate is Gamma
/// distributed.
fn sample(output: &DecoderOutput) -> Tensor {
    let counts = |mean: &Tensor, theta: &Tensor| {
        let shape = theta.expand_as(mean).contiguous();
        (shape.internal_standard_gamma() * mean / theta).poisson()
    };
    match output {
        DecoderOutput::NegativeBinomial { mean, theta }
        | DecoderOutput::ZeroInflated { mean, theta, uninflated: true, .. } => counts(mean, theta),
        DecoderOutput::ZeroInflated { mean, theta, logits, .. } => {
            let kept = (-logits).sigmoid().bernoulli();
            counts(mean, theta) * kept
        }
        DecoderOutput::Normal { mean, variance } => mean + variance.sqrt() * mean.randn_like(),
    }
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind};

    use super::*;

    /// The mean and the variance of many draws.
    fn moments(output: &DecoderOutput) -> (f64, f64) {
        tch::manual_seed(5);
        let draws = sample(output);
        let number = |tensor: Tensor| f64::try_from(tensor).expect("a number");
        (number(draws.mean(Kind::Double)), number(draws.var(true)))
    }

    #[test]
    fn draws_have_the_mean_and_the_variance_that_the_decoder_predicts() {
        let many = |x: f64| Tensor::full([200_000, 1], x, (Kind::Double, Device::Cpu));
        let theta = || Tensor::from_slice(&[2.0]);
        let negative_binomial = DecoderOutput::NegativeBinomial { mean: many(4.0), theta: theta() };
        let logits = many((0.25_f64 / 0.75).ln());
        let inflated = DecoderOutput::ZeroInflated { mean: many(4.0), theta: theta(), logits, uninflated: false };
        let normal = DecoderOutput::Normal { mean: many(-1.0), variance: many(0.25) };
        for output in [negative_binomial, inflated, normal] {
            let (mean, variance) = moments(&output);
            let expected = (output.mean().double_value(&[0, 0]), output.variance().double_value(&[0, 0]));
            assert!(
                (mean - expected.0).abs() < 0.04 && (variance / expected.1 - 1.0).abs() < 0.04,
                "{mean} {variance}"
            );
        }
    }
}
