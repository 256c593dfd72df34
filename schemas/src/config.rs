//! What a user writes (`Settings`), and what is left once it was checked (`Plan`).
//!
//! Settings are built in layers: a preset, then a file, then single `section.key=value` assignments. Names are the
//! original's wherever it has one. It is long because every
//! setting is told where it is declared.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Error, Result, atlas::ValueKind};

mod data;

pub use self::data::{DataSettings, GeneChoice, GenesKept};

/// Everything that decides what a training run does, apart from its data.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Which preset the settings started from.
    pub preset: Preset,
    /// Seed of the split, the order, the weights and the dropout.
    pub seed: u64,
    /// What of the atlas is seen.
    pub data: DataSettings,
    /// The network.
    pub model: ModelSettings,
    /// The adversaries.
    pub adversary: AdversarySettings,
    /// The training.
    pub train: TrainSettings,
}

/// A set of settings with a name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Preset {
    /// The original's architecture and training, sized as in its published Kang example, with a learning rate that suits it.
    #[default]
    Cpa,
}

/// How the decoder's output is compared with the cells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReconLoss {
    /// `nb` for counts, `gauss` for anything else.
    #[default]
    Auto,
    /// Negative binomial, for counts.
    Nb,
    /// Normal with a learned variance, for anything.
    Gauss,
}

/// How a dose scales its perturbation's embedding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Doser {
    /// `linear` where every trained dose is 1, `logsigm` where doses differ.
    #[default]
    Auto,
    /// By the dose itself.
    Linear,
    /// By a sigmoid of the dose with a slope and an offset a perturbation, 0 at dose 0.
    Sigm,
    /// The same of log(1 + dose).
    LogSigm,
}

/// What follows a linear layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Norm {
    /// Nothing.
    #[serde(rename = "none")]
    None,
    /// Batch norm.
    #[serde(rename = "batch")]
    Batch,
    /// Layer norm, without parameters.
    #[serde(rename = "layer")]
    Layer,
    /// Batch norm, then layer norm.
    #[serde(rename = "batch+layer")]
    BatchThenLayer,
}

impl Norm {
    /// Whether batch norm is on.
    #[must_use]
    pub fn batch(self) -> bool {
        matches!(self, Self::Batch | Self::BatchThenLayer)
    }

    /// Whether layer norm is on.
    #[must_use]
    pub fn layer(self) -> bool {
        matches!(self, Self::Layer | Self::BatchThenLayer)
    }
}

/// The network (`[model]`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ModelSettings {
    /// Width of the latent space.
    pub n_latent: u32,
    /// Reconstruction loss: `auto`, `nb` or `gauss`.
    pub recon_loss: ReconLoss,
    /// Dose response: `auto`, `linear`, `sigm` or `logsigm`.
    pub doser_type: Doser,
    /// Width of the encoder's hidden layers.
    pub n_hidden_encoder: u32,
    /// Number of the encoder's hidden layers.
    pub n_layers_encoder: u32,
    /// `none`, `batch`, `layer` or `batch+layer`.
    pub norm_encoder: Norm,
    /// Dropout in the encoder.
    pub dropout_rate_encoder: f64,
    /// Width of the decoder's hidden layers.
    pub n_hidden_decoder: u32,
    /// Number of the decoder's hidden layers.
    pub n_layers_decoder: u32,
    /// `none`, `batch`, `layer` or `batch+layer`.
    pub norm_decoder: Norm,
    /// Dropout in the decoder.
    pub dropout_rate_decoder: f64,
}

impl Default for ModelSettings {
    fn default() -> Self {
        Self {
            n_latent: 64,
            recon_loss: ReconLoss::Auto,
            doser_type: Doser::Auto,
            n_hidden_encoder: 128,
            n_layers_encoder: 2,
            norm_encoder: Norm::Batch,
            dropout_rate_encoder: 0.0,
            n_hidden_decoder: 512,
            n_layers_decoder: 2,
            norm_decoder: Norm::Layer,
            dropout_rate_decoder: 0.1,
        }
    }
}

/// The adversaries (`[adversary]`): classifiers that try to read combination and covariates from the basal latent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdversarySettings {
    /// Width of the hidden layers.
    pub n_hidden_adv: u32,
    /// Number of hidden layers.
    pub n_layers_adv: u32,
    /// `none`, `batch`, `layer` or `batch+layer`.
    pub norm_adv: Norm,
    /// Dropout.
    pub dropout_rate_adv: f64,
    /// Weight of the adversaries' loss in the autoencoder's.
    pub reg_adv: f64,
    /// Weight of the gradient penalty in the adversaries' loss.
    pub pen_adv: f64,
    /// The autoencoder learns from one of so many batches, the adversaries from the others; 0: both from every batch.
    pub adv_steps: u32,
    /// Learning rate.
    pub adv_lr: f64,
    /// Weight decay (L2, as Adam's).
    pub adv_wd: f64,
}

impl Default for AdversarySettings {
    fn default() -> Self {
        Self {
            n_hidden_adv: 64,
            n_layers_adv: 3,
            norm_adv: Norm::Batch,
            dropout_rate_adv: 0.3,
            reg_adv: 20.0,
            pen_adv: 5.0,
            adv_steps: 0,
            adv_lr: 1e-3,
            adv_wd: 4e-7,
        }
    }
}

/// What decides which epoch's weights are kept, measured on `valid` rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Monitor {
    /// Mean over conditions of the correlation between the change that is predicted for controls and the real change;
    /// larger is better. Where no condition has enough `valid` cells, `recon` stands in.
    #[default]
    PearsonDelta,
    /// Mean over conditions of the R² of their mean profiles; larger is better.
    R2Mean,
    /// Reconstruction loss; smaller is better.
    Recon,
}

impl Monitor {
    /// Its name in `history.jsonl`, after `valid.`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::PearsonDelta => "pearson_delta",
            Self::R2Mean => "r2_mean",
            Self::Recon => "recon",
        }
    }

    /// Whether `value` is better than `best`.
    #[must_use]
    pub fn is_better(self, value: f64, best: f64) -> bool {
        match self {
            Self::PearsonDelta | Self::R2Mean => best < value,
            Self::Recon => value < best,
        }
    }
}

/// How cells are chosen for training batches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sampling {
    /// Every cell once an epoch.
    #[default]
    Uniform,
    /// Every condition as likely as any other.
    Balanced,
    /// Conditions by `condition_weights`.
    Weighted,
    /// Every perturbed cell once an epoch, each followed by a control that shares its values of `match_keys`.
    Paired,
}

/// The training (`[train]`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrainSettings {
    /// Epochs at most; 0: as many as see eight million cells, at most 400 (the original's rule).
    pub epochs: u32,
    /// Cells of a batch.
    pub batch_size: u32,
    /// Learning rate of the autoencoder.
    pub lr: f64,
    /// Its weight decay (L2, as Adam's).
    pub wd: f64,
    /// Learning rate of the dose response.
    pub doser_lr: f64,
    /// Its weight decay.
    pub doser_wd: f64,
    /// Epochs between two steps of the learning rates; 0: they stay.
    pub step_size_lr: u32,
    /// What a step multiplies them by.
    pub lr_decay: f64,
    /// Epochs in which the autoencoder learns without its adversaries, and they learn beside it.
    pub n_epochs_pretrain_ae: u32,
    /// Epochs over which the adversaries' weight grows to `reg_adv`.
    pub n_epochs_adv_warmup: u32,
    /// Largest norm of a gradient, over each optimiser's parameters; 0: no limit.
    pub gradient_clip_value: f64,
    /// Epochs between two looks at the `valid` rows.
    pub check_val_every_n_epoch: u32,
    /// Looks without an improvement that end the training; 0: it never ends early.
    pub early_stopping_patience: u32,
    /// What is looked at: `pearson_delta`, `r2_mean` or `recon`.
    pub monitor: Monitor,
    /// Share of the cells that are `valid` where no split is given.
    pub valid: f64,
    /// Cells that are shuffled together.
    pub window: u32,
    /// Runs the decoder on batches that only the adversaries learn from, as the original does: moves its batch norm.
    pub decoder_on_every_batch: bool,
    /// How cells are chosen: `uniform`, `balanced`, `weighted` or `paired`.
    pub sampling: Sampling,
    /// Covariates whose values a control shares with the cell that it is paired with.
    pub match_keys: Vec<String>,
    /// How likely conditions are drawn, by name; those that are not named weigh 1.
    pub condition_weights: BTreeMap<String, f64>,
}

impl Default for TrainSettings {
    fn default() -> Self {
        Self {
            epochs: 0,
            batch_size: 128,
            lr: 1e-3,
            wd: 4e-7,
            doser_lr: 3e-4,
            doser_wd: 4e-7,
            step_size_lr: 0,
            lr_decay: 0.9,
            n_epochs_pretrain_ae: 30,
            n_epochs_adv_warmup: 50,
            gradient_clip_value: 1.0,
            check_val_every_n_epoch: 5,
            early_stopping_patience: 10,
            monitor: Monitor::default(),
            valid: 0.15,
            window: 131_072,
            decoder_on_every_batch: false,
            sampling: Sampling::default(),
            match_keys: Vec::new(),
            condition_weights: BTreeMap::new(),
        }
    }
}

impl Settings {
    /// Settings out of a preset, a TOML text laid over it, and `section.key=value` assignments laid over both.
    ///
    /// # Errors
    /// Text that is no TOML, keys that there are not, values of another type.
    pub fn layered(preset: Preset, file: Option<(&str, &str)>, assignments: &[String]) -> Result<Self> {
        let base = Self { preset, ..Self::default() };
        let mut table = toml::Table::try_from(&base).map_err(|error| Error::Bug(error.to_string()))?;
        if let Some((path, text)) = file {
            let over: toml::Table = text.parse().map_err(|error: toml::de::Error| {
                Error::data(path, error.to_string(), "see docs/model.md for the settings")
            })?;
            overlay(&mut table, over);
            Self::from_table(table.clone())
                .map_err(|message| Error::data(path, message, "see docs/model.md for the settings"))?;
        }
        for assignment in assignments {
            let hint = "write --set section.key=value, as in --set model.n_latent=64";
            let (key, value) = assignment
                .split_once('=')
                .ok_or_else(|| Error::usage(format!("`{assignment}` is no assignment"), hint))?;
            let value =
                format!("value = {value}").parse::<toml::Table>().or_else(|_| format!("value = {value:?}").parse());
            let value = value.ok().and_then(|mut parsed| parsed.remove("value"));
            let value = value.ok_or_else(|| Error::usage(format!("`{assignment}` has no readable value"), hint))?;
            let over =
                key.rsplit('.').fold(value, |inner, name| toml::Table::from_iter([(name.to_owned(), inner)]).into());
            if let toml::Value::Table(over) = over {
                overlay(&mut table, over);
            }
            Self::from_table(table.clone())
                .map_err(|message| Error::usage(format!("`{assignment}`: {message}"), hint))?;
        }
        Self::from_table(table).map_err(Error::Bug)
    }

    fn from_table(table: toml::Table) -> Result<Self, String> {
        table.try_into().map_err(|error: toml::de::Error| error.to_string().trim().replace('\n', " "))
    }

    /// All of it as TOML.
    #[must_use]
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("settings are TOML")
    }

    /// Checks the settings against each other and against what the values of the atlas are.
    ///
    /// # Errors
    /// The first setting that is out of range, by name.
    pub fn check(mut self, values: ValueKind) -> Result<Plan> {
        self.model.recon_loss = match (self.model.recon_loss, values) {
            (ReconLoss::Auto, ValueKind::Counts) => ReconLoss::Nb,
            (ReconLoss::Auto, ValueKind::Continuous) => ReconLoss::Gauss,
            (ReconLoss::Nb, ValueKind::Continuous) => {
                return Err(Error::usage(
                    "model.recon_loss = nb needs counts, and this atlas holds continuous values",
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
            ("model.n_hidden_decoder", model.n_hidden_decoder),
            ("model.n_layers_decoder", model.n_layers_decoder),
            ("adversary.n_hidden_adv", adversary.n_hidden_adv),
            ("adversary.n_layers_adv", adversary.n_layers_adv),
            ("train.check_val_every_n_epoch", train.check_val_every_n_epoch),
            ("train.window", train.window),
        ];
        for (name, value) in positive {
            ensure(0 < value, name, value, "at least 1")?;
        }
        ensure(
            adversary.adv_steps != 1,
            "adversary.adv_steps",
            1,
            "0 (both sides learn from every batch) or 2 and more",
        )?;
        ensure(2 <= train.batch_size, "train.batch_size", train.batch_size, "at least 2")?;
        let shares = [
            ("model.dropout_rate_encoder", model.dropout_rate_encoder),
            ("model.dropout_rate_decoder", model.dropout_rate_decoder),
            ("adversary.dropout_rate_adv", adversary.dropout_rate_adv),
            ("train.valid", train.valid),
        ];
        for (name, value) in shares {
            ensure((0.0..1.0).contains(&value), name, value, "from 0 up to, but not, 1")?;
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
            ("train.gradient_clip_value", train.gradient_clip_value),
        ];
        for (name, value) in amounts {
            ensure(value.is_finite() && 0.0 <= value, name, value, "a number from 0 upwards")?;
        }
        Ok(Plan(self))
    }
}

fn ensure(holds: bool, name: &str, value: impl std::fmt::Display, wanted: &str) -> Result<()> {
    if holds { Ok(()) } else { Err(Error::usage(format!("{name} is {value}; it must be {wanted}"), "")) }
}

fn overlay(base: &mut toml::Table, over: toml::Table) {
    for (key, value) in over {
        match (base.get_mut(&key), value) {
            (Some(toml::Value::Table(base)), toml::Value::Table(over)) => overlay(base, over),
            (_, value) => {
                base.insert(key, value);
            }
        }
    }
}

/// Settings that were checked; the reconstruction loss is decided.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan(Settings);

impl std::ops::Deref for Plan {
    type Target = Settings;

    fn deref(&self) -> &Settings {
        &self.0
    }
}

impl Plan {
    /// The plan of a run of so many epochs: pretraining and warm-up shrink to half of them together, so that the other half
    /// is trained at the adversaries' full weight.
    #[must_use]
    pub fn fitted_to(mut self, epochs: u32) -> Self {
        let train = &mut self.0.train;
        let both = train.n_epochs_pretrain_ae + train.n_epochs_adv_warmup;
        if epochs / 2 < both {
            let shrunk = |wanted: u32| {
                u32::try_from(u64::from(wanted) * u64::from(epochs / 2) / u64::from(both)).unwrap_or(wanted)
            };
            (train.n_epochs_pretrain_ae, train.n_epochs_adv_warmup) =
                (shrunk(train.n_epochs_pretrain_ae), shrunk(train.n_epochs_adv_warmup));
        }
        train.epochs = epochs;
        self
    }

    /// Epochs at most, for so many training cells: the original's `min(round(20000 / cells * 400), 400)`, at least 1.
    #[must_use]
    pub fn epochs(&self, cells: u64) -> u32 {
        match self.train.epochs {
            0 => u32::try_from((8_000_000 + cells / 2) / cells.max(1)).unwrap_or(400).clamp(1, 400),
            epochs => epochs,
        }
    }
}

#[cfg(test)]
mod tests;
