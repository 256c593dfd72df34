//! A step over several batches as if they were one.
//!
//! Each batch runs through the network separately; its gradients are summed in the optimisers, which clip and
//! step with the last batch. The losses are means over cells, so gradients are weighted by cells. The only
//! exception is the cross-entropy of combinations, a mean weighted by class: each batch's loss is multiplied
//! by the weight of its classes relative to that of all batches. Computations across the cells of a batch,
//! such as batch norm, are unchanged, as are the pairs and the share of mixup.

use schemas::{config::AdversaryLoss, numbers::bounded};
use tch::{Kind, Tensor};

use super::{adversary::Adversaries, input::codes_tensor, step::Learner};

/// The weight of a batch within its step.
#[derive(Debug)]
pub struct BatchShare {
    /// Its share of the cells.
    cells: f64,
    /// Mean weight of its classes relative to that of all batches, a scalar; `None` if there is only one class.
    emphasis: Option<Tensor>,
    /// Whether this batch completes the step.
    last: bool,
}

impl BatchShare {
    /// The shares of batches in one step, given the combination of each of their cells.
    #[must_use]
    pub fn for_batches(adversaries: &Adversaries, batches: &[&[u32]]) -> Vec<Self> {
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
    /// Sets the weight of the next batch.
    pub fn takes(&mut self, share: BatchShare) {
        for adam in [&mut self.autoencoder_adam, &mut self.doser_adam, &mut self.adversary_adam] {
            adam.expect(share.cells, share.last);
        }
        self.adversaries.emphasis = share.emphasis;
    }
}

impl Adversaries {
    /// Mean class weight of cells, a scalar; `None` if the loss is not weighted by class.
    fn mean_class_weight(&self, classes: &[u32]) -> Option<Tensor> {
        let weights = self.class_weights().filter(|_| self.loss == AdversaryLoss::Cce)?;
        let kind: Kind = weights.kind();
        Some(weights.index_select(0, &codes_tensor(classes, weights.device())).mean(kind))
    }
}
