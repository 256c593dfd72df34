//! The average of the weights during training.

use std::{collections::BTreeMap, path::Path};

use schemas::{
    Result,
    config::{Averaging, TrainingPlan},
    numbers::bounded,
    vocabulary::Vocabulary,
};
use tch::Tensor;

use super::network::Network;

const PREFIX: &str = "average.";
const TAKEN: &str = "average.taken";

/// A network whose weights are the average of the trained ones; its running statistics are averaged likewise.
#[derive(Debug)]
pub struct Average {
    network: Network,
    kind: Averaging,
    decay: f64,
    taken: i64,
}

impl Average {
    /// An empty average for a network of this plan; `None` if weights are not averaged.
    #[must_use]
    pub fn new(plan: &TrainingPlan, network: &Network, vocabulary: &Vocabulary) -> Option<Self> {
        let (kind, decay) = (plan.train.average, plan.train.average_decay);
        let genes = bounded(network.genes());
        let (precision, device) = (network.parameters.kind(), network.parameters.device());
        (kind != Averaging::None).then(|| Self {
            network: Network::new(plan, genes, vocabulary, precision, device),
            kind,
            decay,
            taken: 0,
        })
    }

    /// The network with the averaged weights; `None` before the first update.
    #[must_use]
    pub fn network(&self) -> Option<&Network> {
        (self.taken > 0).then_some(&self.network)
    }

    /// Updates the average after a step of the autoencoder.
    pub fn after_update(&mut self, network: &Network) {
        if self.kind == Averaging::Ema {
            let share = if self.taken == 0 { 1.0 } else { 1.0 - self.decay };
            self.take(network, share);
        }
    }

    /// Updates the average after the training batches of an epoch.
    pub fn after_epoch(&mut self, network: &Network) {
        if self.kind == Averaging::Swa {
            #[expect(clippy::cast_precision_loss, reason = "no run has 2^52 epochs")]
            let share = 1.0 / (self.taken + 1) as f64;
            self.take(network, share);
        }
    }

    fn take(&mut self, network: &Network, share: f64) {
        self.network.parameters.approach(&network.parameters, share);
        self.taken += 1;
    }

    /// Everything a resumed run needs, by name, in host memory.
    ///
    /// # Errors
    /// A lost device.
    pub fn state(&self) -> Result<BTreeMap<String, Tensor>> {
        let Some(network) = self.network() else { return Ok(BTreeMap::new()) };
        let named = |(name, tensor)| (format!("{PREFIX}{name}"), tensor);
        let taken = (TAKEN.to_owned(), Tensor::from(self.taken));
        Ok(network.parameters.snapshot()?.into_iter().map(named).chain([taken]).collect())
    }

    /// Restores a state; `path` is named in errors.
    ///
    /// # Errors
    /// A state of another model.
    pub fn restore(&mut self, state: &BTreeMap<String, Tensor>, path: &Path) -> Result<()> {
        let Some(taken) = state.get(TAKEN) else { return Ok(()) };
        let own = state.iter().filter_map(|(name, tensor)| Some((name.strip_prefix(PREFIX)?, tensor)));
        let own = own.map(|(name, tensor)| (name.to_owned(), tensor.shallow_clone())).collect();
        self.network.parameters.restore(&own, path)?;
        self.taken = taken.int64_value(&[]);
        Ok(())
    }
}
