//! Offsets of the decoder's output: computed from mean profiles of training cells for a condition in a context.
//!
//! Every offset consists of one control profile and a weighted sum of shifts (`rule`). The profiles are
//! measured in one pass over the training cells, and saved with the model. With a the control profile and Δ
//! the shift, both on log(1 + counts in a library T), the logits of counts start at ln max(exp(a + Δ) − 1,
//! ε), and the mean of continuous values at a + Δ.
//!
//! ```
//! use offset::offset_bytes;
//! use schemas::{config::Settings, vocabulary::Vocabulary};
//!
//! fn cost(settings: &Settings, vocabulary: &Vocabulary) -> usize {
//!     offset_bytes(settings, 5_000, vocabulary)
//! }
//! ```
#![forbid(unsafe_code)]

mod combined;
mod fit;
mod layout;
mod profiles;
mod rule;
#[cfg(test)]
mod tests;

use std::{cell::OnceCell, collections::HashMap};

use schemas::{
    config::{self, ReconLoss, Settings},
    numbers::{bounded, to_i64},
    vocabulary::{CovariateTerm, GroupCodes, Vocabulary},
};
use tch::{Device, Kind, Tensor};
use torch::{memory::on_device, parameters::Parameters};

use self::{
    combined::{GaussianProcess, KernelParameters},
    rule::{OffsetRule, TargetContext, Weights, real},
};
pub use self::{
    layout::{GroupRole, OffsetLayout},
    profiles::OffsetProfiles,
};

const CONTROLS: &str = "offset.controls";
const SHIFTS: &str = "offset.shifts";
const NOISES: &str = "offset.noises";
/// The penalty between contexts, the smallest mean of a gene, and the parameters for combinations (`KernelParameters`);
/// the penalty is 0 if there are too few data.
const CHOSEN: &str = "offset.chosen";
/// The dose with half of the full effect of each perturbation; 0 if unknown.
const HALF_EFFECTS: &str = "offset.half_effects";
/// The smallest mean count of a gene, or a hundredth of its even share of the library.
const SMALLEST_MEAN: f64 = 0.02;
const SMALLEST_SHARE: f64 = 0.01;
/// Number of contexts used to choose the parameters for combinations.
const MOST_CONTEXTS: usize = 3;
/// Number of combinations needed to choose them.
const FEWEST_COMBINATIONS: usize = 3;

/// The offsets of a network.
#[derive(Debug)]
pub struct Offset {
    layout: OffsetLayout,
    additive: bool,
    counts: bool,
    /// The requested penalty; 0: to be chosen from the data.
    requested_penalty: f64,
    /// Control profile of each context, `[contexts, genes]`.
    controls: Tensor,
    /// Shift of each perturbed group, `[groups, genes]`.
    shifts: Tensor,
    /// Noise of each shift, `[groups]`.
    noises: Tensor,
    chosen: Tensor,
    half_effects: Tensor,
    /// Computed on first use, after all fields above are filled in.
    rule: OnceCell<OffsetRule>,
}

impl Offset {
    /// Offsets that are not filled in yet; `None` if the settings don't enable them.
    pub fn new(parameters: &mut Parameters, settings: &Settings, genes: i64, vocabulary: &Vocabulary) -> Option<Self> {
        let model = &settings.model;
        if model.offset == config::OffsetChoice::None {
            return None;
        }
        let layout = OffsetLayout::from_vocabulary(vocabulary);
        let [contexts, groups] = layout.sizes().map(to_i64);
        let names = to_i64(vocabulary.perturbations.len());
        Some(Self {
            additive: model.offset == config::OffsetChoice::Additive,
            counts: model.recon_loss != ReconLoss::Gauss,
            requested_penalty: model.offset_ridge,
            controls: parameters.statistic(CONTROLS, &[contexts, genes], 0.0),
            shifts: parameters.statistic(SHIFTS, &[groups, genes], 0.0),
            noises: parameters.statistic(NOISES, &[groups], 0.0),
            chosen: parameters.statistic(CHOSEN, &[5], 0.0),
            half_effects: parameters.statistic(HALF_EFFECTS, &[names], 0.0),
            layout,
            rule: OnceCell::new(),
        })
    }

    /// Stores the profiles, and chooses the free parameters.
    pub fn fill(&mut self, profiles: &OffsetProfiles) {
        let _no_grad = tch::no_grad_guard();
        let filled =
            |to: &mut Tensor, numbers: &[f32]| to.copy_(&Tensor::from_slice(numbers).view(to.size().as_slice()));
        filled(&mut self.controls, &profiles.controls);
        filled(&mut self.shifts, &profiles.shifts);
        filled(&mut self.noises, &profiles.noises);
        let penalty = match (self.additive, self.requested_penalty) {
            (true, _) => 0.0,
            (false, requested) if requested > 0.0 => requested,
            (false, _) => fit::ridge(&self.layout, profiles),
        };
        let smallest = SMALLEST_MEAN.min(SMALLEST_SHARE * profiles.library / real(profiles.genes.max(1)));
        self.chosen.copy_(&Tensor::from_slice(&[penalty, smallest, 0.0, 0.0, 0.0]));
        let names = bounded(self.half_effects.size()[0]);
        let halves = fit::half_effects(&self.layout, profiles, names);
        let halves: Vec<f64> = halves.into_iter().map(|half| half.unwrap_or(0.0)).collect();
        self.half_effects.copy_(&Tensor::from_slice(&halves));
        let rule = self.basic_rule();
        let combined = self.combined(&rule, KernelParameters::USUAL).map(|combined| {
            let shifts_in = |context| {
                let target = TargetContext { own: Some(context), stand_ins: vec![context] };
                let weights_of_conditions = self
                    .layout
                    .conditions()
                    .iter()
                    .map(|condition| rule.as_seen(condition, &target))
                    .collect::<Vec<_>>();
                let rows: Vec<Tensor> =
                    weights_of_conditions.iter().map(|weights| summed(&self.shifts, weights)).collect();
                Tensor::cat(&rows, 0).to_kind(Kind::Double).to_device(Device::Cpu)
            };
            let shifts: Vec<Tensor> = self.layout.largest_contexts(MOST_CONTEXTS).into_iter().map(shifts_in).collect();
            combined.fitted(&shifts)
        });
        let none = KernelParameters { penalty: 0.0, pairs: 0.0, own: 0.0 };
        let KernelParameters { penalty: of_combinations, pairs, own } =
            combined.map_or(none, |combined| combined.chosen);
        self.chosen.copy_(&Tensor::from_slice(&[penalty, smallest, of_combinations, pairs, own]));
        self.rule = OnceCell::new();
        let [contexts, groups] = self.layout.sizes();
        tracing::info!(penalty, of_combinations, pairs, own, "offsets of {contexts} contexts and {groups} groups");
    }

    fn rule(&self) -> &OffsetRule {
        self.rule.get_or_init(|| {
            let mut rule = self.basic_rule();
            let [penalty, pairs, own] = [2, 3, 4].map(|at| self.chosen.double_value(&[at]));
            let chosen = KernelParameters { penalty, pairs, own };
            rule.combined = (penalty > 0.0).then(|| self.combined(&rule, chosen)).flatten();
            rule
        })
    }

    /// The rule without the prediction of combinations.
    fn basic_rule(&self) -> OffsetRule {
        let _no_grad = tch::no_grad_guard();
        let host = |tensor: &Tensor| tensor.to_kind(Kind::Double).to_device(Device::Cpu).contiguous();
        let numbers = |tensor: &Tensor| Vec::<f64>::try_from(host(tensor).view([-1])).unwrap_or_default();
        let controls = host(&self.controls);
        OffsetRule {
            layout: self.layout.clone(),
            additive: self.additive,
            ridge: self.chosen.double_value(&[0]),
            half_effects: numbers(&self.half_effects).into_iter().map(|half| (half > 0.0).then_some(half)).collect(),
            products: numbers(&controls.matmul(&controls.tr())),
            combined: None,
        }
    }

    /// The prediction of combinations; `None` if too few were trained, or with `additive`.
    fn combined(&self, rule: &OffsetRule, chosen: KernelParameters) -> Option<GaussianProcess> {
        let row = |at: usize| {
            let row = self.shifts.get(to_i64(at)).to_kind(Kind::Float).to_device(Device::Cpu);
            Vec::<f32>::try_from(row).unwrap_or_default()
        };
        let conditions: Vec<_> = self.layout.conditions().iter().map(|condition| rule.as_shares(condition)).collect();
        let combinations = conditions.iter().filter(|parts| parts.len() > 1).count();
        let enough = !self.additive && combinations >= FEWEST_COMBINATIONS;
        enough.then(|| GaussianProcess::new(&self.layout, conditions, chosen, &row)).flatten()
    }

    /// The offset of a condition, codes ascending (control is its own entry), with these covariate terms: `[1, genes]`.
    pub fn of_terms(&self, parts: &[(u32, f64)], terms: &[CovariateTerm]) -> Tensor {
        self.offset_for(parts, &self.target(terms))
    }

    /// The expected error of a prediction, due to its uncertain share and to the noise of the shifts that it is
    /// based on: a root mean square over genes, 0 for trained conditions. A scalar of float64 on the device.
    pub fn uncertainty(&self, parts: &[(u32, f64)], terms: &[CovariateTerm]) -> Tensor {
        let target = self.target(terms);
        let open = self.rule().open(parts, &target);
        if open <= 0.0 {
            return Tensor::zeros([], (Kind::Double, self.shifts.device()));
        }
        let shift = summed(&self.shifts, &self.rule().shift(parts, &target));
        let rests_on = self.rule().uncertain_shifts(parts, &target);
        let squares: Weights = rests_on.into_iter().map(|(row, weight)| (row, weight * weight)).collect();
        let noise = summed(&self.noises.unsqueeze(-1), &squares).to_kind(Kind::Double).view([]);
        (shift.square().mean(Kind::Double) * open + noise).sqrt()
    }

    fn target(&self, terms: &[CovariateTerm]) -> TargetContext {
        let code = |term: &CovariateTerm| match term {
            CovariateTerm::Value(code) => Some(*code),
            CovariateTerm::Mean | CovariateTerm::Nothing => None,
        };
        let open: Vec<Option<u32>> = terms.iter().map(code).collect();
        let codes: Vec<u32> = open.iter().map(|code| code.unwrap_or(u32::MAX)).collect();
        let own = self.layout.context(&codes);
        let stand_ins = own.map_or_else(|| self.layout.stand_ins(&open), |own| self.layout.stand_ins_of(own));
        TargetContext { own, stand_ins }
    }

    fn offset_for(&self, parts: &[(u32, f64)], target: &TargetContext) -> Tensor {
        let _no_grad = tch::no_grad_guard();
        let share = 1.0 / real(target.stand_ins.len().max(1));
        let controls: Weights = target.stand_ins.iter().map(|context| (*context, share)).collect();
        let level = summed(&self.controls, &controls) + summed(&self.shifts, &self.rule().shift(parts, target));
        if self.counts {
            return level.expm1().maximum(&self.chosen.narrow(0, 1, 1)).log();
        }
        level
    }

    /// The offsets of groups, given the codes of each; `None` for groups that are not looked up.
    pub fn of_groups(&self, groups: &[Option<GroupCodes>], batch_at: Option<usize>) -> GroupOffsets {
        let mut known: HashMap<OffsetKey, usize> = HashMap::new();
        let (mut rows, mut row_of) = (Vec::new(), Vec::with_capacity(groups.len()));
        for group in groups {
            let Some(GroupCodes { parts, covariates }) = group else {
                row_of.push(0);
                continue;
            };
            let term = |(at, code): (usize, &u32)| {
                if batch_at == Some(at) { CovariateTerm::Nothing } else { CovariateTerm::Value(*code) }
            };
            let terms: Vec<CovariateTerm> = covariates.iter().enumerate().map(term).collect();
            let key = (parts.iter().map(|(code, dose)| (*code, dose.to_bits())).collect::<Vec<_>>(), terms);
            let row = match known.get(&key) {
                Some(row) => *row,
                None => {
                    rows.push(self.of_terms(parts, &key.1));
                    known.insert(key, rows.len() - 1);
                    rows.len() - 1
                }
            };
            row_of.push(to_i64(row));
        }
        GroupOffsets { table: Tensor::cat(&rows, 0), row_of }
    }
}

/// The key of an offset: codes and bits of the doses, and the covariate terms.
type OffsetKey = (Vec<(u32, u64)>, Vec<CovariateTerm>);

/// A weighted sum of a matrix's rows: `[1, genes]`.
fn summed(rows: &Tensor, weights: &Weights) -> Tensor {
    let places: Vec<i64> = weights.keys().map(|row| to_i64(*row)).collect();
    let weights: Vec<f64> = weights.values().copied().collect();
    let (kind, device) = (rows.kind(), rows.device());
    let weights = on_device(&weights, device).to_kind(kind).unsqueeze(0);
    weights.matmul(&rows.index_select(0, &on_device(&places, device)))
}

/// Offsets of the groups of an atlas, for look-up.
#[derive(Debug)]
pub struct GroupOffsets {
    /// Offsets, `[distinct groups, genes]`.
    table: Tensor,
    /// The row of each group.
    row_of: Vec<i64>,
}

impl GroupOffsets {
    /// The offsets of some groups, `[groups, genes]`.
    pub fn for_groups(&self, groups: &[u32]) -> Tensor {
        self.table.index_select(0, &on_device(&self.rows(groups), self.table.device()))
    }

    /// All offsets, `[distinct groups, genes]`.
    pub fn table(&self) -> &Tensor {
        &self.table
    }

    /// The rows of some groups in the table.
    pub fn rows(&self, groups: &[u32]) -> Vec<i64> {
        groups.iter().map(|group| self.row_of.get(*group as usize).copied().unwrap_or(0)).collect()
    }
}

/// Upper bound of the bytes for a vocabulary's offsets: sums, profiles, saved copies, a table of groups.
#[must_use]
pub fn offset_bytes(settings: &Settings, genes: usize, vocabulary: &Vocabulary) -> usize {
    if settings.model.offset == config::OffsetChoice::None {
        return 0;
    }
    let [contexts, groups] = OffsetLayout::from_vocabulary(vocabulary).sizes();
    // First the sums, in float64 and by batch; then the profiles, the copies kept as the best weights, and the
    // table.
    let batches = vocabulary.batch_at().map_or(1, |at| vocabulary.covariates[at].values.len());
    let summing = 8 * (contexts * batches + groups) + 4 * (contexts + groups);
    let training = 4 * (3 * (contexts + groups) + vocabulary.trained.len());
    genes * summing.max(training)
}
