//! The additive rule: which shifts of trained groups make up a target's shift, and their weights.

use std::collections::BTreeMap;

use super::layout::{OffsetLayout, TargetContext, combination, is_control};

/// The uncertain share of the square of a condition's shift in a context in which it was not trained.
const NEW_CONTEXT: f64 = 1.1;
/// The uncertain share, beyond that of its parts, of a combination that was not trained in any context.
const NEW_COMBINATION: f64 = 0.2;

/// Rows of shifts and their weights.
pub(super) type Weights = BTreeMap<usize, f64>;

/// The rule with its parameters.
#[derive(Debug)]
pub(super) struct AdditiveRule {
    pub(super) layout: OffsetLayout,
    /// The dose with half of the full effect of each perturbation, by its code; `None` if unknown.
    pub(super) half_effects: Vec<Option<f64>>,
}

impl AdditiveRule {
    /// The shift of parts at doses, codes ascending, as the weight of each trained shift: the sum of the parts'.
    pub(super) fn shift(&self, parts: &[(u32, f64)], target: &TargetContext) -> Weights {
        let mut sum = Weights::new();
        if is_control(parts) {
            return sum;
        }
        for part in parts {
            add(&mut sum, &self.of_part(*part, target), 1.0);
        }
        sum
    }

    /// The uncertain share of a shift's square: 0 for trained conditions, about 1 for completely unknown ones.
    pub(super) fn uncertain_share(&self, parts: &[(u32, f64)], target: &TargetContext) -> f64 {
        if is_control(parts) {
            return 0.0;
        }
        let Some(rows) = self.layout.by_combination.get(&combination(parts)) else {
            let known = |part: &&(u32, f64)| self.layout.by_combination.contains_key(&vec![part.0]);
            let of_part = |part| self.uncertain_share(std::slice::from_ref(part), target);
            let of_parts: f64 = parts.iter().filter(known).map(of_part).sum();
            let unknown = parts.iter().filter(|part| !known(part)).count();
            return NEW_COMBINATION + (of_parts + unknown as f64) / parts.len() as f64;
        };
        let context = |row: usize| self.layout.rows[row].context;
        let own = target.own.filter(|own| rows.iter().any(|row| context(*row) == *own));
        let of_context = if own.is_some() { 0.0 } else { NEW_CONTEXT };
        let near = rows.iter().filter(|row| own.is_none_or(|own| context(**row) == own));
        let of_dose =
            near.map(|row| self.dose_distance(&self.layout.rows[*row].parts, parts)).fold(f64::INFINITY, f64::min);
        of_context + of_dose
    }

    /// The distance between doses and those of a trained group, in terms of their effects.
    fn dose_distance(&self, known: &[(u32, f64)], parts: &[(u32, f64)]) -> f64 {
        let of_part = |((code, known), (_, target)): (&(u32, f64), &(u32, f64))| {
            let [known, target] = [self.effect(*code, *known), self.effect(*code, *target)];
            let far = (known - target) / known.max(target).max(f64::MIN_POSITIVE);
            far * far
        };
        known.iter().zip(parts).map(of_part).sum::<f64>() / parts.len().max(1) as f64
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
            add(&mut mean, &rest, 1.0 / (unknown * with_it.len() as f64));
        }
        if with_it.is_empty() {
            let mut singles: Vec<u32> =
                self.layout.by_combination.keys().filter(|codes| codes.len() == 1).map(|codes| codes[0]).collect();
            singles.sort_unstable();
            for code in &singles {
                if let Some(single) = alone((*code, part.1)) {
                    add(&mut mean, &single, 1.0 / singles.len() as f64);
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
        if let Some(own) = target.own.and_then(|own| rows_by_context.get(&own)) {
            return Some(self.at_doses(own, parts));
        }
        // Shifts relative to controls of other contexts reflect differences of contexts rather than the perturbation.
        if rows_by_context.keys().any(|context| self.layout.has_controls(*context)) {
            rows_by_context.retain(|context, _| self.layout.has_controls(*context));
        }
        // The mean over the replacement contexts among them, or else over all.
        let stands_in = |context: &usize| target.stand_ins.contains(context);
        if rows_by_context.keys().any(stands_in) {
            rows_by_context.retain(|context, _| stands_in(context));
        }
        let share = 1.0 / rows_by_context.len() as f64;
        let mut sum = Weights::new();
        for rows in rows_by_context.values() {
            add(&mut sum, &self.at_doses(rows, parts), share);
        }
        Some(sum)
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
        Weights::from([(*nearest, scales.sum::<f64>() / parts.len() as f64)])
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
        if self.half_effect(code).is_none() {
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
        match self.half_effect(code) {
            // The growth of the effect is unknown.
            None if beyond => 1.0,
            _ if self.effect(code, known) <= 0.0 => 1.0,
            _ => self.effect(code, target) / self.effect(code, known),
        }
    }

    fn half_effect(&self, code: u32) -> Option<f64> {
        self.half_effects.get(code as usize).copied().flatten()
    }

    /// The effect of a dose, in units specific to the perturbation.
    fn effect(&self, code: u32, dose: f64) -> f64 {
        match self.half_effect(code) {
            Some(half) => dose / (dose + half),
            None => dose.ln_1p(),
        }
    }
}

fn add(sum: &mut Weights, more: &Weights, times: f64) {
    for (row, weight) in more {
        *sum.entry(*row).or_default() += weight * times;
    }
}
