//! The autoencoder's side of a step that holds little: what lies between is recomputed when it is needed a second time.
//!
//! The way through the network is cut into four segments: the encoder's hidden layers, the latents, the decoder's hidden layers, and the
//! last layer with its output. A first pass keeps what enters each segment, and which activations dropout kept. Then the
//! likelihood is differentiated by the output alone; from there on backwards each segment is computed once more, and differentiated by what enters it.
//! Every number is computed by the operations of a single pass, so that gradients are the same to the last bit.

use std::collections::HashMap;

use tch::Tensor;

use super::{
    draws::Draws,
    input::Input,
    layers::Mode,
    losses::reconstruction,
    schedule::Schedule,
    step::{Learner, StepLosses},
};

/// The update of the autoencoder; returns the basal latent, detached.
pub(super) fn autoencoder(
    learner: &mut Learner,
    input: &Input,
    draws: &Draws,
    schedule: Schedule,
    losses: &mut StepLosses,
) -> Tensor {
    let (network, library) = (&learner.network, &input.cells.library);
    let (encoder, decoder) = (network.encoder.hidden(), network.decoder.hidden());
    let mut found = Found::default();

    let (top, kept_in_encoder) = tch::no_grad(|| encoder.forward_noting(&network.decoder.input(&input.cells)));
    let top = leaf(&top);
    let latent = network.latent_of(network.encoder.of_hidden(&top, draws.noise.as_ref()), input, draws);
    let z = latent.after();
    let (hidden, kept_in_decoder) = tch::no_grad(|| decoder.forward_noting(&z));
    let hidden = leaf(&hidden);

    let slopes = {
        let output = tch::no_grad(|| network.decoder.of_hidden(&hidden, library, Mode::Train)).leaves();
        let recon = reconstruction(&output, &input.cells);
        losses.add("recon", &recon);
        Tensor::run_backward(&[recon], &output.tensors(), false, false)
    };
    let by_hidden = {
        let output = network.decoder.of_hidden(&hidden, library, Mode::Again);
        found.segment(along(&output.tensors(), slopes), &hidden, &network.decoder.last_parameters())
    };
    let by_z = {
        let z = leaf(&z);
        let hidden = decoder.forward_again(&z, &kept_in_decoder);
        found.segment(along(&[&hidden], vec![by_hidden]), &z, &decoder.parameters())
    };
    let total = losses.with_divergence(along(&[&z], vec![by_z]), &latent.basal, schedule);
    let basal = latent.basal.latent.detach();
    let total = losses.less_adversaries(total, &learner.adversaries, schedule, |adversaries| {
        adversaries.judge(&latent.basal.latent, input, draws.mixup.as_ref(), false)
    });
    drop(latent);
    let parameters = [learner.autoencoder_adam.parameters(), learner.doser_adam.parameters()];
    let own: Vec<&Tensor> = [encoder.parameters(), found.parameters(&parameters)].concat();
    let between: Vec<&Tensor> = parameters.concat().into_iter().filter(|all| !is_among(all, &own)).collect();
    let by_top = found.segment(total, &top, &between);
    {
        let x = network.decoder.input(&input.cells);
        let top = encoder.forward_again(&x, &kept_in_encoder);
        found.last_segment(along(&[&top], vec![by_top]), &encoder.parameters());
    }
    let [autoencoder, doser] = parameters.map(|parameters| found.of(&parameters));
    learner.autoencoder_learns((&autoencoder, &doser), schedule, losses);
    basal
}

fn leaf(tensor: &Tensor) -> Tensor {
    tensor.detach().set_requires_grad(true)
}

/// A sum whose gradients by tensors are these slopes.
fn along(tensors: &[&Tensor], slopes: Vec<Tensor>) -> Tensor {
    let parts = tensors.iter().zip(slopes).filter(|(_, slope)| slope.defined());
    let sum = parts.map(|(tensor, slope)| (*tensor * slope).sum(tensor.kind())).reduce(|sum, part| sum + part);
    sum.unwrap_or_else(|| Tensor::from(0.0))
}

/// A parameter is known by where its numbers lie.
fn key(parameter: &Tensor) -> usize {
    parameter.data_ptr() as usize
}

fn is_among(parameter: &Tensor, others: &[&Tensor]) -> bool {
    others.iter().any(|other| key(other) == key(parameter))
}

/// Gradients that were found so far.
#[derive(Default)]
struct Found(HashMap<usize, Tensor>);

impl Found {
    /// Differentiates a segment, and returns the gradient by what entered it.
    fn segment(&mut self, sum: Tensor, entry: &Tensor, parameters: &[&Tensor]) -> Tensor {
        let inputs: Vec<&Tensor> = parameters.iter().copied().chain([entry]).collect();
        let mut gradients = Tensor::run_backward(&[sum], &inputs, false, false);
        let by_entry = gradients.pop().unwrap_or_default();
        self.0.extend(parameters.iter().map(|parameter| key(parameter)).zip(gradients));
        by_entry
    }

    /// The same of the segment that nothing enters that is differentiated by.
    fn last_segment(&mut self, sum: Tensor, parameters: &[&Tensor]) {
        let gradients = Tensor::run_backward(&[sum], parameters, false, false);
        self.0.extend(parameters.iter().map(|parameter| key(parameter)).zip(gradients));
    }

    /// Those of some parameters that were found.
    fn parameters<'a>(&self, all: &[Vec<&'a Tensor>]) -> Vec<&'a Tensor> {
        all.iter().flatten().copied().filter(|parameter| self.0.contains_key(&key(parameter))).collect()
    }

    /// The gradients of parameters, in their order; undefined where there is none.
    fn of(&mut self, parameters: &[&Tensor]) -> Vec<Tensor> {
        parameters.iter().map(|parameter| self.0.remove(&key(parameter)).unwrap_or_default()).collect()
    }
}
