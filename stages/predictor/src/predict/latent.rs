//! The latent terms of targets.

use std::num::NonZeroU32;

use model::{input::Cells, layers::Mode, network::Network};
use schemas::vocabulary::{CovariateTerm, TrainedGroup, Vocabulary};
use tch::{Device, Kind, Tensor};
use torch::memory::on_device;

use crate::{predict::Reading, query::Target};

/// The latent terms of a target, `[1, latent]` each, and its offset.
#[derive(Debug)]
pub(super) struct TargetLatentTerms {
    /// The term of perturbations and covariates, without the batch.
    pub(super) without_batch: Tensor,
    /// The term of the batch.
    pub(super) batch: Option<Tensor>,
    /// The offset of the decoder's output, `[1, genes]`, for a network with offsets.
    pub(super) offset: Option<Tensor>,
    /// The change by the offset of a cell's ln(1 + 10,000 x / Σx), `[1, genes]`, if it was estimated there.
    pub(super) log_shift: Option<Tensor>,
}

impl TargetLatentTerms {
    pub(super) fn new(network: &Network, target: &Target) -> Self {
        let mut without_batch = network.condition_latent(&target.parts);
        let mut batch = None;
        for (at, term) in target.terms.iter().enumerate() {
            let Some(row) = of_term(network, at, *term) else { continue };
            match network.batch_at() == Some(at) {
                true => batch = Some(row),
                false => without_batch += row,
            }
        }
        let of_target = network.offset().map(|offset| offset.of_terms(&target.parts, &target.terms));
        let (offset, log_shift) = of_target.map(|of| (of.offset, of.log_shift)).unzip();
        let log_shift = log_shift.flatten();
        Self { without_batch, batch, offset, log_shift }
    }

    /// The same with only the offset changed: the latent terms are those of `control`.
    pub(super) fn of_offset_alone(network: &Network, control: &Target, target: &Target) -> Self {
        let Self { offset, log_shift, .. } = Self::new(network, target);
        Self { offset, log_shift, ..Self::new(network, control) }
    }

    /// A shallow copy.
    pub(super) fn shallow_clone(&self) -> Self {
        let again = |tensor: &Option<Tensor>| tensor.as_ref().map(Tensor::shallow_clone);
        Self {
            without_batch: self.without_batch.shallow_clone(),
            batch: again(&self.batch),
            offset: again(&self.offset),
            log_shift: again(&self.log_shift),
        }
    }

    /// The sum of the latent terms.
    pub(super) fn all(&self) -> Tensor {
        match &self.batch {
            Some(batch) => &self.without_batch + batch,
            None => self.without_batch.shallow_clone(),
        }
    }
}

fn of_term(network: &Network, at: usize, term: CovariateTerm) -> Option<Tensor> {
    let table = network.covariate_table(at);
    match term {
        CovariateTerm::Value(code) => Some(table.index_select(0, &on_device(&[i64::from(code)], table.device()))),
        CovariateTerm::Mean => Some(table.mean_dim([0_i64].as_slice(), true, table.kind())),
        CovariateTerm::Nothing => None,
    }
}

/// The basal latents of source cells: one tensor `[cells, latent]` per draw.
pub(super) fn basal(network: &Network, cells: &Cells, reading: &Reading, batch: (u32, u64)) -> Vec<Tensor> {
    let Some(samples) = reading.samples.map(NonZeroU32::get) else { return vec![network.encode(cells, Mode::Eval)] };
    let shape = [cells.shape[0], network.width()];
    (0..samples)
        .map(|sample| {
            // The seed of each draw depends on its position, so that it does not depend on earlier draws.
            let place = [reading.seed, batch.0.into(), batch.1, sample.into()];
            let seed = xxhash_rust::xxh3::xxh3_64(bytemuck::cast_slice(&place));
            tch::manual_seed(i64::from_ne_bytes(seed.to_ne_bytes()));
            let noise = Tensor::randn(shape, (Kind::Float, Device::Cpu));
            let noise = noise.to_device(network.parameters.device()).to_kind(network.parameters.kind());
            network.basal(cells, Mode::Eval, Some(&noise)).latent
        })
        .collect()
}

/// The latent terms of trained conditions and covariates, from which distances are computed.
#[derive(Debug)]
pub(super) struct TrainedLatents(Option<Tensor>);

impl TrainedLatents {
    /// Looks up all trained groups.
    pub(super) fn new(network: &Network, vocabulary: &Vocabulary) -> Self {
        let rows: Vec<Tensor> = vocabulary.trained.iter().map(|group| of_group(network, vocabulary, group)).collect();
        // An imported model may not know what it was trained on.
        Self((!rows.is_empty()).then(|| Tensor::cat(&rows, 0)))
    }

    /// The Euclidean distance from each target's latent to the nearest trained one, ignoring batches: 0 for
    /// trained targets. `None` if the training data are unknown.
    pub(super) fn distances(&self, targets: &[TargetLatentTerms]) -> Option<Tensor> {
        let trained = self.0.as_ref()?;
        let rows: Vec<&Tensor> = targets.iter().map(|added| &added.without_batch).collect();
        // Differences are computed directly: the faster way by products does not give 0 for equal rows.
        let distances = Tensor::cdist(&Tensor::cat(&rows, 0), trained, 2.0, 2);
        Some(distances.min_dim(1, false).0)
    }
}

fn of_group(network: &Network, vocabulary: &Vocabulary, group: &TrainedGroup) -> Tensor {
    let parts: Vec<(u32, f64)> = match group.perturbations.is_empty() {
        true => vec![(1, 1.0)],
        false => group.perturbations.iter().copied().zip(group.doses.iter().copied()).collect(),
    };
    let mut sum = network.condition_latent(&parts);
    for (at, (value, covariate)) in group.covariates.iter().zip(&vocabulary.covariates).enumerate() {
        let is_batch = network.batch_at() == Some(at);
        let code = covariate.code(value).filter(|_| !is_batch);
        if let Some(row) = code.and_then(|code| of_term(network, at, CovariateTerm::Value(code))) {
            sum += row;
        }
    }
    sum
}
