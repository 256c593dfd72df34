//! The size of a run before it starts: batches, steps, and the tensors of its network.

use schemas::numbers::checked;
use stages::model::network::Network;
use tch::{Device, Kind};

use super::{TrainerSettings, Training};
use crate::{Result, flows::ProgressCounter};

impl Training {
    /// Reports the number of training cells that were batched, counted once per epoch.
    #[must_use]
    pub fn telling(mut self, progress: ProgressCounter) -> Self {
        self.resources.progress = progress;
        self
    }

    /// Number of batches in an epoch.
    #[must_use]
    pub fn batches(&self) -> u64 {
        self.order.train.batches()
    }

    /// Maximum number of steps of the run: batches of all epochs, divided by those that are accumulated.
    #[must_use]
    pub fn steps(&self) -> u64 {
        let accumulated = u64::from(self.settings.plan.train.accumulate.max(1));
        self.batches().div_ceil(accumulated) * u64::from(self.epochs())
    }

    /// Names and shapes of the network's tensors, as they will be saved.
    ///
    /// # Errors
    /// This fails only through a bug.
    pub fn tensors(&self) -> Result<Vec<(String, Vec<i64>)>> {
        let TrainerSettings { plan, card, .. } = &self.settings;
        let genes = checked(card.genes.len(), "genes")?;
        let network = Network::new(plan, genes, &card.vocabulary, Kind::Float, Device::Cpu);
        let mut tensors: Vec<(String, Vec<i64>)> =
            network.parameters.all().map(|(name, tensor)| (name.clone(), tensor.size())).collect();
        tensors.sort();
        Ok(tensors)
    }
}
