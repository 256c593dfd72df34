//! Free parameters of the offsets, chosen on the training cells: the penalty of the ridge, and the doses with
//! half of the full effect.

use std::collections::BTreeMap;

use schemas::numbers::bounded;

use super::{
    layout::OffsetLayout,
    profiles::OffsetProfiles,
    rule::{real, ridge_shares},
};

/// Maximum number of combinations on which the penalty is chosen, and of contexts for each.
const MOST_COMBINATIONS: usize = 64;
const MOST_CONTEXTS: usize = 24;
/// With fewer contexts, the prediction error between contexts can't be estimated.
const FEWEST_CONTEXTS: usize = 3;
/// Candidate penalties, in units of the mean square of centred control profiles.
const PENALTIES: [f64; 11] = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 1000.0];
/// The default if there are too few data.
const USUAL_PENALTY: f64 = 0.1;
/// Candidates for the dose with half of the full effect, in units of the largest dose, evenly spaced on a
/// logarithmic scale.
const HALF_EFFECTS: [f64; 15] = [0.003, 0.006, 0.012, 0.025, 0.05, 0.1, 0.18, 0.3, 0.5, 0.8, 1.3, 2.0, 3.5, 7.0, 15.0];
/// Number of doses needed to estimate how an effect grows.
const FEWEST_DOSES: usize = 3;

/// The penalty with the smallest error when each context is left out in turn.
pub(super) fn ridge(layout: &OffsetLayout, profiles: &OffsetProfiles) -> f64 {
    let with_controls: Vec<usize> =
        (0..layout.contexts.len()).filter(|context| layout.has_controls(*context)).take(MOST_CONTEXTS * 4).collect();
    let mut products: BTreeMap<(usize, usize), f64> = BTreeMap::new();
    let mut product = |a: usize, b: usize| {
        let key = (a.min(b), a.max(b));
        *products.entry(key).or_insert_with(|| dot(profiles.control(a), profiles.control(b)))
    };
    let mean_square = {
        let count = real(with_controls.len().max(1));
        let own = with_controls.iter().map(|a| product(*a, *a)).sum::<f64>() / count;
        let all = with_controls.iter().flat_map(|a| with_controls.iter().map(move |b| (*a, *b)));
        own - all.map(|(a, b)| product(a, b)).sum::<f64>() / (count * count)
    };
    let mut errors = [0.0; PENALTIES.len()];
    let mut combinations: Vec<_> = layout.by_combination.iter().collect();
    combinations.sort_unstable();
    let in_contexts = combinations.into_iter().filter_map(|(_, rows)| {
        let parts = &layout.rows[rows[0]].parts;
        let alike = rows.iter().filter(|row| layout.rows[**row].parts == *parts);
        let rows: Vec<usize> =
            alike.filter(|row| layout.has_controls(layout.rows[**row].context)).take(MOST_CONTEXTS).copied().collect();
        (rows.len() >= FEWEST_CONTEXTS).then_some(rows)
    });
    for rows in in_contexts.take(MOST_COMBINATIONS) {
        let shifts: Vec<Vec<f64>> =
            rows.iter().map(|a| rows.iter().map(|b| dot(profiles.shift(*a), profiles.shift(*b))).collect()).collect();
        for (left_out, row) in rows.iter().enumerate() {
            let others: Vec<usize> = (0..rows.len()).filter(|at| *at != left_out).collect();
            let contexts: Vec<usize> = others.iter().map(|at| layout.rows[rows[*at]].context).collect();
            let own = layout.rows[*row].context;
            let likeness: BTreeMap<(usize, usize), f64> = contexts
                .iter()
                .chain([&own])
                .flat_map(|a| contexts.iter().map(move |b| (*a, *b)))
                .map(|(a, b)| ((a, b), product(a, b)))
                .collect();
            for (error, penalty) in errors.iter_mut().zip(PENALTIES) {
                let shares =
                    ridge_shares(&contexts, penalty * mean_square, |a, b| likeness[&(a, b)], |b| likeness[&(own, b)]);
                *error += squared_error(&shifts, left_out, &others, &shares) / shifts[left_out][left_out].max(1e-12);
            }
        }
    }
    let has_error = errors.iter().any(|error| *error > 0.0);
    let best = errors.iter().enumerate().min_by(|a, b| a.1.total_cmp(b.1)).map(|(at, _)| PENALTIES[at]);
    best.filter(|_| has_error).unwrap_or(USUAL_PENALTY) * mean_square
}

/// The squared distance between one shift and a weighted sum of others, computed from all their products.
fn squared_error(products: &[Vec<f64>], of: usize, others: &[usize], shares: &[f64]) -> f64 {
    let cross: f64 = others.iter().zip(shares).map(|(at, share)| share * products[of][*at]).sum();
    let both = others
        .iter()
        .zip(shares)
        .flat_map(|(a, x)| others.iter().zip(shares).map(move |(b, y)| x * y * products[*a][*b]));
    (products[of][of] - 2.0 * cross + both.sum::<f64>()).max(0.0)
}

/// For each perturbation, the dose with half of the full effect. A few doses are weak evidence, so the fit of
/// the average perturbation counts as much as that of this one, and replaces it if this one was seen at too
/// few doses.
///
/// With effects u(d) = d / (d + K) along one direction, products of shifts at two doses are proportional to u(d) u(d′). A shift's
/// product with itself includes its noise and is left out.
pub(super) fn half_effects(layout: &OffsetLayout, profiles: &OffsetProfiles, names: usize) -> Vec<Option<f64>> {
    let mut errors: BTreeMap<u32, (f64, [f64; HALF_EFFECTS.len()])> = BTreeMap::new();
    for (codes, rows) in &layout.by_combination {
        let [code] = codes[..] else { continue };
        let mut by_context: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for row in rows {
            by_context.entry(layout.rows[*row].context).or_default().push(*row);
        }
        let dose = |row: usize| layout.rows[row].parts[0].1;
        let largest = rows.iter().map(|row| dose(*row)).fold(0.0, f64::max);
        for rows in by_context.values().filter(|rows| rows.len() >= FEWEST_DOSES) {
            let pairs: Vec<(f64, f64, f64)> = (0..rows.len())
                .flat_map(|a| (0..a).map(move |b| (a, b)))
                .map(|(a, b)| (dose(rows[a]), dose(rows[b]), dot(profiles.shift(rows[a]), profiles.shift(rows[b]))))
                .collect();
            let squares: f64 = pairs.iter().map(|(.., product)| product * product).sum();
            let (_, sums) = errors.entry(code).or_insert((largest, [0.0; HALF_EFFECTS.len()]));
            for (sum, half) in sums.iter_mut().zip(HALF_EFFECTS) {
                let half = half * largest;
                let expected = |(a, b, _): &(f64, f64, f64)| a / (a + half) * b / (b + half);
                let along: f64 = pairs.iter().map(|pair| expected(pair) * pair.2).sum();
                let own: f64 = pairs.iter().map(|pair| expected(pair).powi(2)).sum();
                *sum += (squares - along * along / own.max(1e-300)) / squares.max(1e-300);
            }
        }
    }
    let best = |sums: &[f64; HALF_EFFECTS.len()]| {
        sums.iter().enumerate().min_by(|a, b| a.1.total_cmp(b.1)).map_or(1.0, |(at, _)| HALF_EFFECTS[at])
    };
    let mut of_all = [0.0; HALF_EFFECTS.len()];
    for (_, sums) in errors.values() {
        of_all.iter_mut().zip(sums).for_each(|(all, sum)| *all += sum);
    }
    let usual = (!errors.is_empty()).then(|| best(&of_all));
    let with_usual = |sums: &[f64; HALF_EFFECTS.len()]| {
        let mut both = of_all.map(|sum| sum / real(errors.len().max(1)));
        both.iter_mut().zip(sums).for_each(|(both, sum)| *both += sum);
        best(&both)
    };
    let largest_of = |code: u32| {
        let rows = layout.by_combination.get(&vec![code]).into_iter().flatten();
        rows.map(|row| layout.rows[*row].parts[0].1).fold(0.0, f64::max)
    };
    let half_effect_of = |code: usize| {
        let code = bounded(code);
        match errors.get(&code) {
            Some((largest, sums)) => Some(with_usual(sums) * largest),
            None => usual.map(|half| half * largest_of(code)).filter(|half| *half > 0.0),
        }
    };
    (0..names).map(half_effect_of).collect()
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}
