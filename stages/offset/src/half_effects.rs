//! The dose with half of the full effect of each perturbation, chosen on the training cells.

use std::collections::BTreeMap;

use schemas::numbers::bounded;

use super::{layout::OffsetLayout, profiles::OffsetProfiles};

/// Candidates for the dose with half of the full effect, in units of the largest dose, evenly spaced on a
/// logarithmic scale.
const HALF_EFFECTS: [f64; 15] = [0.003, 0.006, 0.012, 0.025, 0.05, 0.1, 0.18, 0.3, 0.5, 0.8, 1.3, 2.0, 3.5, 7.0, 15.0];
/// Number of doses needed to estimate how an effect grows.
const FEWEST_DOSES: usize = 3;

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
        let mut both = of_all.map(|sum| sum / errors.len().max(1) as f64);
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
