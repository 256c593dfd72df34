//! Predicts source cells under other conditions.
//!
//! [`PredictMeans`] averages over the source cells; [`CellOutput`] and [`EncodedCells`] output every cell or
//! its latents; [`Embed`] outputs the latents of cells under their own conditions, [`PredictPointSets`] a few
//! cells as points. [`Reading`] defines the scale of predictions.

mod cells;
mod changes;
mod counted;
mod embed;
mod latent;
mod logarithms;
mod means;
mod names;
mod point_sets;
mod reading;
mod rows;
mod tables;

use stage::BoxError;
use tch::{Kind, Tensor};

pub(crate) use self::names::NamesByJob;
pub use self::{
    cells::{CellOutput, EncodeCells, EncodedCells, PredictCells},
    changes::{ChangeRows, ChangedGenes},
    embed::Embed,
    means::{PredictMeans, TargetMeans},
    point_sets::{PredictPointSets, TargetCells},
    reading::{Reading, Readout},
    rows::{long_means_rows, means_rows},
    tables::{covariate_table, perturbation_table},
};

/// Number of cells decoded in one push, over all targets: a request to stop waits for these.
const DECODED_CELLS: usize = 1 << 16;
/// Maximum number of cells in a batch: limits the dense tensors that exist at the same time.
const MOST_CELLS: usize = 256;
/// Minimum number of cells in a batch: smaller matrix products are inefficient.
const FEWEST_CELLS: usize = 32;

/// Number of source cells in a batch, for this many targets.
#[must_use]
pub fn batch_size(targets: usize) -> usize {
    (DECODED_CELLS / targets.max(1)).clamp(FEWEST_CELLS, MOST_CELLS)
}

fn to_vec(tensor: &Tensor) -> Result<Vec<f32>, BoxError> {
    Ok(Vec::<f32>::try_from(tensor.to_kind(Kind::Float).to_device(tch::Device::Cpu).contiguous().view([-1]))?)
}
