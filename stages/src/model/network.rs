//! The autoencoder: encoder, perturbation and covariate embeddings, decoder.

use schemas::config::{Doser, ModelSettings, ReconLoss};
use tch::{Device, Kind, Tensor};

use super::{
    input::{Cells, Input},
    layers::{HiddenLayers, HiddenShape, Linear, Mode},
    parameters::Parameters,
};
use crate::vocabulary::Vocabulary;

/// Guards logarithms, as in the original.
pub(crate) const EPSILON: f64 = 1e-8;
/// Smallest variance of the normal decoder.
const SMALLEST_VARIANCE: f64 = 1e-4;

/// The network with its parameters.
#[derive(Debug)]
pub struct Network {
    /// Everything that is saved.
    pub parameters: Parameters,
    genes: i64,
    doser: Doser,
    encoder: HiddenLayers,
    to_latent: Linear,
    perturbations: PerturbationNetwork,
    covariates: Vec<Tensor>,
    decoder: Decoder,
}

/// Latents of a batch, each `[cells, latent]`.
#[derive(Debug)]
pub struct Latent {
    /// What the encoder makes of the cells.
    pub basal: Tensor,
    /// What the perturbations add.
    pub perturbation: Tensor,
    /// What the covariates add.
    pub covariates: Tensor,
}

impl Latent {
    /// What is decoded: the sum.
    pub fn after(&self) -> Tensor {
        &self.basal + &self.perturbation + &self.covariates
    }
}

/// What the decoder says of every cell and gene.
#[derive(Debug)]
pub enum Output {
    /// Mean and inverse dispersion of a negative binomial: `[cells, genes]`, `[genes]`.
    NegativeBinomial {
        /// Expected counts.
        mean: Tensor,
        /// Inverse dispersion: the variance is mean + mean² / theta.
        theta: Tensor,
    },
    /// Mean and variance of a normal, each `[cells, genes]`.
    Normal {
        /// Mean.
        mean: Tensor,
        /// Variance.
        variance: Tensor,
    },
}

impl Output {
    /// Expected values, `[cells, genes]`.
    pub fn mean(&self) -> &Tensor {
        match self {
            Self::NegativeBinomial { mean, .. } | Self::Normal { mean, .. } => mean,
        }
    }

    /// Variance of a value around its mean, `[cells, genes]`.
    pub fn variance(&self) -> Tensor {
        match self {
            Self::NegativeBinomial { mean, theta } => mean + mean.square() / theta,
            Self::Normal { variance, .. } => variance.shallow_clone(),
        }
    }
}

#[derive(Debug)]
struct PerturbationNetwork {
    embedding: Tensor,
    beta: Tensor,
    bias: Tensor,
}

#[derive(Debug)]
enum Decoder {
    NegativeBinomial { hidden: HiddenLayers, scale: Linear, dispersion: Tensor },
    Normal { hidden: HiddenLayers, mean: Linear, variance: Linear },
}

impl Network {
    /// A network with fresh parameters; seed libtorch's generator before. They are drawn in the original's order.
    #[must_use]
    pub fn new(settings: &ModelSettings, genes: u32, vocabulary: &Vocabulary, kind: Kind, device: Device) -> Self {
        let mut parameters = Parameters::new(kind, device);
        let p = &mut parameters;
        let (genes, latent) = (i64::from(genes), i64::from(settings.n_latent));
        let encoder_shape = HiddenShape {
            layers: settings.n_layers_encoder,
            width: settings.n_hidden_encoder,
            norm: settings.norm_encoder,
            dropout: settings.dropout_rate_encoder,
        };
        let decoder_shape = HiddenShape {
            layers: settings.n_layers_decoder,
            width: settings.n_hidden_decoder,
            norm: settings.norm_decoder,
            dropout: settings.dropout_rate_decoder,
        };
        let encoder = HiddenLayers::new(p, "module.encoder.network", genes, encoder_shape);
        let to_latent = Linear::new(p, "module.encoder.z", i64::from(settings.n_hidden_encoder), latent);
        let width = i64::from(settings.n_hidden_decoder);
        let decoder = match settings.recon_loss {
            ReconLoss::Gauss => Decoder::Normal {
                hidden: HiddenLayers::new(p, "module.decoder.encoder", latent, decoder_shape),
                mean: Linear::new(p, "module.decoder.mean_encoder", width, genes),
                variance: Linear::new(p, "module.decoder.var_encoder", width, genes),
            },
            ReconLoss::Nb | ReconLoss::Auto => Decoder::NegativeBinomial {
                dispersion: p.normal("module.px_r", &[genes]),
                hidden: HiddenLayers::new(p, "module.decoder.px_decoder", latent, decoder_shape),
                scale: Linear::new(p, "module.decoder.px_scale_decoder.0", width, genes),
            },
        };
        let names = size(vocabulary.perturbations.len());
        let embedding = Tensor::randn([names, latent], (kind, Device::Cpu));
        let _ = embedding.get(0).zero_();
        let perturbations = PerturbationNetwork {
            embedding: p.learn("module.pert_network.pert_embedding.weight", embedding),
            beta: p.constant("module.pert_network.dosers.beta", &[1, names], 1.0),
            bias: p.constant("module.pert_network.dosers.bias", &[1, names], 0.0),
        };
        let covariates = vocabulary.covariates.iter();
        let covariates = covariates.map(|covariate| {
            p.normal(
                &format!("module.covars_embeddings.{}.weight", covariate.name),
                &[size(covariate.values.len()), latent],
            )
        });
        let covariates = covariates.collect();
        Self { genes, doser: settings.doser_type, encoder, to_latent, perturbations, covariates, decoder, parameters }
    }

    /// How many genes it reads and predicts.
    #[must_use]
    pub fn genes(&self) -> i64 {
        self.genes
    }

    /// Names of the learned parameters of the dose response; the others are the autoencoder's.
    #[must_use]
    pub fn is_doser(name: &str) -> bool {
        name.starts_with("module.pert_network.dosers.")
    }

    /// The basal latent of cells, `[cells, latent]`.
    pub fn encode(&self, cells: &Cells, mode: Mode) -> Tensor {
        let x = match self.decoder {
            Decoder::NegativeBinomial { .. } => cells.log1p(),
            Decoder::Normal { .. } => cells.dense(),
        };
        self.to_latent.forward(&self.encoder.forward(&x, mode))
    }

    /// What perturbations (`[cells, n]`, codes padded with 0) at doses add to the latent, `[cells, latent]`.
    pub fn perturbation_latent(&self, codes: &Tensor, doses: &Tensor) -> Tensor {
        let PerturbationNetwork { embedding, beta, bias } = &self.perturbations;
        let scaled = match self.doser {
            Doser::Linear => doses.shallow_clone(),
            Doser::Sigm | Doser::LogSigm | Doser::Auto => {
                let doses = if self.doser == Doser::Sigm { doses.shallow_clone() } else { doses.log1p() };
                let look_up = |table: &Tensor| table.view([-1]).index_select(0, &codes.view([-1])).view_as(codes);
                let (beta, bias) = (look_up(beta), look_up(bias));
                (doses * beta + &bias).sigmoid() - bias.sigmoid()
            }
        };
        let scaled = scaled * codes.ne(0).to_kind(self.parameters.kind());
        let rows = embedding.index_select(0, &codes.view([-1])).view([codes.size()[0], codes.size()[1], -1]);
        (scaled.unsqueeze(-1) * rows).sum_dim_intlist([1_i64].as_slice(), false, self.parameters.kind())
    }

    /// What covariates add to the latent, `[cells, latent]`.
    pub fn covariate_latent(&self, codes: &[Tensor], cells: i64) -> Tensor {
        let latent = self.perturbations.embedding.size()[1];
        let zero = Tensor::zeros([cells, latent], (self.parameters.kind(), self.parameters.device()));
        codes.iter().zip(&self.covariates).fold(zero, |sum, (codes, table)| sum + table.index_select(0, codes))
    }

    /// All latents of a batch.
    #[must_use]
    pub fn latent(&self, input: &Input, mode: Mode) -> Latent {
        Latent {
            basal: self.encode(&input.cells, mode),
            perturbation: self.perturbation_latent(&input.perturbations, &input.doses),
            covariates: self.covariate_latent(&input.covariates, input.cells.shape[0]),
        }
    }

    /// Decodes a latent. For counts, `library` (`[cells, 1]`, each cell's sum of counts) is what a cell's means add up to.
    #[must_use]
    pub fn decode(&self, latent: &Tensor, library: &Tensor, mode: Mode) -> Output {
        match &self.decoder {
            Decoder::NegativeBinomial { hidden, scale, dispersion } => {
                let share = scale.forward(&hidden.forward(latent, mode)).softmax(-1, self.parameters.kind());
                Output::NegativeBinomial { mean: share * library, theta: dispersion.exp() }
            }
            Decoder::Normal { hidden, mean, variance } => {
                let hidden = hidden.forward(latent, mode);
                Output::Normal {
                    mean: mean.forward(&hidden),
                    variance: variance.forward(&hidden).exp() + SMALLEST_VARIANCE,
                }
            }
        }
    }
}

/// Means on the scale that profiles are compared on: log(1 + counts), or the values themselves.
pub fn on_comparison_scale(output: &Output) -> Tensor {
    match output {
        Output::NegativeBinomial { mean, .. } => mean.log1p(),
        Output::Normal { mean, .. } => mean.shallow_clone(),
    }
}

fn size(length: usize) -> i64 {
    i64::try_from(length).unwrap_or(i64::MAX)
}
