//! The decoded latent, and its backward pass to embeddings, dose curves, covariates and the basal latent (`cuda/latent.cuh`).

use schemas::numbers::to_i64;
use tch::Tensor;
use torch::launch::{Address, Argument, arguments, multiprocessors};

use super::{BLOCKS_EACH, ROW_THREADS, count, empty, mixing::MixingArguments, run, run_rows, shape, unpack::Unpacked};

/// Threads of a block that sums over cells.
const THREADS: u32 = 1024;
/// Maximum number of covariates: `MOST_COVARIATES` in the source.
pub const MOST_COVARIATES: usize = 8;
/// Maximum number of adversaries: `MOST_OPPONENTS` in the source.
pub const MOST_OPPONENTS: usize = 9;

/// Dose curves, which scale an embedding: `DoseCurve` in the source, in the same order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DoseCurve {
    /// The dose itself.
    Linear = 0,
    /// σ(β dose + b) − σ(b).
    Sigmoid = 1,
    /// The same curve over log(1 + dose).
    LogSigmoid = 2,
}

/// The terms added to a basal latent.
#[derive(Debug)]
pub struct LatentTerms<'a> {
    /// Embeddings of perturbations, `[names, latent]`.
    pub embeddings: &'a Tensor,
    /// Parameters of their dose curves, `[1, names]`.
    pub beta: &'a Tensor,
    /// The second parameter of the dose curves, `[1, names]`.
    pub bias: &'a Tensor,
    /// The shape of the dose curves.
    pub curve: DoseCurve,
    /// Tables of covariates, `[values, latent]`, at most [`MOST_COVARIATES`].
    pub covariates: &'a [Tensor],
}

#[repr(C)]
#[derive(Clone, Copy, Debug)]
struct PerturbationTable<'a> {
    embeddings: Address<'a>,
    beta: Address<'a>,
    bias: Address<'a>,
    codes: Address<'a>,
    doses: Address<'a>,
    parts: i64,
    curve: i64,
}

impl Argument for PerturbationTable<'_> {}

#[repr(C)]
#[derive(Clone, Copy, Debug)]
struct CovariateTables<'a> {
    codes: Address<'a>,
    tables: [Address<'a>; MOST_COVARIATES],
    values: [i64; MOST_COVARIATES],
    count: i64,
}

impl Argument for CovariateTables<'_> {}

arguments! {
    LatentForwardArguments<'a>, "latent_forward" {
        basal: Address<'a>,
        sources: Address<'a>,
        perturbations: PerturbationTable<'a>,
        covariates: CovariateTables<'a>,
        mixing: MixingArguments<'a>,
        latent: Address<'a>,
        cells: i64,
        width: i64,
    }
}

arguments! {
    MixedBackwardArguments<'a>, "mixed_backward" {
        gradient: Address<'a>,
        mixing: MixingArguments<'a>,
        by_added: Address<'a>,
        cells: i64,
        width: i64,
    }
}

arguments! {
    LatentBackwardArguments<'a>, "latent_backward" {
        gradient: Address<'a>,
        perturbations: PerturbationTable<'a>,
        by_embeddings: Address<'a>,
        by_beta: Address<'a>,
        by_bias: Address<'a>,
        covariates: CovariateTables<'a>,
        names: i64,
        cells: i64,
        width: i64,
    }
}

arguments! {
    BasalBackwardArguments<'a>, "basal_backward" {
        gradient: Address<'a>,
        sources: Address<'a>,
        opponents: [Address<'a>; MOST_OPPONENTS],
        weight: Address<'a>,
        by_basal: Address<'a>,
        opponent_count: i64,
        cells: i64,
        width: i64,
    }
}

impl LatentTerms<'_> {
    fn perturbations<'a>(&'a self, batch: &'a Unpacked) -> PerturbationTable<'a> {
        PerturbationTable {
            embeddings: Address::from_tensor(self.embeddings),
            beta: Address::from_tensor(self.beta),
            bias: Address::from_tensor(self.bias),
            codes: Address::from_tensor(&batch.codes),
            doses: Address::from_tensor(&batch.doses),
            parts: batch.codes.size()[1],
            curve: self.curve as i64,
        }
    }

    /// The tables of covariates, or gradient tables of the same shapes.
    fn covariates<'a>(batch: &'a Unpacked, tables: &'a [Tensor]) -> CovariateTables<'a> {
        assert!(tables.len() <= MOST_COVARIATES, "a kernel takes {MOST_COVARIATES} covariates at most");
        let mut covariates = CovariateTables {
            codes: Address::from_tensor(&batch.covariates),
            tables: [Address::none(); MOST_COVARIATES],
            values: [0; MOST_COVARIATES],
            count: to_i64(tables.len()),
        };
        for (at, table) in tables.iter().enumerate() {
            (covariates.tables[at], covariates.values[at]) = (Address::from_tensor_mut(table), table.size()[0]);
        }
        covariates
    }

    /// The decoded latents, `[cells, latent]`: `basal`, of the cell itself or of the cell given by `sources`, `[cells]`,
    /// plus the terms of perturbations and covariates.
    pub fn to(&self, basal: &Tensor, sources: Option<&Tensor>, batch: &Unpacked) -> Tensor {
        let [cells, width] = shape(basal);
        let latent = empty(basal, &[cells, width]);
        let arguments = LatentForwardArguments {
            basal: Address::from_tensor(basal),
            sources: Address::from_optional(sources),
            perturbations: self.perturbations(batch),
            covariates: Self::covariates(batch, self.covariates),
            mixing: batch.mixing(),
            latent: Address::from_tensor_mut(&latent),
            cells,
            width,
        };
        run_rows(&arguments, basal, cells);
        latent
    }

    /// The gradients with respect to the added terms, given the gradient with respect to the latent,
    /// `[cells, latent]`.
    pub fn back(&self, gradient: &Tensor, batch: &Unpacked) -> LatentTermGradients {
        let [cells, width] = shape(gradient);
        let mixed = batch.mixed.is_some().then(|| {
            let (by_added, mixing) = (empty(gradient, &[cells, width]), batch.mixing());
            let (gradient_there, to) = (Address::from_tensor(gradient), Address::from_tensor_mut(&by_added));
            run_rows(
                &MixedBackwardArguments { gradient: gradient_there, mixing, by_added: to, cells, width },
                gradient,
                cells,
            );
            by_added
        });
        let gradient = mixed.as_ref().unwrap_or(gradient);
        let found = LatentTermGradients {
            embeddings: self.embeddings.detach().empty_like(),
            curves: (self.curve != DoseCurve::Linear)
                .then(|| [self.beta, self.bias].map(|learned| learned.detach().empty_like())),
            covariates: self.covariates.iter().map(|table| table.detach().empty_like()).collect(),
        };
        let names = self.embeddings.size()[0];
        let [by_beta, by_bias] = match &found.curves {
            Some(curves) => curves.each_ref().map(Address::from_tensor_mut),
            None => [Address::none(); 2],
        };
        let arguments = LatentBackwardArguments {
            gradient: Address::from_tensor(gradient),
            perturbations: self.perturbations(batch),
            by_embeddings: Address::from_tensor_mut(&found.embeddings),
            by_beta,
            by_bias,
            covariates: Self::covariates(batch, &found.covariates),
            names,
            cells,
            width,
        };
        let rows = names + self.covariates.iter().map(|table| table.size()[0]).sum::<i64>();
        run(&arguments, gradient, count(rows), THREADS, THREADS * 8);
        found
    }
}

/// Gradients with respect to the terms added to a basal latent, with the shapes of their parameters.
#[derive(Debug)]
pub struct LatentTermGradients {
    /// With respect to the embeddings of perturbations, `[names, latent]`.
    pub embeddings: Tensor,
    /// With respect to β and b of the dose curves; `None` if doses are used as they are.
    pub curves: Option<[Tensor; 2]>,
    /// With respect to each table of covariates, `[values, latent]`.
    pub covariates: Vec<Tensor>,
}

/// The gradient with respect to the basal latents, `[cells, latent]`: the gradient of the cells decoded from
/// them, minus `weight`, a scalar of float64, times the gradient of the adversaries' losses.
pub fn basal_back(
    gradient: &Tensor,
    sources: Option<&Tensor>,
    opponents: &[Tensor],
    weight: Option<&Tensor>,
) -> Tensor {
    assert!(opponents.len() <= MOST_OPPONENTS, "a kernel takes {MOST_OPPONENTS} adversaries at most");
    let [cells, width] = shape(gradient);
    let by_basal = empty(gradient, &[cells, width]);
    let mut addresses = [Address::none(); MOST_OPPONENTS];
    for (address, opponent) in addresses.iter_mut().zip(opponents) {
        *address = Address::from_tensor(opponent);
    }
    let arguments = BasalBackwardArguments {
        gradient: Address::from_tensor(gradient),
        sources: Address::from_optional(sources),
        opponents: addresses,
        weight: Address::from_optional(weight),
        by_basal: Address::from_tensor_mut(&by_basal),
        opponent_count: to_i64(opponents.len()),
        cells,
        width,
    };
    // Without sources, a cell takes one thread per latent dimension.
    let threads = if sources.is_some() { THREADS } else { ROW_THREADS };
    let blocks = count(cells).min(BLOCKS_EACH * multiprocessors(gradient.device()));
    run(&arguments, gradient, blocks, threads, threads * 8);
    by_basal
}
