//! How well a model in training performs its actual task, on `valid` cells.
//!
//! Reconstruction is a poor measure: a basal latent that still contains the perturbation reconstructs well but predicts
//! nothing. So `valid` controls are predicted under trained conditions, and the predicted change is compared
//! with that of the `valid` cells of those conditions.

use std::collections::HashMap;

use model::{input::pad, layers::Mode, network::Network};
use offset::GroupOffsets;
use reader::{atlas::Atlas, groups::Groups, split::SplitPart};
use schemas::{
    conditions::CONTROL,
    numbers::{bounded, to_i64},
    vocabulary::Vocabulary,
};
use stage::batch::Batch;
use tch::{Device, Kind, Tensor};

/// Number of conditions predicted in each covariate combination, those with the most cells first.
const MOST_TARGETS: usize = 32;
/// Number of controls that each covariate combination is predicted from.
const MOST_CONTROLS: i64 = 256;
/// Minimum number of `valid` cells for measuring a change.
const FEWEST_CELLS: u64 = 5;
/// Embeddings are not shrunk below this share, so that they keep their directions.
pub const SMALLEST_SHARE: f64 = 0.01;

/// Predictions from the `valid` controls of every covariate combination.
#[derive(Debug)]
pub struct Counterfactual {
    contexts: Vec<CounterfactualContext>,
    /// The context of each control group of the atlas.
    context_of: HashMap<u32, usize>,
}

/// The quality of the predictions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CounterfactualScore {
    /// The mean over conditions of the Pearson correlation between predicted and real change.
    pub pearson_delta: f64,
    /// The factor of the perturbations' latent terms, if it was searched: between none and all of them,
    /// the changes that are closest to the real ones, by least squares over conditions and genes.
    pub share: Option<f64>,
}

#[derive(Debug)]
struct CounterfactualContext {
    control_group: u32,
    target_groups: Vec<u32>,
    /// Codes and doses of control, then of the targets: `[1 + targets, n]`, padded with 0.
    codes: Tensor,
    doses: Tensor,
    covariates: Vec<Tensor>,
    /// Offsets of control and targets, `[1 + targets, genes]`, for a network with offsets.
    offsets: Option<Tensor>,
    /// Sums of predictions, `[1 + targets, genes]`.
    sums: Tensor,
    /// The same without the perturbations' latent terms, if a factor is to be found.
    silent: Option<Tensor>,
    controls: i64,
}

impl Counterfactual {
    /// Chooses the predictions among groups whose real means will be known.
    #[must_use]
    pub fn new(
        atlas: &Atlas,
        groups: &Groups,
        vocabulary: &Vocabulary,
        genes: i64,
        device: Device,
        offsets: Option<&GroupOffsets>,
        is_known: impl Fn(usize) -> bool,
    ) -> Self {
        let table = &atlas.manifest().conditions;
        let mut contexts = Vec::new();
        let mut context_of = HashMap::new();
        let has_cells = |at: &usize| is_known(*at) && groups.all()[*at].cells_for(SplitPart::Valid) >= FEWEST_CELLS;
        let indices = || (0..groups.all().len()).filter(has_cells);
        for control in indices().filter(|at| groups.all()[*at].condition == CONTROL) {
            let covariates = &groups.all()[control].covariates;
            let mut targets: Vec<usize> = indices()
                .filter(|at| groups.all()[*at].condition != CONTROL && groups.all()[*at].covariates == *covariates)
                .filter(|at| vocabulary.parts(table, groups.all()[*at].condition).is_some())
                .collect();
            targets.sort_by_key(|at| std::cmp::Reverse(groups.all()[*at].cells_for(SplitPart::Valid)));
            targets.truncate(MOST_TARGETS);
            let Some(covariates) = covariate_codes(atlas, vocabulary, covariates, device) else { continue };
            if targets.is_empty() {
                continue;
            }
            let conditions = std::iter::once(CONTROL).chain(targets.iter().map(|at| groups.all()[*at].condition));
            let parts: Vec<_> = conditions.filter_map(|condition| vocabulary.parts(table, condition)).collect();
            let (codes, doses) = pad(&parts, Kind::Float, device);
            let rows = codes.size()[0];
            let id = |at: usize| -> u32 { bounded(at) };
            context_of.insert(id(control), contexts.len());
            let target_groups: Vec<u32> = targets.into_iter().map(id).collect();
            let of_all = [&[id(control)], &*target_groups].concat();
            contexts.push(CounterfactualContext {
                control_group: id(control),
                offsets: offsets.map(|offsets| offsets.for_groups(&of_all).gathered()),
                target_groups,
                codes,
                doses,
                covariates,
                sums: Tensor::zeros([rows, genes], (Kind::Double, device)),
                silent: None,
                controls: 0,
            });
        }
        Self { contexts, context_of }
    }

    /// The same, also finding the factor of the perturbations' latent terms that predicts best.
    #[must_use]
    pub fn looking_for_a_share(mut self) -> Self {
        for context in &mut self.contexts {
            context.silent = Some(context.sums.zeros_like());
        }
        self
    }

    /// Predicts from the controls of a batch, given its basal latents and library sizes.
    pub fn add(&mut self, network: &Network, batch: &Batch, basal: &Tensor, library: &Tensor) {
        let mut rows_of: HashMap<usize, Vec<i64>> = HashMap::new();
        for (row, group) in (0_i64..).zip(&batch.labels.groups) {
            if let Some(context) = self.context_of.get(group) {
                rows_of.entry(*context).or_default().push(row);
            }
        }
        for (context, mut rows) in rows_of {
            let context = &mut self.contexts[context];
            rows.truncate(bounded((MOST_CONTROLS - context.controls).max(0)));
            if !rows.is_empty() {
                context.add(network, basal, library, &rows);
            }
        }
    }

    /// The quality of the predictions; `truth_row` returns a group's real mean profile. `None` if nothing could
    /// be predicted. The sums are reset.
    pub fn take(&mut self, truth_row: impl Fn(u32) -> Option<Tensor>) -> Option<CounterfactualScore> {
        let changes: Vec<Change> = self.contexts.iter_mut().flat_map(|context| context.take(&truth_row)).collect();
        let share = best_share(&changes);
        let correlations = changes.iter().map(|change| pearson(&change.predicted(share), &change.real));
        let correlations: Vec<f64> = correlations.filter(|correlation| correlation.is_finite()).collect();
        #[expect(clippy::cast_precision_loss, reason = "few conditions")]
        let count = correlations.len() as f64;
        let mean = || correlations.iter().sum::<f64>() / count;
        (!correlations.is_empty()).then(|| CounterfactualScore { pearson_delta: mean(), share })
    }
}

/// The change of a condition in the mean profile, `[genes]` each.
#[derive(Debug)]
struct Change {
    real: Tensor,
    /// Predicted with the full latent terms of the perturbations.
    whole: Tensor,
    /// Predicted without them.
    silent: Option<Tensor>,
}

impl Change {
    /// The prediction with a share of the latent terms, assuming a linear output.
    fn predicted(&self, share: Option<f64>) -> Tensor {
        match (&self.silent, share) {
            (Some(silent), Some(share)) => silent + (&self.whole - silent) * share,
            _ => self.whole.shallow_clone(),
        }
    }
}

impl CounterfactualContext {
    /// One decoder pass per target: all at once would multiply the number of cells.
    fn add(&mut self, network: &Network, basal: &Tensor, library: &Tensor, rows: &[i64]) {
        let cells = to_i64(rows.len());
        let rows = Tensor::from_slice(rows).to_device(basal.device());
        let (basal, library) = (basal.index_select(0, &rows), library.index_select(0, &rows));
        let covariates = network.covariate_latent(&self.covariates, 1);
        let added = network.perturbation_latent(&self.codes, &self.doses) + &covariates;
        for target in 0..self.codes.size()[0] {
            let offset = self.offsets.as_ref().map(|offsets| offsets.get(target));
            let predict = |latent: &Tensor, sums: &Tensor| {
                let output = network.decode(&(&basal + latent), offset.as_ref(), &library, Mode::Eval);
                let mut sum = sums.get(target);
                sum += output.on_comparison_scale().sum_dim_intlist([0_i64].as_slice(), false, Kind::Double);
            };
            predict(&added.get(target), &self.sums);
            if let Some(silent) = &self.silent {
                predict(&covariates, silent);
            }
        }
        self.controls += cells;
    }

    /// The predicted changes, each with the real one.
    fn take(&mut self, truth_row: impl Fn(u32) -> Option<Tensor>) -> Vec<Change> {
        let Some(control) = truth_row(self.control_group).filter(|_| self.controls > 0) else { return Vec::new() };
        #[expect(clippy::cast_precision_loss, reason = "few controls")]
        let controls = self.controls as f64;
        let changes_of = |sums: &Tensor| (sums - sums.get(0)) / controls;
        let (whole, silent) = (changes_of(&self.sums), self.silent.as_ref().map(changes_of));
        let change = |(row, group): (i64, &u32)| {
            let silent = silent.as_ref().map(|silent| silent.get(row));
            Some(Change { real: truth_row(*group)? - &control, whole: whole.get(row), silent })
        };
        let changes = (1_i64..).zip(&self.target_groups).filter_map(change).collect();
        for sums in std::iter::once(&mut self.sums).chain(&mut self.silent) {
            let _ = sums.zero_();
        }
        self.controls = 0;
        changes
    }
}

/// The factor that brings the predicted changes closest to the real ones; the smallest if it brings them no closer than chance would.
fn best_share(changes: &[Change]) -> Option<f64> {
    let mut products = Vec::with_capacity(changes.len());
    for change in changes {
        let silent = change.silent.as_ref()?;
        let part = &change.whole - silent;
        let along = (&part * (&change.real - silent)).sum(Kind::Double).double_value(&[]);
        products.push((along, part.square().sum(Kind::Double).double_value(&[])));
    }
    let along: f64 = products.iter().map(|(along, _)| along).sum();
    let square: f64 = products.iter().map(|(_, square)| square).sum();
    let share = (square > 0.0).then(|| (along / square).min(1.0))?;
    let gains: Vec<f64> = products.iter().map(|(along, square)| share * (2.0 * along - share * square)).collect();
    Some(if is_measurable(&gains) { share.max(SMALLEST_SHARE) } else { SMALLEST_SHARE })
}

/// Whether gains are above 0 on average, by twice their standard error.
fn is_measurable(gains: &[f64]) -> bool {
    #[expect(clippy::cast_precision_loss, reason = "few conditions")]
    let count = gains.len() as f64;
    let mean = gains.iter().sum::<f64>() / count;
    let squares: f64 = gains.iter().map(|gain| (gain - mean).powi(2)).sum();
    gains.len() > 1 && mean > 2.0 * (squares / (count - 1.0) / count).sqrt()
}

fn covariate_codes(atlas: &Atlas, vocabulary: &Vocabulary, codes: &[u32], device: Device) -> Option<Vec<Tensor>> {
    let values =
        codes.iter().zip(&atlas.manifest().covariates).map(|(code, covariate)| &covariate.values[*code as usize]);
    let codes = values.zip(&vocabulary.covariates).map(|(value, covariate)| covariate.code(value));
    codes.map(|code| Some(Tensor::from_slice(&[i64::from(code?)]).to_device(device))).collect()
}

fn pearson(a: &Tensor, b: &Tensor) -> f64 {
    let centre = |x: &Tensor| x - x.mean(Kind::Double);
    let (a, b) = (centre(a), centre(b));
    let norms = (a.square().sum(Kind::Double) * b.square().sum(Kind::Double)).sqrt();
    ((a * b).sum(Kind::Double) / norms).double_value(&[])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(real: [f64; 3], whole: [f64; 3], silent: Option<[f64; 3]>) -> Change {
        let tensor = |numbers: [f64; 3]| Tensor::from_slice(&numbers);
        Change { real: tensor(real), whole: tensor(whole), silent: silent.map(tensor) }
    }

    #[test]
    fn the_share_is_the_one_that_brings_predictions_closest_to_what_is_real() {
        // In addition to 0.4 of the predicted change, the real change has an orthogonal part.
        let far = change([0.4, 1.0, 7.0], [1.0, 1.0, 0.0], Some([0.0, 1.0, 0.0]));
        let near = change([1.0, 0.2, -3.0], [1.0, 0.5, 2.0], Some([1.0, 0.0, 2.0]));
        let again = change([0.4, 1.0, 7.0], [1.0, 1.0, 0.0], Some([0.0, 1.0, 0.0]));
        let changes = [far, near, again];
        let share = best_share(&changes).expect("there is a way to go");
        assert!((share - 0.4).abs() < 1e-12, "{share}");
        let error = |share: f64| -> f64 {
            let squared_error =
                |change: &Change| (change.predicted(Some(share)) - &change.real).square().sum(Kind::Double);
            changes.iter().map(|change| squared_error(change).double_value(&[])).sum()
        };
        assert!(error(share) < error(share - 0.01) && error(share) < error(share + 0.01));
    }

    #[test]
    fn nothing_is_blown_up_turned_round_or_lost() {
        let share = |real: [[f64; 3]; 3]| best_share(&real.map(|real| change(real, [1.0, 0.0, 0.0], Some([0.0; 3]))));
        assert_eq!(share([3.0, 2.5, 3.5].map(|real| [real, 0.0, 0.0])), Some(1.0));
        assert_eq!(share([-3.0, -2.5, -3.5].map(|real| [real, 0.0, 0.0])), Some(SMALLEST_SHARE));
        assert_eq!(share([3.0, -1.0, -0.5].map(|real| [real, 0.0, 0.0])), Some(SMALLEST_SHARE), "it may be chance");
        let one = change([3.0, 0.0, 0.0], [1.0, 0.0, 0.0], Some([0.0; 3]));
        assert_eq!(best_share(&[one]), Some(SMALLEST_SHARE), "one condition shows nothing");
        assert_eq!(best_share(&[change([1.0; 3], [2.0; 3], None)]), None, "it was not looked for");
        assert_eq!(best_share(&[change([1.0; 3], [2.0; 3], Some([2.0; 3]))]), None, "perturbations add nothing");
        assert_eq!(best_share(&[]), None);
    }
}
