//! Properties of a simulated atlas.

use std::collections::HashMap;

use arrow::array::AsArray;
use arrow::datatypes::{Float32Type, UInt64Type};

use super::*;

fn settings() -> SimulateSettings {
    SimulateSettings {
        cells: 6000,
        genes: 80,
        conditions: 5,
        combos: 2,
        interactions: Interactions::Own,
        interaction: 1.0,
        cell_types: 2,
        doses: 2,
        density: 0.3,
        batches: 2,
        sorted: false,
        seed: 11,
    }
}

fn simulator(settings: SimulateSettings) -> Simulator {
    Simulator::new(settings).expect("the settings are good")
}

/// The truth by condition, dose and cell type: number of cells, interaction, means.
fn truth(simulator: &Simulator) -> HashMap<[String; 3], (u64, f32, Vec<f64>)> {
    let mut rows = HashMap::new();
    for batch in simulator.truth() {
        let batch = batch.expect("the truth is a table");
        for row in 0..batch.num_rows() {
            let key = [0, 1, 2].map(|column| batch.column(column).as_string::<i32>().value(row).to_owned());
            let mean = batch.column(5).as_fixed_size_list().value(row);
            let mean = mean.as_primitive::<Float32Type>().values().iter().map(|mean| f64::from(*mean)).collect();
            let cells = batch.column(3).as_primitive::<UInt64Type>().value(row);
            let interaction = batch.column(4).as_primitive::<Float32Type>().value(row);
            assert!(rows.insert(key, (cells, interaction, mean)).is_none(), "a condition comes twice");
        }
    }
    rows
}

fn key(chunk: &Chunk, row: usize) -> [String; 3] {
    [1, 2, 3].map(|column| chunk.obs.column(column).as_string::<i32>().value(row).to_owned())
}

#[test]
fn any_split_into_ranges_gives_the_same_cells() {
    for sorted in [true, false] {
        let simulator = simulator(SimulateSettings { sorted, ..settings() });
        let whole = simulator.chunk(0..100).expect("the cells are there");
        for cell in [0, 17, 99] {
            let alone = simulator.chunk(cell..cell + 1).expect("the cell is there");
            let row = usize::try_from(cell).expect("a small number");
            assert_eq!(alone.expression.row(0), whole.expression.row(row));
            assert_eq!(alone.obs, whole.obs.slice(row, 1));
            assert_eq!(alone.first, CellIndex(cell));
        }
    }
}

#[test]
fn a_seed_says_everything() {
    let one = simulator(settings()).chunk(10..50).expect("the cells are there");
    let same = simulator(settings()).chunk(10..50).expect("the cells are there");
    let other = simulator(SimulateSettings { seed: 12, ..settings() }).chunk(10..50).expect("the cells are there");
    assert_eq!((&one.expression, &one.obs), (&same.expression, &same.obs));
    assert_ne!(one.expression, other.expression);
}

#[test]
fn the_ranges_cover_every_cell_once() {
    let simulator = simulator(SimulateSettings { cells: 20_001, ..settings() });
    let ranges: Vec<_> = simulator.chunks().collect();
    assert_eq!((ranges[0].start, ranges.last().map(|range| range.end)), (0, Some(20_001)));
    assert!(ranges.len() > 1 && ranges.windows(2).all(|pair| pair[0].end == pair[1].start));
}

#[test]
fn the_mean_of_many_cells_is_the_truth() {
    let simulator = simulator(settings());
    let mut sums: HashMap<[String; 3], Vec<(f64, f64)>> = HashMap::new();
    let mut counts: HashMap<[String; 3], u64> = HashMap::new();
    for range in simulator.chunks() {
        let chunk = simulator.chunk(range).expect("the cells are there");
        for row in 0..chunk.expression.rows() {
            let key = key(&chunk, row);
            *counts.entry(key.clone()).or_default() += 1;
            let sums = sums.entry(key).or_insert_with(|| vec![(0.0, 0.0); 80]);
            let (genes, values) = chunk.expression.row(row);
            for (gene, value) in genes.iter().zip(values) {
                let (sum, squares) = &mut sums[*gene as usize];
                *sum += f64::from(*value);
                *squares += f64::from(*value).powi(2);
            }
        }
    }
    let truth = truth(&simulator);
    assert_eq!(truth.len(), (1 + 3 * 2 + 2 * 2) * 2);
    let mut squared_errors = Vec::new();
    for (key, (cells, _, means)) in &truth {
        assert_eq!(counts.get(key), Some(cells), "{key:?}");
        let cells = *cells as f64;
        for (mean, (sum, squares)) in means.iter().zip(&sums[key]) {
            let found = sum / cells;
            let error = ((squares / cells - found * found) / cells).sqrt();
            if *sum > 30.0 {
                squared_errors.push(((found - mean) / error).powi(2));
            }
        }
    }
    let mean = squared_errors.iter().sum::<f64>() / squared_errors.len() as f64;
    assert!(squared_errors.len() > 500 && (0.8..1.3).contains(&mean), "mean squared error {mean} in standard errors");
}

#[test]
fn the_density_is_close_to_the_one_asked_for() {
    for density in [0.05, 0.3, 0.7] {
        let settings = SimulateSettings { genes: 400, cells: 2000, density, doses: 1, ..settings() };
        let chunk = simulator(settings).chunk(0..1000).expect("the cells are there");
        let found = chunk.expression.values().len() as f64 / 400_000.0;
        assert!((found / density - 1.0).abs() < 0.15, "{found} instead of {density}");
    }
}

#[test]
fn a_combination_differs_from_the_sum_of_its_parts_by_its_interaction() {
    let simulator = simulator(SimulateSettings { doses: 1, ..settings() });
    let truth = truth(&simulator);
    let mut combinations = 0;
    for ([condition, dose, cell_type], (_, interaction, means)) in &truth {
        let Some((first, second)) = condition.split_once('+') else {
            assert_eq!(*interaction, 0.0);
            continue;
        };
        assert_eq!(dose, "1+1");
        let means_of = |condition: &str| &truth[&[condition.to_owned(), "1".to_owned(), cell_type.clone()]].2;
        let (first, second, control) = (means_of(first), means_of(second), means_of(CONTROL));
        let beyond = (0..80).map(|gene| (means[gene] * control[gene] / (first[gene] * second[gene])).ln().powi(2));
        let found = beyond.sum::<f64>().sqrt();
        assert!(found > 0.5 && (found - f64::from(*interaction)).abs() < 1e-3, "{found}, not {interaction}");
        combinations += 1;
    }
    assert_eq!(combinations, 4);
}

#[test]
fn a_dose_does_ever_less_and_a_perturbation_knocks_its_own_gene_down() {
    let simulator = simulator(SimulateSettings { doses: 4, ..settings() });
    let truth = truth(&simulator);
    let target = simulator.variants[1].label.clone();
    let gene = simulator.genes().iter().position(|gene| *gene == target).expect("perturbations are genes");
    let log_mean =
        |condition: &str, dose: &str| truth[&[condition.to_owned(), dose.to_owned(), "type_0".to_owned()]].2[gene].ln();
    let logs = [log_mean(CONTROL, "1"), log_mean(&target, "0.25"), log_mean(&target, "0.5"), log_mean(&target, "1")];
    let (quarter, half, whole) = (logs[0] - logs[1], logs[0] - logs[2], logs[0] - logs[3]);
    assert!(whole > 1.0 && quarter < half && half < whole, "{logs:?}");
    assert!(whole < 2.0 * half && half < 2.0 * quarter, "{logs:?}");
}

#[test]
fn settings_that_make_no_atlas_are_refused() {
    for (settings, message) in [
        (SimulateSettings { cells: 0, ..settings() }, "a simulated atlas needs at least one cell"),
        (SimulateSettings { combos: 9, ..settings() }, "9 combinations are more than the 5 conditions"),
        (SimulateSettings { conditions: 4, combos: 3, ..settings() }, "1 single perturbations make 0 pairs, not 3"),
        (SimulateSettings { genes: 2, ..settings() }, "3 single perturbations need as many genes to act on, not 2"),
        (SimulateSettings { density: f64::NAN, ..settings() }, "a density of NaN is not between 0 and 1"),
    ] {
        let error = Simulator::new(settings).expect_err("the settings are bad");
        assert_eq!(error.to_string(), message);
        assert_eq!(error.exit_code(), schemas::error::ExitCode::Usage);
    }
}

#[test]
fn interactions_have_the_size_that_is_asked_for_and_may_come_from_pathways() {
    let sizes = |interactions, interaction| -> Vec<f32> {
        let simulator = simulator(SimulateSettings { interactions, interaction, doses: 1, ..settings() });
        truth(&simulator).into_iter().filter(|(key, _)| key[0].contains('+')).map(|(_, (_, size, _))| size).collect()
    };
    for from in [Interactions::Own, Interactions::Pathways] {
        let mean = |size: f64| sizes(from, size).iter().sum::<f32>() / 4.0;
        assert!(mean(1.0) > 0.0 && mean(0.0) == 0.0);
        assert!((mean(2.0) / mean(1.0) - 2.0).abs() < 1e-3, "{} {}", mean(2.0), mean(1.0));
    }
}
