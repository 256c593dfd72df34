//! Expected counts of a decoder, for single cells or summed over them while decoding.

use device_kernels::expected::add_expected;
use kernels::expected::{ExpectedCounts, ExpectedOfCells};
use schemas::numbers::{bounded, to_i64};
use simd::widest;
use tch::{Device, Kind, Tensor};
use torch::{
    launch::lacks_kernels,
    memory::{numbers, numbers_mut},
};

use super::{decoder::DecoderOutput, layers::Mode, network::Network};

/// Two terms of the logits: that of cells with these latents, `[cells, latent]`, and that shared by all
/// cells, which is the bias and an offset, `[1, genes]`.
///
/// `None` on a GPU, in float64, for continuous values, and for negative binomials with excess zeros.
fn logits(network: &Network, latent: &Tensor, offset: Option<&Tensor>) -> Option<(Tensor, Tensor)> {
    let (scale, _) = network.decoder.negative_binomial()?;
    if (network.parameters.device(), network.parameters.kind()) != (Device::Cpu, Kind::Float) {
        return None;
    }
    let bias = match offset {
        Some(offset) => (&scale.bias + offset).view([-1]),
        None => scale.bias.shallow_clone(),
    };
    Some((network.decoder.hidden().forward(latent, Mode::Eval).matmul(&scale.weight.tr()), bias))
}

/// Expected counts of cells with these latents, `[cells, latent]`, library sizes, `[cells, 1]`, and one
/// offset, `[1, genes]`: a row of genes per cell, in one pass over the decoder's output. `None` if that is
/// not possible.
pub fn expected_counts(
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

/// Adds these expected counts and their squares to two sums, `[genes]` in float64. Returns whether that was
/// possible.
pub fn add_expected_counts(
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

/// Rows decoded at once on a GPU: enough to keep it busy.
const ROWS_AT_ONCE: i64 = 2048;

/// The same for several targets on a GPU: each target adds a latent and an offset, `[1, latent]` and
/// `[1, genes]`, to cells with these basal latents, `[cells, latent]`. Sums are `[targets, genes]`. Returns
/// whether that was possible.
pub fn add_expected_counts_of_targets(
    network: &Network,
    basal: &Tensor,
    targets: &[(Tensor, Option<Tensor>)],
    library: &Tensor,
    [first, second]: [&Tensor; 2],
) -> bool {
    let Some((scale, _)) = network.decoder.negative_binomial() else { return false };
    let device = basal.device();
    if device == Device::Cpu || lacks_kernels(device).is_some() {
        return false;
    }
    let (cells, at_once) = (basal.size()[0], bounded::<usize>(ROWS_AT_ONCE / basal.size()[0].max(1)).max(1));
    let mut from = 0;
    for targets in targets.chunks(at_once) {
        let count = to_i64(targets.len());
        let of_targets: Vec<&Tensor> = targets.iter().map(|(latent, _)| latent).collect();
        let latent = basal.unsqueeze(0) + Tensor::stack(&of_targets, 0);
        let hidden = network.decoder.hidden().forward(&latent.view([count * cells, -1]), Mode::Eval);
        let added = targets.iter().map(|(_, offset)| match offset {
            Some(offset) => (&scale.bias + offset).view([-1]),
            None => scale.bias.shallow_clone(),
        });
        let added = Tensor::stack(&added.collect::<Vec<_>>(), 0);
        let logits = hidden.matmul(&scale.weight.tr());
        let sums = [first, second].map(|sums| sums.narrow(0, from, count));
        add_expected(&logits, &added, library, sums.each_ref());
        from += count;
    }
    true
}

/// The noise of cells for negative binomials, from the sums of their means and squares; `None` for other
/// decoders.
pub fn noise_of_sums(network: &Network, first: &Tensor, second: &Tensor) -> Option<Tensor> {
    let (_, dispersion) = network.decoder.negative_binomial()?;
    Some(first + second / dispersion.exp())
}

/// Whether an output is fully described by its mean and [`noise_of_sums`].
pub fn has_expected_sums(output: &DecoderOutput) -> bool {
    matches!(output, DecoderOutput::NegativeBinomial { .. })
}
