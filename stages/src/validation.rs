//! How good a model is on `valid` rows, scored over whole groups of cells rather than batch by batch.

use schemas::config::ReconLoss;
use tch::{Device, Kind, Tensor};

use crate::{
    batch::Batch,
    groups::Groups,
    model::{
        input::Input,
        layers::Mode,
        losses::reconstruction,
        network::{Network, library},
    },
    split::Part,
};

/// Groups that are scored: the largest ones, so that memory stays bounded however many there are.
const MOST_GROUPS: usize = 1024;

/// Sums over the `valid` rows of one epoch.
#[derive(Debug)]
pub struct Validation {
    /// Per group of the atlas, its row in the sums, or the number of rows: a row that is not looked at.
    rows: Vec<i64>,
    scored: i64,
    genes: i64,
    on_log_scale: bool,
    truth: Tensor,
    predicted: Tensor,
    cells: Tensor,
    recon: (f64, f64),
}

/// What was measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scores {
    /// Reconstruction loss.
    pub recon: f64,
    /// Mean over groups of the R² between true and predicted mean profiles, on log(1 + counts) or on the values.
    pub r2_mean: f64,
}

impl Validation {
    /// Empty sums.
    #[must_use]
    pub fn new(groups: &Groups, recon_loss: ReconLoss, genes: i64, device: Device) -> Self {
        let mut largest: Vec<usize> =
            (0..groups.all().len()).filter(|at| 0 < groups.all()[*at].cells_for(Part::Valid)).collect();
        largest.sort_by_key(|at| std::cmp::Reverse(groups.all()[*at].cells_for(Part::Valid)));
        largest.truncate(MOST_GROUPS);
        let scored = i64::try_from(largest.len()).unwrap_or(0);
        let mut rows = vec![scored; groups.all().len()];
        for (row, at) in largest.iter().enumerate() {
            rows[*at] = i64::try_from(row).unwrap_or(scored);
        }
        let zeros = || Tensor::zeros([scored + 1, genes], (Kind::Float, device));
        Self {
            rows,
            scored,
            genes,
            on_log_scale: recon_loss != ReconLoss::Gauss,
            truth: zeros(),
            predicted: zeros(),
            cells: Tensor::zeros([scored + 1], (Kind::Float, device)),
            recon: (0.0, 0.0),
        }
    }

    /// Adds a batch.
    pub fn add(&mut self, network: &Network, batch: &Batch, input: &Input) {
        let _no_grad = tch::no_grad_guard();
        let latent = network.latent(input, Mode::Eval);
        let output = network.decode(&latent.after(), &library(&input.cells), Mode::Eval);
        let count = input.cells.dense.size()[0];
        #[expect(clippy::cast_precision_loss, reason = "a batch has fewer than 2^52 cells")]
        let count = count as f64;
        self.recon.0 += reconstruction(&output, &input.cells).double_value(&[]) * count;
        self.recon.1 += count;
        let rows: Vec<i64> = batch
            .labels
            .groups
            .iter()
            .map(|group| self.rows.get(*group as usize).copied().unwrap_or(self.scored))
            .collect();
        let rows = Tensor::from_slice(&rows).to_device(self.cells.device());
        let on_scale = |x: &Tensor| if self.on_log_scale { x.log1p() } else { x.shallow_clone() }.to_kind(Kind::Float);
        let _ = self.truth.index_add_(0, &rows, &on_scale(&input.cells.dense));
        let _ = self.predicted.index_add_(0, &rows, &on_scale(output.mean()));
        let _ = self.cells.index_add_(0, &rows, &Tensor::ones_like(&rows).to_kind(Kind::Float));
    }

    /// The scores, after which the sums start anew.
    pub fn take(&mut self) -> Scores {
        let _no_grad = tch::no_grad_guard();
        let cells = self.cells.narrow(0, 0, self.scored).unsqueeze(-1);
        let mean = |sums: &Tensor| (sums.narrow(0, 0, self.scored) / &cells).to_kind(Kind::Double);
        let (truth, predicted) = (mean(&self.truth), mean(&self.predicted));
        let over_genes = |x: Tensor| x.square().sum_dim_intlist([1_i64].as_slice(), false, Kind::Double);
        let residual = over_genes(&truth - predicted);
        let total = over_genes(&truth - truth.mean_dim([1_i64].as_slice(), true, Kind::Double));
        let r2: Tensor = 1.0 - residual / total.clamp_min(1e-12);
        let scores =
            Scores { recon: self.recon.0 / self.recon.1.max(1.0), r2_mean: r2.mean(Kind::Double).double_value(&[]) };
        debug_assert_eq!(truth.size(), [self.scored, self.genes]);
        for sums in [&mut self.truth, &mut self.predicted, &mut self.cells] {
            let _ = sums.zero_();
        }
        self.recon = (0.0, 0.0);
        scores
    }
}
