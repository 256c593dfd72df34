//! In which terms predictions are read off a decoder.

use std::{num::NonZeroU32, sync::Arc};

use model::decoder::DecoderOutput;
use tch::{Kind, Tensor};

/// The scale of a prediction's numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Readout {
    /// Expected values: counts, or the atlas's own values.
    #[default]
    Expected,
    /// log(1 + expected counts).
    Log1p,
    /// The expectation of log(1 + counts), with counting noise around the expected counts: comparable with the mean of log(1 + counts)
    /// of real cells.
    CountedLog1p,
    /// Expected counts scaled so that each cell's sum is this.
    Scaled(f64),
    /// log(1 + those).
    Log1pScaled(f64),
}

/// How a prediction is read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reading {
    /// The scale of the numbers.
    pub readout: Readout,
    /// Whether variances hold how a cell's value lies around its mean, beside how means lie around each other. On other
    /// readouts than the expected values it is carried over to first order, by the square of the slope.
    pub noise: bool,
    /// The library size of a predicted cell; by default that of its source cell.
    pub library: Option<f64>,
    /// How often a variational encoder's latent is drawn for each cell; once, at its mean, by default.
    pub samples: Option<NonZeroU32>,
    /// Decides the draws.
    pub seed: u64,
    /// Indices of the output genes; all by default.
    pub genes: Option<Arc<Vec<i64>>>,
}

impl From<Readout> for Reading {
    /// Expected values with the noise of a cell, all else without.
    fn from(readout: Readout) -> Self {
        Self { readout, noise: readout == Readout::Expected, ..Self::default() }
    }
}

impl Reading {
    /// Whether the output for a cell is the expectation for every gene.
    pub(super) fn is_all_expected(&self) -> bool {
        self.readout == Readout::Expected && self.genes.is_none()
    }

    /// The library that cells are decoded with, `[cells, 1]`, given their own.
    pub(super) fn library(&self, own: &Tensor) -> Tensor {
        match self.library {
            Some(library) => own.full_like(library),
            None => own.shallow_clone(),
        }
    }

    /// Real counts `[cells, genes]` as they would be in a library of the size that is predicted for.
    pub(super) fn at_library(&self, counts: Tensor, own: &Tensor, size: &Tensor) -> Tensor {
        match self.library {
            Some(_) => counts * (size / own.clamp_min(1.0)),
            None => counts,
        }
    }

    /// Real values in terms of the readout, and expected ones of every readout but counted logarithms.
    pub(super) fn of(&self, values: &Tensor, library: &Tensor) -> Tensor {
        match self.readout {
            Readout::Expected => values.shallow_clone(),
            Readout::Log1p | Readout::CountedLog1p => values.log1p(),
            Readout::Scaled(sum) => values * scale(library, sum),
            Readout::Log1pScaled(sum) => (values * scale(library, sum)).log1p(),
        }
    }

    /// The variance of a cell's value around its mean, on the readout's scale; none if not requested.
    pub(super) fn noise_of(&self, output: &DecoderOutput, library: &Tensor) -> Option<Tensor> {
        if !(self.noise || matches!(output, DecoderOutput::Normal { .. })) {
            return None;
        }
        let variance = output.variance();
        Some(match self.readout {
            Readout::Expected => variance,
            Readout::Log1p | Readout::CountedLog1p => variance / (output.mean() + 1.0).square(),
            Readout::Scaled(sum) => variance * scale(library, sum).square(),
            Readout::Log1pScaled(sum) => {
                let scale = scale(library, sum);
                variance * (&scale / (output.mean() * &scale + 1.0)).square()
            }
        })
    }

    /// The output genes, from `[genes]` or `[rows, genes]`.
    pub(super) fn chosen(&self, values: Tensor) -> Tensor {
        match &self.genes {
            Some(genes) => values.index_select(-1, &Tensor::from_slice(genes).to_device(values.device())),
            None => values,
        }
    }
}

fn scale(library: &Tensor, sum: f64) -> Tensor {
    (library.clamp_min(1.0).reciprocal() * sum).to_kind(Kind::Float)
}
