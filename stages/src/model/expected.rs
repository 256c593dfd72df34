//! What a decoder expects of cells, told or summed over them as it decodes.

use tch::{Device, Kind, Tensor};

use super::{
    decoder::{Decoder, Output},
    layers::Mode,
    memory::{numbers, numbers_mut},
    network::Network,
};
use crate::{
    kernels::expected::{ExpectedCounts, ExpectedOfCells},
    simd::widest,
};

/// Logits of cells with these latents, `[cells, latent]`, without what is added to those of every cell, and that: the bias, and
/// an offset, `[1, genes]`.
///
/// None where it takes more to tell what is expected: on a GPU, in float64, of values, of negative binomials with excess zeros.
fn logits(network: &Network, latent: &Tensor, offset: Option<&Tensor>) -> Option<(Tensor, Tensor)> {
    let Decoder::Counts { hidden, scale, zeros: None, .. } = &network.decoder else { return None };
    if (network.parameters.device(), network.parameters.kind()) != (Device::Cpu, Kind::Float) {
        return None;
    }
    let bias = match offset {
        Some(offset) => (&scale.bias + offset).view([-1]),
        None => scale.bias.shallow_clone(),
    };
    Some((hidden.forward(latent, Mode::Eval).matmul(&scale.weight.tr()), bias))
}

/// Expected counts of cells with these latents, `[cells, latent]`, libraries, `[cells, 1]`, and one offset, `[1, genes]`: a row of
/// genes a cell, in one pass over what is decoded. None where that can't be.
pub(crate) fn expected_counts(
    network: &Network,
    latent: &Tensor,
    offset: Option<&Tensor>,
    library: &Tensor,
) -> Option<Vec<f32>> {
    let (mut logits, bias) = logits(network, latent, offset)?;
    let mut means = vec![0.0; logits.numel()];
    widest(ExpectedOfCells::<f32> {
        logits: numbers_mut(&mut logits),
        bias: numbers(&bias),
        library: numbers(library),
        means: &mut means,
    });
    Some(means)
}

/// Adds the same and their squares to two sums, `[genes]` in float64. Returns whether it could.
pub(crate) fn add_expected_counts(
    network: &Network,
    latent: &Tensor,
    offset: Option<&Tensor>,
    library: &Tensor,
    sums: [&mut Tensor; 2],
) -> bool {
    let Some((mut logits, bias)) = logits(network, latent, offset) else { return false };
    widest(ExpectedCounts::<f32> {
        logits: numbers_mut(&mut logits),
        bias: numbers(&bias),
        library: numbers(library),
        sums: sums.map(numbers_mut),
    });
    true
}

/// The noise of cells of negative binomials, from the sums of their means and of the squares; none where it takes more to tell.
pub(crate) fn noise_of_sums(network: &Network, first: &Tensor, second: &Tensor) -> Option<Tensor> {
    match &network.decoder {
        Decoder::Counts { dispersion, zeros: None, .. } => Some(first + second / dispersion.exp()),
        Decoder::Counts { .. } | Decoder::Normal { .. } => None,
    }
}

/// Whether an output is all told by its mean and [`noise_of_sums`].
pub(crate) fn is_told_by_sums(output: &Output) -> bool {
    matches!(output, Output::NegativeBinomial { .. })
}
