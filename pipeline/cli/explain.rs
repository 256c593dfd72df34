//! `explain`: the graph, its budgets and the memory, before anything runs.

use perturbine::Result;
use schemas::config::{Doser, ReconLoss};
use serde_json::json;
use stages::{saved, validation::validation_bytes};

use super::{
    Context,
    args::model::{ExplainArgs, Explained},
    predict::{output_of, prepare_prediction},
    show::bytes,
    train::prepare_training,
};

pub(super) fn explain(args: ExplainArgs, context: &Context) -> Result<()> {
    let (graph, held, network) = match &args.what {
        Explained::Train(args) => {
            let training = prepare_training(args, context)?;
            let card = training.card();
            (training.graph()?, training.held_bytes(), training_bytes(card))
        }
        Explained::Predict(args) => {
            let prediction = prepare_prediction(args, context)?;
            let targets = prediction.jobs().jobs.iter().map(|job| job.targets.len()).max().unwrap_or(0);
            let genes = stages::saved::read_card(&args.model)?.genes.len();
            let sums = 3 * 8 * targets * genes;
            // Measured: some twelve dense tensors of a batch live together.
            let decoded = 12 * 4 * stages::predict::batch_size(targets) * genes;
            let held = prediction.held_bytes();
            (prediction.pipeline(output_of(args))?.plan("write"), held, sums + decoded)
        }
    };
    let edges = graph.bytes();
    let floor = usize::try_from(perturbine::memory::anonymous_bytes().unwrap_or(0)).unwrap_or(0);
    let total = edges + held + network + floor;
    let result = json!({ "graph": graph, "edges_bytes": edges, "blocks_bytes": held, "network_bytes": network, "floor_bytes": floor, "peak_memory_bytes": total });
    context.show.result(&result, || {
        let size = |count: usize| bytes(count as u64);
        format!(
            "{graph}\nedges {} + unpacked blocks {} + network {} + libtorch and program {} = at most {}",
            size(edges),
            size(held),
            size(network),
            size(floor),
            size(total)
        )
    })
}

/// Weights, gradients, optimiser states and the best weights, and what a step holds of a batch.
fn training_bytes(card: &saved::Card) -> usize {
    let model = &card.config.model;
    let wide = |value: u32| usize::try_from(value).unwrap_or(usize::MAX);
    let (genes, latent) = (card.genes.len(), wide(model.n_latent));
    let hidden = |width: u32, layers: u32| wide(width) * (1 + wide(layers.saturating_sub(1)) * wide(width));
    let weights = genes * (wide(model.n_hidden_encoder) + 2 * wide(model.n_hidden_decoder))
        + hidden(model.n_hidden_encoder, model.n_layers_encoder)
        + hidden(model.n_hidden_decoder, model.n_layers_decoder)
        + latent * (wide(model.n_hidden_encoder) + wide(model.n_hidden_decoder) + card.vocabulary.perturbations.len());
    let names = card.vocabulary.perturbations.len();
    let dosers = match model.doser_type {
        Doser::Mlp => names * (wide(model.n_hidden_doser) + hidden(model.n_hidden_doser, model.n_layers_doser)),
        _ => 2 * names,
    };
    let given = (names + card.vocabulary.unseen.len()) * wide(card.vocabulary.embedding_width.unwrap_or(0));
    let dense = wide(card.config.train.batch_size) * genes;
    // Measured: the step keeps some fourteen dense tensors of a batch between forward and backward; the logits of excess
    // zeros, and what their loss makes of them, are half as many again, and mixed cells two.
    let zeros = if model.recon_loss == ReconLoss::Zinb { 7 } else { 0 };
    let mixed = if 0.0 < card.config.train.mixup_alpha { 2 } else { 0 };
    let step = 4 * (5 * (weights + dosers) + 3 * given + (14 + zeros + mixed) * dense);
    step + validation_bytes(genes, card.vocabulary.trained.len(), latent)
}
