//! What a decoder expects of cells, summed over them as it decodes.

use tch::{Device, Kind, Tensor};

use super::{
    decoder::{Decoder, Output},
    layers::Mode,
    memory::{numbers, numbers_mut},
    network::Network,
};
use crate::{kernels::expected::ExpectedCounts, simd::widest};

/// Adds expected counts and their squares to two sums, `[genes]` in float64, of cells with these latents, `[cells, latent]`, and
/// libraries, `[cells, 1]`, and one offset, `[1, genes]`: in one pass over what is decoded.
///
/// Returns whether it could: on a CPU, in float32, of negative binomials without excess zeros.
pub(crate) fn add_expected_counts(
    network: &Network,
    latent: &Tensor,
    offset: Option<&Tensor>,
    library: &Tensor,
    sums: [&mut Tensor; 2],
) -> bool {
    let Decoder::Counts { hidden, scale, zeros: None, .. } = &network.decoder else { return false };
    if (network.parameters.device(), network.parameters.kind()) != (Device::Cpu, Kind::Float) {
        return false;
    }
    let mut logits = hidden.forward(latent, Mode::Eval).matmul(&scale.weight.tr());
    let bias = match offset {
        Some(offset) => (&scale.bias + offset).view([-1]),
        None => scale.bias.shallow_clone(),
    };
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
