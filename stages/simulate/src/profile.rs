//! The expected counts of every gene: cell types, perturbations, their interactions, doses and batches.
//!
//! All effects are added on the log scale: the log of a cell's expected count is the gene's base level, plus
//! the terms of its cell type, batch and library, plus each perturbation's change times its dose response,
//! plus the interaction of a combination.

use schemas::numbers::to_usize;
use stage::cast::narrow;

use super::{
    counts::factor_for_density,
    random::{Permutation, Purpose, Random},
};

/// Spread of the log of the library size between cells.
pub(super) const LIBRARY_SPREAD: f64 = 0.35;

const BASE_SPREAD: f64 = 1.5;
const CELL_TYPE_SPREAD: f64 = 0.8;
const CELL_TYPE_SHARE: f64 = 0.15;
const BATCH_SPREAD: f64 = 0.1;
const PATHWAY_SPREAD: f64 = 0.6;
const OWN_SPREAD: f64 = 0.9;
const SPECIFIC_SPREAD: f64 = 0.6;

/// The dose with half of the largest possible effect.
const HALF_EFFECT: f64 = 0.4;

/// Number of pairs of a gene and a cell type from which the overall level is computed.
const CALIBRATION: usize = 2000;

/// How interactions are generated: the effects of combinations beyond the sum of their parts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Interactions {
    /// Each combination changes genes independently of the others, so combinations do not predict each other.
    #[default]
    Own,
    /// From the pathways on which its parts act: each pair of pathways changes some genes, so combinations
    /// predict each other.
    Pathways,
}

/// A change of some genes: gene and log fold change. If a gene appears twice, its changes are added.
pub(super) type Effect = Vec<(usize, f64)>;

/// Two perturbations and their interaction.
#[derive(Clone, Debug)]
pub(super) struct InteractingPair {
    pub(super) parts: [usize; 2],
    interaction: Effect,
}

/// Everything about genes that is the same for all cells.
#[derive(Clone, Debug)]
pub(super) struct GeneProfile {
    genes: usize,
    cell_types: usize,
    /// Expected counts at the mean library size, without batch effects, `[cell types, genes]`.
    base: Vec<f32>,
    /// Factors, `[batches, genes]`.
    batches: Vec<f32>,
    /// Negative binomial shape of each gene: the variance is mean + mean² / shape.
    shapes: Vec<f32>,
    /// The gene on which each single perturbation acts.
    targets: Vec<usize>,
    /// Effects of each single perturbation in each cell type.
    effects: Vec<Effect>,
    combinations: Vec<InteractingPair>,
}

/// Numbers of genes, cell types and the like.
#[derive(Clone, Copy, Debug)]
pub(super) struct AtlasSizes {
    pub(super) genes: usize,
    pub(super) cell_types: usize,
    pub(super) batches: usize,
    pub(super) singles: usize,
    pub(super) combinations: usize,
}

/// The interactions of combinations.
#[derive(Clone, Copy, Debug)]
pub(super) struct InteractionSettings {
    pub(super) from: Interactions,
    pub(super) size: f64,
}

impl GeneProfile {
    pub(super) fn new(seed: u64, sizes: AtlasSizes, density: f64, beyond: InteractionSettings) -> Self {
        let AtlasSizes { genes, cell_types, batches, .. } = sizes;
        let mut random = Random::new(seed, Purpose::Genes, 0);
        let logs: Vec<f64> = (0..genes).map(|_| random.normal(BASE_SPREAD)).collect();
        let shapes: Vec<f32> = (0..genes).map(|_| narrow((4.0_f64.ln() + random.normal(0.6)).exp())).collect();
        let mut base = Vec::with_capacity(genes * cell_types);
        for cell_type in 0..cell_types {
            let mut random = Random::new(seed, Purpose::CellTypes, cell_type as u64);
            for log in &logs {
                let differs = random.uniform() < CELL_TYPE_SHARE;
                let shift = random.normal(CELL_TYPE_SPREAD);
                base.push(narrow((log + if differs { shift } else { 0.0 }).exp()));
            }
        }
        let step = base.len().div_ceil(CALIBRATION);
        let sample: Vec<(f64, f64)> =
            (0..base.len()).step_by(step).map(|at| (f64::from(base[at]), f64::from(shapes[at % genes]))).collect();
        let level = narrow(factor_for_density(&sample, LIBRARY_SPREAD, density));
        base.iter_mut().for_each(|mean| *mean *= level);
        let mut random = Random::new(seed, Purpose::Batches, 0);
        let batches = (0..batches * genes).map(|_| narrow(random.normal(BATCH_SPREAD).exp())).collect();
        let order = Permutation::new(genes as u64, &mut Random::new(seed, Purpose::Singles, 0));
        let targets = (0..sizes.singles as u64).map(|single| to_usize(order.at(single))).collect();
        let mut profile =
            Self { genes, cell_types, base, batches, shapes, targets, effects: Vec::new(), combinations: Vec::new() };
        profile.effects = effects(seed, sizes, &profile.targets);
        profile.combinations = combinations(seed, sizes, beyond);
        profile
    }

    /// The gene on which a single perturbation acts.
    pub(super) fn target(&self, single: usize) -> usize {
        self.targets[single]
    }

    pub(super) fn combination(&self, combination: usize) -> &InteractingPair {
        &self.combinations[combination]
    }

    pub(super) fn shapes(&self) -> &[f32] {
        &self.shapes
    }

    /// The factors of a batch, one per gene.
    pub(super) fn batch(&self, batch: usize) -> &[f32] {
        &self.batches[batch * self.genes..][..self.genes]
    }

    /// Fills `means` with the expected counts of a cell of this type under a treatment, at the mean library size
    /// and without batch effects.
    pub(super) fn expect(&self, treatment: &Treatment, cell_type: usize, means: &mut Vec<f32>) {
        means.clear();
        means.extend_from_slice(&self.base[cell_type * self.genes..][..self.genes]);
        for (single, dose) in &treatment.parts {
            apply(&self.effects[single * self.cell_types + cell_type], response(*dose), means);
        }
        if let Some(combination) = treatment.combination {
            apply(&self.combinations[combination].interaction, treatment.joint_response(), means);
        }
    }

    /// The size of a treatment's interaction: the Euclidean norm over genes of the log change beyond the sum of
    /// its parts.
    pub(super) fn interaction(&self, treatment: &Treatment) -> f64 {
        let Some(combination) = treatment.combination else { return 0.0 };
        let squares = self.combinations[combination].interaction.iter().map(|(_, change)| change * change);
        treatment.joint_response() * squares.sum::<f64>().sqrt()
    }
}

/// The condition of a cell.
#[derive(Clone, Debug, Default)]
pub(super) struct Treatment {
    /// Single perturbations with their doses; empty for control.
    pub(super) parts: Vec<(usize, f64)>,
    pub(super) combination: Option<usize>,
}

impl Treatment {
    fn joint_response(&self) -> f64 {
        self.parts.iter().map(|(_, dose)| response(*dose)).product()
    }
}

/// The share of a perturbation's effect at a dose: dose / (dose + K), relative to its value at dose 1 (Hill
/// 1910).
pub(super) fn response(dose: f64) -> f64 {
    dose * (1.0 + HALF_EFFECT) / (dose + HALF_EFFECT)
}

fn apply(effect: &Effect, response: f64, means: &mut [f32]) {
    for (gene, change) in effect {
        means[*gene] *= narrow((response * change).exp());
    }
}

/// The effects of single perturbations by cell type. Single perturbations share pathways, so some resemble
/// each other.
fn effects(seed: u64, sizes: AtlasSizes, targets: &[usize]) -> Vec<Effect> {
    let AtlasSizes { genes, cell_types, singles, .. } = sizes;
    let pathways: Vec<Effect> = (0..pathways(singles))
        .map(|pathway| {
            let mut random = Random::new(seed, Purpose::Pathways, pathway as u64);
            sparse(&mut random, genes, (genes / 40).max(3), |random| random.normal(PATHWAY_SPREAD))
        })
        .collect();
    let mut effects = Vec::with_capacity(singles * cell_types);
    for (single, target) in targets.iter().enumerate() {
        let mut random = Random::new(seed, Purpose::Singles, 1 + single as u64);
        let memberships = memberships(&mut random, pathways.len());
        let mut own = sparse(&mut random, genes, (genes / 200).max(3), |random| random.normal(OWN_SPREAD));
        // The perturbed gene itself is knocked down.
        own.push((*target, -random.between(1.5, 2.5)));
        for cell_type in 0..cell_types {
            let index = (single * cell_types + cell_type) as u64;
            let mut random = Random::new(seed, Purpose::Specific, index);
            let mut effect = own.clone();
            for (pathway, strength) in &memberships {
                let strength = strength * (1.0 + random.normal(0.3));
                effect.extend(pathways[*pathway].iter().map(|(gene, change)| (*gene, strength * change)));
            }
            effect.extend(sparse(&mut random, genes, (genes / 300).max(2), |random| random.normal(SPECIFIC_SPREAD)));
            effects.push(effect);
        }
    }
    effects
}

/// Number of pathways that single perturbations share.
fn pathways(singles: usize) -> usize {
    (singles / 6).clamp(3, 60)
}

/// The pathways of a single perturbation, and how strongly it acts on each: the first numbers of its stream.
fn memberships(random: &mut Random, pathways: usize) -> Vec<(usize, f64)> {
    (0..1 + random.below(2)).map(|_| (random.below(pathways), random.between(0.5, 1.3))).collect()
}

/// The interaction of a pair, if it is derived from pathways.
fn of_pathways(seed: u64, sizes: AtlasSizes, parts: [usize; 2]) -> Effect {
    let pathways = pathways(sizes.singles);
    let [first, second] =
        parts.map(|single| memberships(&mut Random::new(seed, Purpose::Singles, 1 + single as u64), pathways));
    let mut effect = Effect::new();
    for ((a, strength), (b, other)) in first.iter().flat_map(|a| second.iter().map(move |b| (*a, *b))) {
        let index = (a.min(b) * pathways + a.max(b)) as u64;
        let mut random = Random::new(seed, Purpose::PathwayPairs, index);
        let pair = sparse(&mut random, sizes.genes, (sizes.genes / 100).max(3), change_of_pair);
        effect.extend(pair.into_iter().map(|(gene, change)| (gene, strength * other * change)));
    }
    effect
}

fn change_of_pair(random: &mut Random) -> f64 {
    let size = random.between(0.5, 1.1);
    if random.uniform() < 0.5 { -size } else { size }
}

/// Different pairs of single perturbations, each with its interaction.
fn combinations(seed: u64, sizes: AtlasSizes, beyond: InteractionSettings) -> Vec<InteractingPair> {
    let AtlasSizes { genes, singles, combinations, .. } = sizes;
    let pairs = (singles * singles.saturating_sub(1) / 2) as u64;
    let order = Permutation::new(pairs, &mut Random::new(seed, Purpose::Combinations, 0));
    (0..combinations as u64)
        .map(|combination| {
            let parts = pair(order.at(combination), singles);
            let mut interaction = match beyond.from {
                Interactions::Own => {
                    let mut random = Random::new(seed, Purpose::Interactions, combination);
                    sparse(&mut random, genes, (genes / 100).max(3), change_of_pair)
                }
                Interactions::Pathways => of_pathways(seed, sizes, parts),
            };
            interaction.iter_mut().for_each(|(_, change)| *change *= beyond.size);
            InteractingPair { parts, interaction }
        })
        .collect()
}

/// The pair at a position in the list (0, 1), (0, 2), …, (1, 2), …
fn pair(place_in_list: u64, singles: usize) -> [usize; 2] {
    let (mut first, mut rest) = (0, to_usize(place_in_list));
    while singles - 1 - first <= rest {
        rest -= singles - 1 - first;
        first += 1;
    }
    [first, first + 1 + rest]
}

/// A change of `count` different genes (of all genes, if there are fewer).
fn sparse(random: &mut Random, genes: usize, count: usize, mut change: impl FnMut(&mut Random) -> f64) -> Effect {
    let order = Permutation::new(genes as u64, random);
    (0..count.min(genes) as u64).map(|at| (to_usize(order.at(at)), change(random))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dose_response_rises_ever_slower_to_one_at_dose_one() {
        let rises: Vec<f64> =
            [0.0, 0.25, 0.5, 0.75, 1.0].windows(2).map(|pair| response(pair[1]) - response(pair[0])).collect();
        assert!(rises.is_sorted_by(|a, b| b < a) && rises[3] > 0.0, "{rises:?}");
        assert!((response(1.0) - 1.0).abs() < 1e-12);
    }

    #[test]
    fn pairs_are_all_different() {
        let pairs: std::collections::HashSet<_> = (0..45).map(|place| pair(place, 10)).collect();
        assert_eq!(pairs.len(), 45);
        assert!(pairs.iter().all(|[first, second]| first < second && *second < 10));
    }
}
