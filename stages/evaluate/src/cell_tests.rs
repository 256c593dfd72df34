//! Scores by tests of cells: differential genes as cell-eval finds them, and the dependence between genes.
//!
//! Real cells are tested against the controls that real changes are measured from; predicted cells against the prediction's own
//! controls, or else against those that predictions start from, so that the noise of no control is on both sides.

use statistics::{
    cell_rows::{CellRows, GeneColumns},
    dependence::{GeneCorrelations, gene_dependence},
    differential::top_genes,
    differential_table::{DifferentialComparison, DifferentialGenes, SignificantCounts, TestedGenes},
    moments::{MeanProfile, Moments},
};

use super::{baselines::Baseline, scores::PredictionScores};

/// Number of genes whose correlations are compared: those that changed most.
const DEPENDENT_GENES: usize = 50;

/// Maximum number of controls whose correlations are those of a prediction of control.
const CONTROLS_THAT_DEPEND: usize = 500;

/// Most values of a group that are tested: so its memory is bounded, however many cells it has.
const MOST_VALUES: usize = 20_000_000;

/// Maximum number of cells of a group that are tested, for this many genes.
#[must_use]
pub fn cells_per_test(genes: usize) -> u64 {
    (MOST_VALUES / genes.max(1)) as u64
}

/// Some controls of a context, ready for tests against them.
#[derive(Debug)]
pub struct TestControls {
    columns: GeneColumns,
    /// At most [`CONTROLS_THAT_DEPEND`] of them.
    rows: CellRows,
    profile: MeanProfile,
}

/// Tests of one condition's real cells.
#[derive(Debug)]
pub struct RealTests {
    whole: RealPart,
    first_half: RealPart,
    /// The genes whose correlations are compared.
    dependent: Vec<usize>,
    /// The scores of a prediction of control by either part, and of the second half by the first.
    controls: [PredictionScores; 2],
    ceiling: PredictionScores,
}

/// Tests of a part of the real cells.
#[derive(Debug)]
struct RealPart {
    genes: DifferentialGenes,
    correlations: GeneCorrelations,
}

/// The scores by tests of cells of one condition; those of a prediction without cells are undefined.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CellTests {
    /// The prediction's scores by all real cells, and by the first half of them.
    pub model: [PredictionScores; 2],
    /// The same of a prediction of control.
    pub control: [PredictionScores; 2],
    /// The scores of the second half of the real cells by the first.
    pub ceiling: PredictionScores,
    /// Numbers of differential genes.
    pub counts: Option<SignificantCounts>,
}

impl TestControls {
    /// Prepares controls; rows have values on a scale of logarithms.
    ///
    /// # Panics
    /// If a gene is beyond the last one.
    #[must_use]
    pub fn new(genes: usize, rows: &CellRows) -> Self {
        let count = rows.count();
        let mut kept = CellRows::default();
        for (at, (genes, values)) in rows.all().enumerate() {
            let most = CONTROLS_THAT_DEPEND.min(count);
            if at * most / count != (at + 1) * most / count {
                kept.push(genes, values.iter().copied());
            }
        }
        Self { columns: GeneColumns::new(genes, &[rows]), rows: kept, profile: profile(genes, &[rows]) }
    }
}

impl RealTests {
    /// Tests the two halves of a condition's cells; `None` without cells or controls.
    ///
    /// # Panics
    /// If a gene is beyond the last one.
    #[must_use]
    pub fn new(halves: [&CellRows; 2], reference: &TestControls, source: &TestControls) -> Option<Self> {
        let genes = reference.columns.genes();
        let [first, second] = halves;
        let dependent = top_genes(&profile(genes, &halves), &reference.profile, DEPENDENT_GENES);
        let part = |groups: &[&CellRows]| {
            let tested = TestedGenes::new(&GeneColumns::new(genes, groups), &reference.columns)?;
            let correlations = correlations(&dependent, genes, groups);
            Some(RealPart { genes: DifferentialGenes::from(&tested), correlations })
        };
        let whole = part(&halves)?;
        let none = || RealPart { genes: DifferentialGenes::default(), correlations: GeneCorrelations::new(0) };
        let first_half = part(&[first]).filter(|_| second.count() > 0);
        let has_halves = first_half.is_some();
        let first_half = first_half.unwrap_or_else(none);
        let mut tests = Self {
            whole,
            first_half,
            dependent,
            controls: <[PredictionScores; 2]>::default(),
            ceiling: PredictionScores::default(),
        };
        let of_controls = correlations(&tests.dependent, genes, &[&source.rows]);
        let nothing = TestedGenes::of_nothing(genes);
        tests.controls = [&tests.whole, &tests.first_half].map(|part| part.score(&nothing, &of_controls).0);
        if has_halves && let Some(tested) = TestedGenes::new(&GeneColumns::new(genes, &[second]), &source.columns) {
            let correlations = correlations(&tests.dependent, genes, &[second]);
            tests.ceiling = tests.first_half.score(&tested, &correlations).0;
        }
        Some(tests)
    }

    /// The scores of a prediction by its cells, if it has any.
    ///
    /// # Panics
    /// If a gene is beyond the last one.
    #[must_use]
    pub fn score(&self, predicted: Option<&CellRows>, controls: &TestControls) -> CellTests {
        let genes = controls.columns.genes();
        let tested = predicted.and_then(|rows| {
            let tested = TestedGenes::new(&GeneColumns::new(genes, &[rows]), &controls.columns)?;
            Some((tested, correlations(&self.dependent, genes, &[rows])))
        });
        let scored = tested.map(|(tested, correlations)| {
            let (whole, counts) = self.whole.score(&tested, &correlations);
            ([whole, self.first_half.score(&tested, &correlations).0], counts)
        });
        let (model, counts) = scored.unzip();
        CellTests { model: model.unwrap_or_default(), control: self.controls, ceiling: self.ceiling, counts }
    }
}

impl RealPart {
    fn score(&self, tested: &TestedGenes, correlations: &GeneCorrelations) -> (PredictionScores, SignificantCounts) {
        let compared = DifferentialComparison::new(&self.genes, tested);
        let dependence = gene_dependence(&self.correlations, correlations);
        let scores = PredictionScores {
            overlap_at_n: compared.overlap_at(None),
            overlap_at_50: compared.overlap_at(Some(50)),
            overlap_at_100: compared.overlap_at(Some(100)),
            overlap_at_200: compared.overlap_at(Some(200)),
            overlap_at_500: compared.overlap_at(Some(500)),
            precision_at_n: compared.precision_at(None),
            precision_at_50: compared.precision_at(Some(50)),
            precision_at_100: compared.precision_at(Some(100)),
            precision_at_200: compared.precision_at(Some(200)),
            precision_at_500: compared.precision_at(Some(500)),
            de_sig_genes_recall: compared.recall(),
            de_direction_match: compared.direction_match(),
            de_spearman_lfc_sig: compared.change_correlation(),
            pr_auc: compared.precision_recall_area(),
            roc_auc: compared.receiver_operating_area(),
            gene_dependence: dependence.and_then(|dependence| dependence.similarity),
            gene_dependence_error: dependence.map(|dependence| dependence.error),
            ..PredictionScores::default()
        };
        (scores, compared.counts())
    }
}

impl CellTests {
    /// The scores of a baseline by all real cells or by the first half: all baselines move the cells of control, which
    /// changes no correlation, but only `control` itself is tested.
    #[must_use]
    pub fn of_baseline(&self, baseline: Baseline, part: usize) -> PredictionScores {
        let control = self.control[part];
        match baseline {
            Baseline::Control => control,
            _ => PredictionScores {
                gene_dependence: control.gene_dependence,
                gene_dependence_error: control.gene_dependence_error,
                ..PredictionScores::default()
            },
        }
    }
}

/// The mean and variance of each gene over the cells of some groups.
fn profile(genes: usize, groups: &[&CellRows]) -> MeanProfile {
    let mut moments = Moments::new(genes);
    for (genes, values) in groups.iter().flat_map(|rows| rows.all()) {
        moments.push_sparse(genes, values.iter().map(|value| f64::from(*value)));
    }
    MeanProfile::from(&moments)
}

/// The correlations of some genes over the cells of some groups.
fn correlations(dependent: &[usize], genes: usize, groups: &[&CellRows]) -> GeneCorrelations {
    let mut place = vec![usize::MAX; genes];
    dependent.iter().enumerate().for_each(|(at, gene)| place[*gene] = at);
    let mut correlations = GeneCorrelations::new(dependent.len());
    let mut cell = vec![0.0; dependent.len()];
    for (genes, values) in groups.iter().flat_map(|rows| rows.all()) {
        cell.fill(0.0);
        for (gene, value) in genes.iter().zip(values) {
            if let Some(at) = cell.get_mut(place[*gene as usize]) {
                *at = *value;
            }
        }
        correlations.extend(&cell);
    }
    correlations
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    const GENES: usize = 80;

    /// Cells in which a quarter of the genes are higher by `effect`, and pairs of genes vary together.
    fn cells(count: usize, effect: f32, seed: u64) -> CellRows {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut rows = CellRows::default();
        for _ in 0..count {
            let shared: [f32; GENES / 2] = std::array::from_fn(|_| random.random());
            let value = |gene: usize| shared[gene / 2] + if gene.is_multiple_of(4) { effect } else { 0.0 };
            let values: Vec<f32> = (0..GENES).map(|gene| value(gene) + 0.3 * random.random::<f32>()).collect();
            rows.push(&(0..).take(GENES).collect::<Vec<_>>(), values);
        }
        rows
    }

    #[test]
    fn other_cells_of_a_condition_are_found_and_controls_are_not() {
        let controls = |seed| TestControls::new(GENES, &cells(60, 0.0, seed));
        let (reference, source) = (controls(1), controls(2));
        let real = RealTests::new([&cells(50, 0.6, 3), &cells(50, 0.6, 4)], &reference, &source).expect("cells");
        let duplicate = real.score(Some(&cells(100, 0.6, 5)), &source);
        let scores = duplicate.model[0];
        assert!(scores.overlap_at_n > Some(0.8) && scores.de_sig_genes_recall > Some(0.85), "{scores:?}");
        assert!(scores.roc_auc > Some(0.9) && scores.gene_dependence > Some(0.5), "{scores:?}");
        assert!(duplicate.ceiling.overlap_at_n > Some(0.8), "{:?}", duplicate.ceiling);
        assert_eq!(duplicate.control[0].overlap_at_n, Some(0.0));
        assert_eq!((duplicate.control[0].roc_auc, duplicate.control[0].de_spearman_lfc_sig), (Some(0.5), None));
        assert!(duplicate.counts.is_some_and(|counts| counts.real >= GENES / 4 && counts.predicted >= GENES / 4));
        let unchanged = real.score(Some(&cells(100, 0.0, 6)), &source).model[0];
        assert!(unchanged.overlap_at_n < Some(0.1), "{unchanged:?}");
        let unknown = real.score(None, &source);
        assert_eq!((unknown.model, unknown.counts), (<[PredictionScores; 2]>::default(), None));
        assert_eq!(unknown.control, duplicate.control);
        assert_eq!(duplicate.of_baseline(Baseline::Additive, 0).overlap_at_n, None);
        assert!(duplicate.of_baseline(Baseline::Additive, 0).gene_dependence.is_some());
    }

    #[test]
    fn without_cells_or_controls_there_is_no_test() {
        let controls = TestControls::new(GENES, &cells(20, 0.0, 1));
        let none = CellRows::default();
        assert!(RealTests::new([&none, &none], &controls, &controls).is_none());
        assert!(RealTests::new([&none, &cells(9, 0.0, 2)], &TestControls::new(GENES, &none), &controls).is_none());
        let alone = RealTests::new([&none, &cells(9, 0.0, 2)], &controls, &controls).expect("nine cells");
        assert_eq!(alone.ceiling, PredictionScores::default());
        assert_eq!((cells_per_test(5_000), cells_per_test(20_000)), (4_000, 1_000));
    }
}
