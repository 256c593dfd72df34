//! Named sets of settings.

use serde::{Deserialize, Serialize};

use super::{
    AdversarySettings, DispersionStart, Doser, ModelSettings, Norm, Objective, OffsetChoice, RateSchedule, ReconLoss,
    Settings, TrainSettings,
};

/// A named set of settings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Preset {
    /// The original's architecture and training, sized as in its published Kang example, with a learning rate that suits it.
    #[default]
    Cpa,
    /// A small network with an offset computed from mean profiles of the training cells.
    Residual,
    /// The original's published example for the screen of Norman et al. 2019.
    Norman,
    /// The original's published example for the stimulated blood cells of Kang et al. 2018.
    Kang,
    /// The original's published example for the drug combinations of sci-Plex.
    Combosciplex,
}

impl Preset {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Cpa, Self::Residual, Self::Norman, Self::Kang, Self::Combosciplex];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpa => "cpa",
            Self::Residual => "residual",
            Self::Norman => "norman",
            Self::Kang => "kang",
            Self::Combosciplex => "combosciplex",
        }
    }

    /// Its purpose.
    #[must_use]
    pub fn purpose(self) -> &'static str {
        match self {
            Self::Cpa => {
                "the original's architecture and training, sized as in its published Kang example; to compare with the original"
            }
            Self::Residual => {
                "a small network beside an offset of measured shifts, for any screen; trains in few epochs"
            }
            Self::Norman => "the original's published example for combinations of genes (Norman et al. 2019)",
            Self::Kang => "the original's published example for stimulated blood cells (Kang et al. 2018)",
            Self::Combosciplex => {
                "the original's published example for combinations of drugs at several doses (sci-Plex)"
            }
        }
    }

    /// Its settings.
    #[must_use]
    pub fn settings(self) -> Settings {
        match self {
            Self::Cpa => Settings { preset: self, ..Settings::default() },
            Self::Residual => residual(),
            Self::Norman => norman(),
            Self::Kang => kang(),
            Self::Combosciplex => combosciplex(),
        }
    }
}

fn residual() -> Settings {
    Settings {
        preset: Preset::Residual,
        model: ModelSettings {
            n_latent: 32,
            n_hidden_encoder: 128,
            n_layers_encoder: 1,
            norm_encoder: Norm::Layer,
            n_hidden_decoder: 128,
            n_layers_decoder: 1,
            norm_decoder: Norm::Layer,
            dropout_rate_decoder: 0.0,
            offset: OffsetChoice::Shrinkage,
            output_deviation: 1e-3,
            perturbations_from_zero: true,
            dispersion_start: DispersionStart::Moments,
            ..ModelSettings::default()
        },
        adversary: AdversarySettings { reg_adv: 0.0, ..AdversarySettings::default() },
        train: TrainSettings {
            epochs: 12,
            lr: 5e-4,
            wd: 1e-4,
            decoupled_decay: true,
            lr_schedule: RateSchedule::Cosine,
            objective: Objective::Both,
            shrink_perturbations: true,
            n_epochs_pretrain_ae: 0,
            n_epochs_adv_warmup: 0,
            ..TrainSettings::default()
        },
        ..Settings::default()
    }
}

fn norman() -> Settings {
    Settings {
        preset: Preset::Norman,
        seed: 8206,
        model: ModelSettings {
            n_latent: 32,
            recon_loss: ReconLoss::Nb,
            doser_type: Doser::Linear,
            n_hidden_encoder: 256,
            n_layers_encoder: 4,
            norm_encoder: Norm::Batch,
            dropout_rate_encoder: 0.2,
            n_hidden_decoder: 256,
            n_layers_decoder: 2,
            norm_decoder: Norm::None,
            dropout_rate_decoder: 0.0,
            ..ModelSettings::default()
        },
        adversary: AdversarySettings {
            n_hidden_adv: 128,
            n_layers_adv: 2,
            dropout_rate_adv: 0.3,
            reg_adv: 10.0,
            pen_adv: 20.0,
            adv_steps: 3,
            adv_lr: 1e-4,
            adv_wd: 7.05e-6,
            ..AdversarySettings::default()
        },
        train: TrainSettings {
            epochs: 2000,
            batch_size: 2048,
            lr: 1e-4,
            wd: 3.217e-6,
            step_size_lr: 25,
            n_epochs_pretrain_ae: 10,
            n_epochs_adv_warmup: 50,
            mixup_alpha: 0.1,
            n_epochs_mixup_warmup: 10,
            gradient_clip_value: 0.0,
            check_val_every_n_epoch: 5,
            early_stopping_patience: 5,
            ..TrainSettings::default()
        },
        ..Settings::default()
    }
}

fn kang() -> Settings {
    Settings {
        preset: Preset::Kang,
        seed: 6977,
        model: ModelSettings {
            n_latent: 64,
            recon_loss: ReconLoss::Nb,
            doser_type: Doser::Linear,
            n_hidden_encoder: 128,
            n_layers_encoder: 2,
            norm_encoder: Norm::Batch,
            dropout_rate_encoder: 0.0,
            n_hidden_decoder: 512,
            n_layers_decoder: 2,
            norm_decoder: Norm::Layer,
            dropout_rate_decoder: 0.1,
            ..ModelSettings::default()
        },
        adversary: AdversarySettings {
            n_hidden_adv: 64,
            n_layers_adv: 3,
            dropout_rate_adv: 0.3,
            reg_adv: 20.0,
            pen_adv: 5.0,
            adv_steps: 0,
            adv_lr: 3e-4,
            adv_wd: 4e-7,
            ..AdversarySettings::default()
        },
        train: TrainSettings {
            epochs: 2000,
            batch_size: 512,
            lr: 3e-4,
            wd: 4e-7,
            step_size_lr: 10,
            n_epochs_pretrain_ae: 30,
            n_epochs_adv_warmup: 50,
            gradient_clip_value: 1.0,
            check_val_every_n_epoch: 5,
            early_stopping_patience: 5,
            ..TrainSettings::default()
        },
        ..Settings::default()
    }
}

fn combosciplex() -> Settings {
    Settings {
        preset: Preset::Combosciplex,
        seed: 434,
        model: ModelSettings {
            n_latent: 128,
            recon_loss: ReconLoss::Nb,
            doser_type: Doser::LogSigm,
            n_hidden_encoder: 512,
            n_layers_encoder: 3,
            norm_encoder: Norm::Batch,
            dropout_rate_encoder: 0.1,
            n_hidden_decoder: 512,
            n_layers_decoder: 3,
            norm_decoder: Norm::Batch,
            dropout_rate_decoder: 0.1,
            ..ModelSettings::default()
        },
        adversary: AdversarySettings {
            n_hidden_adv: 64,
            n_layers_adv: 2,
            dropout_rate_adv: 0.3,
            reg_adv: 20.0,
            pen_adv: 20.0,
            adv_steps: 2,
            adv_lr: 3e-4,
            adv_wd: 4e-7,
            ..AdversarySettings::default()
        },
        train: TrainSettings {
            epochs: 2000,
            batch_size: 128,
            lr: 3e-4,
            wd: 4e-7,
            step_size_lr: 45,
            n_epochs_pretrain_ae: 30,
            n_epochs_adv_warmup: 50,
            mixup_alpha: 0.1,
            n_epochs_mixup_warmup: 3,
            gradient_clip_value: 0.0,
            check_val_every_n_epoch: 5,
            early_stopping_patience: 10,
            ..TrainSettings::default()
        },
        ..Settings::default()
    }
}
