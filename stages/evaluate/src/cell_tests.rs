//! Scores by tests of cells: differential genes as cell-eval finds them, and the dependence between genes.
//!
//! Real cells are tested against the controls that real changes are measured from; predicted cells against the prediction's own
//! controls, or else against those that predictions start from, so that the noise of no control is on both sides.

use std::sync::Arc;

use statistics::{
    cell_rows::{CellRows, GeneColumns},
    dependence::{GeneCorrelations, gene_dependence},
    differential::top_genes,
    differential_table::{DifferentialComparison, DifferentialGenes, SignificantCounts, TestedGenes},
    gene_tests::{GeneTests, TestRound},
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
    columns: Arc<GeneColumns>,
    /// At most [`CONTROLS_THAT_DEPEND`] of them, `[genes, cells]`, gene by gene.
    dependent: Vec<f32>,
    profile: MeanProfile,
}

/// The tests of all genes of one condition's real cells; `None` if one of them is undefined.
#[derive(Debug, Default)]
pub struct RealGeneTests {
    /// All cells against reference controls.
    pub whole: Option<GeneTests>,
    /// The first half against reference controls.
    pub first_half: Option<GeneTests>,
    /// The second half against source controls.
    pub second_half: Option<GeneTests>,
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
        let most = CONTROLS_THAT_DEPEND.min(count);
        let is_kept = |at: &usize| at * most / count != (at + 1) * most / count;
        let kept = rows.all().enumerate().filter(|(at, _)| is_kept(at)).map(|(_, cell)| cell);
        let mut dependent = vec![0.0; genes * most];
        for (cell, (ids, values)) in kept.enumerate() {
            ids.iter().zip(values).for_each(|(gene, value)| dependent[*gene as usize * most + cell] = *value);
        }
        Self { columns: Arc::new(GeneColumns::new(genes, &[rows])), dependent, profile: profile(genes, &[rows]) }
    }

    /// The tests of the halves of this many conditions, two parts each, as [`RealGeneTests`] has them.
    #[must_use]
    pub fn rounds_of_halves(conditions: usize, reference: &Self, source: &Self) -> Vec<TestRound> {
        let grouping = |group_of: fn(usize) -> Option<usize>| (0..2 * conditions).map(group_of).collect();
        let groupings = [
            vec![grouping(|part| Some(part / 2)), grouping(|part| part.is_multiple_of(2).then_some(part / 2))],
            vec![grouping(|part| (part % 2 == 1).then_some(part / 2))],
        ];
        let round =
            |(groupings, controls): (_, &Self)| TestRound { controls: Arc::clone(&controls.columns), groupings };
        groupings.into_iter().zip([reference, source]).map(round).collect()
    }

    /// The tests of this many conditions' predicted cells, one part each.
    #[must_use]
    pub fn round(&self, conditions: usize) -> TestRound {
        TestRound { controls: Arc::clone(&self.columns), groupings: vec![(0..conditions).map(Some).collect()] }
    }

    /// Number of genes.
    fn genes(&self) -> usize {
        self.columns.genes()
    }

    /// The correlations of some genes over the cells that are kept for it.
    fn correlations(&self, dependent: &[usize]) -> GeneCorrelations {
        let cells = self.dependent.len() / self.genes().max(1);
        let mut correlations = GeneCorrelations::new(dependent.len());
        let value = |cell: usize, gene: &usize| self.dependent[gene * cells + cell];
        (0..cells).for_each(|cell| {
            correlations.extend(&dependent.iter().map(|gene| value(cell, gene)).collect::<Vec<_>>());
        });
        correlations
    }
}

impl RealTests {
    /// Tests two halves of a condition's cells; `None` without cells or controls.
    ///
    /// # Panics
    /// If a gene is beyond the last one.
    #[must_use]
    pub fn new(
        halves: [&CellRows; 2],
        tests: RealGeneTests,
        reference: &TestControls,
        source: &TestControls,
    ) -> Option<Self> {
        let genes = reference.genes();
        let [first, second] = halves;
        let RealGeneTests { whole, first_half, second_half } = tests;
        let dependent = top_genes(&profile(genes, &halves), &reference.profile, DEPENDENT_GENES);
        let part = |tests: Option<GeneTests>, groups: &[&CellRows]| {
            let correlations = correlations(&dependent, genes, groups);
            Some(RealPart { genes: DifferentialGenes::from(&TestedGenes::from(tests?)), correlations })
        };
        let whole = part(whole, &halves)?;
        let none = || RealPart { genes: DifferentialGenes::default(), correlations: GeneCorrelations::new(0) };
        let first_half = part(first_half, &[first]).filter(|_| second.count() > 0);
        let has_halves = first_half.is_some();
        let first_half = first_half.unwrap_or_else(none);
        let mut tests = Self {
            whole,
            first_half,
            dependent,
            controls: <[PredictionScores; 2]>::default(),
            ceiling: PredictionScores::default(),
        };
        let of_controls = source.correlations(&tests.dependent);
        let nothing = TestedGenes::of_nothing(genes);
        tests.controls = [&tests.whole, &tests.first_half].map(|part| part.score(&nothing, &of_controls).0);
        if has_halves && let Some(tested) = second_half {
            let correlations = correlations(&tests.dependent, genes, &[second]);
            tests.ceiling = tests.first_half.score(&tested.into(), &correlations).0;
        }
        Some(tests)
    }

    /// The scores of a prediction by its cells and their tests, if it has any.
    ///
    /// # Panics
    /// If a gene is beyond the last one.
    #[must_use]
    pub fn score(&self, genes: usize, predicted: Option<(&CellRows, GeneTests)>) -> CellTests {
        let scored = predicted.map(|(rows, tests)| {
            let (tested, correlations) = (tests.into(), correlations(&self.dependent, genes, &[rows]));
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
    use statistics::gene_tests::GroupTests;

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

    fn real(halves: [CellRows; 2], reference: &TestControls, source: &TestControls) -> Option<RealTests> {
        let rounds = TestControls::rounds_of_halves(1, reference, source);
        let tests = GroupTests::new(GENES, halves.into(), rounds);
        let found = GroupTests::joined(tests.tiles().map(|genes| tests.test(genes)).collect());
        let mut found = found.into_iter().flatten();
        let mut next = || found.next().flatten();
        let found = RealGeneTests { whole: next(), first_half: next(), second_half: next() };
        RealTests::new([&tests.parts()[0], &tests.parts()[1]], found, reference, source)
    }

    fn predicted<'a>(rows: &'a CellRows, controls: &CellRows) -> Option<(&'a CellRows, GeneTests)> {
        Some((rows, GeneTests::new(rows.clone(), GeneColumns::new(GENES, &[controls]))?))
    }

    #[test]
    fn other_cells_of_a_condition_are_found_and_controls_are_not() {
        let of_source = cells(60, 0.0, 2);
        let [reference, source] = [&cells(60, 0.0, 1), &of_source].map(|rows| TestControls::new(GENES, rows));
        let real = real([cells(50, 0.6, 3), cells(50, 0.6, 4)], &reference, &source).expect("cells");
        let duplicate = real.score(GENES, predicted(&cells(100, 0.6, 5), &of_source));
        let scores = duplicate.model[0];
        assert!(scores.overlap_at_n > Some(0.8) && scores.de_sig_genes_recall > Some(0.85), "{scores:?}");
        assert!(scores.roc_auc > Some(0.9) && scores.gene_dependence > Some(0.5), "{scores:?}");
        assert!(duplicate.ceiling.overlap_at_n > Some(0.8), "{:?}", duplicate.ceiling);
        assert_eq!(duplicate.control[0].overlap_at_n, Some(0.0));
        assert_eq!((duplicate.control[0].roc_auc, duplicate.control[0].de_spearman_lfc_sig), (Some(0.5), None));
        assert!(duplicate.counts.is_some_and(|counts| counts.real >= GENES / 4 && counts.predicted >= GENES / 4));
        let unchanged = real.score(GENES, predicted(&cells(100, 0.0, 6), &of_source)).model[0];
        assert!(unchanged.overlap_at_n < Some(0.1), "{unchanged:?}");
        let unknown = real.score(GENES, None);
        assert_eq!((unknown.model, unknown.counts), (<[PredictionScores; 2]>::default(), None));
        assert_eq!(unknown.control, duplicate.control);
        assert_eq!(duplicate.of_baseline(Baseline::Additive, 0).overlap_at_n, None);
        assert!(duplicate.of_baseline(Baseline::Additive, 0).gene_dependence.is_some());
    }

    #[test]
    fn without_cells_or_controls_there_is_no_test() {
        let [controls, none] = [cells(20, 0.0, 1), CellRows::default()].map(|rows| TestControls::new(GENES, &rows));
        let halves = |first| [first, cells(9, 0.0, 2)];
        assert!(real(<[CellRows; 2]>::default(), &controls, &controls).is_none());
        assert!(real(halves(CellRows::default()), &none, &controls).is_none());
        let alone = real(halves(CellRows::default()), &controls, &controls).expect("nine cells");
        assert_eq!(alone.ceiling, PredictionScores::default());
        assert_eq!((cells_per_test(5_000), cells_per_test(20_000)), (4_000, 1_000));
    }
}
