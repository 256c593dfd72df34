//! Encodes expression to a basal latent: a point, or a normal distribution from which a point is drawn.

use schemas::config::Settings;
use tch::{Kind, Tensor};
use torch::parameters::Parameters;

use super::layers::{HiddenLayers, HiddenShape, Linear, Mode};

/// Smallest variance of a basal latent.
const SMALLEST_VARIANCE: f64 = 1e-4;

/// Hidden layers, then the layers for the latent.
#[derive(Debug)]
pub(super) enum Encoder {
    Point { hidden: HiddenLayers, latent: Linear },
    Normal { hidden: HiddenLayers, mean: Linear, variance: Linear },
}

/// Basal latents of a batch.
#[derive(Debug)]
pub struct Basal {
    /// The latents, `[cells, latent]`.
    pub latent: Tensor,
    /// Mean and standard deviation of the distribution from which they were drawn, each `[cells, latent]`; `None`
    /// for points.
    pub drawn_from: Option<(Tensor, Tensor)>,
}

impl Encoder {
    pub(super) fn new(parameters: &mut Parameters, settings: &Settings, genes: i64) -> Self {
        let (precision, settings) = (settings.train.precision, &settings.model);
        let shape = HiddenShape {
            layers: settings.n_layers_encoder,
            width: settings.n_hidden_encoder,
            norm: settings.norm_encoder,
            dropout: settings.dropout_rate_encoder,
            sparse_input: true,
            precision,
        };
        let (width, latent) = (i64::from(settings.n_hidden_encoder), i64::from(settings.n_latent));
        let p = parameters;
        if settings.variational {
            Self::Normal {
                hidden: HiddenLayers::new(p, "module.encoder.encoder", genes, shape),
                mean: Linear::new(p, "module.encoder.mean_encoder", width, latent),
                variance: Linear::new(p, "module.encoder.var_encoder", width, latent),
            }
        } else {
            Self::Point {
                hidden: HiddenLayers::new(p, "module.encoder.network", genes, shape),
                latent: Linear::new(p, "module.encoder.z", width, latent),
            }
        }
    }

    /// The point, or the mean of the normal.
    pub(super) fn point(&self, x: &Tensor, mode: Mode) -> Tensor {
        match self {
            Self::Point { hidden, latent } => latent.forward(&hidden.forward(x, mode)),
            Self::Normal { hidden, mean, .. } => mean.forward(&hidden.forward(x, mode)),
        }
    }

    /// The point, or one drawn from the normal.
    pub(super) fn drawn(&self, x: &Tensor, mode: Mode, noise: Option<&Tensor>) -> Basal {
        self.of_hidden(&self.hidden().forward(x, mode), noise)
    }

    /// The hidden layers.
    pub(super) fn hidden(&self) -> &HiddenLayers {
        match self {
            Self::Point { hidden, .. } | Self::Normal { hidden, .. } => hidden,
        }
    }

    /// The layers whose products are computed in training precision.
    pub(super) fn wide_mut(&mut self) -> impl Iterator<Item = &mut Linear> {
        let (Self::Point { hidden, .. } | Self::Normal { hidden, .. }) = self;
        hidden.layers.iter_mut().map(|(linear, _)| linear)
    }

    /// The same, shared.
    pub(super) fn wide(&self) -> impl Iterator<Item = &Linear> {
        self.hidden().layers.iter().map(|(linear, _)| linear)
    }

    /// The trained parameters after the hidden layers.
    pub(super) fn last_parameters(&self) -> Vec<&Tensor> {
        match self {
            Self::Point { latent, .. } => latent.parameters().to_vec(),
            Self::Normal { mean, variance, .. } => [mean.parameters(), variance.parameters()].concat(),
        }
    }

    /// The latent for activations of the hidden layers.
    pub(super) fn of_hidden(&self, hidden: &Tensor, noise: Option<&Tensor>) -> Basal {
        match self {
            Self::Point { latent, .. } => Basal { latent: latent.forward(hidden), drawn_from: None },
            Self::Normal { mean, variance, .. } => {
                let mean = mean.forward(hidden);
                let deviation = (variance.forward(hidden).softplus() + SMALLEST_VARIANCE).sqrt();
                let noise = noise.map_or_else(|| mean.randn_like(), Tensor::shallow_clone);
                Basal { latent: &mean + &deviation * noise, drawn_from: Some((mean, deviation)) }
            }
        }
    }
}

impl Basal {
    /// Kullback-Leibler divergence of the latents' distribution from the standard normal, summed over the latent
    /// and averaged over cells; `None` for points.
    #[must_use]
    pub fn divergence(&self) -> Option<Tensor> {
        let (mean, deviation) = self.drawn_from.as_ref()?;
        let kind: Kind = mean.kind();
        let each = (deviation.square() + mean.square() - 1.0) * 0.5 - deviation.log();
        Some(each.sum_dim_intlist([1_i64].as_slice(), false, kind).mean(kind))
    }
}
