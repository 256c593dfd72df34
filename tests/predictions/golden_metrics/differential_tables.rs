//! Differential genes are those of pdex, and their scores those of cell-eval.

use serde_json::Value;
use stages::statistics::{
    cell_rows::{CellRows, GeneColumns},
    differential_table::{
        DifferentialComparison, DifferentialGenes, SignificantCounts, TestedGenes, counts_correlation,
    },
    gene_tests::GeneTests,
};

use super::{cases, matrix, near};

/// The logarithms of counts.
fn logarithms(cells: &[Vec<f64>]) -> CellRows {
    let mut rows = CellRows::default();
    let genes: Vec<u32> = (0..).take(cells[0].len()).collect();
    #[expect(clippy::cast_possible_truncation, reason = "single precision is what is tested")]
    cells.iter().for_each(|cell| rows.push(&genes, cell.iter().map(|count| count.ln_1p() as f32)));
    rows
}

/// The tests of a condition in real and in predicted cells.
fn both_tested(case: &Value, name: &str) -> [TestedGenes; 2] {
    ["real", "predicted"].map(|of| {
        let group = |name: &str| matrix(&case["counts"][of][name]);
        let controls = group("ctrl");
        let columns = GeneColumns::new(controls[0].len(), &[&logarithms(&controls)]);
        GeneTests::new(logarithms(&group(name)), columns).unwrap().into()
    })
}

fn names(case: &Value) -> Vec<String> {
    case["counts_found"].as_object().unwrap().keys().cloned().collect()
}

#[test]
fn tests_by_cells_are_those_of_pdex_and_scipy() {
    let case = &cases()["tables"];
    for name in names(case) {
        for (of, found) in ["real", "predicted"].into_iter().zip(both_tested(case, &name)) {
            let expected = &case["tables"][of][name.as_str()];
            for gene in 0..found.p_value.len() {
                near("log2_fold_change", Some(found.log2_fold_change[gene]), &expected["log2_fold_change"][gene], 1e-6);
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
        let [real, predicted] = both_tested(case, &name);
        let genes = DifferentialGenes::from(&real);
        let compared = DifferentialComparison::new(&genes, &predicted);
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
