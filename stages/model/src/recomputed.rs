//! The autoencoder's side of a step with activation checkpointing: intermediate results are recomputed when they are needed again.
//!
//! The network is cut into four segments: the encoder's hidden layers, the latents, the decoder's hidden
//! layers, and the last layer with its output. A first pass keeps the input of each segment, and the dropout
//! masks. Then the likelihood is differentiated with respect to the output; going backwards, each segment is
//! recomputed and differentiated with respect to its input. Every number comes from the same operations as in
//! a single pass, so gradients are bit-identical.

use tch::Tensor;

use super::{
    gradients::{Gradients, is_among},
    layers::Mode,
    loss_term::LossTerm,
    losses::reconstruction,
    optimiser::Adam,
    step::{Learner, StepArguments, StepLosses},
};

/// The update of the autoencoder; returns the basal latent, detached.
pub(super) fn autoencoder(learner: &mut Learner, given: StepArguments<'_>, losses: &mut StepLosses) -> Tensor {
    let StepArguments { input, draws, schedule } = given;
    let (network, library) = (&learner.network, &input.cells.library);
    let (encoder, decoder) = (network.encoder.hidden(), network.decoder.hidden());
    let (offsets, mut found) = (input.offsets(), Gradients::none());

    let (top, kept_in_encoder) = tch::no_grad(|| encoder.forward_noting(&network.decoder.input(&input.cells)));
    let top = leaf(&top);
    let latent = network.latent_of(network.encoder.of_hidden(&top, draws.noise.as_ref()), input, draws);
    let z = latent.after();
    let (hidden, kept_in_decoder) = tch::no_grad(|| decoder.forward_noting(&z));
    let hidden = leaf(&hidden);

    let slopes = {
        let output =
            tch::no_grad(|| network.decoder.of_hidden(&hidden, offsets.as_ref(), library, Mode::Train)).leaves();
        let recon = reconstruction(&output, &input.cells);
        losses.add(LossTerm::Reconstruction, &recon);
        Tensor::run_backward(&[recon], &output.tensors(), false, false)
    };
    let by_hidden = {
        let output = network.decoder.of_hidden(&hidden, offsets.as_ref(), library, Mode::Again);
        found.add_others(&along(&output.tensors(), slopes), Some(&hidden), &network.decoder.last_parameters())
    };
    let by_z = {
        let z = leaf(&z);
        let hidden = decoder.forward_again(&z, &kept_in_decoder);
        found.add_others(&along(&[&hidden], by_hidden), Some(&z), &decoder.parameters())
    };
    let total = losses.with_divergence(along(&[&z], by_z), &latent.basal, schedule);
    let basal = latent.basal.latent.detach();
    let total = losses.less_adversaries(total, &learner.adversaries, schedule, |adversaries| {
        adversaries.classify(&latent.basal.latent, input, draws.mixup.as_ref(), false)
    });
    drop(latent);
    let parameters = [learner.autoencoder_adam.parameters(), learner.doser_adam.parameters()];
    let of_encoder = encoder.parameters();
    let others: Vec<&Tensor> =
        parameters.concat().into_iter().filter(|parameter| !is_among(parameter, &of_encoder)).collect();
    let by_top = found.add_others(&total, Some(&top), &others);
    {
        let x = network.decoder.input(&input.cells);
        let top = encoder.forward_again(&x, &kept_in_encoder);
        found.add_others(&along(&[&top], by_top), None, &of_encoder);
    }
    let [autoencoder, doser] = parameters.map(|parameters| found.for_parameters(&parameters));
    learner.autoencoder_learns((&autoencoder, &doser), schedule, losses, Adam::step);
    basal
}

fn leaf(tensor: &Tensor) -> Tensor {
    tensor.detach().set_requires_grad(true)
}

/// A sum whose gradients with respect to the tensors are these slopes.
fn along(tensors: &[&Tensor], slopes: impl IntoIterator<Item = Tensor>) -> Tensor {
    let parts = tensors.iter().zip(slopes).filter(|(_, slope)| slope.defined());
    let sum = parts.map(|(tensor, slope)| (*tensor * slope).sum(tensor.kind())).reduce(|sum, part| sum + part);
    sum.unwrap_or_else(|| Tensor::from(0.0))
}
