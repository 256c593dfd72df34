//! Scores are those of scikit-learn, SciPy, scanpy, pertpy, pdex and cell-eval on the same data; `golden_metrics/make.py`
//! asked them.

mod differential_tables;

use serde_json::Value;
use stages::{
    evaluate::{Comparison, Predicted, ScoredGenes, discrimination::RealConditions},
    statistics::{
        dependence::{GeneCorrelations, gene_dependence},
        differential::differential_genes,
        metrics,
        moments::{MeanProfile, Moments},
        point_sets::{PointSet, TargetPointSet},
        rest::{rest_p_values, rest_statistic},
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
    let chosen = ScoredGenes::choose(&truth, &reference, None, None);
    let comparison =
        Comparison { truth: &truth, reference: &reference, source: &source.mean, chosen: &chosen, perturbed: None };
    let predicted = Predicted { mean: numbers(&case["mean"]), variance: Some(numbers(&case["variance"])) };
    let scores = comparison.score(&predicted);
    let expected = case["expected"].as_object().unwrap();
    assert_eq!(expected.len(), 18);
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
fn dependence_between_genes_is_that_of_numpy() {
    let case = &cases()["profiles"];
    let correlations = |name: &str| {
        let mut correlations = GeneCorrelations::new(15);
        matrix(&case[name]).iter().for_each(|cell| correlations.extend(&narrow(&cell[..15])));
        correlations
    };
    let found = gene_dependence(&correlations("truth"), &correlations("reference")).unwrap();
    // Cells are kept as f32.
    near("similarity", found.similarity, &case["dependence"]["similarity"], 1e-6);
    near("error", Some(found.error), &case["dependence"]["error"], 1e-6);
}

#[test]
fn tests_against_the_rest_are_those_of_scanpy_and_weighted_scores_those_of_scikit_learn() {
    let case = &cases()["context"];
    let moments = |names: &[&str]| {
        let mut moments = Moments::new(40);
        let cells = names.iter().flat_map(|name| matrix(&case["counts"][*name]));
        let genes: Vec<u32> = (0..40).collect();
        cells.for_each(|cell| moments.push_sparse(&genes, cell.into_iter().map(f64::ln_1p)));
        moments
    };
    let rest = moments(&["A", "B", "C", "D"]).without(&moments(&["A"])).unwrap();
    let (truth, rest) = (MeanProfile::from(&moments(&["A"])), MeanProfile::from(&rest));
    let (statistic, p_values) = (rest_statistic(&truth, &rest).unwrap(), rest_p_values(&truth, &rest).unwrap());
    for (gene, (statistic, p)) in statistic.iter().zip(&p_values).enumerate() {
        // scanpy keeps statistics as f32.
        near("t", Some(*statistic), &case["statistic"][gene], 1e-6);
        near("p", Some(*p), &case["adjusted_p"][gene], 1e-9);
    }

    let of_conditions = ["B", "C", "D"].map(|name| moments(&[name]).mean());
    let perturbed: Vec<f64> =
        (0..40).map(|gene| of_conditions.iter().map(|mean| mean[gene]).sum::<f64>() / 3.0).collect();
    let chosen = ScoredGenes::choose(&truth, &rest, Some(&rest), None);
    let comparison = Comparison {
        truth: &truth,
        reference: &rest,
        source: &rest.mean,
        chosen: &chosen,
        perturbed: Some(&perturbed),
    };
    let scores = comparison.score(&numbers(&case["prediction"]).into());
    for (name, value) in case["expected"].as_object().unwrap() {
        near(name, scores.named(name), value, 1e-6);
    }
}

#[test]
fn identified_conditions_and_changes_are_those_of_cell_eval_and_systema() {
    let case = &cases()["discrimination"];
    let genes: Vec<&str> = case["genes"].as_array().unwrap().iter().map(|gene| gene.as_str().unwrap()).collect();
    let profile = |of: &str, name: &str| numbers(&case[of][name]);
    let change = |of: &str, name: &str| metrics::difference(&profile(of, name), &profile(of, "ctrl"));
    let expected = &case["expected"];
    let names: Vec<&String> = expected["centroid_accuracy"].as_object().unwrap().keys().collect();
    let reference = narrow(&profile("real", "ctrl"));
    for name in &names {
        let others: Vec<Vec<f32>> =
            names.iter().filter(|other| *other != name).map(|other| narrow(&profile("real", other))).collect();
        let others: Vec<&[f32]> = others.iter().map(Vec::as_slice).collect();
        let left_out: Vec<usize> = genes.iter().position(|gene| gene == name).into_iter().collect();
        let real = RealConditions { others: &others, reference: &reference, left_out: &left_out };
        let (truth, predicted) = (change("real", name), change("predicted", name));
        let distances = real.distances([(narrow(&profile("predicted", name)), narrow(&predicted))]);
        let found = distances[0].scores(&narrow(&profile("real", name)));
        let of = |score: &str| &expected[score][name.as_str()];
        near(name, found.l1, of("discrimination_score_l1"), 1e-9);
        near(name, found.l2, of("discrimination_score_l2"), 1e-9);
        near(name, found.cosine, of("discrimination_score_cosine"), 1e-9);
        near(name, found.centroid_accuracy, of("centroid_accuracy"), 1e-9);
        // Nothing is as near here, so that ranks among n and among n − 1 conditions are of the same number.
        let conditions = names.len() as f64;
        let among_others = found.l1.map(|l1| 1.0 - (1.0 - l1) * conditions / (conditions - 1.0));
        assert!((found.rank.unwrap() - among_others.unwrap()).abs() < 1e-12);
        near(name, metrics::pearson(&truth, &predicted), of("pearson_delta"), 1e-9);
        near(name, metrics::mean_squared_error(&truth, &predicted), of("mse_delta"), 1e-9);
        near(name, metrics::mean_absolute_error(&truth, &predicted), of("mae_delta"), 1e-9);
    }
}
