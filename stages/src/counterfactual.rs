//! How well a model in training answers the question it is made for, on `valid` rows.
//!
//! Reconstruction says little about that: a basal latent that still knows the perturbation reconstructs well and predicts
//! nothing. So `valid` controls are predicted under conditions that were trained on, and the predicted change is compared
//! with that of the `valid` cells of those conditions.

use std::collections::HashMap;

use schemas::conditions::CONTROL;
use tch::{Device, Kind, Tensor};

use crate::{
    atlas::Atlas,
    batch::Batch,
    groups::Groups,
    model::{input::pad, layers::Mode, network::Network, offset::GroupOffsets},
    split::Part,
    vocabulary::Vocabulary,
};

/// Conditions that are predicted in each covariate combination, those with most cells first.
const MOST_TARGETS: usize = 32;
/// Controls that each covariate combination is predicted from.
const MOST_CONTROLS: i64 = 256;
/// Fewer `valid` cells say too little about a change.
const FEWEST_CELLS: u64 = 5;

/// Predictions from the `valid` controls of every covariate combination.
#[derive(Debug)]
pub struct Counterfactual {
    contexts: Vec<Context>,
    /// The context of each control group of the atlas.
    context_of: HashMap<u32, usize>,
}

#[derive(Debug)]
struct Context {
    control_group: u32,
    target_groups: Vec<u32>,
    /// Codes and doses of control, then of the targets: `[1 + targets, n]`, padded with 0.
    codes: Tensor,
    doses: Tensor,
    covariates: Vec<Tensor>,
    /// Offsets of control and targets, `[1 + targets, genes]`, of a network that has them.
    offsets: Option<Tensor>,
    /// Sums of predictions, `[1 + targets, genes]`.
    sums: Tensor,
    controls: i64,
}

impl Counterfactual {
    /// Chooses what to predict.
    #[must_use]
    pub fn new(
        atlas: &Atlas,
        groups: &Groups,
        vocabulary: &Vocabulary,
        genes: i64,
        device: Device,
        offsets: Option<&GroupOffsets>,
    ) -> Self {
        let mut contexts = Vec::new();
        let mut context_of = HashMap::new();
        let has_cells = |at: &usize| FEWEST_CELLS <= groups.all()[*at].cells_for(Part::Valid);
        let indices = || (0..groups.all().len()).filter(has_cells);
        for control in indices().filter(|at| groups.all()[*at].condition == CONTROL) {
            let covariates = &groups.all()[control].covariates;
            let mut targets: Vec<usize> = indices()
                .filter(|at| groups.all()[*at].condition != CONTROL && groups.all()[*at].covariates == *covariates)
                .filter(|at| vocabulary.parts(atlas, groups.all()[*at].condition).is_some())
                .collect();
            targets.sort_by_key(|at| std::cmp::Reverse(groups.all()[*at].cells_for(Part::Valid)));
            targets.truncate(MOST_TARGETS);
            let Some(covariates) = covariate_codes(atlas, vocabulary, covariates, device) else { continue };
            if targets.is_empty() {
                continue;
            }
            let conditions = std::iter::once(CONTROL).chain(targets.iter().map(|at| groups.all()[*at].condition));
            let parts: Vec<_> = conditions.filter_map(|condition| vocabulary.parts(atlas, condition)).collect();
            let (codes, doses) = pad(&parts, Kind::Float, device);
            let rows = codes.size()[0];
            let id = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
            context_of.insert(id(control), contexts.len());
            let target_groups: Vec<u32> = targets.into_iter().map(id).collect();
            let of_all = [&[id(control)], &*target_groups].concat();
            contexts.push(Context {
                control_group: id(control),
                offsets: offsets.map(|offsets| offsets.of(&of_all)),
                target_groups,
                codes,
                doses,
                covariates,
                sums: Tensor::zeros([rows, genes], (Kind::Double, device)),
                controls: 0,
            });
        }
        Self { contexts, context_of }
    }

    /// Predicts from the controls of a batch, given its basal latents and libraries.
    pub fn add(&mut self, network: &Network, batch: &Batch, basal: &Tensor, library: &Tensor) {
        let mut rows_of: HashMap<usize, Vec<i64>> = HashMap::new();
        for (row, group) in (0_i64..).zip(&batch.labels.groups) {
            if let Some(context) = self.context_of.get(group) {
                rows_of.entry(*context).or_default().push(row);
            }
        }
        for (context, mut rows) in rows_of {
            let context = &mut self.contexts[context];
            rows.truncate(usize::try_from(MOST_CONTROLS - context.controls).unwrap_or(0));
            if !rows.is_empty() {
                context.add(network, basal, library, &rows);
            }
        }
    }

    /// The mean over conditions of the Pearson correlation between predicted and real change; `truth_row` gives a group's
    /// real mean profile. None where nothing could be predicted. The sums start anew.
    pub fn take(&mut self, truth_row: impl Fn(u32) -> Option<Tensor>) -> Option<f64> {
        let mut correlations = Vec::new();
        for context in &mut self.contexts {
            let Some(control) = truth_row(context.control_group).filter(|_| 0 < context.controls) else { continue };
            #[expect(clippy::cast_precision_loss, reason = "few controls")]
            let predicted = &context.sums / context.controls as f64;
            for (row, group) in (1_i64..).zip(&context.target_groups) {
                let Some(truth) = truth_row(*group) else { continue };
                let correlation = pearson(&(predicted.get(row) - predicted.get(0)), &(truth - &control));
                correlations.extend(correlation.is_finite().then_some(correlation));
            }
            let _ = context.sums.zero_();
            context.controls = 0;
        }
        #[expect(clippy::cast_precision_loss, reason = "few conditions")]
        let count = correlations.len() as f64;
        (!correlations.is_empty()).then(|| correlations.iter().sum::<f64>() / count)
    }
}

impl Context {
    /// One decoder pass a target: all at once would be as many times the cells.
    fn add(&mut self, network: &Network, basal: &Tensor, library: &Tensor, rows: &[i64]) {
        let cells = i64::try_from(rows.len()).unwrap_or(i64::MAX);
        let rows = Tensor::from_slice(rows).to_device(basal.device());
        let (basal, library) = (basal.index_select(0, &rows), library.index_select(0, &rows));
        let added =
            network.perturbation_latent(&self.codes, &self.doses) + network.covariate_latent(&self.covariates, 1);
        for target in 0..self.codes.size()[0] {
            let offset = self.offsets.as_ref().map(|offsets| offsets.get(target));
            let output = network.decode(&(&basal + added.get(target)), offset.as_ref(), &library, Mode::Eval);
            let mean = output.on_comparison_scale();
            let mut sum = self.sums.get(target);
            sum += mean.sum_dim_intlist([0_i64].as_slice(), false, Kind::Double);
        }
        self.controls += cells;
    }
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
