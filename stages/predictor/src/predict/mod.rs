//! Source cells go in, what they would be under other conditions comes out.
//!
//! [`PredictMeans`] averages over the source cells; [`EncodeCells`] and [`PredictCells`] write every cell or its latents; [`Embed`] writes the latents of
//! cells as they are, [`PredictClouds`] a few cells as points. [`Reading`] says in which terms.

mod cells;
mod clouds;
mod counted;
mod embed;
mod latent;
mod means;
mod names;
mod reading;
mod rows;
mod tables;

use stage::BoxError;
use tch::{Kind, Tensor};

pub(crate) use self::names::NamesByJob;
pub use self::{
    cells::{CellOutput, EncodeCells, EncodedCells, PredictCells},
    clouds::{PredictClouds, TargetCells},
    embed::Embed,
    means::{PredictMeans, TargetMeans},
    reading::{Reading, Readout},
    rows::{long_means_rows, means_rows},
    tables::{covariate_table, perturbation_table},
};

/// Cells decoded in one push, over all targets: what a request to stop waits for.
const DECODED_CELLS: usize = 1 << 16;
/// Cells of a batch at most: a bound on the dense tensors that live together.
const MOST_CELLS: usize = 256;
/// And at least: smaller matrix products waste the processor.
const FEWEST_CELLS: usize = 32;

/// Source cells of a batch, for this many targets.
#[must_use]
pub fn batch_size(targets: usize) -> usize {
    (DECODED_CELLS / targets.max(1)).clamp(FEWEST_CELLS, MOST_CELLS)
}

fn to_vec(tensor: &Tensor) -> Result<Vec<f32>, BoxError> {
    Ok(Vec::<f32>::try_from(tensor.to_kind(Kind::Float).to_device(tch::Device::Cpu).contiguous().view([-1]))?)
}
