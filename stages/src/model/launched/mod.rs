//! Steps by kernels of our own on a GPU: a hundred launches where libtorch's operations and automatic differentiation take a thousand.
//!
//! Everything is written down forward and backward. Products are libtorch's; what follows a linear layer, the latent, the likelihood of
//! counts, guesses and penalties, and the optimisers are kernels of `stages/cuda` ([`crate::device_kernels`]), each of which reads and
//! writes its tensors as few times as there are sums in between. All numbers that differ between steps lie on the device ([`Controls`]),
//! so a step is the same work each time and can be captured as a graph.
//!
//! It computes what [`Plain`](super::step::Plain) computes, to rounding, on the host as on a GPU; only dropout draws otherwise.

mod adam;
mod chain;
mod controls;
mod judges;
mod product;

use schemas::config::Doser;
use tch::Tensor;

pub(super) use self::controls::{Control, Controls, Given};
use self::{
    chain::{Drawer, Pass, Seeds},
    product::Last,
};
use super::{
    decoder::Decoder,
    encoder::Encoder,
    gradients::Gradients,
    layers::{HiddenLayers, Linear},
    network::Network,
    schedule::Schedule,
    step::{Learner, StepLosses},
};
use crate::device_kernels::{
    latent::{Added, MOST_COVARIATES, MOST_OPPONENTS, basal_back},
    negative_binomial::negative_binomial,
    unpack::Unpacked,
};

/// What a step learns from: a batch, and what the host gives beside it, all on the device.
#[derive(Debug)]
pub(super) struct StepInput<'a> {
    pub(super) batch: Unpacked,
    pub(super) controls: &'a Controls,
    /// A table of offsets, `[rows, genes]`, of which each cell has the row that the controls name.
    pub(super) offsets: Option<&'a Tensor>,
    /// Whether cells are decoded from those that the controls name, in the place of themselves.
    pub(super) has_sources: bool,
}

/// Why the steps of a learner can't be computed here, if they can't.
pub(super) fn lacks(learner: &Learner) -> Option<&'static str> {
    let (network, train) = (&learner.network, &learner.plan.train);
    let (Encoder::Point { hidden, .. }, Some((decoder, ..))) = (&network.encoder, counts(network)) else {
        return Some("the encoder is variational, or the reconstruction is not nb");
    };
    let layers = learner.adversaries.classifiers().map(|of| &of.classifier.hidden).chain([hidden, decoder]);
    let why = [
        (!{ layers }.all(can_pass), "hidden layers have two norms"),
        (network.added().is_none(), "embeddings are projected, or model.doser_type = mlp"),
        (MOST_COVARIATES < network.covariates().len(), "there are more than eight covariates"),
        (MOST_OPPONENTS < learner.adversaries.classifiers().count(), "there are more than nine adversaries"),
        (1 < train.accumulate, "train.accumulate makes steps of several batches"),
        (learner.plan.model.doser_type == Doser::Mlp, "model.doser_type = mlp"),
    ];
    why.into_iter().find_map(|(lacks, why)| lacks.then_some(why))
}

/// Whether these layers have one norm at most.
fn can_pass(layers: &HiddenLayers) -> bool {
    layers.layers.iter().all(|(_, norm)| norm.is_none() || !layers.layer_norm)
}

/// Hidden layers, last layer and dispersion of a decoder of negative binomials.
fn counts(network: &Network) -> Option<(&HiddenLayers, &Linear, &Tensor)> {
    match &network.decoder {
        Decoder::Counts { hidden, scale, dispersion, zeros: None, .. } => Some((hidden, scale, dispersion)),
        Decoder::Counts { .. } | Decoder::Normal { .. } => None,
    }
}

/// A step: whoever's turn it is by the schedule.
pub(super) fn step(learner: &mut Learner, input: &StepInput<'_>, schedule: Schedule) -> StepLosses {
    let _no_grad = tch::no_grad_guard();
    let has_adversaries = learner.adversaries.any();
    let learns = schedule.autoencoder_learns || !has_adversaries;
    // On batches that only the adversaries learn from, the original runs the decoder all the same.
    let decodes = learns || learner.plan.train.decoder_on_every_batch || learner.plan.compat.is_original();
    let mut losses = StepLosses::default();
    let basal = autoencoder(learner, input, schedule, [decodes, learns], &mut losses);
    if has_adversaries && schedule.adversaries_learn {
        let seed = input.controls.whole(Control::Seed);
        let weight = learner.plan.adversary.pen_adv;
        let mut found = judges::judge(&learner.adversaries, &basal, &input.batch, weight, &seed, &mut losses);
        let gradients = found.of(&learner.adversary_adam.parameters());
        let rate = input.controls.number(Control::AdversaryRate);
        let norm = learner.adversary_adam.launch_step(&gradients, &rate);
        losses.add_step(&learner.adversary_adam, &norm);
    }
    losses
}

/// The pass through the autoencoder, and where it `learns` the update; returns the basal latents, `[cells, latent]`.
fn autoencoder(
    learner: &mut Learner,
    StepInput { batch, controls, offsets, has_sources }: &StepInput<'_>,
    schedule: Schedule,
    [decodes, learns]: [bool; 2],
    losses: &mut StepLosses,
) -> Tensor {
    let (network, seed) = (&learner.network, controls.whole(Control::Seed));
    let parts = (&network.encoder, counts(network), network.added());
    let (Encoder::Point { hidden, latent: to_latent }, Some((decoder, scale, dispersion)), Some(added)) = parts else {
        unreachable!("`lacks` has looked at the network")
    };
    let mut seeds = Seeds::new(&seed, Drawer::Autoencoder);
    let encoded = Pass::forward(hidden, &batch.dense, &mut seeds);
    let (to_latent, basal) = Last::forward(to_latent, encoded.output(), true);
    if !decodes {
        return basal;
    }
    let sources = has_sources.then(|| controls.sources());
    let latent = added.to(&basal, sources.as_ref(), batch);
    let decoded = Pass::forward(decoder, &latent, &mut seeds);
    let (to_logits, logits) = Last::forward(scale, decoded.output(), false);
    let rows = controls.rows();
    let offset = offsets.map(|table| (table, &rows));
    let likelihood = negative_binomial(&logits, &scale.bias, offset, batch, dispersion);
    losses.add("recon", &likelihood.loss);
    if !learns {
        return basal;
    }
    // From here on the logits are the gradient by them.
    let mut found = Gradients::none();
    found.add(dispersion, || likelihood.by_dispersion);
    let by_hidden = to_logits.backward(&logits, &mut found);
    drop(logits);
    let by_latent = decoded.backward(by_hidden, &[], true, &mut found).expect("it was asked for");
    drop(decoded);
    added.note(&by_latent, batch, &mut found);
    let opponents = match schedule.adversarial && learner.adversaries.any() {
        true => judges::oppose(&learner.adversaries, &basal, batch, &seed, losses),
        false => Vec::new(),
    };
    let weight = controls.number(Control::AdversaryWeight);
    let by_basal = basal_back(&by_latent, sources.as_ref(), &opponents, Some(&weight));
    let by_top = to_latent.backward(&by_basal, &mut found);
    encoded.backward(by_top, &[], false, &mut found);
    let rates = [Control::AutoencoderRate, Control::DoserRate].map(|rate| controls.number(rate));
    for (adam, rate) in [&mut learner.autoencoder_adam, &mut learner.doser_adam].into_iter().zip(&rates) {
        let gradients = found.of(&adam.parameters());
        let norm = adam.launch_step(&gradients, rate);
        losses.add_step(adam, &norm);
    }
    basal
}

impl Added<'_> {
    /// Notes the gradients by embeddings, dose curves and covariates, given the one by the latent, `[cells, latent]`.
    fn note(&self, by_latent: &Tensor, batch: &Unpacked, found: &mut Gradients) {
        let by = self.back(by_latent, batch);
        found.add(self.embeddings, || by.embeddings);
        if let Some([by_beta, by_bias]) = by.curves {
            found.add(self.beta, || by_beta);
            found.add(self.bias, || by_bias);
        }
        for (table, gradient) in self.covariates.iter().zip(by.covariates) {
            found.add(table, || gradient);
        }
    }
}
