//! A step on several batches as if they were one.
//!
//! Each batch goes through the network by itself; its gradients are added up in the optimisers, which make their steps, and clip,
//! with the last one. The losses are means over cells, so gradients are weighted by cells. The one exception is the cross-entropy of
//! combinations, a mean weighted by class: there each batch's loss is multiplied by how much its classes weigh beside those of all.
//! What is computed over the cells of a batch, as batch norm does, stays what it is; so do the pairs and the share of mixup.

use schemas::{config::AdversaryLoss, numbers::bounded};
use tch::{Kind, Tensor};

use super::{adversary::Adversaries, input::codes_tensor, step::Learner};

/// What a batch counts for among those of a step.
#[derive(Debug)]
pub struct Share {
    /// Its part of the cells.
    cells: f64,
    /// How much more its classes weigh on average than those of all batches, a scalar; none: there is nothing to tell apart.
    emphasis: Option<Tensor>,
    /// Whether the step is complete with it.
    last: bool,
}

impl Share {
    /// The shares of batches in one step, given the combination of each of their cells.
    #[must_use]
    pub fn of(adversaries: &Adversaries, batches: &[&[u32]]) -> Vec<Self> {
        let count = |cells: usize| f64::from(bounded::<u32>(cells));
        let all = count(batches.iter().map(|cells| cells.len()).sum());
        let shares: Vec<f64> = batches.iter().map(|cells| count(cells.len()) / all).collect();
        let weights: Option<Vec<Tensor>> = match batches {
            [_] => None,
            several => several.iter().map(|cells| adversaries.mean_class_weight(cells)).collect(),
        };
        let mean = weights.as_ref().and_then(|weights| {
            weights.iter().zip(&shares).map(|(weight, share)| weight * *share).reduce(|sum, part| sum + part)
        });
        let emphasis = |at: usize| Some(&weights.as_ref()?[at] / mean.as_ref()?);
        let share =
            |(at, cells): (usize, &f64)| Self { cells: *cells, emphasis: emphasis(at), last: at + 1 == shares.len() };
        shares.iter().enumerate().map(share).collect()
    }
}

impl Learner {
    /// The next step is on a batch that counts for so much.
    pub fn takes(&mut self, share: Share) {
        for adam in [&mut self.autoencoder_adam, &mut self.doser_adam, &mut self.adversary_adam] {
            adam.expect(share.cells, share.last);
        }
        self.adversaries.emphasis = share.emphasis;
    }
}

impl Adversaries {
    /// What the classes of cells weigh on average, a scalar; none where the loss is not a mean by their weights.
    fn mean_class_weight(&self, classes: &[u32]) -> Option<Tensor> {
        let weights = self.class_weights().filter(|_| self.loss == AdversaryLoss::Cce)?;
        let kind: Kind = weights.kind();
        Some(weights.index_select(0, &codes_tensor(classes, weights.device())).mean(kind))
    }
}
