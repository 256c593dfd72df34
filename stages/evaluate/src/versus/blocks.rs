//! Scores of drawn cells from products of their blocks: drawn means are weighted sums of blocks, so each squared error and
//! correlation follows from the products of blocks with each other and with the predictions.

use statistics::{
    blocks::{BLOCKS, BlockSums},
    differential::direction,
    metrics,
    products::products,
};

use super::{CELL_DRAWS, ComparedPrediction, DRAWN, DrawnScores, PREDICTIONS};
use crate::comparison::{Comparison, TOPS};

/// Blocks of the condition's cells, and of controls.
const VECTORS: usize = 2 * BLOCKS;

/// The blocks of a condition's cells and of its reference controls.
#[derive(Clone, Copy, Debug)]
pub struct DrawnBlocks<'a> {
    /// Sums over the condition's cells.
    pub cells: &'a BlockSums,
    /// The seed of their draws.
    pub seed: u64,
    /// Sums over the controls.
    pub controls: &'a BlockSums,
    /// The seed of their draws: conditions with the same have the same draws of controls.
    pub control_seed: u64,
    /// The mean of each gene over all controls.
    pub control_mean: &'a [f64],
}

/// The products of a condition's blocks, and what is needed of the genes that are scored by themselves.
struct BlockProducts<'a> {
    genes: f64,
    /// VectorProducts of blocks' deviations with each other, `[vectors, vectors]`; those of controls have the opposite sign.
    blocks: Vec<f64>,
    /// The centred real change and the centred truth: products with the blocks, and with themselves.
    change: VectorProducts,
    truth: VectorProducts,
    /// The sum over genes of each block's deviations.
    sums: Vec<f64>,
    predictions: Vec<Option<PredictionProducts>>,
    chosen: [DrawnGenes<'a>; 2],
    /// The length of the real change, from its mean.
    length: f64,
}

/// A vector's products with the blocks and with itself.
struct VectorProducts {
    blocks: Vec<f64>,
    own: f64,
}

/// The parts of a prediction that are needed.
struct PredictionProducts {
    /// The predicted change, centred; its product with the real one, and whether it varies.
    change: VectorProducts,
    with_real: f64,
    varies: bool,
    /// The error of the change, and of the mean.
    change_error: VectorProducts,
    error: VectorProducts,
}

/// Some genes, the deviations of their blocks, and the predictions of them.
#[derive(Default)]
struct DrawnGenes<'a> {
    genes: &'a [usize],
    /// `[genes, vectors]`.
    deviations: Vec<[f64; VECTORS]>,
    truth: Vec<f64>,
    change: Vec<f64>,
    predicted: Vec<Option<[Vec<f64>; 2]>>,
}

impl VectorProducts {
    /// The squared length of the vector plus the weighted blocks, whose own squared length is given.
    fn squared(&self, weights: &[f64], of_blocks: f64) -> f64 {
        self.own + 2.0 * dot(weights, &self.blocks) + of_blocks
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn centred(values: &[f64]) -> Vec<f64> {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    values.iter().map(|value| value - mean).collect()
}

/// The scores of each prediction in each draw of cells.
#[must_use]
pub fn by_blocks(
    comparison: &Comparison<'_>,
    contestants: &[ComparedPrediction; PREDICTIONS],
    drawn: &DrawnBlocks<'_>,
) -> Vec<DrawnScores> {
    let all = BlockProducts::new(comparison, contestants, drawn);
    let draws = (0..CELL_DRAWS as u64).filter_map(|draw| {
        let (cells, controls) =
            (drawn.cells.weights(drawn.seed, draw)?, drawn.controls.weights(drawn.control_seed, draw)?);
        let mut weights = [0.0; VECTORS];
        weights[..BLOCKS].copy_from_slice(&cells);
        weights[BLOCKS..].copy_from_slice(&controls);
        Some(all.scores(&weights))
    });
    draws.collect()
}

impl<'a> BlockProducts<'a> {
    fn new(
        comparison: &Comparison<'a>,
        contestants: &[ComparedPrediction; PREDICTIONS],
        drawn: &DrawnBlocks<'_>,
    ) -> Self {
        let truth = &comparison.truth.mean;
        let mut deviations = drawn.cells.deviations(truth).to_vec();
        // What is measured from controls falls as they rise.
        let negative = |of: Vec<f64>| of.into_iter().map(|value| -value).collect();
        deviations.extend(drawn.controls.deviations(drawn.control_mean).map(negative));
        let blocks: Vec<&[f64]> = deviations.iter().map(Vec::as_slice).collect();
        let real_change = comparison.real_change();
        let (change, centred_truth) = (centred(&real_change), centred(truth));
        let predictions: Vec<Option<[Vec<f64>; 4]>> = contestants
            .iter()
            .map(|one| {
                let mean = &one.predicted.as_ref()?.mean;
                let predicted = metrics::difference(mean, comparison.source);
                let errors = [metrics::difference(&real_change, &predicted), metrics::difference(truth, mean)];
                let [change_error, error] = errors;
                Some([centred(&predicted), change_error, error, predicted])
            })
            .collect();
        let ones = vec![1.0; truth.len()];
        let mut vectors: Vec<&[f64]> = blocks.clone();
        vectors.extend([&*ones, &*change, &*centred_truth]);
        vectors.extend(predictions.iter().flatten().flat_map(|one| one[..3].iter().map(Vec::as_slice)));
        let width = vectors.len();
        let found = products(&blocks, &vectors);
        let column = |at: usize| found.iter().skip(at).step_by(width).copied().collect::<Vec<f64>>();
        let of = |at: usize, vector: &[f64]| VectorProducts { blocks: column(at), own: dot(vector, vector) };
        let mut next = VECTORS + 3;
        let of_predictions = predictions.iter().map(|one| {
            let [predicted, change_error, error, uncentred] = one.as_ref()?;
            let at = next;
            next += 3;
            Some(PredictionProducts {
                change: of(at, predicted),
                with_real: dot(predicted, &change),
                varies: uncentred.iter().any(|value| *value != uncentred[0]),
                change_error: of(at + 1, change_error),
                error: of(at + 2, error),
            })
        });
        let of_predictions = of_predictions.collect();
        let chosen = [comparison.chosen.top(TOPS[2]), comparison.chosen.top_train(TOPS[2]).unwrap_or_default()];
        let chosen = chosen.map(|genes| {
            let pick = |values: &[f64]| genes.iter().map(|gene| values[*gene]).collect::<Vec<f64>>();
            let of_gene = |gene: &usize| std::array::from_fn(|block| deviations[block][*gene]);
            let predicted = contestants.iter().zip(&predictions);
            let predicted = predicted
                .map(|(one, vectors)| Some([pick(&one.predicted.as_ref()?.mean), pick(&vectors.as_ref()?[3])]));
            DrawnGenes {
                genes,
                deviations: genes.iter().map(of_gene).collect(),
                truth: pick(truth),
                change: pick(&real_change),
                predicted: predicted.collect(),
            }
        });
        Self {
            genes: truth.len() as f64,
            blocks: (0..VECTORS).flat_map(|row| found[row * width..row * width + VECTORS].iter().copied()).collect(),
            length: dot(&change, &change).sqrt(),
            change: of(VECTORS + 1, &change),
            truth: of(VECTORS + 2, &centred_truth),
            sums: column(VECTORS),
            predictions: of_predictions,
            chosen,
        }
    }

    /// The scores of each prediction with these weights of the blocks.
    fn scores(&self, weights: &[f64; VECTORS]) -> DrawnScores {
        let of_cells = &weights[..BLOCKS];
        let squared = |count: usize| -> f64 {
            (0..count).map(|row| weights[row] * dot(&weights[..count], &self.blocks[row * VECTORS..])).sum()
        };
        let (all_squared, cells_squared) = (squared(VECTORS), squared(BLOCKS));
        let spread = |of: &VectorProducts, weights: &[f64], squared: f64| {
            of.squared(weights, squared) - dot(weights, &self.sums).powi(2) / self.genes
        };
        let change_spread = spread(&self.change, weights, all_squared);
        let truth_spread = spread(&self.truth, of_cells, cells_squared);
        let longer = change_spread.sqrt() / self.length;
        let chosen = self.chosen.each_ref().map(|chosen| chosen.drawn(weights));
        DrawnScores(std::array::from_fn(|at| {
            let Some(one) = &self.predictions[at] else { return [None; DRAWN.len()] };
            let known = |value: f64| Some(value).filter(|value| value.is_finite());
            let shared = one.with_real + dot(weights, &one.change.blocks);
            let correlation = known(shared / (change_spread * one.change.own).sqrt()).filter(|_| one.varies);
            let residual = one.error.squared(of_cells, cells_squared);
            let r2 = |genes: usize, count: usize| {
                let [predicted, _] = self.chosen[genes].predicted[at].as_ref()?;
                let count = count.min(predicted.len());
                metrics::r2(&chosen[genes][0][..count], &predicted[..count])
            };
            let same_sign = || {
                let [_, predicted] = self.chosen[1].predicted[at].as_ref()?;
                let genes: Vec<usize> = (0..self.chosen[1].genes.len()).collect();
                direction(&genes, &chosen[1][1], predicted)
            };
            [
                correlation.map(|correlation| correlation.clamp(-1.0, 1.0) * longer),
                known(one.change_error.squared(weights, all_squared) / self.genes),
                known(1.0 - residual / truth_spread),
                r2(0, TOPS[0]),
                r2(0, TOPS[1]),
                r2(0, TOPS[2]),
                r2(1, TOPS[0]),
                r2(1, TOPS[1]),
                r2(1, TOPS[2]),
                same_sign(),
            ]
        }))
    }
}

impl DrawnGenes<'_> {
    /// The drawn mean of each gene, and its drawn change.
    fn drawn(&self, weights: &[f64; VECTORS]) -> [Vec<f64>; 2] {
        let moved = |of: &[f64], count: usize| -> Vec<f64> {
            of.iter().zip(&self.deviations).map(|(value, blocks)| value + dot(&weights[..count], blocks)).collect()
        };
        [moved(&self.truth, BLOCKS), moved(&self.change, VECTORS)]
    }
}
