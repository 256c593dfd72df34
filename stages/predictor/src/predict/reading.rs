//! How predictions are read from a decoder's output.

use std::{num::NonZeroU32, sync::Arc};

use model::decoder::DecoderOutput;
use tch::{Kind, Tensor};

use super::counted::CountedLog;

/// The scale of a prediction's numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Readout {
    /// Expected values: counts, or the atlas's own values.
    #[default]
    Expected,
    /// log(1 + expected counts).
    Log1p,
    /// The expectation of log(1 + counts), with counting noise around the expected counts: comparable with the
    /// mean of log(1 + counts) of real cells.
    CountedLog1p,
    /// The expectation of log(1 + counts scaled so that each cell's sum is this), with counting noise.
    CountedLog1pScaled(f64),
    /// Expected counts scaled so that each cell's sum is this.
    Scaled(f64),
    /// log(1 + the same).
    Log1pScaled(f64),
}

impl Readout {
    /// Whether numbers are expectations over counting noise.
    pub(super) fn is_counted(self) -> bool {
        matches!(self, Self::CountedLog1p | Self::CountedLog1pScaled(_))
    }
}

/// How a prediction is read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reading {
    /// The scale of the numbers.
    pub readout: Readout,
    /// Whether variances include the variance of a cell's value around its mean, in addition to that of the
    /// means. For logarithms, it is propagated to first order, with the square of the slope; counting noise exactly, if it is
    /// part of the readout.
    pub noise: bool,
    /// The library size of a predicted cell; by default that of its source cell.
    pub library: Option<f64>,
    /// Number of draws of a variational encoder's latent for each cell; by default one, at its mean.
    pub samples: Option<NonZeroU32>,
    /// Seed of the draws.
    pub seed: u64,
    /// Whether only the offset changes between targets, and latents stay those of the job's first target, which is control:
    /// what the offset predicts without the network.
    pub offset_alone: bool,
    /// Whether expected values below 0 become 0.
    pub non_negative: bool,
    /// Indices of the output genes; all by default.
    pub genes: Option<Arc<Vec<i64>>>,
}

impl From<Readout> for Reading {
    /// With noise for expected values, and without for all other readouts.
    fn from(readout: Readout) -> Self {
        Self { readout, noise: readout == Readout::Expected, ..Self::default() }
    }
}

impl Reading {
    /// Whether the output for a cell is the expected value of every gene.
    pub(super) fn is_all_expected(&self) -> bool {
        self.readout == Readout::Expected && self.genes.is_none()
    }

    /// The library sizes with which cells are decoded, `[cells, 1]`, given their own.
    pub(super) fn library(&self, own: &Tensor) -> Tensor {
        match self.library {
            Some(library) => own.full_like(library),
            None => own.shallow_clone(),
        }
    }

    /// Real counts `[cells, genes]`, scaled to the library size of the prediction.
    pub(super) fn at_library(&self, counts: Tensor, own: &Tensor, size: &Tensor) -> Tensor {
        match self.library {
            Some(_) => counts * (size / own.clamp_min(1.0)),
            None => counts,
        }
    }

    /// Values on the readout's scale: real ones, or expected ones for every readout without counting noise.
    pub(super) fn convert(&self, values: &Tensor, library: &Tensor) -> Tensor {
        match self.readout {
            Readout::Expected => values.shallow_clone(),
            Readout::Log1p | Readout::CountedLog1p => values.log1p(),
            Readout::Scaled(sum) => values * factor(library, sum),
            Readout::Log1pScaled(sum) | Readout::CountedLog1pScaled(sum) => (values * factor(library, sum)).log1p(),
        }
    }

    /// Expected values `[cells, genes]` on the readout's scale, given expected counts.
    pub(super) fn expected(&self, counted: Option<&CountedLog>, means: &Tensor, library: &Tensor) -> Tensor {
        match (counted, self.readout) {
            (Some(counted), Readout::CountedLog1pScaled(sum)) => {
                counted.scaled_expectation(means, &factor(library, sum))
            }
            (Some(counted), _) => counted.expectation(means),
            (None, _) => self.convert(means, library),
        }
    }

    /// The variance of a cell's value around its mean, on the readout's scale; `None` if not requested.
    pub(super) fn noise_of(
        &self,
        counted: Option<&CountedLog>,
        output: &DecoderOutput,
        library: &Tensor,
    ) -> Option<Tensor> {
        if !(self.noise || matches!(output, DecoderOutput::Normal { .. })) {
            return None;
        }
        let (variance, mean) = (output.variance(), output.mean());
        if let Some(counted) = counted {
            // Counting noise exactly, and what goes beyond it to first order.
            let factor = match self.readout {
                Readout::CountedLog1pScaled(sum) => factor(library, sum),
                _ => library.ones_like(),
            };
            let beyond = (variance - &mean).clamp_min(0.0) * (&factor / (&mean * &factor + 1.0)).square();
            return Some(counted.scaled_variance(&mean, &factor) + beyond);
        }
        Some(match self.readout {
            Readout::Expected => variance,
            Readout::Log1p | Readout::CountedLog1p => variance / (mean + 1.0).square(),
            Readout::Scaled(sum) => variance * factor(library, sum).square(),
            Readout::Log1pScaled(sum) | Readout::CountedLog1pScaled(sum) => {
                let factor = factor(library, sum);
                variance * (&factor / (mean * &factor + 1.0)).square()
            }
        })
    }

    /// Expected values, not below 0 if there are none in training.
    pub(super) fn bounded(&self, means: Tensor) -> Tensor {
        if self.non_negative { means.clamp_min(0.0) } else { means }
    }

    /// The output genes, selected from `[genes]` or `[rows, genes]`.
    pub(super) fn chosen(&self, values: Tensor) -> Tensor {
        match &self.genes {
            Some(genes) => values.index_select(-1, &Tensor::from_slice(genes).to_device(values.device())),
            None => values,
        }
    }
}

/// The factor that scales each cell's counts, `[cells, 1]`.
pub(super) fn factor(library: &Tensor, sum: f64) -> Tensor {
    (library.clamp_min(1.0).reciprocal() * sum).to_kind(Kind::Float)
}
