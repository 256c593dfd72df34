//! Differential genes are those of pdex, and their scores those of cell-eval.

use serde_json::Value;
use stages::statistics::{
    differential_table::{DifferentialComparison, DifferentialTable, SignificantCounts, counts_correlation},
    false_discovery::adjusted,
    mann_whitney::{SparseValues, log2_fold_change, mann_whitney},
};

use super::{cases, matrix, near};

/// The columns of pdex's table.
struct Columns {
    log2_fold_change: Vec<f64>,
    p_value: Vec<f64>,
    statistic: Vec<f64>,
    false_discovery_rate: Vec<f64>,
}

impl Columns {
    /// Tests every gene of a condition against the controls; pdex compares geometric means of counts plus 1, less 1.
    fn new(perturbed: &[Vec<f64>], controls: &[Vec<f64>]) -> Self {
        let mut columns = Self {
            log2_fold_change: Vec::new(),
            p_value: Vec::new(),
            statistic: Vec::new(),
            false_discovery_rate: Vec::new(),
        };
        for gene in 0..controls[0].len() {
            let stored = |cells: &[Vec<f64>]| -> Vec<f64> {
                cells.iter().map(|cell| cell[gene]).filter(|count| *count > 0.0).collect()
            };
            let (of_perturbed, of_controls) = (stored(perturbed), stored(controls));
            let test = mann_whitney(
                SparseValues { stored: &of_perturbed, cells: perturbed.len() },
                SparseValues { stored: &of_controls, cells: controls.len() },
            );
            let test = test.unwrap();
            let mean = |counts: &[f64], cells: usize| {
                (counts.iter().map(|count| count.ln_1p()).sum::<f64>() / cells as f64).exp_m1()
            };
            let (of_perturbed, of_controls) =
                (mean(&of_perturbed, perturbed.len()), mean(&of_controls, controls.len()));
            columns.log2_fold_change.push(log2_fold_change(of_perturbed, of_controls, 0.0));
            columns.p_value.push(test.p_value);
            columns.statistic.push(test.statistic);
        }
        columns.false_discovery_rate = adjusted(&columns.p_value);
        columns
    }

    /// The tables of a condition in real and in predicted cells.
    fn both(case: &Value, name: &str) -> [Self; 2] {
        ["real", "predicted"].map(|of| {
            let counts = &case["counts"][of];
            Self::new(&matrix(&counts[name]), &matrix(&counts["ctrl"]))
        })
    }

    fn table(&self) -> DifferentialTable<'_> {
        DifferentialTable {
            log2_fold_change: &self.log2_fold_change,
            false_discovery_rate: &self.false_discovery_rate,
        }
    }
}

fn names(case: &Value) -> Vec<String> {
    case["counts_found"].as_object().unwrap().keys().cloned().collect()
}

#[test]
fn tests_by_cells_are_those_of_pdex_and_scipy() {
    let case = &cases()["tables"];
    for name in names(case) {
        for (of, found) in ["real", "predicted"].into_iter().zip(Columns::both(case, &name)) {
            let expected = &case["tables"][of][name.as_str()];
            for gene in 0..found.p_value.len() {
                near("log2_fold_change", Some(found.log2_fold_change[gene]), &expected["log2_fold_change"][gene], 1e-9);
                near("statistic", Some(found.statistic[gene]), &expected["statistic"][gene], 1e-9);
                let p_value = expected["p_value"][gene].as_f64().unwrap();
                near("p_value", Some(found.p_value[gene]), &expected["p_value"][gene], 1e-8 * p_value);
                near("fdr", Some(found.false_discovery_rate[gene]), &expected["fdr"][gene], 1e-9);
            }
        }
    }
}

#[test]
fn scores_of_differential_genes_are_those_of_cell_eval() {
    let case = &cases()["tables"];
    let mut all_counts = Vec::new();
    for name in names(case) {
        let [real, predicted] = Columns::both(case, &name);
        let compared = DifferentialComparison { real: real.table(), predicted: predicted.table() };
        let counts = compared.counts();
        let expected = &case["counts_found"][name.as_str()];
        assert_eq!((expected["real"].as_u64(), expected["pred"].as_u64()), both(counts));
        all_counts.push(counts);
        let found = [
            ("overlap_at_N", compared.overlap_at(None)),
            ("overlap_at_5", compared.overlap_at(Some(5))),
            ("precision_at_N", compared.precision_at(None)),
            ("precision_at_5", compared.precision_at(Some(5))),
            ("de_direction_match", compared.direction_match()),
            ("de_sig_genes_recall", compared.recall()),
            ("de_spearman_lfc_sig", compared.change_correlation()),
            ("pr_auc", compared.precision_recall_area()),
            ("roc_auc", compared.receiver_operating_area()),
        ];
        for (score, found) in found {
            let of_condition = &case["expected"][score][name.as_str()];
            match counts.real {
                // cell-eval has 0 or nothing where no gene is differential.
                0 => assert!(found.is_none() && of_condition.as_f64().unwrap_or(0.0) == 0.0, "{score} of {name}"),
                _ => near(score, found, of_condition, 1e-9),
            }
        }
    }
    assert!(all_counts.iter().any(|counts| counts.real == 0) && all_counts.iter().any(|counts| counts.real > 9));
    near("de_spearman_sig", counts_correlation(&all_counts), &case["de_spearman_sig"], 1e-9);
}

fn both(counts: SignificantCounts) -> (Option<u64>, Option<u64>) {
    (u64::try_from(counts.real).ok(), u64::try_from(counts.predicted).ok())
}
