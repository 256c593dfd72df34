//! Shifts as sums of the parts' measured ones (`rule`).

use std::cell::OnceCell;

use schemas::numbers::{bounded, to_i64};
use tch::{Kind, Tensor};
use torch::{memory::on_device, parameters::Parameters};

use super::{
    TargetOffset, copy_into,
    half_effects::half_effects,
    layout::{OffsetLayout, TargetContext},
    profiles::OffsetProfiles,
    rule::{AdditiveRule, Weights},
    smallest_mean,
};

const NOISES: &str = "offset.noises";
/// Five numbers: the second is the smallest mean count of a gene, the others are 0. Models of earlier versions have as many: the
/// others were parameters of an offset that was removed.
const LEVELS: &str = "offset.chosen";
/// The dose with half of the full effect of each perturbation; 0 if unknown.
const HALF_EFFECTS: &str = "offset.half_effects";

/// The measured shifts of log(1 + mean counts in a library), or of continuous values, and the rule that adds them.
#[derive(Debug)]
pub(super) struct AdditiveShifts {
    layout: OffsetLayout,
    counts: bool,
    /// Control profile of each context, `[contexts, genes]`.
    controls: Tensor,
    /// Shift of each perturbed group, `[groups, genes]`.
    shifts: Tensor,
    /// Noise of each shift, `[groups]`.
    noises: Tensor,
    levels: Tensor,
    half_effects: Tensor,
    /// Computed on first use, after all fields above are filled in.
    rule: OnceCell<AdditiveRule>,
}

impl AdditiveShifts {
    /// Shifts that are not filled in yet, of counts or of continuous values, and of as many names of perturbations.
    pub(super) fn new(
        parameters: &mut Parameters,
        layout: &OffsetLayout,
        counts: bool,
        names: usize,
        [controls, shifts]: [&Tensor; 2],
    ) -> Self {
        Self {
            layout: layout.clone(),
            counts,
            controls: controls.shallow_clone(),
            shifts: shifts.shallow_clone(),
            noises: parameters.statistic(NOISES, &[shifts.size()[0]], 0.0),
            levels: parameters.statistic(LEVELS, &[5], 0.0),
            half_effects: parameters.statistic(HALF_EFFECTS, &[to_i64(names)], 0.0),
            rule: OnceCell::new(),
        }
    }

    /// Stores noises, and chooses the doses of half an effect; controls and shifts are filled in.
    pub(super) fn fill(&mut self, profiles: &OffsetProfiles) {
        copy_into(&mut self.noises, &profiles.noises);
        self.levels.copy_(&Tensor::from_slice(&[0.0, smallest_mean(profiles), 0.0, 0.0, 0.0]));
        let names = bounded(self.half_effects.size()[0]);
        let halves = half_effects(&self.layout, profiles, names).into_iter().map(|half| half.unwrap_or(0.0));
        self.half_effects.copy_(&Tensor::from_slice(&halves.collect::<Vec<_>>()));
        self.rule = OnceCell::new();
    }

    fn rule(&self) -> &AdditiveRule {
        self.rule.get_or_init(|| {
            let _no_grad = tch::no_grad_guard();
            let halves = self.half_effects.to_kind(Kind::Double).to_device(tch::Device::Cpu).contiguous();
            let halves = Vec::<f64>::try_from(halves).unwrap_or_default().into_iter();
            let half_effects = halves.map(|half| (half > 0.0).then_some(half)).collect();
            AdditiveRule { layout: self.layout.clone(), half_effects }
        })
    }

    /// The control profile of a context after the shift of parts at doses, codes ascending, as an offset of the decoder's output.
    pub(super) fn shifted(&self, parts: &[(u32, f64)], target: &TargetContext) -> TargetOffset {
        let share = 1.0 / target.stand_ins.len().max(1) as f64;
        let controls = target.stand_ins.iter().map(|context| (*context, share)).collect();
        let shift = summed(&self.shifts, &self.rule().shift(parts, target));
        let level = summed(&self.controls, &controls) + shift;
        let smallest = self.levels.narrow(0, 1, 1);
        let offset = if self.counts { level.expm1().maximum(&smallest).log() } else { level };
        TargetOffset { offset, log_shift: None }
    }

    /// The expected error, due to the uncertain share of the shift and to the noise of the shifts that it is based on: a root mean
    /// square over genes, 0 for trained conditions. A scalar of float64 on the device.
    pub(super) fn uncertainty(&self, parts: &[(u32, f64)], target: &TargetContext) -> Tensor {
        let uncertain_share = self.rule().uncertain_share(parts, target);
        if uncertain_share <= 0.0 {
            return Tensor::zeros([], (Kind::Double, self.shifts.device()));
        }
        let weights = self.rule().shift(parts, target);
        let shift = summed(&self.shifts, &weights);
        let squares: Weights = weights.into_iter().map(|(row, weight)| (row, weight * weight)).collect();
        let noise = summed(&self.noises.unsqueeze(-1), &squares).to_kind(Kind::Double).view([]);
        (shift.square().mean(Kind::Double) * uncertain_share + noise).sqrt()
    }
}

/// A weighted sum of a matrix's rows: `[1, genes]`.
fn summed(rows: &Tensor, weights: &Weights) -> Tensor {
    let places: Vec<i64> = weights.keys().map(|row| to_i64(*row)).collect();
    let weights: Vec<f64> = weights.values().copied().collect();
    let (kind, device) = (rows.kind(), rows.device());
    let weights = on_device(&weights, device).to_kind(kind).unsqueeze(0);
    weights.matmul(&rows.index_select(0, &on_device(&places, device)))
}
