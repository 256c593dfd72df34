//! The autoencoder: encoder, perturbation and covariate embeddings, decoder.

use std::collections::BTreeMap;

use device_kernels::latent::LatentTerms;
use offset::{Offset, OffsetProfiles};
use schemas::{
    Result,
    batch::Expression,
    config::{DispersionStart, Settings},
    embedding_table::EmbeddingTable,
    numbers::to_i64,
    vocabulary::Vocabulary,
};
use tch::{Device, Kind, Tensor};
use torch::parameters::Parameters;

use super::{
    decoder::{Decoder, DecoderOutput},
    draws::StepDraws,
    encoder::{Basal, Encoder},
    input::{Cells, Input},
    layers::{Linear, Mode},
    mixing::Mixup,
    packed_batch::PackedBatch,
    perturbations::{PROJECTION, Perturbations},
};

/// The network with its parameters.
#[derive(Debug)]
pub struct Network {
    /// All saved tensors.
    pub parameters: Parameters,
    genes: i64,
    latent: i64,
    pub(super) encoder: Encoder,
    perturbations: Perturbations,
    /// One embedding table per covariate.
    covariates: Vec<Tensor>,
    /// Index of the batch among the covariates.
    batch: Option<usize>,
    pub(super) decoder: Decoder,
    offset: Option<Offset>,
}

/// Latents of a batch, each `[cells, latent]`.
#[derive(Debug)]
pub struct Latent {
    /// The encoder's output.
    pub basal: Basal,
    /// The basal latents from which cells are decoded, if they are not each cell's own.
    pub sources: Option<Tensor>,
    /// The perturbations' term.
    pub perturbation: Tensor,
    /// The covariates' term, without the batch.
    pub covariates: Tensor,
    /// The batch's term.
    pub batch: Option<Tensor>,
}

impl Latent {
    /// The decoded latent: the sum.
    pub fn after(&self) -> Tensor {
        self.with_batch(self.corrected())
    }

    /// The sum without the batch.
    pub fn corrected(&self) -> Tensor {
        self.start() + &self.perturbation + &self.covariates
    }

    /// The sum without the perturbations.
    pub fn without_perturbation(&self) -> Tensor {
        self.with_batch(self.without_perturbation_and_batch())
    }

    /// The sum without perturbations and batch.
    pub fn without_perturbation_and_batch(&self) -> Tensor {
        self.start() + &self.covariates
    }

    fn start(&self) -> &Tensor {
        self.sources.as_ref().unwrap_or(&self.basal.latent)
    }

    fn with_batch(&self, sum: Tensor) -> Tensor {
        match &self.batch {
            Some(batch) => sum + batch,
            None => sum,
        }
    }

    fn mixed(self, mixup: &Mixup) -> Self {
        Self {
            basal: self.basal,
            sources: self.sources,
            perturbation: mixup.mixed(&self.perturbation),
            covariates: mixup.mixed(&self.covariates),
            batch: self.batch.map(|batch| mixup.mixed(&batch)),
        }
    }
}

impl Network {
    /// A network with fresh parameters, drawn in the original's order; seed libtorch's generator first.
    #[must_use]
    pub fn new(settings: &Settings, genes: u32, vocabulary: &Vocabulary, kind: Kind, device: Device) -> Self {
        let mut parameters = Parameters::new(kind, device);
        let p = &mut parameters;
        let (genes, latent) = (i64::from(genes), i64::from(settings.model.n_latent));
        let encoder = Encoder::new(p, settings, genes);
        let decoder = Decoder::new(p, settings, genes);
        let perturbations = Perturbations::new(p, settings, vocabulary);
        let covariates = vocabulary.covariates.iter().map(|covariate| {
            let values = to_i64(covariate.values.len());
            p.normal(&format!("module.covars_embeddings.{}.weight", covariate.name), &[values, latent])
        });
        let covariates = covariates.collect();
        let batch = vocabulary.batch_at();
        let offset = Offset::new(p, settings, genes, vocabulary, perturbations.given());
        Self { genes, latent, encoder, perturbations, covariates, batch, decoder, offset, parameters }
    }

    /// Number of genes that the network reads and predicts.
    #[must_use]
    pub fn genes(&self) -> i64 {
        self.genes
    }

    /// Width of the latent.
    #[must_use]
    pub fn width(&self) -> i64 {
        self.latent
    }

    /// Moves rows of expression over the network's genes to its device. For a GPU, this is one copy from pinned
    /// memory, for which this thread does not wait: later work on the device follows the copy.
    ///
    /// # Errors
    /// Out of memory on the host or the device.
    pub fn cells(&self, expression: &Expression) -> Result<Cells> {
        let (kind, device) = (self.parameters.kind(), self.parameters.device());
        if device == Device::Cpu {
            return Ok(Cells::new(expression, self.genes, kind, device));
        }
        Ok(PackedBatch::of_cells(expression, self.genes)?.input(kind, device)?.cells)
    }

    /// Whether a trained parameter belongs to the dose response; the others are the autoencoder's.
    #[must_use]
    pub fn is_doser(name: &str) -> bool {
        name.starts_with("module.pert_network.dosers.")
    }

    /// Whether a trained parameter belongs to the projection of given embeddings.
    #[must_use]
    pub fn is_projection(name: &str) -> bool {
        name.starts_with(PROJECTION)
    }

    /// The basal latent of cells, `[cells, latent]`. For a variational encoder, its mean.
    pub fn encode(&self, cells: &Cells, mode: Mode) -> Tensor {
        self.encoder.point(&self.decoder.input(cells), mode)
    }

    /// The basal latent of cells as used in training: for a variational encoder, drawn with `noise` (`[cells, latent]`,
    /// standard normal) or with libtorch's generator.
    pub fn basal(&self, cells: &Cells, mode: Mode, noise: Option<&Tensor>) -> Basal {
        self.encoder.drawn(&self.decoder.input(cells), mode, noise)
    }

    /// The latent term of perturbations (`[cells, n]`, codes padded with 0) at doses, `[cells, latent]`.
    pub fn perturbation_latent(&self, codes: &Tensor, doses: &Tensor) -> Tensor {
        self.perturbations.latent(codes, doses)
    }

    /// The latent term of one condition, `[1, latent]`, given codes and doses; if the network has a table of
    /// embeddings, the condition may include untrained perturbations.
    pub fn condition_latent(&self, parts: &[(u32, f64)]) -> Tensor {
        self.perturbations.of_condition(parts)
    }

    /// Shrinks the perturbations' latent terms, in a copy of its parameters, by a factor.
    pub fn shrink_perturbations(&self, parameters: &mut BTreeMap<String, Tensor>, share: f64) {
        self.perturbations.shrink(parameters, share);
    }

    /// Fills in a table of embeddings, by the codes of a vocabulary to which its names were added.
    pub fn fill_embeddings(&mut self, table: &EmbeddingTable, vocabulary: &Vocabulary) {
        self.perturbations.fill(table, vocabulary);
    }

    /// Whether a saved state has the table of embeddings that was filled in; true without a table.
    #[must_use]
    pub fn has_embeddings_of(&self, state: &BTreeMap<String, Tensor>) -> bool {
        self.perturbations.has_rows_of(state)
    }

    /// Shares the parameters of another network with the same settings, and what was estimated from them.
    pub fn share(&mut self, other: &Self) {
        self.parameters.share(&other.parameters);
        if let (Some(own), Some(other)) = (&mut self.offset, &other.offset) {
            own.share(other);
        }
    }

    /// Sets values measured on training cells: the offsets, and the initial dispersions.
    ///
    /// # Errors
    /// Profiles from which no offset can be estimated.
    pub fn fill_profiles(&mut self, settings: &Settings, profiles: &OffsetProfiles) -> Result<()> {
        if let Some(offset) = &mut self.offset {
            offset.fill(profiles)?;
        }
        if settings.model.dispersion_start == DispersionStart::Moments {
            self.decoder.start_dispersion(&profiles.dispersion);
        }
        Ok(())
    }

    /// The offset of its decoder, if any.
    #[must_use]
    pub fn offset(&self) -> Option<&Offset> {
        self.offset.as_ref()
    }

    /// The embeddings of all trained perturbations, without a dose: padding and control first, `[vocabulary, latent]`.
    pub fn perturbation_table(&self) -> Tensor {
        self.perturbations.table()
    }

    /// Index of the batch among the covariates.
    #[must_use]
    pub fn batch_at(&self) -> Option<usize> {
        self.batch
    }

    /// The latent term of covariates, including the batch, `[cells, latent]`.
    pub fn covariate_latent(&self, codes: &[Tensor], cells: i64) -> Tensor {
        let zero = self.no_covariates(cells);
        codes.iter().zip(&self.covariates).fold(zero, |sum, (codes, table)| sum + table.index_select(0, codes))
    }

    /// The embedding table of a covariate, `[values, latent]`.
    pub fn covariate_table(&self, at: usize) -> &Tensor {
        &self.covariates[at]
    }

    /// Keeps rounded copies of weights, if products are computed in bfloat16.
    pub(super) fn keep_rounded(&mut self) {
        self.encoder.wide_mut().chain(self.decoder.wide_mut()).for_each(Linear::keep_rounded);
    }

    /// The rounded copy of a weight.
    pub(super) fn rounded(&self, weight: &Tensor) -> Option<&Tensor> {
        let mut wide = self.encoder.wide().chain(self.decoder.wide());
        wide.find(|linear| linear.weight.data_ptr() == weight.data_ptr())?.rounded()
    }

    /// Updates the rounded copies after the weights were replaced.
    pub(super) fn round_again(&self) {
        let _no_grad = tch::no_grad_guard();
        for linear in self.encoder.wide().chain(self.decoder.wide()) {
            if let Some(rounded) = linear.rounded() {
                rounded.shallow_clone().copy_(&linear.weight);
            }
        }
    }

    /// The terms added to a basal latent, for custom kernels, if they are sums of table rows.
    pub(super) fn added(&self) -> Option<LatentTerms<'_>> {
        let (embeddings, curve, [beta, bias]) = self.perturbations.tables()?;
        Some(LatentTerms { embeddings, beta, bias, curve, covariates: &self.covariates })
    }

    /// The trained parameters of perturbations and covariates.
    pub(super) fn added_parameters(&self) -> Vec<&Tensor> {
        self.perturbations.parameters().into_iter().chain(&self.covariates).collect()
    }

    fn no_covariates(&self, cells: i64) -> Tensor {
        Tensor::zeros([cells, self.latent], (self.parameters.kind(), self.parameters.device()))
    }

    /// Draws that make a variational encoder return its means.
    #[must_use]
    pub fn point_draws(&self, input: &Input) -> StepDraws {
        let shape = [input.cells.shape[0], self.width()];
        let noise = Tensor::zeros(shape, (self.parameters.kind(), self.parameters.device()));
        StepDraws { noise: Some(noise), ..StepDraws::default() }
    }

    /// All latents of a batch in training, mixed and drawn as `draws` says.
    #[must_use]
    pub fn latent(&self, input: &Input, mode: Mode, draws: &StepDraws) -> Latent {
        self.latent_of(self.basal(&input.cells, mode, draws.noise.as_ref()), input, draws)
    }

    /// The same with known basal latents.
    pub(super) fn latent_of(&self, basal: Basal, input: &Input, draws: &StepDraws) -> Latent {
        let cells = input.cells.shape[0];
        let mut batch = None;
        let mut covariates = self.no_covariates(cells);
        for (at, (codes, table)) in input.covariates.iter().zip(&self.covariates).enumerate() {
            let rows = table.index_select(0, codes);
            match self.batch == Some(at) {
                true => batch = Some(rows),
                false => covariates += rows,
            }
        }
        let latent = Latent {
            sources: input.sources.as_ref().map(|sources| basal.latent.index_select(0, sources)),
            basal,
            perturbation: self.perturbation_latent(&input.perturbations, &input.doses),
            covariates,
            batch,
        };
        match &draws.mixup {
            Some(mixup) => latent.mixed(mixup),
            None => latent,
        }
    }

    /// Decodes a latent. For counts, a cell's means sum to `library` (`[cells, 1]`, each cell's sum of counts);
    /// `offset` (`[cells, genes]` or `[1, genes]`) is that of each cell's condition, for a network with
    /// [offsets](Self::offset).
    #[must_use]
    pub fn decode(&self, latent: &Tensor, offset: Option<&Tensor>, library: &Tensor, mode: Mode) -> DecoderOutput {
        self.decoder.forward(latent, offset, library, mode)
    }
}
