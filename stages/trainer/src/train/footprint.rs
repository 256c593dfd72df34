//! Predicts the memory of training before it starts.

use offset::offset_bytes;
use schemas::{
    config::{Averaging, Doser, MatrixPrecision, ReconLoss, Settings},
    numbers::to_usize,
    vocabulary::Vocabulary,
};
use torch::launch::MULTIPROCESSORS;

use crate::validation::{VALIDATED_AT_ONCE, validation_bytes};

/// Maximum number of dense batch tensors that a step keeps between forward and backward, as measured.
const DENSE: usize = 14;
/// The same with recomputed segments.
const DENSE_RECOMPUTED: usize = 9;
/// The logits of excess zeros, and the tensors of their loss.
const DENSE_OF_ZEROS: usize = 7;
/// Additional tensors for mixed cells.
const DENSE_OF_MIXED: usize = 2;
/// On a GPU, for each reconstruction loss: dense tensors of a batch at the peak of a step whose likelihood
/// libtorch computes, and bytes per non-zero; as counted.
const DEVICE_NB: (usize, usize) = (5, 47);
const DEVICE_ZINB: (usize, usize) = (12, 22);
const DEVICE_GAUSS: (usize, usize) = (10, 26);
/// Bytes saved per cell and gene if the encoder's input is kept rounded.
const DEVICE_ROUNDED: usize = 2;
/// Number of tensors, as wide as the layer, that each hidden layer keeps.
const DEVICE_LAYER: usize = 2;
/// Rows of per-gene sums of the likelihood's kernel: two per multiprocessor, of which the largest GPUs have
/// about this many.
const PARTIAL_ROWS: usize = 2 * MULTIPROCESSORS as usize;
/// Dense tensors of a validation on the `valid` cells.
const DEVICE_LOOK: usize = 6;
/// Workspace of libtorch's matrix product libraries on a GPU, for each thread that computes there: 32 MiB on
/// Hopper.
const DEVICE_LIBRARIES: usize = 32 << 20;
/// Bytes of a packed cell other than its non-zeros and covariates: numbers of a step, row pointer, library
/// size, two perturbations with doses, and the combination.
const PACKED_CELL_BYTES: usize = 32 + 4 + 8 + 16 + 4;
/// Number of full-size batches that the slots and places of replayed steps hold; the smaller last batches of
/// epochs count as half of one.
const DEVICE_BATCHES: usize = 5;
/// Gene and value of a non-zero, in the widest types.
const NONZERO_BYTES: usize = 8;

/// Number of trained parameters of an autoencoder whose decoder has this many outputs per gene.
fn weights(settings: &Settings, genes: usize, vocabulary: &Vocabulary, outputs: usize) -> usize {
    let model = &settings.model;
    let latent = to_usize(model.n_latent);
    let hidden = |width: u32, layers: u32| to_usize(width) * (1 + to_usize(layers.saturating_sub(1)) * to_usize(width));
    let names = vocabulary.perturbations.len();
    let dosers = match model.doser_type {
        Doser::Mlp => names * (to_usize(model.n_hidden_doser) + hidden(model.n_hidden_doser, model.n_layers_doser)),
        _ => 2 * names,
    };
    genes * (to_usize(model.n_hidden_encoder) + outputs * to_usize(model.n_hidden_decoder))
        + hidden(model.n_hidden_encoder, model.n_layers_encoder)
        + hidden(model.n_hidden_decoder, model.n_layers_decoder)
        + latent * (to_usize(model.n_hidden_encoder) + to_usize(model.n_hidden_decoder) + names)
        + dosers
}

/// Weights, gradients, optimiser states, the best and the averaged weights, and the tensors of a batch that a
/// step holds; cells have this many non-zeros.
#[must_use]
pub fn training_bytes(settings: &Settings, genes: usize, vocabulary: &Vocabulary, nonzeros: usize) -> usize {
    let (model, train) = (&settings.model, &settings.train);
    let (latent, names) = (to_usize(model.n_latent), vocabulary.perturbations.len());
    let weights = weights(settings, genes, vocabulary, 2);
    let given = (names + vocabulary.unseen.len()) * to_usize(vocabulary.embedding_width.unwrap_or(0));
    // The weights, their gradients, two moments and the best weights; then their average, and gradients that are
    // summed over batches.
    let copies = 5 + usize::from(train.average != Averaging::None) + usize::from(train.accumulate > 1);
    let zeros = if model.recon_loss == ReconLoss::Zinb { DENSE_OF_ZEROS } else { 0 };
    let mixed = if train.mixup_alpha > 0.0 { DENSE_OF_MIXED } else { 0 };
    let kept = if train.checkpointing { DENSE_RECOMPUTED } else { DENSE };
    let dense = to_usize(train.batch_size) * genes;
    let waiting = to_usize(train.accumulate.saturating_sub(1)) * to_usize(train.batch_size) * nonzeros * NONZERO_BYTES;
    let step = 4 * (copies * weights + 3 * given + (kept + zeros + mixed) * dense);
    let offsets = offset_bytes(settings, genes, vocabulary);
    step + waiting + offsets + validation_bytes(genes, vocabulary.trained.len(), latent)
}

/// The decoder's outputs per gene: 1 for counts without excess zeros, otherwise 2.
fn outputs(settings: &Settings) -> usize {
    if matches!(settings.model.recon_loss, ReconLoss::Zinb | ReconLoss::Gauss) { 2 } else { 1 }
}

/// Permanent GPU memory between steps: weights, two moments for each, their average, and rounded copies with
/// bf16. The best weights are kept on the host.
#[must_use]
pub fn device_state_bytes(settings: &Settings, genes: usize, vocabulary: &Vocabulary) -> usize {
    let all = weights(settings, genes, vocabulary, outputs(settings));
    let rounded = is_launched(settings) && settings.train.precision == MatrixPrecision::Bf16;
    let copies = 3 + usize::from(settings.train.average != Averaging::None);
    4 * copies * all + if rounded { 2 * all } else { 0 }
}

/// Whether steps consist of custom kernels.
fn is_launched(settings: &Settings) -> bool {
    let (model, train) = (&settings.model, &settings.train);
    let can_mix = train.mixup_alpha == 0.0 || model.recon_loss == ReconLoss::Nb;
    can_mix && model.doser_type != Doser::Mlp && train.accumulate <= 1 && !train.checkpointing
}

/// Whether automatic differentiation is used in a step.
fn is_differentiated(settings: &Settings) -> bool {
    let model = &settings.model;
    !is_launched(settings) || model.recon_loss != ReconLoss::Nb || model.perturbation_embeddings.is_some()
}

/// Peak GPU memory of a step in addition to the permanent state, for this many non-zeros per cell.
#[must_use]
pub fn device_step_bytes(settings: &Settings, genes: usize, vocabulary: &Vocabulary, nonzeros: usize) -> usize {
    match is_launched(settings) && settings.model.recon_loss == ReconLoss::Nb {
        true => launched_step_bytes(settings, genes, vocabulary, nonzeros),
        false => step_bytes(settings, genes, vocabulary, nonzeros),
    }
}

/// The same for steps whose likelihood is a custom kernel.
///
/// While the likelihood is computed, memory holds the encoder's input and the logits, the activations that
/// each layer keeps, and the gradient with respect to the last layer; once the decoder is finished, the
/// encoder's input and activations, and all gradients. With bf16, there are also rounded copies of both
/// operands of each product.
fn launched_step_bytes(settings: &Settings, genes: usize, vocabulary: &Vocabulary, nonzeros: usize) -> usize {
    let (model, train) = (&settings.model, &settings.train);
    let cells = to_usize(train.batch_size);
    let rounded = usize::from(train.precision == MatrixPrecision::Bf16);
    let mixed = usize::from(train.mixup_alpha > 0.0);
    let [encoder, decoder] =
        [(model.n_hidden_encoder, model.n_layers_encoder), (model.n_hidden_decoder, model.n_layers_decoder)]
            .map(|(width, layers)| to_usize(width) * to_usize(layers) * (4 * DEVICE_LAYER + 4 * rounded));
    let (width, last) = (to_usize(model.n_hidden_encoder), to_usize(model.n_hidden_decoder));
    let all = weights(settings, genes, vocabulary, outputs(settings));
    let partial = 4 * genes * (cells.min(PARTIAL_ROWS) + 4);
    let likelihood = cells * ((8 + 4 * mixed + 4 * rounded) * genes + encoder + decoder + 4 * last)
        + (4 + 2 * rounded) * genes * last;
    let learns = cells * ((4 + 4 * mixed + 2 * rounded) * genes + encoder + 4 * width) + (4 + 2 * rounded) * all;
    // While the likelihood is computed, there are also its sums; the batch has the widest types that are usual.
    let likelihood = likelihood.max(cells * ((8 + 4 * mixed + 2 * rounded) * genes + encoder + decoder) + partial);
    likelihood.max(learns) + cells * nonzeros * 4
}

/// The same for steps whose likelihood libtorch computes.
///
/// While the likelihood is computed, memory holds the dense tensors of the batch, the tensors with one number
/// per non-zero, and activations; during the optimiser's step, the gradients twice, since scaling them
/// creates new tensors.
fn step_bytes(settings: &Settings, genes: usize, vocabulary: &Vocabulary, nonzeros: usize) -> usize {
    let (model, train) = (&settings.model, &settings.train);
    let cells = to_usize(train.batch_size);
    let (dense, of_non_zero) = match model.recon_loss {
        ReconLoss::Zinb => DEVICE_ZINB,
        ReconLoss::Gauss => DEVICE_GAUSS,
        _ => DEVICE_NB,
    };
    let mixed = if train.mixup_alpha > 0.0 { DENSE_OF_MIXED } else { 0 };
    let rounded = if train.precision == MatrixPrecision::Bf16 { DEVICE_ROUNDED } else { 0 };
    let layers = |width: u32, layers: u32| to_usize(width) * to_usize(layers) * DEVICE_LAYER;
    let activations =
        layers(model.n_hidden_encoder, model.n_layers_encoder) + layers(model.n_hidden_decoder, model.n_layers_decoder);
    let gradients = 4 * weights(settings, genes, vocabulary, outputs(settings));
    let likelihood = cells * ((4 * (dense + mixed) - rounded) * genes + of_non_zero * nonzeros + 4 * activations);
    likelihood.max(2 * gradients)
}

/// GPU memory for packed batches with this many non-zeros per cell, of this many bytes each: for replayed
/// steps, two slots and the place that steps read, for full batches and for the smaller last batch of an
/// epoch; for other steps, one batch.
fn device_batch_bytes(settings: &Settings, vocabulary: &Vocabulary, nonzeros: usize, nonzero_bytes: usize) -> usize {
    let nonzeros = nonzeros * nonzero_bytes;
    let of_cell = nonzeros + nonzeros / 8 + PACKED_CELL_BYTES + 4 * vocabulary.covariates.len();
    let batches = if is_launched(settings) { DEVICE_BATCHES } else { 1 };
    batches * to_usize(settings.train.batch_size) * of_cell
}

/// Peak GPU memory of training, without the driver's own memory per process: permanent state, a step or a
/// validation, packed batches, and the workspace of libtorch's libraries. The non-zeros of a packed batch take this many bytes each.
#[must_use]
pub fn device_training_bytes(
    settings: &Settings,
    genes: usize,
    vocabulary: &Vocabulary,
    nonzeros: usize,
    nonzero_bytes: usize,
) -> usize {
    let cells = to_usize(settings.train.batch_size).min(VALIDATED_AT_ONCE);
    let looked = validation_bytes(genes, vocabulary.trained.len(), to_usize(settings.model.n_latent))
        + 4 * DEVICE_LOOK * cells * genes;
    let step = device_step_bytes(settings, genes, vocabulary, nonzeros);
    // Graphs have their own memory, which validation can't use.
    let offsets = offset_bytes(settings, genes, vocabulary);
    // Automatic differentiation has its own thread.
    let libraries = DEVICE_LIBRARIES * if is_differentiated(settings) { 2 } else { 1 };
    let batches = device_batch_bytes(settings, vocabulary, nonzeros, nonzero_bytes);
    device_state_bytes(settings, genes, vocabulary) + step + looked + batches + offsets + libraries
}
