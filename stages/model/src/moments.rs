//! Sums over the cells of each group, and the R² between predicted and true profiles.

use tch::{Device, Kind, Tensor};

use super::{decoder::DecoderOutput, input::Cells};

/// Number of rows that are widened to float64 at once.
const ROWS_AT_ONCE: i64 = 256;
/// A profile with a smaller spread over genes has no R².
const SMALLEST_SPREAD: f64 = 1e-4;
/// The original counts a residual up to this size as perfect.
const PERFECT_RESIDUAL: f64 = 1e-4;

/// True and predicted values of each group: sums, and sums of squares.
///
/// Values are compared on the scale of [`DecoderOutput::on_comparison_scale`].
#[derive(Debug)]
pub struct GroupMoments {
    groups: i64,
    /// Number of cells of each group, `[groups + 1]`; the last row is for ignored cells. The other sums are
    /// `[groups + 1, genes]`.
    cells: Tensor,
    truth: [Tensor; 2],
    predicted: [Tensor; 2],
    /// Sums of the variances from a normal decoder.
    variances: Option<Tensor>,
}

/// Adds rows of values, transformed by `of`, to the sums of their groups. Rows are widened to float64 block
/// by block, so that there is never a wide copy of all of them.
fn add(sums: &mut Tensor, rows: &Tensor, values: &Tensor, of: impl Fn(&Tensor) -> Tensor) {
    for (rows, values) in rows.split(ROWS_AT_ONCE, 0).iter().zip(values.split(ROWS_AT_ONCE, 0)) {
        let _ = sums.index_add_(0, rows, &of(&values.to_kind(Kind::Double)));
    }
}

/// Two R² over genes, averaged over groups.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct R2 {
    /// Between predicted and true means; `None` if no group has one.
    pub mean: Option<f64>,
    /// Between predicted and true variances between cells; `None` if no group has one.
    pub variance: Option<f64>,
}

impl GroupMoments {
    /// Empty sums for this many groups; also sums of variances for a normal decoder.
    #[must_use]
    pub fn new(groups: i64, genes: i64, normal: bool, device: Device) -> Self {
        let zeros = || Tensor::zeros([groups + 1, genes], (Kind::Double, device));
        Self {
            groups,
            cells: Tensor::zeros([groups + 1], (Kind::Double, device)),
            truth: [zeros(), zeros()],
            predicted: [zeros(), zeros()],
            variances: normal.then(zeros),
        }
    }

    /// Adds cells, each to its group in `rows` (`[cells]`, int64); a cell is ignored if its row is the number of groups.
    pub fn add(&mut self, rows: &Tensor, cells: &Cells, output: &DecoderOutput) {
        let _no_grad = tch::no_grad_guard();
        let truth = match output {
            DecoderOutput::Normal { .. } => cells.dense(),
            DecoderOutput::NegativeBinomial { .. } | DecoderOutput::ZeroInflated { .. } => cells.log1p(),
        };
        for ([first, second], values) in [(&mut self.truth, truth), (&mut self.predicted, output.on_comparison_scale())]
        {
            add(first, rows, &values, Tensor::shallow_clone);
            add(second, rows, &values, Tensor::square);
        }
        if let (Some(sums), DecoderOutput::Normal { variance, .. }) = (&mut self.variances, output) {
            add(sums, rows, variance, Tensor::shallow_clone);
        }
        add(&mut self.cells, rows, &rows.ones_like(), Tensor::shallow_clone);
    }

    /// The true mean profile of each group, `[groups, genes]`; NaN for groups without cells.
    pub fn true_means(&self) -> Tensor {
        self.of_groups(&self.truth[0]) / self.counts()
    }

    /// The R² over genes, averaged over groups. Groups without cells are not counted, nor are flat profiles or the
    /// variances of a single cell.
    #[must_use]
    pub fn r2(&self) -> R2 {
        self.average(|truth, predicted| {
            let (residual, spread) = residual_and_spread(truth, predicted);
            (spread > SMALLEST_SPREAD).then_some(1.0 - residual / spread)
        })
    }

    /// The same as in the original: a small residual is perfect, any other flat profile scores 0, as do the
    /// variances of a single cell.
    #[must_use]
    pub fn r2_of_the_original(&self) -> R2 {
        self.average(|truth, predicted| {
            let (residual, spread) = residual_and_spread(truth, predicted);
            Some(match () {
                () if residual.is_nan() || spread.is_nan() => 0.0,
                () if residual <= PERFECT_RESIDUAL => 1.0,
                () if spread <= SMALLEST_SPREAD => 0.0,
                () => 1.0 - residual / spread,
            })
        })
    }

    fn average(&self, r2: impl Fn(&Tensor, &Tensor) -> Option<f64>) -> R2 {
        let counts = self.counts();
        let variance = |[first, second]: &[Tensor; 2]| {
            let mean = self.of_groups(first) / &counts;
            (self.of_groups(second) - mean.square() * &counts).clamp_min(0.0) / (&counts - 1.0)
        };
        let predicted_variance = match &self.variances {
            Some(sums) => self.of_groups(sums) / &counts,
            None => variance(&self.predicted),
        };
        let predicted_mean = self.of_groups(&self.predicted[0]) / &counts;
        let over_groups = |truth: &Tensor, predicted: &Tensor| {
            let filled = (0..self.groups).filter(|group| self.cells.double_value(&[*group]) > 0.0);
            let scores: Vec<f64> = filled.filter_map(|group| r2(&truth.get(group), &predicted.get(group))).collect();
            #[expect(clippy::cast_precision_loss, reason = "few groups")]
            let count = scores.len() as f64;
            (!scores.is_empty()).then(|| scores.iter().sum::<f64>() / count)
        };
        R2 {
            mean: over_groups(&self.true_means(), &predicted_mean),
            variance: over_groups(&variance(&self.truth), &predicted_variance),
        }
    }

    fn counts(&self) -> Tensor {
        self.of_groups(&self.cells).unsqueeze(-1)
    }

    fn of_groups(&self, sums: &Tensor) -> Tensor {
        sums.narrow(0, 0, self.groups)
    }

    /// Resets the sums.
    pub fn clear(&mut self) {
        for sums in self.truth.iter_mut().chain(&mut self.predicted).chain(&mut self.variances).chain([&mut self.cells])
        {
            let _ = sums.zero_();
        }
    }
}

fn residual_and_spread(truth: &Tensor, predicted: &Tensor) -> (f64, f64) {
    let squares = |x: Tensor| x.square().sum(Kind::Double).double_value(&[]);
    (squares(truth - predicted), squares(truth - truth.mean(Kind::Double)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(values: &Tensor) -> DecoderOutput {
        DecoderOutput::Normal { mean: values.shallow_clone(), variance: values.ones_like() * 0.5 }
    }

    #[test]
    fn batches_may_be_cut_anywhere() {
        tch::manual_seed(1);
        let (truth, predicted) =
            (Tensor::randn([9, 5], (Kind::Double, Device::Cpu)), Tensor::randn([9, 5], (Kind::Double, Device::Cpu)));
        let rows = Tensor::from_slice(&[0_i64, 1, 1, 0, 2, 1, 0, 3, 0]);
        let score = |cuts: &[i64]| {
            let mut moments = GroupMoments::new(3, 5, true, Device::Cpu);
            let mut from = 0;
            for to in cuts.iter().copied().chain([9]) {
                let part = |x: &Tensor| x.narrow(0, from, to - from);
                moments.add(&part(&rows), &Cells::from_dense(&part(&truth)), &output(&part(&predicted)));
                from = to;
            }
            (moments.r2(), moments.r2_of_the_original())
        };
        let (whole, parts) = (score(&[]), score(&[2, 5, 6]));
        let close = |a: Option<f64>, b: Option<f64>| (a.expect("a score") - b.expect("a score")).abs() < 1e-12;
        assert!(close(whole.0.mean, parts.0.mean) && close(whole.0.variance, parts.0.variance));
        assert!(close(whole.1.mean, parts.1.mean) && close(whole.1.variance, parts.1.variance));
        // The single cell of group 2 has no variance: it scores 0 in the original, and is not counted here.
        let (ours, theirs) = (whole.0.variance.expect("a score"), whole.1.variance.expect("a score"));
        assert!((theirs - ours * 2.0 / 3.0).abs() < 1e-12, "{theirs} {ours}");
    }

    #[test]
    fn a_perfect_prediction_scores_one() {
        let truth = Tensor::from_slice(&[1.0, 2.0, 4.0, 1.0, 3.0, 5.0]).view([2, 3]);
        let mut moments = GroupMoments::new(1, 3, true, Device::Cpu);
        moments.add(&Tensor::from_slice(&[0_i64, 0]), &Cells::from_dense(&truth), &output(&truth));
        assert_eq!(moments.r2().mean, Some(1.0));
        moments.clear();
        assert_eq!(moments.r2(), R2 { mean: None, variance: None });
    }
}
