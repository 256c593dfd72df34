//! The latent term of perturbations at doses.

use std::collections::BTreeMap;

use device_kernels::latent::DoseCurve;
use schemas::{
    config::{Doser, Settings},
    embedding_table::EmbeddingTable,
    numbers::to_i64,
    vocabulary::Vocabulary,
};
use tch::{Device, Kind, Tensor};
use torch::{memory::on_device, parameters::Parameters};

use super::{input::pad, layers::Linear};

/// The embeddings, or the rows of a given table.
const EMBEDDING: &str = "module.pert_network.pert_embedding.weight";
/// The projection of such rows to embeddings.
pub(super) const PROJECTION: &str = "module.pert_network.pert_transformation";
/// The embedding of control, if there is a table.
const CONTROL_EMBEDDING: &str = "module.pert_network.control_embedding.weight";
/// The code of control.
const CONTROL: i64 = 1;
/// Smaller codes are those of padding and control.
const FIRST_PERTURBATION: usize = 2;
/// Tables whose rows are all equal are not scaled.
const SMALLEST_SCALE: f64 = 1e-12;

/// Embeddings of perturbations, scaled by dose.
#[derive(Debug)]
pub(super) struct Perturbations {
    embedding: Embedding,
    /// Number of trained names; this code and larger ones were not trained.
    names: i64,
    response: DoseScaling,
}

#[derive(Debug)]
enum Embedding {
    /// One trained vector per name, `[vocabulary, latent]`.
    Free(Tensor),
    /// A trained projection of given rows; control, which has no row, has a trained vector.
    Projected {
        /// Rows of trained and untrained names, `[vocabulary and unseen, width]`.
        rows: Tensor,
        projection: Linear,
        /// The trained vector of control, `[1, latent]`.
        control: Tensor,
    },
}

/// Dose curves, which scale an embedding.
#[derive(Debug)]
struct DoseScaling {
    kind: Doser,
    /// One number per name, `[1, vocabulary]`.
    beta: Tensor,
    /// One number per name, `[1, vocabulary]`.
    bias: Tensor,
    /// One small network per name: weights `[vocabulary, outputs, inputs]` and biases `[vocabulary, outputs]` of
    /// its layers.
    networks: Vec<(Tensor, Tensor)>,
}

impl Perturbations {
    pub(super) fn new(parameters: &mut Parameters, settings: &Settings, vocabulary: &Vocabulary) -> Self {
        let names = to_i64(vocabulary.perturbations.len());
        let latent = i64::from(settings.model.n_latent);
        let embedding = match vocabulary.embedding_width.map(i64::from) {
            None => {
                let free = Tensor::randn([names, latent], (parameters.kind(), Device::Cpu));
                let silent = if settings.model.perturbations_from_zero { names } else { 1 };
                let _ = free.narrow(0, 0, silent).zero_();
                Embedding::Free(parameters.learn(EMBEDDING, free))
            }
            Some(width) => {
                let all = names + to_i64(vocabulary.unseen.len());
                Embedding::Projected {
                    rows: parameters.statistic(EMBEDDING, &[all, width], 0.0),
                    projection: Linear::new(parameters, PROJECTION, width, latent),
                    control: match settings.model.perturbations_from_zero {
                        true => parameters.constant(CONTROL_EMBEDDING, &[1, latent], 0.0),
                        false => parameters.normal(CONTROL_EMBEDDING, &[1, latent]),
                    },
                }
            }
        };
        Self { embedding, names, response: DoseScaling::new(parameters, settings, names) }
    }

    /// The rows of a given table by code, trained names first, `[vocabulary and unseen, width]`; those of padding and of control are 0.
    pub(super) fn given(&self) -> Option<&Tensor> {
        match &self.embedding {
            Embedding::Free(_) => None,
            Embedding::Projected { rows, .. } => Some(rows),
        }
    }

    /// Fills in the rows of a table. Each column is centred over the trained perturbations, then the table is scaled by one
    /// number to a mean square of 1, so that fingerprints and gene embeddings start on the same scale.
    pub(super) fn fill(&mut self, table: &EmbeddingTable, vocabulary: &Vocabulary) {
        let _no_grad = tch::no_grad_guard();
        let Embedding::Projected { rows, .. } = &mut self.embedding else { return };
        let given = vocabulary.perturbations.iter().chain(&vocabulary.unseen).skip(FIRST_PERTURBATION);
        let given: Vec<f32> = given.flat_map(|name| table.row(name).unwrap_or_default().iter().copied()).collect();
        let mut filled = rows.narrow(0, 2, rows.size()[0] - 2);
        let given = Tensor::from_slice(&given).view(filled.size().as_slice()).to_kind(Kind::Double);
        let trained = given.narrow(0, 0, self.names - 2);
        let centre = trained.mean_dim([0_i64].as_slice(), true, Kind::Double);
        let scale = (trained - &centre).square().mean(Kind::Double).sqrt().clamp_min(SMALLEST_SCALE);
        filled.copy_(&((given - centre) / scale));
    }

    /// Whether a saved state has the rows of this table, up to rounding; true without a table.
    pub(super) fn has_rows_of(&self, state: &BTreeMap<String, Tensor>) -> bool {
        let (Some(rows), Some(saved)) = (self.given(), state.get(EMBEDDING)) else { return true };
        let saved = saved.to_device(rows.device());
        rows.size() == saved.size() && rows.allclose(&saved, 1e-5, 1e-5, false)
    }

    /// The term of one condition, `[1, latent]`. An untrained perturbation has no dose response: its scale is the
    /// mean of the scales of all trained ones at its dose.
    pub(super) fn of_condition(&self, parts: &[(u32, f64)]) -> Tensor {
        let (kind, device) = (self.response.beta.kind(), self.response.beta.device());
        let (trained, unseen): (Vec<_>, Vec<_>) = parts.iter().partition(|(code, _)| i64::from(*code) < self.names);
        let (codes, doses) = pad(&[trained], kind, device);
        let mut sum = self.latent(&codes, &doses);
        for (code, dose) in unseen {
            let all = Tensor::arange_start(2, self.names, (Kind::Int64, device)).unsqueeze(0);
            let doses = Tensor::full(all.size(), dose, (kind, device));
            let scale = self.response.scale(&all, &doses).mean(kind);
            sum += self.embeddings(&on_device(&[i64::from(code)], device)) * scale;
        }
        sum
    }

    /// Multiplies all embeddings, in a map of parameters by name, by a factor.
    pub(super) fn shrink(&self, parameters: &mut BTreeMap<String, Tensor>, share: f64) {
        let _no_grad = tch::no_grad_guard();
        let is_one = |name: &str| match self.embedding {
            Embedding::Free(_) => name == EMBEDDING,
            Embedding::Projected { .. } => name == CONTROL_EMBEDDING || name.starts_with(PROJECTION),
        };
        for (_, tensor) in parameters.iter_mut().filter(|(name, _)| is_one(name)) {
            *tensor *= share;
        }
    }

    /// The trained parameters.
    pub(super) fn parameters(&self) -> Vec<&Tensor> {
        let embedding = match &self.embedding {
            Embedding::Free(table) => vec![table],
            Embedding::Projected { projection, control, .. } => {
                [projection.parameters().as_slice(), &[control]].concat()
            }
        };
        let networks = self.response.networks.iter().flat_map(|(weight, bias)| [weight, bias]);
        embedding.into_iter().chain([&self.response.beta, &self.response.bias]).chain(networks).collect()
    }

    /// Embeddings, dose curve and its parameters, if all are tables with one row per code.
    pub(super) fn tables(&self) -> Option<(&Tensor, DoseCurve, [&Tensor; 2])> {
        let Embedding::Free(embeddings) = &self.embedding else { return None };
        let curve = match self.response.kind {
            Doser::Linear => DoseCurve::Linear,
            Doser::Sigm => DoseCurve::Sigmoid,
            Doser::LogSigm | Doser::Auto => DoseCurve::LogSigmoid,
            Doser::Mlp => return None,
        };
        Some((embeddings, curve, [&self.response.beta, &self.response.bias]))
    }

    /// Embeddings of all trained names, padding and control first, `[vocabulary, latent]`.
    pub(super) fn table(&self) -> Tensor {
        self.embeddings(&Tensor::arange(self.names, (Kind::Int64, self.response.beta.device())))
    }

    /// Embeddings of codes `[n]`, `[n, latent]`.
    fn embeddings(&self, codes: &Tensor) -> Tensor {
        match &self.embedding {
            Embedding::Free(table) => table.index_select(0, codes),
            Embedding::Projected { rows, projection, control } => {
                // Project whichever has fewer rows: the requested ones, or all trained ones.
                let projected = if codes.size()[0] <= self.names {
                    projection.forward(&rows.index_select(0, codes))
                } else {
                    projection.forward(&rows.narrow(0, 0, self.names)).index_select(0, codes)
                };
                control.where_self(&codes.eq(CONTROL).unsqueeze(-1), &projected)
            }
        }
    }

    /// The latent term of codes `[cells, n]`, padded with 0, at doses, `[cells, latent]`.
    pub(super) fn latent(&self, codes: &Tensor, doses: &Tensor) -> Tensor {
        let kind = doses.kind();
        let scaled = self.response.scale(codes, doses) * codes.ne(0).to_kind(kind);
        let rows = self.embeddings(&codes.view([-1])).view([codes.size()[0], codes.size()[1], -1]);
        (scaled.unsqueeze(-1) * rows).sum_dim_intlist([1_i64].as_slice(), false, kind)
    }
}

impl DoseScaling {
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

    /// The scale of each code at its dose, in the shape of `codes` and `doses`.
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

    /// σ(m(d)) − σ(m(0)), with one network m per perturbation. Cells with the same perturbation and dose share the work: the
    /// weights of a network are looked up once per pair, not once per cell.
    fn network(&self, codes: &Tensor, doses: &Tensor) -> Tensor {
        let kind: Kind = doses.kind();
        let flat = codes.view([-1]);
        let pairs = Tensor::stack(&[flat.to_kind(Kind::Double), doses.reshape([-1]).to_kind(Kind::Double)], 1);
        let (pairs, place, _) = tch::no_grad(|| pairs.unique_dim(0, true, true, false));
        let (code, dose) = (pairs.select(1, 0).to_kind(Kind::Int64), pairs.select(1, 1).to_kind(kind));
        let response_to = |dose: &Tensor| {
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
        let scale = response_to(&dose) - response_to(&dose.zeros_like());
        scale.index_select(0, &place).view_as(codes)
    }
}
