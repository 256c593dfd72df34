//! Steps of custom kernels on a GPU: a hundred launches instead of the thousand of libtorch's operations and automatic differentiation.
//!
//! Nearly everything is written out forward and backward; automatic differentiation remains only for the last layer of decoders other than
//! negative binomials, and for sampled latents. Matrix products are libtorch's; the rest of a hidden layer, the latent, the likelihood of
//! counts, classifier losses and penalties, and the optimisers are kernels of `stages/support/torch/cuda` ([`device_kernels`]), which read and
//! write their tensors as few times as the reductions allow. All numbers that differ between steps are on the device ([`Controls`]),
//! so every step is the same work and can be captured as a graph.
//!
//! The results are equal to those of [`Plain`](super::plain::Plain) up to rounding, on the host and on a GPU,
//! except for different dropout draws.

mod adam;
mod chain;
mod classifiers;
mod product;

use device_kernels::{
    latent::{LatentTerms, MOST_COVARIATES, MOST_OPPONENTS, basal_back},
    negative_binomial::negative_binomial,
    unpack::Unpacked,
};
use schemas::config::Doser;
use tch::Tensor;

use self::{
    chain::{DeviceDropoutSeeds, DropoutPass, LaunchedForwardPass},
    product::OutputLayer,
};
use super::{
    encoder::{Basal, Encoder},
    gradients::Gradients,
    input::Cells,
    layers::{HiddenLayers, Mode},
    loss_term::LossTerm,
    losses::reconstruction,
    network::Network,
    schedule::Schedule,
    step::{Learner, StepLosses},
    step_numbers::{Control, Controls},
};

/// The inputs of a step: a batch, and the other inputs from the host, all on the device.
#[derive(Debug)]
pub(super) struct StepInput<'a> {
    pub(super) batch: Unpacked,
    /// The rows of the batch for libtorch's operations, if the likelihood uses them ([`needs_rows`]).
    pub(super) rows: Option<Cells>,
    pub(super) controls: &'a Controls,
    /// A table of offsets, `[rows, genes]`; the controls give each cell's row.
    pub(super) offsets: Option<&'a Tensor>,
    /// Whether cells are decoded from the cells given by the controls instead of themselves.
    pub(super) has_sources: bool,
}

/// Why the steps of a learner are not supported; `None` if they are.
pub(super) fn lacks(learner: &Learner) -> Option<&'static str> {
    let (network, train) = (&learner.network, &learner.plan.train);
    let hidden = [network.encoder.hidden(), network.decoder.hidden()];
    let layers = learner.adversaries.classifiers().map(|task| &task.classifier.hidden).chain(hidden);
    let why = [
        (!{ layers }.all(can_pass), "hidden layers have two norms"),
        (learner.adversaries.classifiers().count() > MOST_OPPONENTS, "there are more than nine adversaries"),
        (train.accumulate > 1, "train.accumulate makes steps of several batches"),
        (train.checkpointing, "train.checkpointing recomputes what it needs"),
        (
            learner.plan.model.doser_type == Doser::Mlp,
            "model.doser_type = mlp looks for pairs of a batch that are alike, which the host has to count",
        ),
        (
            train.mixup_alpha > 0.0 && needs_rows(network),
            "cells are mixed, and the reconstruction is not nb: mixed cells have another number of non-zeros each time",
        ),
    ];
    why.into_iter().find_map(|(lacks, why)| lacks.then_some(why))
}

/// Whether the likelihood uses libtorch's operations: all but negative binomials without excess zeros.
pub(super) fn needs_rows(network: &Network) -> bool {
    network.decoder.negative_binomial().is_none()
}

/// Whether these layers have at most one norm.
fn can_pass(layers: &HiddenLayers) -> bool {
    layers.layers.iter().all(|(_, norm)| norm.is_none() || !layers.layer_norm)
}

/// A step, with the sides that the schedule selects.
pub(super) fn step(learner: &mut Learner, input: &StepInput<'_>, schedule: Schedule) -> StepLosses {
    let _no_grad = tch::no_grad_guard();
    let has_adversaries = learner.adversaries.any();
    let learns = schedule.autoencoder_learns || !has_adversaries;
    // The original also runs the decoder on batches that only the adversaries learn from.
    let decodes = learns || learner.plan.train.decoder_on_every_batch || learner.plan.compat.is_original();
    let mut losses = StepLosses::default();
    let basal = autoencoder(learner, input, schedule, [decodes, learns], &mut losses);
    if has_adversaries && schedule.adversaries_learn {
        let seed = input.controls.whole(Control::Seed);
        let weight = learner.plan.adversary.pen_adv;
        let mut found =
            classifiers::results_with_gradients(&learner.adversaries, &basal, &input.batch, weight, &seed, &mut losses);
        let gradients = found.for_parameters(&learner.adversary_adam.parameters());
        let rate = input.controls.number(Control::AdversaryRate);
        let norm = learner.adversary_adam.launch_step(&gradients, &rate, &learner.network);
        losses.add_step(&learner.adversary_adam, &norm);
    }
    losses
}

/// The pass through the autoencoder, and the update if it `learns`; returns the basal latents, `[cells, latent]`.
fn autoencoder(
    learner: &mut Learner,
    input: &StepInput<'_>,
    schedule: Schedule,
    [decodes, learns]: [bool; 2],
    losses: &mut StepLosses,
) -> Tensor {
    let StepInput { batch, controls, has_sources, .. } = input;
    let (network, seed) = (&learner.network, controls.whole(Control::Seed));
    let mut seeds = DeviceDropoutSeeds::new(&seed, DropoutPass::Autoencoder);
    let encoded = LaunchedForwardPass::forward(network.encoder.hidden(), &batch.dense, &mut seeds);
    let (to_latent, basal) = LatentHead::forward(&network.encoder, encoded.output());
    if !decodes {
        return basal;
    }
    let sources = has_sources.then(|| controls.sources());
    let addition = LatentAddition::new(network, batch);
    let latent = addition.to(&basal, sources.as_ref(), batch);
    let decoded = LaunchedForwardPass::forward(network.decoder.hidden(), &latent, &mut seeds);
    let mut found = Gradients::none();
    let (recon, by_hidden) = reconstruct(network, decoded.output(), input, &mut found);
    losses.add(LossTerm::Reconstruction, &recon);
    if !learns {
        return basal;
    }
    let by_latent = decoded.backward(by_hidden, &[], true, &mut found).expect("it was asked for");
    drop(decoded);
    addition.backward(&by_latent, batch, &mut found);
    to_latent.add_divergence(losses);
    let opponents = match schedule.adversarial && learner.adversaries.any() {
        true => classifiers::results_for_latents(&learner.adversaries, &basal, batch, &seed, losses),
        false => Vec::new(),
    };
    let weight = controls.number(Control::AdversaryWeight);
    let by_basal = basal_back(&by_latent, sources.as_ref(), &opponents, Some(&weight));
    let by_top = to_latent.backward(&by_basal, &controls.number(Control::DivergenceWeight), &mut found);
    encoded.backward(by_top, &[], false, &mut found);
    let rates = [Control::AutoencoderRate, Control::DoserRate].map(|rate| controls.number(rate));
    for (adam, rate) in [&mut learner.autoencoder_adam, &mut learner.doser_adam].into_iter().zip(&rates) {
        let gradients = found.for_parameters(&adam.parameters());
        let norm = adam.launch_step(&gradients, rate, network);
        losses.add_step(adam, &norm);
    }
    basal
}

/// The loss of cells with these inputs of the decoder's last layer, `[cells, width]`, a scalar, and its
/// gradient with respect to them; records the gradients with respect to the last layer's parameters.
fn reconstruct(
    network: &Network,
    hidden: &Tensor,
    StepInput { batch, rows, controls, offsets, .. }: &StepInput<'_>,
    found: &mut Gradients,
) -> (Tensor, Tensor) {
    let offset_rows = controls.rows();
    if let Some((scale, dispersion)) = network.decoder.negative_binomial() {
        let (to_logits, logits) = OutputLayer::forward(scale, hidden, false);
        let offset = offsets.map(|table| (table, &offset_rows));
        let loss = negative_binomial(&logits, &scale.bias, offset, batch, dispersion);
        found.add(dispersion, || loss.by_dispersion);
        // The logits have been overwritten by their gradient.
        return (loss.loss, to_logits.backward(&logits, found));
    }
    let Some(rows) = rows else { unreachable!("whoever prepares a step asks `needs_rows`") };
    let top = hidden.detach().set_requires_grad(true);
    let offset = offsets.map(|table| table.index_select(0, &offset_rows));
    let recon = tch::with_grad(|| {
        let output = network.decoder.of_hidden(&top, offset.as_ref(), &rows.library, Mode::Train);
        reconstruction(&output, rows)
    });
    let by_hidden = found.add_others(&recon, Some(&top), &network.decoder.last_parameters());
    (recon.detach(), by_hidden.expect("the loss depends on them"))
}

/// Computes basal latents from the encoder's last activations.
#[derive(Debug)]
enum LatentHead<'a> {
    Point(OutputLayer<'a>),
    /// Sampled latents: by automatic differentiation, from the activations `[cells, width]`.
    Drawn {
        encoder: &'a Encoder,
        top: Tensor,
        basal: Basal,
    },
}

impl<'a> LatentHead<'a> {
    /// Computes the latents; also returns the basal latents, `[cells, latent]`.
    fn forward(encoder: &'a Encoder, hidden: &Tensor) -> (Self, Tensor) {
        match encoder {
            Encoder::Point { latent, .. } => {
                let (last, basal) = OutputLayer::forward(latent, hidden, true);
                (Self::Point(last), basal)
            }
            Encoder::Normal { .. } => {
                let top = hidden.detach().set_requires_grad(true);
                let basal = tch::with_grad(|| encoder.of_hidden(&top, None));
                let latent = basal.latent.detach();
                (Self::Drawn { encoder, top, basal }, latent)
            }
        }
    }

    fn add_divergence(&self, losses: &mut StepLosses) {
        if let Self::Drawn { basal, .. } = self {
            losses.values.extend(basal.divergence().map(|divergence| (LossTerm::Divergence, divergence.detach())));
        }
    }

    /// Records the gradients with respect to the parameters, given the one with respect to the latents,
    /// `[cells, latent]`, and the weight of the divergence, a scalar; returns the one with respect to the
    /// activations.
    fn backward(&self, by_basal: &Tensor, divergence_weight: &Tensor, found: &mut Gradients) -> Tensor {
        match self {
            Self::Point(last) => last.backward(by_basal, found),
            Self::Drawn { encoder, top, basal } => {
                let total = tch::with_grad(|| {
                    let along = (&basal.latent * by_basal).sum(by_basal.kind());
                    match basal.divergence() {
                        Some(divergence) => along + divergence * divergence_weight.to_kind(by_basal.kind()),
                        None => along,
                    }
                });
                let by_top = found.add_others(&total, Some(top), &encoder.last_parameters());
                by_top.expect("latents depend on them")
            }
        }
    }
}

/// The terms added to the basal latents.
#[derive(Debug)]
enum LatentAddition<'a> {
    /// Rows of tables.
    Tables(LatentTerms<'a>),
    /// By automatic differentiation, `[cells, latent]`, with their inputs.
    Computed(Tensor, Vec<&'a Tensor>),
}

impl<'a> LatentAddition<'a> {
    fn new(network: &'a Network, batch: &Unpacked) -> Self {
        if let Some(added) = network.added().filter(|added| added.covariates.len() <= MOST_COVARIATES) {
            return Self::Tables(added);
        }
        let added = tch::with_grad(|| {
            let covariates = batch.covariates.unbind(0);
            let sum = network.perturbation_latent(&batch.codes, &batch.doses)
                + network.covariate_latent(&covariates, batch.library.size()[0]);
            batch.mixed_rows(sum)
        });
        Self::Computed(added, network.added_parameters())
    }

    /// The decoded latents, `[cells, latent]`, from `basal`, of each cell or of the cell given by `sources`, `[cells]`.
    fn to(&self, basal: &Tensor, sources: Option<&Tensor>, batch: &Unpacked) -> Tensor {
        match self {
            Self::Tables(added) => added.to(basal, sources, batch),
            Self::Computed(added, _) => match sources {
                Some(sources) => basal.index_select(0, sources) + added.detach(),
                None => basal + added.detach(),
            },
        }
    }

    /// Records the gradients with respect to embeddings, dose curves and covariates, given the one with respect
    /// to the latents, `[cells, latent]`.
    fn backward(&self, by_latent: &Tensor, batch: &Unpacked, found: &mut Gradients) {
        let added = match self {
            Self::Tables(added) => added,
            Self::Computed(added, parameters) => {
                let along = tch::with_grad(|| (added * by_latent).sum(by_latent.kind()));
                found.add_others(&along, None, parameters);
                return;
            }
        };
        let by = added.back(by_latent, batch);
        found.add(added.embeddings, || by.embeddings);
        if let Some([by_beta, by_bias]) = by.curves {
            found.add(added.beta, || by_beta);
            found.add(added.bias, || by_bias);
        }
        for (table, gradient) in added.covariates.iter().zip(by.covariates) {
            found.add(table, || gradient);
        }
    }
}
