//! How good a model is on `valid` rows, scored over whole groups of cells rather than batch by batch.

use schemas::config::ReconLoss;
use tch::{Device, Kind, Tensor};

use crate::{
    atlas::Atlas,
    batch::Batch,
    counterfactual::Counterfactual,
    groups::Groups,
    model::{
        input::Input,
        layers::Mode,
        losses::reconstruction,
        network::{Network, on_comparison_scale},
    },
    split::Part,
    vocabulary::Vocabulary,
};

/// Groups that are scored: the largest ones, so that memory stays bounded however many there are.
const MOST_GROUPS: usize = 1024;
/// A mean profile whose spread over genes is smaller has no R².
const SMALLEST_SPREAD: f64 = 1e-4;

/// Sums over the `valid` rows of one epoch.
#[derive(Debug)]
pub struct Validation {
    /// Per group of the atlas, its row in the sums, or the number of rows: a row that is not looked at.
    rows: Vec<i64>,
    scored: i64,
    on_log_scale: bool,
    truth: Tensor,
    predicted: Tensor,
    cells: Tensor,
    recon: (f64, f64),
    counterfactual: Counterfactual,
}

/// What was measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scores {
    /// Reconstruction loss.
    pub recon: f64,
    /// Mean over groups of the R² between true and predicted mean profiles, on log(1 + counts) or on the values; none where
    /// no group has one.
    pub r2_mean: Option<f64>,
    /// Mean over conditions of the correlation between predicted and real change (see [`crate::counterfactual`]); none
    /// where no condition has enough `valid` cells beside `valid` controls.
    pub pearson_delta: Option<f64>,
}

impl Validation {
    /// Empty sums.
    #[must_use]
    pub fn new(
        atlas: &Atlas,
        groups: &Groups,
        vocabulary: &Vocabulary,
        loss: ReconLoss,
        genes: i64,
        device: Device,
    ) -> Self {
        let scorable =
            |at: &usize| 0 < groups.all()[*at].cells_for(Part::Valid) && vocabulary.knows(atlas, &groups.all()[*at]);
        let mut largest: Vec<usize> = (0..groups.all().len()).filter(scorable).collect();
        largest.sort_by_key(|at| std::cmp::Reverse(groups.all()[*at].cells_for(Part::Valid)));
        largest.truncate(MOST_GROUPS);
        let scored = i64::try_from(largest.len()).unwrap_or(0);
        let mut rows = vec![scored; groups.all().len()];
        for (row, at) in (0_i64..).zip(&largest) {
            rows[*at] = row;
        }
        let zeros = || Tensor::zeros([scored + 1, genes], (Kind::Float, device));
        Self {
            rows,
            scored,
            on_log_scale: loss != ReconLoss::Gauss,
            truth: zeros(),
            predicted: zeros(),
            cells: Tensor::zeros([scored + 1], (Kind::Float, device)),
            recon: (0.0, 0.0),
            counterfactual: Counterfactual::new(atlas, groups, vocabulary, genes, device),
        }
    }

    /// Adds a batch.
    pub fn add(&mut self, network: &Network, batch: &Batch, input: &Input) {
        let _no_grad = tch::no_grad_guard();
        let cells = &input.cells;
        let latent = network.latent(input, Mode::Eval);
        let output = network.decode(&latent.after(), &cells.library, Mode::Eval);
        self.counterfactual.add(network, batch, &latent.basal, &cells.library);
        #[expect(clippy::cast_precision_loss, reason = "a batch has fewer than 2^52 cells")]
        let count = cells.shape[0] as f64;
        self.recon.0 += reconstruction(&output, cells).double_value(&[]) * count;
        self.recon.1 += count;
        let row_of = |group: &u32| self.rows.get(*group as usize).copied().unwrap_or(self.scored);
        let rows: Vec<i64> = batch.labels.groups.iter().map(row_of).collect();
        let rows = Tensor::from_slice(&rows).to_device(self.cells.device());
        let x = if self.on_log_scale { cells.log1p() } else { cells.dense() };
        let _ = self.truth.index_add_(0, &rows, &x.to_kind(Kind::Float));
        let _ = self.predicted.index_add_(0, &rows, &on_comparison_scale(&output).to_kind(Kind::Float));
        let _ = self.cells.index_add_(0, &rows, &Tensor::ones_like(&rows).to_kind(Kind::Float));
    }

    /// The scores, after which the sums start anew.
    pub fn take(&mut self) -> Scores {
        let _no_grad = tch::no_grad_guard();
        let cells = self.cells.narrow(0, 0, self.scored).unsqueeze(-1);
        let mean = |sums: &Tensor| (sums.narrow(0, 0, self.scored) / &cells).to_kind(Kind::Double);
        let (truth, predicted) = (mean(&self.truth), mean(&self.predicted));
        let row_of = |group: u32| self.rows.get(group as usize).copied().filter(|row| *row < self.scored);
        let scores = Scores {
            recon: self.recon.0 / self.recon.1.max(1.0),
            r2_mean: r2_mean(&truth, &predicted),
            pearson_delta: self.counterfactual.take(|group| row_of(group).map(|row| truth.get(row))),
        };
        for sums in [&mut self.truth, &mut self.predicted, &mut self.cells] {
            let _ = sums.zero_();
        }
        self.recon = (0.0, 0.0);
        scores
    }
}

/// The mean over rows of the R² over columns; rows that are flat don't count.
fn r2_mean(truth: &Tensor, predicted: &Tensor) -> Option<f64> {
    let over_genes = |x: Tensor| x.square().sum_dim_intlist([1_i64].as_slice(), false, Kind::Double);
    let residual = over_genes(truth - predicted);
    let spread = over_genes(truth - truth.mean_dim([1_i64].as_slice(), true, Kind::Double));
    let counts = spread.gt(SMALLEST_SPREAD);
    let r2: Tensor = 1.0 - residual.masked_select(&counts) / spread.masked_select(&counts);
    (0 < r2.size()[0]).then(|| r2.mean(Kind::Double).double_value(&[]))
}
