//! Scores are those of scikit-learn, SciPy, pertpy and cell-eval on the same data; `golden_metrics/make.py` asked them.

use serde_json::Value;
use stages::{
    evaluate::{Comparison, Predicted, ScoredGenes, discrimination},
    statistics::{
        differential::differential_genes,
        metrics,
        moments::{MeanProfile, Moments},
        point_sets::{PointSet, TargetPointSet},
    },
};

fn cases() -> Value {
    serde_json::from_str(include_str!("../golden_metrics/cases.json")).unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

fn matrix(value: &Value) -> Vec<Vec<f64>> {
    value.as_array().unwrap().iter().map(numbers).collect()
}

#[expect(clippy::cast_possible_truncation, reason = "profiles of single cells are f32")]
fn narrow(values: &[f64]) -> Vec<f32> {
    values.iter().map(|value| *value as f32).collect()
}

/// A stream of cells as its means and variances.
fn group(value: &Value) -> MeanProfile {
    let cells = matrix(value);
    let genes: Vec<u32> = (0..u32::try_from(cells[0].len()).unwrap()).collect();
    let mut moments = Moments::new(genes.len());
    cells.into_iter().for_each(|cell| moments.push_sparse(&genes, cell));
    MeanProfile::from(&moments)
}

#[track_caller]
fn near(name: &str, found: Option<f64>, expected: &Value, tolerance: f64) {
    let (found, expected) = (found.unwrap(), expected.as_f64().unwrap());
    assert!((found - expected).abs() < tolerance, "{name}: {found} is not {expected}");
}

#[test]
fn scores_of_means_and_variances_are_those_of_scikit_learn_scipy_and_cell_eval() {
    let case = &cases()["profiles"];
    let (truth, reference, source) = (group(&case["truth"]), group(&case["reference"]), group(&case["source"]));
    let chosen = ScoredGenes::choose(&truth, &reference, None);
    let comparison = Comparison { truth: &truth, reference: &reference, source: &source.mean, chosen: &chosen };
    let predicted = Predicted { mean: numbers(&case["mean"]), variance: Some(numbers(&case["variance"])) };
    let scores = comparison.score(&predicted);
    let expected = case["expected"].as_object().unwrap();
    assert_eq!(expected.len(), 13);
    for (name, value) in expected {
        near(name, scores.named(name), value, 1e-9);
    }
}

#[test]
fn differential_genes_are_those_of_scipy() {
    let case = &cases()["profiles"];
    let found = differential_genes(&group(&case["truth"]), &group(&case["reference"])).unwrap();
    assert_eq!(found.iter().map(|gene| *gene as f64).collect::<Vec<_>>(), numbers(&case["differential"]));
    assert!(10 < found.len() && found.len() < 50, "some genes differ and some do not: {}", found.len());
}

#[test]
fn distances_of_cells_are_those_of_pertpy() {
    let case = &cases()["clouds"];
    let point_set = |name: &str| {
        let mut point_set = PointSet::new(5);
        matrix(&case[name]).iter().for_each(|cell| point_set.extend(&narrow(cell)));
        point_set
    };
    let (real, predicted) = (point_set("real"), point_set("predicted"));
    let target = TargetPointSet::new(&real).unwrap();
    let (e_distance, mmd) = target.distances(&predicted, target.apart(&predicted));
    // Points are kept as f32.
    near("gamma", Some(target.gamma()), &case["expected"]["gamma"], 1e-6);
    near("e_distance", e_distance, &case["expected"]["e_distance"], 1e-5);
    near("mmd", mmd, &case["expected"]["mmd"], 1e-6);
}

#[test]
fn ranks_and_changes_are_those_of_cell_eval() {
    let case = &cases()["discrimination"];
    let genes: Vec<&str> = case["genes"].as_array().unwrap().iter().map(|gene| gene.as_str().unwrap()).collect();
    let change = |of: &str, name: &str| metrics::difference(&numbers(&case[of][name]), &numbers(&case[of]["ctrl"]));
    let expected = &case["expected"];
    let names: Vec<&String> = expected["rank"].as_object().unwrap().keys().collect();
    let real: Vec<Vec<f32>> = names.iter().map(|name| narrow(&change("real", name))).collect();
    let real: Vec<&[f32]> = real.iter().map(Vec::as_slice).collect();
    for (own, name) in names.iter().enumerate() {
        let targeted: Vec<usize> = genes.iter().position(|gene| gene == name).into_iter().collect();
        let predicted = change("predicted", name);
        // cell-eval divides the number of nearer conditions by that of all conditions; nothing is as near here.
        let conditions = real.len() as f64;
        let rank = discrimination::rank(own, &real, &narrow(&predicted), &targeted);
        let cell_eval = rank.map(|rank| 1.0 - (1.0 - rank) * (conditions - 1.0) / conditions);
        near(name, cell_eval, &expected["rank"][name], 1e-9);
        let truth = change("real", name);
        near(name, metrics::pearson(&truth, &predicted), &expected["pearson_delta"][name], 1e-9);
        near(name, metrics::mean_squared_error(&truth, &predicted), &expected["mse_delta"][name], 1e-9);
    }
}
