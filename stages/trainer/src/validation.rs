//! Scores a model on `valid` cells, over whole groups of cells rather than batch by batch.

use std::collections::BTreeMap;

use model::{
    input::Input,
    layers::Mode,
    losses::reconstruction,
    moments::GroupMoments,
    neighbours::{CELLS_AT_ONCE, purities},
    network::Network,
};
use offset::GroupOffsets;
use reader::{atlas::Atlas, groups::Groups, split::SplitPart};
use schemas::{
    batch::UNKNOWN,
    config::{MonitoredScore, ReconLoss, TrainingPlan},
    numbers::{bounded, to_i64, to_usize},
    vocabulary::Vocabulary,
};
use stage::batch::Batch;
use tch::{Device, Tensor};

use crate::counterfactual::Counterfactual;

/// Number of cells validated together, however large training batches are: this keeps the memory of
/// validation small.
pub const VALIDATED_AT_ONCE: usize = 1024;
/// Maximum number of groups that are scored: the largest ones, so that memory is bounded whatever their
/// number.
const MOST_GROUPS: usize = 1024;
/// Maximum number of values in each of the sums over groups: limits the number of groups if there are many
/// genes.
const MOST_NUMBERS: usize = 1 << 21;
/// Maximum number of cells whose neighbours are found, evenly spread.
const MOST_NEIGHBOURED: u64 = 4096;

/// Sums over the `valid` cells of one epoch.
#[derive(Debug)]
pub struct Validation {
    /// The row of each group of the atlas in the sums; groups that are not scored have the number of rows
    /// instead.
    rows: Vec<i64>,
    scored: i64,
    original: bool,
    /// The settings for the sums, and the sums themselves, which exist from the first batch of a validation to
    /// its end.
    genes: i64,
    normal: bool,
    device: Device,
    moments: Option<GroupMoments>,
    recon: (f64, f64),
    counterfactual: Counterfactual,
    neighbourhoods: Neighbourhoods,
}

/// The scores; those that can't be computed from the cells are absent.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ValidationScores {
    by_name: BTreeMap<&'static str, f64>,
    /// The factor of the perturbations' latent terms that predicts best, if it was requested.
    pub share: Option<f64>,
}

impl ValidationScores {
    /// One score.
    #[must_use]
    pub fn get(&self, monitor: MonitoredScore) -> Option<f64> {
        self.by_name.get(monitor.name()).copied()
    }

    /// All scores, by name.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, f64)> + '_ {
        let share = self.share.map(|share| ("perturbation_share", share));
        self.by_name.iter().map(|(name, value)| (*name, *value)).chain(share)
    }

    fn set(&mut self, monitor: MonitoredScore, value: Option<f64>) {
        self.by_name.extend(value.map(|value| (monitor.name(), value)));
    }
}

/// Upper bound of the memory of a validation of this many groups, in bytes.
#[must_use]
pub fn validation_bytes(genes: usize, groups: usize, latent: usize) -> usize {
    let groups = groups.min(MOST_GROUPS).min((MOST_NUMBERS / genes.max(1)).max(1)) + 1;
    let cells = to_usize(MOST_NEIGHBOURED);
    // Five sums in double precision, and as many means while scoring; sums of two predictions per group, and the
    // offsets; two latents per cell, and distances in blocks.
    (2 * 5 * 8 + 2 * 8 + 4) * groups * genes + 2 * 8 * cells * latent + 4 * 8 * CELLS_AT_ONCE * cells
}

impl Validation {
    /// Empty sums; for a network with offsets, including the offsets of the atlas's groups.
    #[must_use]
    pub fn new(
        atlas: &Atlas,
        groups: &Groups,
        vocabulary: &Vocabulary,
        plan: &TrainingPlan,
        genes: i64,
        device: Device,
        offsets: Option<&GroupOffsets>,
    ) -> Self {
        let scorable = |at: &usize| {
            groups.all()[*at].cells_for(SplitPart::Valid) > 0 && groups.all()[*at].codes(atlas, vocabulary).is_some()
        };
        let mut largest: Vec<usize> = (0..groups.all().len()).filter(scorable).collect();
        let cells: u64 = largest.iter().map(|at| groups.all()[*at].cells_for(SplitPart::Valid)).sum();
        largest.sort_by_key(|at| std::cmp::Reverse(groups.all()[*at].cells_for(SplitPart::Valid)));
        let room = MOST_NUMBERS / bounded::<usize>(genes.max(1));
        largest.truncate(MOST_GROUPS.min(room.max(1)));
        let scored = to_i64(largest.len());
        let mut rows = vec![scored; groups.all().len()];
        for (row, at) in (0_i64..).zip(&largest) {
            rows[*at] = row;
        }
        let normal = plan.model.recon_loss == ReconLoss::Gauss;
        let is_scored = |at: usize| rows[at] < scored;
        let counterfactual = Counterfactual::new(atlas, groups, vocabulary, genes, device, offsets, is_scored);
        Self {
            rows,
            scored,
            original: plan.compat.is_original(),
            genes,
            normal,
            device,
            moments: None,
            recon: (0.0, 0.0),
            counterfactual: match plan.train.shrink_perturbations {
                true => counterfactual.looking_for_a_share(),
                false => counterfactual,
            },
            neighbourhoods: Neighbourhoods::new(cells, vocabulary),
        }
    }

    /// Adds a batch.
    pub fn add(&mut self, network: &Network, batch: &Batch, input: &Input) {
        let _no_grad = tch::no_grad_guard();
        let cells = &input.cells;
        let latent = network.latent(input, Mode::Eval, &network.point_draws(input));
        let after = latent.after();
        let output = network.decode(&after, input.offsets().as_ref(), &cells.library, Mode::Eval);
        self.counterfactual.add(network, batch, &latent.basal.latent, &cells.library);
        #[expect(clippy::cast_precision_loss, reason = "a batch has fewer than 2^52 cells")]
        let count = cells.shape[0] as f64;
        self.recon.0 += reconstruction(&output, cells).double_value(&[]) * count;
        self.recon.1 += count;
        let row_of = |group: &u32| self.rows.get(*group as usize).copied().unwrap_or(self.scored);
        let rows: Vec<i64> = batch.labels.groups.iter().map(row_of).collect();
        let rows = Tensor::from_slice(&rows).to_device(cells.values.device());
        let (scored, genes, normal, device) = (self.scored, self.genes, self.normal, self.device);
        let moments = self.moments.get_or_insert_with(|| GroupMoments::new(scored, genes, normal, device));
        moments.add(&rows, cells, &output);
        self.neighbourhoods.add(batch, &latent.basal.latent, &after);
    }

    /// Returns the scores, and resets the sums.
    pub fn take(&mut self) -> ValidationScores {
        let _no_grad = tch::no_grad_guard();
        let mut scores = ValidationScores::default();
        let Some(moments) = self.moments.take() else { return scores };
        let truth = moments.true_means();
        let row_of = |group: u32| self.rows.get(group as usize).copied().filter(|row| *row < self.scored);
        scores.set(MonitoredScore::Recon, Some(self.recon.0 / self.recon.1.max(1.0)));
        let r2 = if self.original { moments.r2_of_the_original() } else { moments.r2() };
        scores.set(MonitoredScore::R2Mean, r2.mean);
        scores.set(MonitoredScore::R2Var, r2.variance);
        let counterfactual = self.counterfactual.take(|group| row_of(group).map(|row| truth.get(row)));
        scores.set(MonitoredScore::PearsonDelta, counterfactual.map(|score| score.pearson_delta));
        scores.share = counterfactual.and_then(|score| score.share);
        if let Some((basal, after)) = self.neighbourhoods.take() {
            scores.set(MonitoredScore::DisntBasal, Some(basal));
            scores.set(MonitoredScore::DisntAfter, Some(after));
            let whole = r2.mean.zip(r2.variance).map(|(mean, var)| mean + 0.5 * var + (after - basal).exp());
            scores.set(MonitoredScore::CpaMetric, whole);
        }
        self.recon = (0.0, 0.0);
        scores
    }
}

/// Latents and labels of some cells, evenly spread over the `valid` cells.
#[derive(Debug)]
struct Neighbourhoods {
    cells: u64,
    passed: u64,
    /// Basal latents and decoded latents, `[cells needed, latent]` each, filled from the top. They are allocated
    /// before the first batch: small tensors that survive between large temporary ones would leave holes in the
    /// heap.
    latents: Option<[Tensor; 2]>,
    /// The combination of each cell, then each covariate that has more than one value.
    labels: Vec<Vec<i64>>,
    covariates: Vec<usize>,
}

impl Neighbourhoods {
    fn new(cells: u64, vocabulary: &Vocabulary) -> Self {
        let several = vocabulary.covariates.iter().enumerate().filter(|(_, covariate)| covariate.values.len() > 1);
        let covariates: Vec<usize> = several.map(|(at, _)| at).collect();
        let labels = vec![Vec::new(); 1 + covariates.len()];
        Self { cells, passed: 0, latents: None, labels, covariates }
    }

    fn add(&mut self, batch: &Batch, basal: &Tensor, after: &Tensor) {
        let mut rows: Vec<i64> = Vec::new();
        let most = MOST_NEIGHBOURED.min(self.cells);
        let filled = self.filled();
        let sample = u128::from(most);
        let all = u128::from(self.cells.max(1));
        for (row, combination) in batch.labels.combinations.iter().enumerate() {
            let at = u128::from(self.passed);
            self.passed += 1;
            // The n-th cell is taken if there is an integer between n·wanted/all and (n+1)·wanted/all; cells whose
            // combination is not a class are skipped.
            if at * sample / all == (at + 1) * sample / all || *combination == UNKNOWN {
                continue;
            }
            rows.push(to_i64(row));
            self.labels[0].push(i64::from(*combination));
            for (labels, covariate) in self.labels[1..].iter_mut().zip(&self.covariates) {
                labels.push(i64::from(batch.labels.covariates[*covariate][row]));
            }
        }
        let room = |latent: &Tensor| Tensor::empty([bounded(most), latent.size()[1]], (latent.kind(), latent.device()));
        let latents = self.latents.get_or_insert_with(|| [room(basal), room(after)]);
        let rows = Tensor::from_slice(&rows).to_device(basal.device());
        for (latents, latent) in latents.iter().zip([basal, after]) {
            latents.narrow(0, filled, rows.size()[0]).copy_(&latent.index_select(0, &rows));
        }
    }

    /// Number of cells so far.
    fn filled(&self) -> i64 {
        to_i64(self.labels[0].len())
    }

    /// Sums of purities of the basal latent, and of the decoded one; `None` if there are too few cells.
    fn take(&mut self) -> Option<(f64, f64)> {
        let filled = self.filled();
        let labels: Vec<Vec<i64>> = self.labels.iter_mut().map(std::mem::take).collect();
        let labels: Vec<&[i64]> = labels.iter().map(Vec::as_slice).collect();
        self.passed = 0;
        let [basal, after] = self.latents.take()?.map(|latents| {
            let purities = purities(&latents.narrow(0, 0, filled), &labels)?;
            Some(purities.iter().sum::<f64>())
        });
        basal.zip(after)
    }
}
