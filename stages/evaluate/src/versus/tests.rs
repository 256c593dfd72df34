//! Leads and their intervals on cells whose truth is known.

use statistics::{blocks::BlockSums, moments::MeanProfile};

use super::{super::comparison::ScoredGenes, *};

const GENES: usize = 80;

/// Cells around a mean for each gene, as a profile and as blocks.
fn cells(mean: &dyn Fn(usize) -> f64, count: usize, noise: f64, seed: u64) -> (MeanProfile, BlockSums) {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut blocks = BlockSums::new(GENES);
    let genes: Vec<u32> = (0..80).collect();
    let mut sums = vec![0.0; GENES];
    for cell in 0..count {
        let values: Vec<f64> = (0..GENES).map(|gene| mean(gene) + noise * (random.random::<f64>() - 0.5)).collect();
        sums.iter_mut().zip(&values).for_each(|(sum, value)| *sum += value);
        blocks.push_sparse(cell % 16, &genes, values);
    }
    let mean = sums.iter().map(|sum| sum / count as f64).collect();
    (MeanProfile { cells: count as u64, variance: vec![noise * noise / 12.0; GENES], mean }, blocks)
}

/// The leads of a prediction over baselines that all predict `rival`, the same by means and by blocks.
fn versus(change: &dyn Fn(usize) -> f64, model: &dyn Fn(usize) -> f64, rival: &dyn Fn(usize) -> f64) -> Versus {
    let start = |gene: usize| 2.0 + (gene as f64 * 0.7).sin();
    let (truth, truth_blocks) = cells(&|gene| start(gene) + change(gene), 60, 1.0, 1);
    let (reference, reference_blocks) = cells(&start, 60, 1.0, 2);
    let source: Vec<f64> = (0..GENES).map(start).collect();
    let chosen = ScoredGenes::choose(&truth, &reference, None, Some((0..GENES).collect()));
    let comparison =
        Comparison { truth: &truth, reference: &reference, source: &source, chosen: &chosen, perturbed: None };
    let contestants = std::array::from_fn(|at| {
        let added = if at == 0 { model } else { rival };
        let predicted = Predicted::from((0..GENES).map(|gene| source[gene] + added(gene)).collect::<Vec<_>>());
        let scores = comparison.score(&predicted);
        ComparedPrediction { scores, predicted: (at != 2).then_some(predicted) }
    });
    let draws = (0..CELL_DRAWS as u64).filter_map(|draw| {
        let mean = |blocks: &BlockSums, seed| Some(blocks.weighted(&blocks.weights(seed, draw)?));
        Some(ResampledMeans { truth: mean(&truth_blocks, 5)?, reference: mean(&reference_blocks, 6)? })
    });
    let drawn = DrawnBlocks {
        cells: &truth_blocks,
        seed: 5,
        controls: &reference_blocks,
        control_seed: 6,
        control_mean: &reference.mean,
    };
    let (by_means, by_blocks) =
        (by_means(&comparison, &contestants, draws), by_blocks(&comparison, &contestants, &drawn));
    assert_eq!((by_means.len(), by_blocks.len()), (CELL_DRAWS, CELL_DRAWS));
    for (by_means, by_blocks) in by_means.iter().flat_map(|one| one.0).zip(by_blocks.iter().flat_map(|one| one.0)) {
        for ((score, a), b) in DRAWN.iter().zip(by_means).zip(by_blocks) {
            let near = a.zip(b).map_or(a == b, |(a, b)| (a - b).abs() < 1e-9 * a.abs().max(1.0));
            assert!(near, "{score}: {a:?} by means, {b:?} by blocks");
        }
    }
    of_condition(&contestants, &by_blocks, 0).0
}

fn wave(step: f64) -> impl Fn(usize) -> f64 {
    move |gene| (gene as f64 * step).sin()
}

#[test]
fn a_better_prediction_has_an_interval_above_zero() {
    let half = |gene: usize| wave(1.3)(gene) + wave(2.9)(gene);
    let versus = versus(&wave(1.3), &wave(1.3), &half);
    assert_eq!(versus.len(), Baseline::ALL.len() + 1);
    for score in ["r2_mean", "pearson_delta", "mse_delta", "r2_mean_top50", "r2_mean_top20_train"] {
        let [low, mid, high] = versus["additive"][score].expect("both are defined");
        assert!(0.0 < low && low < mid && mid < high, "{score}: {low} {mid} {high}");
    }
    assert_eq!(versus[BEST]["pearson_delta"], versus["additive"]["pearson_delta"]);
    assert!(versus["perturbed_mean"].values().all(Option::is_none), "a baseline without a prediction has no interval");
}

#[test]
fn where_nothing_changes_no_prediction_is_better() {
    let versus = versus(&|_| 0.0, &wave(1.3), &wave(2.9));
    let [low, _, high] = versus["additive"]["pearson_delta"].expect("both are defined");
    assert!(low < 0.0 && 0.0 < high, "{low} to {high}");
}
