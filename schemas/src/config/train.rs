//! The training (`[train]`).

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, de::Error};

/// The score that chooses the best epoch, measured on `valid` cells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MonitoredScore {
    /// Mean over conditions of the correlation between the change predicted for controls and the real change;
    /// larger is better. If no condition has enough `valid` cells, `recon` is used instead.
    #[default]
    PearsonDelta,
    /// Mean over conditions of the R² of their mean profiles; larger is better.
    R2Mean,
    /// Mean over conditions of the R² of their genes' variances; larger is better.
    R2Var,
    /// How pure neighbourhoods of the basal latent are in conditions and covariates; smaller is better.
    DisntBasal,
    /// The same for the decoded latent; larger is better.
    DisntAfter,
    /// `r2_mean + r2_var / 2 + exp(disnt_after − disnt_basal)`, the original's; larger is better.
    CpaMetric,
    /// Reconstruction loss; smaller is better.
    Recon,
}

impl MonitoredScore {
    /// Its name in `history.jsonl`, after `valid.`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::PearsonDelta => "pearson_delta",
            Self::R2Mean => "r2_mean",
            Self::R2Var => "r2_var",
            Self::DisntBasal => "disnt_basal",
            Self::DisntAfter => "disnt_after",
            Self::CpaMetric => "cpa_metric",
            Self::Recon => "recon",
        }
    }

    /// Whether `value` is better than `best`.
    #[must_use]
    pub fn is_better(self, value: f64, best: f64) -> bool {
        match self {
            Self::PearsonDelta | Self::R2Mean | Self::R2Var | Self::DisntAfter | Self::CpaMetric => best < value,
            Self::Recon | Self::DisntBasal => value < best,
        }
    }
}

/// Sampling of training batches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SamplingChoice {
    /// Every cell once per epoch.
    #[default]
    Uniform,
    /// All conditions with equal probability.
    Balanced,
    /// Conditions with the weights in `condition_weights`.
    Weighted,
    /// Every perturbed cell once per epoch, each followed by a control that shares its values of `match_keys`.
    Paired,
}

/// The implementation of training steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EngineChoice {
    /// `fused` or `replayed` if possible, otherwise `plain`.
    #[default]
    Auto,
    /// libtorch's operations and automatic differentiation: supports everything, on any device.
    Plain,
    /// Custom kernels on the CPU, for counts with `nb`.
    Fused,
    /// The same as `plain`, but in fixed shapes and with one optimiser step over all parameters: a GPU captures
    /// it once and replays it as a whole.
    Replayed,
}

/// Averages of the weights during training; the average is validated and kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Averaging {
    /// None.
    #[default]
    None,
    /// Every update moves the average towards the weights by a share of 1 − `average_decay`.
    Ema,
    /// The mean of the weights at the end of each epoch (Izmailov et al. 2018).
    Swa,
}

/// The precision of wide matrix products in training.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MatrixPrecision {
    /// 24 bits of mantissa.
    #[default]
    Float32,
    /// On a GPU, 10 bits of mantissa (TensorFloat-32), summed in float32; elsewhere the same as
    /// [`MatrixPrecision::Float32`].
    Tf32,
    /// 8 bits of mantissa, summed in float32; weights, norms and losses stay float32.
    Bf16,
}

/// The basal latent from which a cell is decoded in training.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Objective {
    /// The cell's own.
    #[default]
    Reconstruction,
    /// That of a control from its batch with the same covariates, if there is one.
    Paired,
    /// Either, with equal probability.
    Both,
}

/// The schedule of the learning rates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RateSchedule {
    /// Multiplied by `lr_decay` every `step_size_lr` epochs, or constant.
    #[default]
    Steps,
    /// Decreasing along half a cosine to 0 at the end.
    Cosine,
}

/// The training (`[train]`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrainSettings {
    /// Maximum number of epochs; 0: as many as process eight million cells, at most 400 (the original's rule).
    pub epochs: u32,
    /// Cells per batch; 0 or `auto`: the largest power of two that fits into memory.
    #[serde(deserialize_with = "number_or_auto")]
    pub batch_size: u32,
    /// Number of batches per step, combined as if they were one.
    pub accumulate: u32,
    /// Learning rate of the autoencoder.
    pub lr: f64,
    /// Its weight decay (L2, as in Adam).
    pub wd: f64,
    /// Learning rate of the dose response.
    pub doser_lr: f64,
    /// Its weight decay.
    pub doser_wd: f64,
    /// Whether weight decay is decoupled (AdamW), instead of added to the gradient.
    pub decoupled_decay: bool,
    /// The schedule of the learning rates: `steps` or `cosine`.
    pub lr_schedule: RateSchedule,
    /// The basal latent from which a cell is decoded: `reconstruction`, `paired` or `both`.
    pub objective: Objective,
    /// Whether perturbation embeddings are shrunk by the factor that predicts `valid` cells best.
    pub shrink_perturbations: bool,
    /// Epochs between two learning-rate steps; 0: constant rates.
    pub step_size_lr: u32,
    /// Factor of each step.
    pub lr_decay: f64,
    /// Epochs in which the autoencoder and its adversaries learn separately.
    pub n_epochs_pretrain_ae: u32,
    /// The same in batches; 0: in epochs.
    pub n_steps_pretrain_ae: u64,
    /// Epochs over which the adversaries' weight grows to `reg_adv`.
    pub n_epochs_adv_warmup: u32,
    /// The same in batches; 0: in epochs.
    pub n_steps_adv_warmup: u64,
    /// Epochs over which the weight of the Kullback-Leibler divergence grows to 1, if the encoder is variational.
    pub n_epochs_kl_warmup: u32,
    /// The same in batches; used if the epochs are 0.
    pub n_steps_kl_warmup: u64,
    /// Cells are mixed in pairs by shares from Beta(α, α); 0: no mixup.
    pub mixup_alpha: f64,
    /// Epochs, after pretraining, over which α grows to `mixup_alpha`; 0: full α from the start.
    pub n_epochs_mixup_warmup: u32,
    /// Largest norm of a gradient, over each optimiser's parameters; 0: no limit.
    pub gradient_clip_value: f64,
    /// Epochs between two validations.
    pub check_val_every_n_epoch: u32,
    /// Validations without an improvement that end the training; 0: never.
    pub early_stopping_patience: u32,
    /// The score that chooses the best epoch: `pearson_delta`, `r2_mean`, `r2_var`, `disnt_basal`, `disnt_after`, `cpa_metric` or `recon`.
    pub monitor: MonitoredScore,
    /// Share of `valid` cells if no split is given.
    pub valid: f64,
    /// Share of each context's controls that are set apart as references if cells are held out without a split.
    pub reference: f64,
    /// Cells shuffled together; 0: 32,768 if the atlas's rows are shuffled, 131,072 if they are in source order.
    pub window: u32,
    /// Whether the decoder also runs on batches from which only the adversaries learn, as in the original; this
    /// updates its batch norm.
    pub decoder_on_every_batch: bool,
    /// The implementation of steps: `auto`, `plain`, `fused` or `replayed`.
    pub engine: EngineChoice,
    /// Recomputes activations between encoder input and likelihood when they are needed again, instead of storing them.
    pub checkpointing: bool,
    /// The precision of wide matrix products in training: `float32`, `tf32` or `bf16`.
    pub precision: MatrixPrecision,
    /// The average of the weights: `none`, `ema` or `swa`.
    pub average: Averaging,
    /// Decay of the exponential average per update.
    pub average_decay: f64,
    /// The first epoch to average; 0: once the adversaries have reached their full weight.
    pub average_start: u32,
    /// Sampling of cells: `uniform`, `balanced`, `weighted` or `paired`.
    pub sampling: SamplingChoice,
    /// Covariates whose values a control must share with its paired cell.
    pub match_keys: Vec<String>,
    /// Sampling weights of conditions, by name; those not listed have 1.
    pub condition_weights: BTreeMap<String, f64>,
}

impl Default for TrainSettings {
    fn default() -> Self {
        Self {
            epochs: 0,
            batch_size: 128,
            accumulate: 1,
            lr: 1e-3,
            wd: 4e-7,
            doser_lr: 3e-4,
            doser_wd: 4e-7,
            decoupled_decay: false,
            lr_schedule: RateSchedule::Steps,
            objective: Objective::Reconstruction,
            shrink_perturbations: false,
            step_size_lr: 0,
            lr_decay: 0.9,
            n_epochs_pretrain_ae: 30,
            n_steps_pretrain_ae: 0,
            n_epochs_adv_warmup: 50,
            n_steps_adv_warmup: 0,
            n_epochs_kl_warmup: 0,
            n_steps_kl_warmup: 0,
            mixup_alpha: 0.0,
            n_epochs_mixup_warmup: 0,
            gradient_clip_value: 1.0,
            check_val_every_n_epoch: 5,
            early_stopping_patience: 10,
            monitor: MonitoredScore::default(),
            valid: 0.15,
            reference: 0.25,
            window: 0,
            decoder_on_every_batch: false,
            engine: EngineChoice::Auto,
            checkpointing: false,
            precision: MatrixPrecision::default(),
            average: Averaging::default(),
            average_decay: 0.999,
            average_start: 0,
            sampling: SamplingChoice::default(),
            match_keys: Vec::new(),
            condition_weights: BTreeMap::new(),
        }
    }
}

/// A number, or `auto` for 0.
fn number_or_auto<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum NumberOrAuto {
        Number(u32),
        Text(String),
    }
    match NumberOrAuto::deserialize(deserializer)? {
        NumberOrAuto::Number(number) => Ok(number),
        NumberOrAuto::Text(text) if text == "auto" => Ok(0),
        NumberOrAuto::Text(text) => Err(D::Error::custom(format!("`{text}` is neither a number nor `auto`"))),
    }
}
