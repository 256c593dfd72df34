//! Shifts as weighted sums of the measured ones (`rule`).

use std::cell::OnceCell;

use schemas::{
    config::{self, Settings},
    numbers::{bounded, to_i64},
};
use tch::{Device, Kind, Tensor};
use torch::parameters::Parameters;

use super::{
    combined::{GaussianProcess, KernelParameters},
    fit,
    layout::OffsetLayout,
    profiles::OffsetProfiles,
    rule::{OffsetRule, TargetContext, Weights},
    smallest_mean, summed,
};

const NOISES: &str = "offset.noises";
/// The penalty between contexts, the smallest mean of a gene, and the parameters for combinations (`KernelParameters`);
/// the penalty is 0 if there are too few data.
const CHOSEN: &str = "offset.chosen";
/// The dose with half of the full effect of each perturbation; 0 if unknown.
const HALF_EFFECTS: &str = "offset.half_effects";
/// Number of contexts used to choose the parameters for combinations.
const MOST_CONTEXTS: usize = 3;
/// Number of combinations needed to choose them.
const FEWEST_COMBINATIONS: usize = 3;

/// The measured shifts of log(1 + mean counts in a library), or of continuous values, and the rule that weighs them.
#[derive(Debug)]
pub(super) struct WeightedShifts {
    layout: OffsetLayout,
    additive: bool,
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

impl WeightedShifts {
    /// Shifts that are not filled in yet.
    pub(super) fn new(
        parameters: &mut Parameters,
        settings: &Settings,
        layout: &OffsetLayout,
        names: i64,
        [controls, shifts]: [&Tensor; 2],
    ) -> Self {
        let groups = shifts.size()[0];
        Self {
            layout: layout.clone(),
            additive: settings.model.offset == config::OffsetChoice::Additive,
            requested_penalty: settings.model.offset_ridge,
            controls: controls.shallow_clone(),
            shifts: shifts.shallow_clone(),
            noises: parameters.statistic(NOISES, &[groups], 0.0),
            chosen: parameters.statistic(CHOSEN, &[5], 0.0),
            half_effects: parameters.statistic(HALF_EFFECTS, &[names], 0.0),
            rule: OnceCell::new(),
        }
    }

    /// Stores noises, and chooses the free parameters; controls and shifts are filled in.
    pub(super) fn fill(&mut self, profiles: &OffsetProfiles) {
        self.noises.copy_(&Tensor::from_slice(&profiles.noises));
        let penalty = match (self.additive, self.requested_penalty) {
            (true, _) => 0.0,
            (false, requested) if requested > 0.0 => requested,
            (false, _) => fit::ridge(&self.layout, profiles),
        };
        let smallest = smallest_mean(profiles);
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

    /// The smallest mean count of a gene, one number on the device.
    pub(super) fn smallest(&self) -> Tensor {
        self.chosen.narrow(0, 1, 1)
    }

    /// The shift of parts at doses, codes ascending: `[1, genes]`.
    pub(super) fn shift(&self, parts: &[(u32, f64)], target: &TargetContext) -> Tensor {
        summed(&self.shifts, &self.rule().shift(parts, target))
    }

    /// The expected error, due to the uncertain share of the shift and to the noise of the shifts that it is based on: a root mean
    /// square over genes, 0 for trained conditions. A scalar of float64 on the device.
    pub(super) fn uncertainty(&self, parts: &[(u32, f64)], target: &TargetContext) -> Tensor {
        let open = self.rule().open(parts, target);
        if open <= 0.0 {
            return Tensor::zeros([], (Kind::Double, self.shifts.device()));
        }
        let shift = self.shift(parts, target);
        let rests_on = self.rule().uncertain_shifts(parts, target);
        let squares: Weights = rests_on.into_iter().map(|(row, weight)| (row, weight * weight)).collect();
        let noise = summed(&self.noises.unsqueeze(-1), &squares).to_kind(Kind::Double).view([]);
        (shift.square().mean(Kind::Double) * open + noise).sqrt()
    }
}
