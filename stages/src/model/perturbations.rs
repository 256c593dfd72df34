//! What perturbations at doses add to the latent.

use schemas::config::{Doser, Settings};
use tch::{Device, Kind, Tensor};

use super::parameters::Parameters;
use crate::vocabulary::Vocabulary;

/// Embeddings of perturbations, scaled by dose.
#[derive(Debug)]
pub(super) struct Perturbations {
    embedding: Embedding,
    response: DoseResponse,
}

#[derive(Debug)]
enum Embedding {
    /// A learned vector each, `[vocabulary, latent]`.
    Free(Tensor),
}

/// How a dose becomes the scale of an embedding.
#[derive(Debug)]
struct DoseResponse {
    kind: Doser,
    /// `[1, vocabulary]`.
    beta: Tensor,
    /// `[1, vocabulary]`.
    bias: Tensor,
    /// Weights `[vocabulary, outputs, inputs]` and biases `[vocabulary, outputs]` of a small network each.
    networks: Vec<(Tensor, Tensor)>,
}

impl Perturbations {
    pub(super) fn new(parameters: &mut Parameters, settings: &Settings, vocabulary: &Vocabulary) -> Self {
        let names = i64::try_from(vocabulary.perturbations.len()).unwrap_or(i64::MAX);
        let latent = i64::from(settings.model.n_latent);
        let free = Tensor::randn([names, latent], (parameters.kind(), Device::Cpu));
        let _ = free.get(0).zero_();
        let embedding = Embedding::Free(parameters.learn("module.pert_network.pert_embedding.weight", free));
        Self { embedding, response: DoseResponse::new(parameters, settings, names) }
    }

    /// What codes `[cells, n]`, padded with 0, at doses add, `[cells, latent]`.
    pub(super) fn latent(&self, codes: &Tensor, doses: &Tensor) -> Tensor {
        let kind = doses.kind();
        let scaled = self.response.scale(codes, doses) * codes.ne(0).to_kind(kind);
        let Embedding::Free(table) = &self.embedding;
        let rows = table.index_select(0, &codes.view([-1])).view([codes.size()[0], codes.size()[1], -1]);
        (scaled.unsqueeze(-1) * rows).sum_dim_intlist([1_i64].as_slice(), false, kind)
    }
}

impl DoseResponse {
    fn new(parameters: &mut Parameters, settings: &Settings, names: i64) -> Self {
        let model = &settings.model;
        let mut networks = Vec::new();
        if model.doser_type == Doser::Mlp {
            let width = i64::from(model.n_hidden_doser);
            let mut inputs = 1;
            for layer in 0..=model.n_layers_doser {
                let outputs = if layer == model.n_layers_doser { 1 } else { width };
                let name = format!("module.pert_network.dosers.layers.{layer}");
                #[expect(clippy::cast_precision_loss, reason = "no layer is 2^52 wide")]
                let bound = 1.0 / (inputs as f64).sqrt();
                let weight = parameters.uniform(&format!("{name}.weight"), &[names, outputs, inputs], bound);
                networks.push((weight, parameters.uniform(&format!("{name}.bias"), &[names, outputs], bound)));
                inputs = outputs;
            }
        }
        Self {
            kind: model.doser_type,
            beta: parameters.constant("module.pert_network.dosers.beta", &[1, names], 1.0),
            bias: parameters.constant("module.pert_network.dosers.bias", &[1, names], 0.0),
            networks,
        }
    }

    /// The scale of each code at its dose, in the shape of both.
    fn scale(&self, codes: &Tensor, doses: &Tensor) -> Tensor {
        match self.kind {
            Doser::Linear => doses.shallow_clone(),
            Doser::Sigm => self.sigmoid(codes, doses),
            Doser::LogSigm | Doser::Auto => self.sigmoid(codes, &doses.log1p()),
            Doser::Mlp => self.network(codes, &doses.log1p()),
        }
    }

    /// σ(βd + b) − σ(b).
    fn sigmoid(&self, codes: &Tensor, doses: &Tensor) -> Tensor {
        let look_up = |table: &Tensor| table.view([-1]).index_select(0, &codes.view([-1])).view_as(codes);
        let (beta, bias) = (look_up(&self.beta), look_up(&self.bias));
        (doses * beta + &bias).sigmoid() - bias.sigmoid()
    }

    /// σ(m(d)) − σ(m(0)), with m a network of each perturbation. Cells that share perturbation and dose share the work: the
    /// weights of a network are looked up once a pair, not once a cell.
    fn network(&self, codes: &Tensor, doses: &Tensor) -> Tensor {
        let kind: Kind = doses.kind();
        let flat = codes.view([-1]);
        let pairs = Tensor::stack(&[flat.to_kind(Kind::Double), doses.reshape([-1]).to_kind(Kind::Double)], 1);
        let (pairs, place, _) = tch::no_grad(|| pairs.unique_dim(0, true, true, false));
        let (code, dose) = (pairs.select(1, 0).to_kind(Kind::Int64), pairs.select(1, 1).to_kind(kind));
        let of = |dose: &Tensor| {
            let mut x = dose.view([-1, 1, 1]);
            for (layer, (weight, bias)) in self.networks.iter().enumerate() {
                let (weight, bias) = (weight.index_select(0, &code), bias.index_select(0, &code).unsqueeze(-1));
                x = weight.bmm(&x) + bias;
                if layer + 1 < self.networks.len() {
                    x = x.relu();
                }
            }
            x.view([-1]).sigmoid()
        };
        let scale = of(&dose) - of(&dose.zeros_like());
        scale.index_select(0, &place).view_as(codes)
    }
}
