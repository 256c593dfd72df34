//! Which shifts of trained groups make up a target's shift, and their weights.

use std::collections::BTreeMap;

use statistics::solve::Cholesky;

use super::{
    combined::{GaussianProcess, PerturbationShare},
    layout::{OffsetLayout, combination, is_control},
};

/// Minimum uncertain share for a condition in a context in which it was not trained, however similar other
/// contexts are.
const LEAST_OPEN: f64 = 0.1;
/// The share of a combination's square that is not explained by its parts, if no trained combination is similar.
const USUAL_INTERACTION: f64 = 0.2;

/// Rows of shifts and their weights.
pub(super) type Weights = BTreeMap<usize, f64>;

/// The context of a target.
#[derive(Clone, Debug)]
pub(super) struct TargetContext {
    /// The trained context, if it is one.
    pub(super) own: Option<usize>,
    /// Contexts whose controls replace its own, with equal weights.
    pub(super) stand_ins: Vec<usize>,
}

/// The rule with all its parameters.
#[derive(Debug)]
pub(super) struct OffsetRule {
    pub(super) layout: OffsetLayout,
    /// Whether other contexts have equal weights, and combinations are always the sum of their parts.
    pub(super) additive: bool,
    pub(super) ridge: f64,
    /// The dose with half of the full effect of each perturbation, by its code; `None` if unknown.
    pub(super) half_effects: Vec<Option<f64>>,
    /// Products of the control profiles of contexts, `contexts × contexts`.
    pub(super) products: Vec<f64>,
    /// The prediction of combinations, if enough were trained.
    pub(super) combined: Option<GaussianProcess>,
}

impl OffsetRule {
    /// The shift of parts at doses, codes ascending, as the weight of each trained shift.
    pub(super) fn shift(&self, parts: &[(u32, f64)], target: &TargetContext) -> Weights {
        if is_control(parts) {
            return Weights::new();
        }
        if let Some(own) = self.as_a_whole(parts, target) {
            return own;
        }
        self.combined(parts, target).map_or_else(|| self.of_parts(parts, target), |(shift, _)| shift)
    }

    /// The shifts whose noise makes the prediction uncertain: those in its sum or, for a combination that was not
    /// trained in any context, those of its parts, whatever their weights.
    pub(super) fn uncertain_shifts(&self, parts: &[(u32, f64)], target: &TargetContext) -> Weights {
        self.as_a_whole(parts, target).unwrap_or_else(|| self.of_parts(parts, target))
    }

    /// The shift of a combination that was trained in some context; with `additive`, it is still the sum of its
    /// parts.
    fn as_a_whole(&self, parts: &[(u32, f64)], target: &TargetContext) -> Option<Weights> {
        (parts.len() == 1 || !self.additive).then(|| self.of_combination(parts, target)).flatten()
    }

    /// The prediction of this combination from trained ones, and its uncertain share.
    fn combined(&self, parts: &[(u32, f64)], target: &TargetContext) -> Option<(Weights, f64)> {
        let (weights, open) = self.combined.as_ref()?.weights_and_uncertainty(&self.as_shares(parts))?;
        let mut sum = Weights::new();
        for (condition, weight) in self.layout.conditions().iter().zip(weights) {
            add(&mut sum, &self.as_seen(condition, target), weight);
        }
        Some((sum, open))
    }

    /// Doses as shares of the largest trained effect.
    pub(super) fn as_shares(&self, parts: &[(u32, f64)]) -> Vec<PerturbationShare> {
        let share = |(code, dose): &(u32, f64)| {
            let largest = self.layout.largest_doses.get(code).copied().unwrap_or(*dose);
            (*code, self.scale(*code, largest, *dose))
        };
        parts.iter().map(share).collect()
    }

    /// The shift of a trained condition: from the same context, or predicted from others.
    pub(super) fn as_seen(&self, condition: &[(u32, f64)], target: &TargetContext) -> Weights {
        let rows = self.layout.by_combination.get(&combination(condition)).into_iter().flatten();
        let mut own = rows.filter(|row| {
            let row = &self.layout.rows[**row];
            Some(row.context) == target.own && row.parts == condition
        });
        match own.next() {
            Some(row) => Weights::from([(*row, 1.0)]),
            None => self.of_combination(condition, target).unwrap_or_default(),
        }
    }

    /// The uncertain share of a shift's square: 0 for trained conditions, about 1 for completely unknown ones.
    pub(super) fn open(&self, parts: &[(u32, f64)], target: &TargetContext) -> f64 {
        if is_control(parts) {
            return 0.0;
        }
        let Some(rows) = self.layout.by_combination.get(&combination(parts)) else {
            let beyond =
                self.combined.as_ref().and_then(|combined| combined.weights_and_uncertainty(&self.as_shares(parts)));
            let beyond = beyond.map_or(USUAL_INTERACTION, |(_, open)| LEAST_OPEN + open);
            let known = |part: &&(u32, f64)| self.layout.by_combination.contains_key(&vec![part.0]);
            let of_parts = parts.iter().filter(known).map(|part| self.open(std::slice::from_ref(part), target));
            let unknown = parts.iter().filter(|part| !known(part)).count();
            return beyond + (of_parts.sum::<f64>() + real(unknown)) / real(parts.len());
        };
        let context = |row: &&usize| self.layout.rows[**row].context;
        let mut contexts: Vec<usize> = rows.iter().map(|row| context(&row)).collect();
        contexts.sort_unstable();
        contexts.dedup();
        let own = target.own.filter(|own| contexts.contains(own));
        let of_context = if own.is_some() { 0.0 } else { LEAST_OPEN + self.apart(&contexts, target) };
        let near = rows.iter().filter(|row| own.is_none_or(|own| context(row) == own));
        let of_dose =
            near.map(|row| self.dose_open(&self.layout.rows[*row].parts, parts)).fold(f64::INFINITY, f64::min);
        of_context + of_dose
    }

    /// The share of the variance between contexts that the ridge does not explain for a new context.
    fn apart(&self, contexts: &[usize], target: &TargetContext) -> f64 {
        let all = self.layout.contexts.len();
        let product = |a: usize, b: usize| self.products[a * all + b];
        let mean = |a: &[usize], b: &[usize]| {
            let pairs = a.iter().flat_map(|a| b.iter().map(move |b| product(*a, *b)));
            pairs.sum::<f64>() / real(a.len() * b.len()).max(1.0)
        };
        let stand_ins = &target.stand_ins;
        let own = mean(stand_ins, stand_ins) - 2.0 * mean(stand_ins, contexts) + mean(contexts, contexts);
        let shares = self.ridge_shares(contexts, target);
        let mut left = mean(stand_ins, stand_ins);
        for (a, share) in contexts.iter().zip(&shares) {
            left -= 2.0 * share * mean(&[*a], stand_ins);
            left += contexts.iter().zip(&shares).map(|(b, other)| share * other * product(*a, *b)).sum::<f64>();
        }
        if own > 0.0 { (left / own).clamp(0.0, 1.0) } else { 1.0 }
    }

    /// The distance between doses and those of a trained group, in terms of their effects.
    fn dose_open(&self, known: &[(u32, f64)], parts: &[(u32, f64)]) -> f64 {
        let of_part = |((code, known), (_, target)): (&(u32, f64), &(u32, f64))| {
            let [known, target] = [self.effect(*code, *known), self.effect(*code, *target)];
            let far = (known - target) / known.max(target).max(f64::MIN_POSITIVE);
            far * far
        };
        known.iter().zip(parts).map(of_part).sum::<f64>() / real(parts.len().max(1))
    }

    fn of_parts(&self, parts: &[(u32, f64)], target: &TargetContext) -> Weights {
        let mut sum = Weights::new();
        for part in parts {
            add(&mut sum, &self.of_part(*part, target), 1.0);
        }
        sum
    }

    /// The shift of one perturbation: as seen alone; otherwise the shift of combinations with it minus that of
    /// their other parts; if it was never trained, the mean of all trained shifts.
    fn of_part(&self, part: (u32, f64), target: &TargetContext) -> Weights {
        let alone = |part: (u32, f64)| self.of_combination(&[part], target);
        if let Some(own) = alone(part) {
            return own;
        }
        let mut with_it: Vec<&Vec<u32>> =
            self.layout.by_combination.keys().filter(|codes| codes.contains(&part.0)).collect();
        with_it.sort_unstable();
        let mut mean = Weights::new();
        for codes in &with_it {
            let parts = &self.layout.rows[self.layout.by_combination[*codes][0]].parts;
            let Some(mut rest) = self.of_combination(parts, target) else { continue };
            let mut unknown = 0.0;
            for other in parts {
                match alone(*other) {
                    Some(known) => add(&mut rest, &known, -1.0),
                    None => unknown += 1.0,
                }
            }
            add(&mut mean, &rest, 1.0 / (unknown * real(with_it.len())));
        }
        if with_it.is_empty() {
            let mut singles: Vec<u32> =
                self.layout.by_combination.keys().filter(|codes| codes.len() == 1).map(|codes| codes[0]).collect();
            singles.sort_unstable();
            for code in &singles {
                if let Some(single) = alone((*code, part.1)) {
                    add(&mut mean, &single, 1.0 / real(singles.len()));
                }
            }
        }
        mean
    }

    /// The shift of a combination that was trained in some context; `None` for any other.
    fn of_combination(&self, parts: &[(u32, f64)], target: &TargetContext) -> Option<Weights> {
        let rows = self.layout.by_combination.get(&combination(parts))?;
        let mut rows_by_context: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for row in rows {
            rows_by_context.entry(self.layout.rows[*row].context).or_default().push(*row);
        }
        let own = target.own.filter(|own| rows_by_context.contains_key(own));
        if let Some(own) = own.filter(|own| self.additive || !self.layout.has_controls(*own)) {
            return Some(self.at_doses(&rows_by_context[&own], parts));
        }
        // Shifts relative to controls of other contexts reflect differences of contexts rather than the perturbation.
        if rows_by_context.keys().any(|context| self.layout.has_controls(*context)) {
            rows_by_context.retain(|context, _| self.layout.has_controls(*context));
        }
        let contexts: Vec<usize> = rows_by_context.keys().copied().collect();
        let shares =
            if self.additive { self.even_shares(&contexts, target) } else { self.ridge_shares(&contexts, target) };
        let mut sum = Weights::new();
        for (share, rows) in shares.into_iter().zip(rows_by_context.values()) {
            add(&mut sum, &self.at_doses(rows, parts), share);
        }
        Some(sum)
    }

    /// Equal weights for the contexts: for the replacement contexts among them, or else for all.
    fn even_shares(&self, contexts: &[usize], target: &TargetContext) -> Vec<f64> {
        let stands_in = |context: &usize| target.stand_ins.contains(context);
        let any = contexts.iter().any(stands_in);
        let counted: Vec<f64> =
            contexts.iter().map(|context| f64::from(u8::from(!any || stands_in(context)))).collect();
        let all: f64 = counted.iter().sum();
        counted.into_iter().map(|share| share / all).collect()
    }

    /// Kernel ridge of the shift on the control profile: the weight of each context's shift.
    fn ridge_shares(&self, contexts: &[usize], target: &TargetContext) -> Vec<f64> {
        let all = self.layout.contexts.len();
        let product = |a: usize, b: usize| self.products[a * all + b];
        let with_wanted = |a: usize| {
            target.stand_ins.iter().map(|b| product(a, *b)).sum::<f64>() / real(target.stand_ins.len().max(1))
        };
        ridge_shares(contexts, self.ridge, product, with_wanted)
    }

    /// The shift of one context at doses, computed from its rows of this combination.
    fn at_doses(&self, rows: &[usize], parts: &[(u32, f64)]) -> Weights {
        let exact = rows.iter().find(|row| self.layout.rows[**row].parts == parts);
        if let Some(row) = exact {
            return Weights::from([(*row, 1.0)]);
        }
        if let [(code, dose)] = parts {
            let mut known: Vec<(f64, usize)> =
                rows.iter().map(|row| (self.layout.rows[*row].parts[0].1, *row)).collect();
            known.sort_by(|a, b| a.0.total_cmp(&b.0));
            return self.between(&known, *code, *dose);
        }
        // With several perturbations, the nearest doses are used, scaled by the mean factor over the parts' doses.
        let far = |row: &&usize| -> f64 {
            let pairs = self.layout.rows[**row].parts.iter().zip(parts);
            pairs.map(|((_, known), (_, target))| (known.ln_1p() - target.ln_1p()).abs()).sum()
        };
        let Some(nearest) = rows.iter().min_by(|a, b| far(a).total_cmp(&far(b))) else { return Weights::new() };
        let known = &self.layout.rows[*nearest].parts;
        let scales = known.iter().zip(parts).map(|((code, known), (_, target))| self.scale(*code, *known, *target));
        Weights::from([(*nearest, scales.sum::<f64>() / real(parts.len()))])
    }

    /// Interpolates between trained doses, starting from 0; beyond the largest one, follows the growth of the
    /// effect.
    fn between(&self, known: &[(f64, usize)], code: u32, dose: f64) -> Weights {
        let above = known.partition_point(|(known, _)| *known < dose);
        match (above.checked_sub(1).map(|below| known[below]), known.get(above)) {
            (None, Some((first, row))) => Weights::from([(*row, self.scale(code, *first, dose))]),
            (Some((_, largest)), None) => self.beyond(known, largest, code, dose),
            (Some((low, below)), Some((high, above))) => {
                let [low, high, here] = [low, *high, dose].map(|dose| self.effect(code, dose));
                let share = if low < high { (here - low) / (high - low) } else { 1.0 };
                Weights::from([(below, 1.0 - share), (*above, share)])
            }
            (None, None) => Weights::new(),
        }
    }

    /// Beyond the largest trained dose, the extrapolated effect is fitted to all trained doses by least squares: the
    /// largest dose alone has more noise, which would be scaled up as well.
    fn beyond(&self, known: &[(f64, usize)], largest: usize, code: u32, dose: f64) -> Weights {
        if self.half_effects.get(code as usize).copied().flatten().is_none() {
            // The growth of the effect is unknown.
            return Weights::from([(largest, 1.0)]);
        }
        let squares: f64 = known.iter().map(|(known, _)| self.effect(code, *known).powi(2)).sum();
        let effect = self.effect(code, dose) / squares.max(f64::MIN_POSITIVE);
        known.iter().map(|(known, row)| (*row, effect * self.effect(code, *known))).collect()
    }

    /// The factor that converts a shift seen at one dose to another dose.
    fn scale(&self, code: u32, known: f64, target: f64) -> f64 {
        let beyond = known < target;
        match self.half_effects.get(code as usize).copied().flatten() {
            // The growth of the effect is unknown.
            None if beyond => 1.0,
            _ if self.effect(code, known) <= 0.0 => 1.0,
            _ => self.effect(code, target) / self.effect(code, known),
        }
    }

    /// The effect of a dose, in units specific to the perturbation.
    fn effect(&self, code: u32, dose: f64) -> f64 {
        match self.half_effects.get(code as usize).copied().flatten() {
            Some(half) => dose / (dose + half),
            None => dose.ln_1p(),
        }
    }
}

/// The weights of some contexts by kernel ridge, which add up to 1.
///
/// Δ = Ȳ + (a − ā) Aᵀ (A Aᵀ + λ I)⁻¹ (Y − Ȳ), where the rows of A are control profiles minus their mean ā, those of Y shifts.
pub(super) fn ridge_shares(
    contexts: &[usize],
    ridge: f64,
    product: impl Fn(usize, usize) -> f64,
    with_wanted: impl Fn(usize) -> f64,
) -> Vec<f64> {
    let count = real(contexts.len());
    let even = vec![1.0 / count; contexts.len()];
    let mean_with = |a: usize| contexts.iter().map(|b| product(a, *b)).sum::<f64>() / count;
    let means: Vec<f64> = contexts.iter().map(|a| mean_with(*a)).collect();
    let mean = means.iter().sum::<f64>() / count;
    let target: Vec<f64> = contexts.iter().map(|a| with_wanted(*a)).collect();
    let wanted_mean = target.iter().sum::<f64>() / count;
    let kernel = |row: usize, column: usize| {
        let centred = product(contexts[row], contexts[column]) - means[row] - means[column] + mean;
        centred + if row == column { ridge } else { 0.0 }
    };
    let Some(factor) = Cholesky::new(contexts.len(), kernel) else { return even };
    let likeness: Vec<f64> = (0..contexts.len()).map(|at| target[at] - wanted_mean - means[at] + mean).collect();
    let weights = factor.solve(&likeness);
    let all: f64 = weights.iter().sum();
    weights.into_iter().map(|weight| weight + (1.0 - all) / count).collect()
}

pub(super) fn add(sum: &mut Weights, more: &Weights, times: f64) {
    for (row, weight) in more {
        *sum.entry(*row).or_default() += weight * times;
    }
}

/// A count as a floating-point number.
#[expect(clippy::cast_precision_loss, reason = "no atlas has 2^52 groups")]
pub(super) fn real(count: usize) -> f64 {
    count as f64
}
