//! How much memory training takes, known before it starts.

use schemas::config::{Averaging, Doser, ReconLoss, Settings};

use crate::{model::offset::offset_bytes, validation::validation_bytes, vocabulary::Vocabulary};

/// Dense tensors of a batch that a step keeps between forward and backward at most, as measured.
const DENSE: usize = 14;
/// The same where segments are recomputed.
const DENSE_RECOMPUTED: usize = 9;
/// The logits of excess zeros, and what their loss makes of them.
const DENSE_OF_ZEROS: usize = 7;
/// Cells that are mixed.
const DENSE_OF_MIXED: usize = 2;
/// Gene and value of a non-zero, in the widest types.
const NONZERO_BYTES: usize = 8;

/// Weights, gradients, optimiser states, the best and the averaged weights, and what a step holds of a batch; a cell has so many
/// non-zeros.
#[must_use]
pub fn training_bytes(settings: &Settings, genes: usize, vocabulary: &Vocabulary, nonzeros: usize) -> usize {
    let (model, train) = (&settings.model, &settings.train);
    let wide = |value: u32| usize::try_from(value).unwrap_or(usize::MAX);
    let latent = wide(model.n_latent);
    let hidden = |width: u32, layers: u32| wide(width) * (1 + wide(layers.saturating_sub(1)) * wide(width));
    let weights = genes * (wide(model.n_hidden_encoder) + 2 * wide(model.n_hidden_decoder))
        + hidden(model.n_hidden_encoder, model.n_layers_encoder)
        + hidden(model.n_hidden_decoder, model.n_layers_decoder)
        + latent * (wide(model.n_hidden_encoder) + wide(model.n_hidden_decoder) + vocabulary.perturbations.len());
    let names = vocabulary.perturbations.len();
    let dosers = match model.doser_type {
        Doser::Mlp => names * (wide(model.n_hidden_doser) + hidden(model.n_hidden_doser, model.n_layers_doser)),
        _ => 2 * names,
    };
    let given = (names + vocabulary.unseen.len()) * wide(vocabulary.embedding_width.unwrap_or(0));
    // The weights themselves, their gradients, two moments and the best ones; then their average, and gradients that wait for more.
    let copies = 5 + usize::from(train.average != Averaging::None) + usize::from(1 < train.accumulate);
    let zeros = if model.recon_loss == ReconLoss::Zinb { DENSE_OF_ZEROS } else { 0 };
    let mixed = if 0.0 < train.mixup_alpha { DENSE_OF_MIXED } else { 0 };
    let kept = if train.checkpointing { DENSE_RECOMPUTED } else { DENSE };
    let dense = wide(train.batch_size) * genes;
    let waiting = wide(train.accumulate.saturating_sub(1)) * wide(train.batch_size) * nonzeros * NONZERO_BYTES;
    let step = 4 * (copies * (weights + dosers) + 3 * given + (kept + zeros + mixed) * dense);
    let offsets = offset_bytes(settings, genes, vocabulary);
    step + waiting + offsets + validation_bytes(genes, vocabulary.trained.len(), latent)
}
