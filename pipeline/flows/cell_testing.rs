//! Scores by tests of cells, some conditions at a time: `order → read → batch → convert → gather` of their real cells and controls,
//! `genes → test → collect` and `conditions → compare`; and for each prediction `source → convert → gather`, and the same of its cells.

use std::{
    collections::{BTreeSet, HashMap},
    ops::{ControlFlow, Range},
    sync::Arc,
};

use evaluate::{
    cell_tests::{CellTests, RealGeneTests, RealTests, TestControls, cells_per_test},
    predicted_cells::RowConverter,
    sampled::SampledCells,
    test_rows::{ConvertTestRows, GatherTestRows, TestedPart, place_of},
};
use formats::source::{RowRange, RowRanges};
use reader::control_roles::first_half;
use schemas::{ByteSize, Error, Result, conditions::CONTROL, ids::CellIndex};
use stage::{BoxError, Sink};
use statistics::{
    cell_rows::CellRows,
    gene_tests::{GeneTests, GroupTests, TestedTile},
};

use super::{
    AGAIN,
    stored_order::rows_as_stored,
    truth::{RealGroups, Truth},
};
use crate::{Resources, completed, rows};
use runtime::Pipeline;

/// Bytes of an entry of a cell: gene and value.
const ENTRY_BYTES: u64 = 8;

/// Bytes of the tests of a gene of a condition, of halves too.
const TEST_BYTES: usize = 48;

/// The most bytes of cells of a portion: with more, tests are no faster.
const MOST_PORTION: u64 = 96 << 20;

/// The least number of controls of its own that a prediction is tested against.
const FEWEST_CONTROLS: usize = 2;

/// Tests of real and predicted cells.
pub(super) struct CellTesting<'a> {
    truth: &'a Truth,
    real: &'a RealGroups,
    resources: &'a Resources,
    /// The real cells that are tested, by the [place](place_of) of their part.
    sampled: Arc<SampledCells>,
    /// Number of genes.
    genes: usize,
}

/// The predicted cells that are tested.
pub(super) struct PredictedTestCells {
    converter: Arc<RowConverter>,
    sampled: Arc<SampledCells>,
}

/// The group of a context's controls, and its evaluated conditions in portions that fit into memory.
struct TestedContext {
    controls: usize,
    portions: Vec<Vec<usize>>,
}

/// A condition with the tests of its genes.
struct TestedCondition<T> {
    group: usize,
    /// The index among the portion's conditions.
    at: usize,
    tests: T,
    bytes: usize,
}

impl<T> ByteSize for TestedCondition<T> {
    fn byte_size(&self) -> usize {
        self.bytes
    }
}

/// The result of a stage, with its group.
struct OfGroup<T>(usize, T);

impl<T> ByteSize for OfGroup<Option<Arc<T>>> {
    fn byte_size(&self) -> usize {
        0
    }
}

/// Genes that are tested together.
struct OfGenes(Range<usize>);

impl ByteSize for OfGenes {
    fn byte_size(&self) -> usize {
        0
    }
}

/// The tests of some genes, and their bytes.
struct Tile(TestedTile, usize);

impl ByteSize for Tile {
    fn byte_size(&self) -> usize {
        self.1
    }
}

/// Collects the tests of all genes, in order.
#[derive(Default)]
struct CollectTiles(Vec<TestedTile>);

impl Sink for CollectTiles {
    type In = Tile;
    type Summary = Vec<Vec<Option<GeneTests>>>;

    fn push(&mut self, Tile(tile, _): Tile) -> Result<ControlFlow<()>, BoxError> {
        self.0.push(tile);
        Ok(ControlFlow::Continue(()))
    }

    fn finish(self) -> Result<Self::Summary, BoxError> {
        Ok(GroupTests::joined(self.0))
    }
}

/// Gathers the results by group.
struct ByGroup<T>(HashMap<usize, Arc<T>>);

impl<T: Send + Sync + 'static> Sink for ByGroup<T> {
    type In = OfGroup<Option<Arc<T>>>;
    type Summary = HashMap<usize, Arc<T>>;

    fn push(&mut self, OfGroup(group, result): Self::In) -> Result<ControlFlow<()>, BoxError> {
        self.0.extend(result.map(|result| (group, result)));
        Ok(ControlFlow::Continue(()))
    }

    fn finish(self) -> Result<Self::Summary, BoxError> {
        Ok(self.0)
    }
}

impl PredictedTestCells {
    /// Chooses the cells of a file that are tested; `None` if it holds means.
    pub(super) fn choose(converter: &RowConverter, groups: usize, genes: usize) -> Option<Self> {
        let predicted = Arc::clone(converter.predicted());
        let group_of = |row: CellIndex| predicted.group(row.0);
        let cells = predicted.source().cells();
        let sampled = || Arc::new(SampledCells::choose(cells, groups, cells_per_test(genes), group_of));
        (!predicted.holds_means()).then(|| Self { sampled: sampled(), converter: Arc::new(converter.clone()) })
    }

    /// Mean number of values of a row.
    fn values_per_cell(&self, genes: usize) -> u64 {
        let source = self.converter.predicted().source();
        source.nonzeros().map_or(genes as u64, |values| values / source.cells().max(1))
    }
}

impl<'a> CellTesting<'a> {
    /// Chooses the real cells that are tested.
    pub(super) fn new(truth: &'a Truth, real: &'a RealGroups, resources: &'a Resources) -> Self {
        let Truth { atlas, split, roles, batch_groups, groups, judged } = truth;
        let genes = real.compared.chosen().len();
        let is_judged: BTreeSet<usize> = real.judged.iter().copied().collect();
        let place = |cell: CellIndex| {
            let group = groups.of_group(batch_groups.find(atlas.codes(cell))?);
            let part = split.part(cell);
            let tested = match atlas.condition(cell) == CONTROL {
                true if roles.is_reference(cell, part) => TestedPart::First,
                true if roles.is_source(cell, part) => TestedPart::Second,
                false if part == *judged && is_judged.contains(&group) => {
                    if first_half(cell) {
                        TestedPart::First
                    } else {
                        TestedPart::Second
                    }
                }
                _ => return None,
            };
            Some(place_of(group, tested))
        };
        let places = 2 * groups.all().len();
        let sampled = Arc::new(SampledCells::choose(atlas.cells(), places, cells_per_test(genes), place));
        Self { truth, real, resources, sampled, genes }
    }

    /// The scores of each prediction by group; `None` is a prediction without cells.
    ///
    /// # Errors
    /// Data that can't be read, or a run that was stopped.
    pub(super) fn scores(
        &self,
        predictions: &[Option<PredictedTestCells>],
    ) -> Result<Vec<HashMap<usize, Arc<CellTests>>>> {
        let mut scores = vec![HashMap::new(); predictions.len()];
        if predictions.iter().all(Option::is_none) {
            return Ok(scores);
        }
        for TestedContext { controls, portions } in self.contexts(predictions) {
            let mut cells = self.real_cells(&[controls])?;
            let mut prepared = |part| {
                let rows = cells.remove(&place_of(controls, part)).unwrap_or_default();
                Arc::new(TestControls::new(self.genes, &rows))
            };
            let (reference, source) = (prepared(TestedPart::First), prepared(TestedPart::Second));
            let against: Vec<_> = predictions
                .iter()
                .map(|prediction| Ok(self.own_controls(prediction.as_ref(), controls)?.unwrap_or(Arc::clone(&source))))
                .collect::<Result<_>>()?;
            for portion in &portions {
                let real = self.real_tests(portion, [&reference, &source])?;
                for ((prediction, scores), controls) in predictions.iter().zip(&mut scores).zip(&against) {
                    scores.extend(self.predicted(prediction.as_ref(), portion, controls, &real)?);
                }
            }
        }
        Ok(scores)
    }

    /// The controls that a prediction brings, if there are enough.
    fn own_controls(
        &self,
        prediction: Option<&PredictedTestCells>,
        controls: usize,
    ) -> Result<Option<Arc<TestControls>>> {
        let Some(prediction) = prediction else { return Ok(None) };
        let mut cells = self.predicted_cells(prediction, &[controls])?;
        let rows = cells.remove(&place_of(controls, TestedPart::First)).unwrap_or_default();
        Ok((rows.count() >= FEWEST_CONTROLS).then(|| Arc::new(TestControls::new(self.genes, &rows))))
    }

    /// The tests of some conditions' real cells against reference and source controls.
    fn real_tests(
        &self,
        portion: &[usize],
        controls: [&Arc<TestControls>; 2],
    ) -> Result<HashMap<usize, Arc<RealTests>>> {
        let mut cells = self.real_cells(portion)?;
        let places = portion.iter().flat_map(|group| [TestedPart::First, TestedPart::Second].map(|part| (group, part)));
        let parts = places.map(|(group, part)| cells.remove(&place_of(*group, part)).unwrap_or_default()).collect();
        let [reference, source] = controls.map(Arc::clone);
        let rounds = TestControls::rounds_of_halves(portion.len(), &reference, &source);
        let tests = Arc::new(GroupTests::new(self.genes, parts, rounds));
        let found = self.gene_tests(&tests)?;
        let mut rounds = found.into_iter().map(Vec::into_iter);
        let [mut whole, mut first, mut second] = std::array::from_fn(|_| rounds.next().unwrap_or_default());
        let mut next = || RealGeneTests {
            whole: whole.next().flatten(),
            first_half: first.next().flatten(),
            second_half: second.next().flatten(),
        };
        let found = portion.iter().map(|group| (*group, next())).collect();
        self.compare(found, move |at, found| {
            let [first, second] = [2 * at, 2 * at + 1].map(|part| &tests.parts()[part]);
            RealTests::new([first, second], found, &reference, &source)
        })
    }

    /// The scores of a prediction of some conditions.
    fn predicted(
        &self,
        prediction: Option<&PredictedTestCells>,
        portion: &[usize],
        controls: &TestControls,
        real: &HashMap<usize, Arc<RealTests>>,
    ) -> Result<HashMap<usize, Arc<CellTests>>> {
        let mut cells = match prediction {
            Some(prediction) => self.predicted_cells(prediction, portion)?,
            None => HashMap::new(),
        };
        let known: Vec<(usize, Arc<RealTests>)> =
            portion.iter().filter_map(|group| Some((*group, Arc::clone(real.get(group)?)))).collect();
        let taken = |(group, _): &(usize, _)| cells.remove(&place_of(*group, TestedPart::First)).unwrap_or_default();
        let parts: Vec<CellRows> = known.iter().map(taken).collect();
        let tests = Arc::new(GroupTests::new(self.genes, parts, vec![controls.round(known.len())]));
        let found = self.gene_tests(&tests)?;
        let found = known.into_iter().zip(found.into_iter().flatten());
        let (found, genes) = (found.map(|((group, real), found)| (group, (real, found))).collect(), self.genes);
        self.compare(found, move |at, (real, found)| {
            Some(real.score(genes, found.map(|found| (&tests.parts()[at], found))))
        })
    }

    /// `genes → test → collect`: the tests of all genes, by grouping and group.
    fn gene_tests(&self, tests: &Arc<GroupTests>) -> Result<Vec<Vec<Option<GeneTests>>>> {
        let (tested, groups) = (Arc::clone(tests), tests.parts().len());
        let run = Pipeline::from_source("genes", self.resources.edge(), tests.tiles().map(OfGenes).map(Ok::<_, Error>))
            .with_stop(self.resources.stop.clone())
            .map("test", self.resources.threads, move |OfGenes(genes)| {
                let bytes = TEST_BYTES * genes.len() * groups;
                Ok(Tile(tested.test(genes), bytes))
            })
            .run("collect", CollectTiles::default());
        Ok(completed(run, AGAIN)?.0)
    }

    /// `conditions → compare`: the results of each condition, from its tests and its index among them, on all threads.
    fn compare<C, T>(
        &self,
        conditions: Vec<(usize, C)>,
        compare: impl Fn(usize, C) -> Option<T> + Send + Sync + 'static,
    ) -> Result<HashMap<usize, Arc<T>>>
    where
        C: Send + 'static,
        T: Send + Sync + 'static,
    {
        let bytes = 2 * TEST_BYTES * self.genes;
        let conditions = conditions.into_iter().enumerate();
        let conditions = conditions.map(move |(at, (group, tests))| TestedCondition { group, at, tests, bytes });
        let run = Pipeline::from_source("conditions", self.resources.edge(), conditions.map(Ok::<_, Error>))
            .with_stop(self.resources.stop.clone())
            .map("compare", self.resources.threads, move |TestedCondition { group, at, tests, .. }| {
                Ok(OfGroup(group, compare(at, tests).map(Arc::new)))
            })
            .run("gather", ByGroup(HashMap::new()));
        Ok(completed(run, AGAIN)?.0)
    }

    /// The evaluated conditions of each context that has controls, in portions whose cells take an eighth of the memory and
    /// [`MOST_PORTION`] at most, but at least one condition each.
    fn contexts(&self, predictions: &[Option<PredictedTestCells>]) -> Vec<TestedContext> {
        let Truth { atlas, groups, .. } = self.truth;
        let manifest = atlas.manifest();
        let real_bytes = ENTRY_BYTES * (manifest.nonzeros / manifest.cells.max(1));
        let known = || predictions.iter().flatten();
        let predicted_bytes = known().map(|one| ENTRY_BYTES * one.values_per_cell(self.genes)).max().unwrap_or(0);
        let predicted_cells: Vec<Vec<u64>> = known().map(|one| one.sampled.counts(groups.all().len())).collect();
        let real_cells = self.sampled.counts(2 * groups.all().len());
        let bytes_of = |group: usize| {
            let real = real_cells[place_of(group, TestedPart::First)] + real_cells[place_of(group, TestedPart::Second)];
            let predicted = predicted_cells.iter().map(|counts| counts[group]).max().unwrap_or(0);
            // They are in memory one after the other.
            (real * real_bytes).max(predicted * predicted_bytes)
        };
        let most = MOST_PORTION.min((self.resources.memory / 8) as u64);
        let controls = groups.all().iter().enumerate().filter(|(_, group)| group.condition == CONTROL);
        let contexts = controls.map(|(controls, of_controls)| {
            let (mut portions, mut bytes): (Vec<Vec<usize>>, u64) = (Vec::new(), 0);
            for group in &self.real.judged {
                if groups.all()[*group].context != of_controls.context {
                    continue;
                }
                bytes += bytes_of(*group);
                match portions.last_mut() {
                    Some(portion) if bytes <= most => portion.push(*group),
                    _ => {
                        bytes = bytes_of(*group);
                        portions.push(vec![*group]);
                    }
                }
            }
            TestedContext { controls, portions }
        });
        contexts.filter(|context| !context.portions.is_empty()).collect()
    }

    /// Whether each group is among these.
    fn is_wanted(&self, wanted: &[usize]) -> Vec<bool> {
        let mut is_wanted = vec![false; self.truth.groups.all().len()];
        wanted.iter().for_each(|group| is_wanted[*group] = true);
        is_wanted
    }

    fn real_cells(&self, wanted: &[usize]) -> Result<HashMap<usize, CellRows>> {
        let (is_wanted, sampled) = (self.is_wanted(wanted), Arc::clone(&self.sampled));
        let is_chosen = move |cell| sampled.group(cell).is_some_and(|place| is_wanted[place / 2]);
        let plans = rows_as_stored(&self.truth.atlas, is_chosen).filter(|plan| !plan.cells.is_empty());
        let convert = ConvertTestRows::new(self.real.scale, Arc::clone(&self.real.compared), Arc::clone(&self.sampled));
        let run = rows(&self.truth.atlas, plans, self.resources)
            .map("convert", self.resources.threads, move |rows| Ok(convert.convert(&rows)))
            .run("gather", GatherTestRows::default());
        Ok(completed(run, AGAIN)?.0)
    }

    fn predicted_cells(&self, prediction: &PredictedTestCells, wanted: &[usize]) -> Result<HashMap<usize, CellRows>> {
        let is_wanted = self.is_wanted(wanted);
        let (converter, sampled) = (Arc::clone(&prediction.converter), Arc::clone(&prediction.sampled));
        let ranges = RowRanges::new(Arc::clone(converter.predicted().source()));
        let run = Pipeline::from_source("source", self.resources.edge(), ranges)
            .with_stop(self.resources.stop.clone())
            .map("convert", self.resources.threads, move |RowRange(range)| {
                Ok(converter.read_for_tests(range, &sampled, |group| is_wanted[group])?)
            })
            .run("gather", GatherTestRows::default());
        Ok(completed(run, AGAIN)?.0)
    }
}
