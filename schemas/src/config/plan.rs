//! The validated settings.

use super::{ReconLoss, Settings};
use crate::{
    Error, Result,
    atlas::ValueKind,
    numbers::{bounded, saturating},
};

impl Settings {
    /// Validates the settings against each other and against the kind of the atlas's values.
    ///
    /// # Errors
    /// The first setting that is out of range, by name.
    pub fn check(mut self, values: ValueKind) -> Result<TrainingPlan> {
        self.model.recon_loss = match (self.model.recon_loss, values) {
            (ReconLoss::Auto, ValueKind::Counts) => ReconLoss::Nb,
            (ReconLoss::Auto, ValueKind::Continuous) => ReconLoss::Gauss,
            (ReconLoss::Nb | ReconLoss::Zinb, ValueKind::Continuous) => {
                let name = if self.model.recon_loss == ReconLoss::Nb { "nb" } else { "zinb" };
                return Err(Error::usage(
                    format!("model.recon_loss = {name} needs counts, and this atlas holds continuous values"),
                    "use gauss, or ingest the layer that holds the raw counts",
                ));
            }
            (chosen, _) => chosen,
        };
        let (model, adversary, train) = (&self.model, &self.adversary, &self.train);
        let positive = [
            ("model.n_latent", model.n_latent),
            ("model.n_hidden_encoder", model.n_hidden_encoder),
            ("model.n_layers_encoder", model.n_layers_encoder),
            ("model.n_hidden_doser", model.n_hidden_doser),
            ("model.n_layers_doser", model.n_layers_doser),
            ("model.n_hidden_decoder", model.n_hidden_decoder),
            ("model.n_layers_decoder", model.n_layers_decoder),
            ("adversary.n_hidden_adv", adversary.n_hidden_adv),
            ("adversary.n_layers_adv", adversary.n_layers_adv),
            ("train.check_val_every_n_epoch", train.check_val_every_n_epoch),
            ("train.accumulate", train.accumulate),
        ];
        for (name, value) in positive {
            ensure(value > 0, name, value, "at least 1")?;
        }
        ensure(
            adversary.adv_steps != 1 || self.compat.is_original(),
            "adversary.adv_steps",
            1,
            "0 (both sides learn from every batch) or at least 2",
        )?;
        ensure(train.batch_size != 1, "train.batch_size", train.batch_size, "at least 2, or auto")?;
        let shares = [
            ("model.dropout_rate_encoder", model.dropout_rate_encoder),
            ("model.dropout_rate_decoder", model.dropout_rate_decoder),
            ("adversary.dropout_rate_adv", adversary.dropout_rate_adv),
            ("train.valid", train.valid),
            ("train.reference", train.reference),
            ("train.average_decay", train.average_decay),
        ];
        for (name, value) in shares {
            ensure((0.0..1.0).contains(&value), name, value, "at least 0 and less than 1")?;
        }
        let amounts = [
            ("adversary.reg_adv", adversary.reg_adv),
            ("adversary.pen_adv", adversary.pen_adv),
            ("adversary.adv_lr", adversary.adv_lr),
            ("adversary.adv_wd", adversary.adv_wd),
            ("train.lr", train.lr),
            ("train.wd", train.wd),
            ("train.doser_lr", train.doser_lr),
            ("train.doser_wd", train.doser_wd),
            ("train.lr_decay", train.lr_decay),
            ("train.mixup_alpha", train.mixup_alpha),
            ("train.gradient_clip_value", train.gradient_clip_value),
            ("model.output_deviation", model.output_deviation),
        ];
        for (name, value) in amounts {
            ensure(value.is_finite() && value >= 0.0, name, value, "a number of at least 0")?;
        }
        Ok(TrainingPlan(self))
    }
}

fn ensure(holds: bool, name: &str, value: impl std::fmt::Display, requirement: &str) -> Result<()> {
    if holds { Ok(()) } else { Err(Error::usage(format!("{name} is {value}; it must be {requirement}"), "")) }
}

/// Validated settings, with the reconstruction loss resolved.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainingPlan(Settings);

impl std::ops::Deref for TrainingPlan {
    type Target = Settings;

    fn deref(&self) -> &Settings {
        &self.0
    }
}

impl TrainingPlan {
    /// The plan for a run with this many epochs: pretraining and warm-up together are limited to half of them, so
    /// that the adversaries have their full weight during the other half. The original has no such limit, nor is
    /// there one with `compat`.
    #[must_use]
    pub fn fitted_to(mut self, epochs: u32) -> Self {
        let original = self.compat.is_original();
        let train = &mut self.0.train;
        let both = train.n_epochs_pretrain_ae + train.n_epochs_adv_warmup;
        if epochs / 2 < both && !original {
            let shrunk = |requested: u32| bounded(u64::from(requested) * u64::from(epochs / 2) / u64::from(both));
            (train.n_epochs_pretrain_ae, train.n_epochs_adv_warmup) =
                (shrunk(train.n_epochs_pretrain_ae), shrunk(train.n_epochs_adv_warmup));
        }
        train.epochs = epochs;
        self
    }

    /// The plan with batches of this many cells, if their size was `auto`.
    #[must_use]
    pub fn with_batch_size(mut self, cells: u32) -> Self {
        self.0.train.batch_size = cells;
        self
    }

    /// Maximum number of epochs, for this many training cells: the original's `min(round(20000 / cells * 400), 400)`, at least 1.
    #[must_use]
    pub fn epochs(&self, cells: u64) -> u32 {
        match self.train.epochs {
            0 => saturating::<u32>((8_000_000 + cells / 2) / cells.max(1)).clamp(1, 400),
            epochs => epochs,
        }
    }
}
