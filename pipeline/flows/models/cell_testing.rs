//! Scores by tests of cells, some conditions at a time: `order → read → batch → convert → gather` of their real cells and controls,
//! `conditions → test`, and for each prediction `source → convert → gather` and `conditions → test`.

use std::{
    collections::{BTreeSet, HashMap},
    mem::take,
    ops::ControlFlow,
    sync::Arc,
};

use schemas::{ByteSize, Error, Result, conditions::CONTROL, ids::CellIndex};
use stages::{
    BoxError, Sink,
    evaluate::{
        cell_tests::{CellTests, RealTests, TestControls, cells_per_test},
        predicted_cells::RowConverter,
        sampled::SampledCells,
        test_rows::{ConvertTestRows, GatherTestRows, TestedPart, place_of},
    },
    formats::source::{RowRange, RowRanges},
    reader::control_roles::first_half,
    statistics::cell_rows::CellRows,
};

use super::{
    stored_order::rows_as_stored,
    truth::{AGAIN, RealGroups, Truth},
};
use crate::{
    flows::{Resources, completed, rows},
    runtime::Pipeline,
};

/// Bytes of an entry of a cell: gene and value.
const ENTRY_BYTES: u64 = 8;

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

/// Conditions of one context, as many as fit into memory, and the group of their controls.
struct Portion {
    controls: usize,
    groups: Vec<usize>,
}

/// The controls of a context that real and that predicted cells are tested against.
struct ContextTestControls {
    reference: TestControls,
    source: TestControls,
}

/// The result of a stage, with its group.
struct OfGroup<T>(usize, T);

impl ByteSize for OfGroup<[CellRows; 2]> {
    fn byte_size(&self) -> usize {
        self.1.iter().map(CellRows::byte_size).sum()
    }
}

impl ByteSize for OfGroup<(CellRows, Arc<RealTests>)> {
    fn byte_size(&self) -> usize {
        self.1.0.byte_size()
    }
}

impl<T> ByteSize for OfGroup<Option<Arc<T>>> {
    fn byte_size(&self) -> usize {
        0
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
    pub(super) fn choose(converter: RowConverter, groups: usize, genes: usize) -> Option<Self> {
        let predicted = Arc::clone(converter.predicted());
        let group_of = |row: CellIndex| predicted.group(row.0);
        let cells = predicted.source().cells();
        let sampled = || Arc::new(SampledCells::choose(cells, groups, cells_per_test(genes), group_of));
        (!predicted.holds_means()).then(|| Self { sampled: sampled(), converter: Arc::new(converter) })
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
                    if first_half(cell) { TestedPart::First } else { TestedPart::Second }
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
        for portion in self.portions(predictions) {
            let mut cells = self.real_cells(&portion)?;
            let mut controls = |part| {
                let rows = cells.remove(&place_of(portion.controls, part)).unwrap_or_default();
                TestControls::new(self.genes, &rows)
            };
            let controls =
                Arc::new(ContextTestControls { reference: controls(TestedPart::First), source: controls(TestedPart::Second) });
            let of_parts = |group: usize| {
                [TestedPart::First, TestedPart::Second].map(|part| place_of(group, part))
            };
            let cases: Vec<_> = portion
                .groups
                .iter()
                .map(|group| OfGroup(*group, of_parts(*group).map(|at| cells.remove(&at).unwrap_or_default())))
                .collect();
            let against = Arc::clone(&controls);
            let real: HashMap<usize, Arc<RealTests>> = self.run(cases, move |[first, second]| {
                RealTests::new([first, second], &against.reference, &against.source)
            })?;
            for (prediction, scores) in predictions.iter().zip(&mut scores) {
                scores.extend(self.predicted(prediction.as_ref(), &portion, &controls, &real)?);
            }
        }
        Ok(scores)
    }

    /// The scores of a prediction of some conditions.
    fn predicted(
        &self,
        prediction: Option<&PredictedTestCells>,
        portion: &Portion,
        controls: &Arc<ContextTestControls>,
        real: &HashMap<usize, Arc<RealTests>>,
    ) -> Result<HashMap<usize, Arc<CellTests>>> {
        let mut cells = match prediction {
            Some(prediction) => self.predicted_cells(prediction, portion)?,
            None => HashMap::new(),
        };
        let mut take_cells = |group: usize| cells.remove(&place_of(group, TestedPart::First)).unwrap_or_default();
        let own = take_cells(portion.controls);
        let own = (own.count() >= FEWEST_CONTROLS).then(|| TestControls::new(self.genes, &own));
        let cases: Vec<_> =
            real.iter().map(|(group, tests)| OfGroup(*group, (take_cells(*group), Arc::clone(tests)))).collect();
        let controls = Arc::clone(controls);
        self.run(cases, move |(cells, tests)| {
            let cells = Some(cells).filter(|cells| cells.count() > 0);
            Some(tests.score(cells, own.as_ref().unwrap_or(&controls.source)))
        })
    }

    /// `conditions → test`: tests cases on all threads.
    fn run<C, T>(
        &self,
        cases: Vec<OfGroup<C>>,
        test: impl Fn(&C) -> Option<T> + Send + Sync + 'static,
    ) -> Result<HashMap<usize, Arc<T>>>
    where
        C: Send + 'static,
        T: Send + Sync + 'static,
        OfGroup<C>: ByteSize,
    {
        let run = Pipeline::from_source("conditions", self.resources.edge(), cases.into_iter().map(Ok::<_, Error>))
            .with_stop(self.resources.stop.clone())
            .map("test", self.resources.threads, move |OfGroup(group, cells)| Ok(OfGroup(group, test(&cells).map(Arc::new))))
            .run("gather", ByGroup(HashMap::new()));
        Ok(completed(run, AGAIN)?.0)
    }

    /// The evaluated conditions of each context, divided so that the cells of a portion take a quarter of the memory at most,
    /// if controls leave room for more than one condition.
    fn portions(&self, predictions: &[Option<PredictedTestCells>]) -> Vec<Portion> {
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
            real * real_bytes + predicted * predicted_bytes
        };
        let most = (self.resources.memory / 4) as u64;
        let controls = groups.all().iter().enumerate().filter(|(_, group)| group.condition == CONTROL);
        let mut portions = Vec::new();
        for (controls, of_controls) in controls {
            let in_context = |group: &&usize| groups.all()[**group].context == of_controls.context;
            let (mut portion, mut bytes) = (Vec::new(), bytes_of(controls));
            for group in self.real.judged.iter().filter(in_context) {
                if !portion.is_empty() && bytes + bytes_of(*group) > most {
                    portions.push(Portion { controls, groups: take(&mut portion) });
                    bytes = bytes_of(controls);
                }
                portion.push(*group);
                bytes += bytes_of(*group);
            }
            if !portion.is_empty() {
                portions.push(Portion { controls, groups: portion });
            }
        }
        portions
    }

    /// Whether each group is in a portion.
    fn is_wanted(&self, portion: &Portion) -> Vec<bool> {
        let mut is_wanted = vec![false; self.truth.groups.all().len()];
        portion.groups.iter().chain([&portion.controls]).for_each(|group| is_wanted[*group] = true);
        is_wanted
    }

    fn real_cells(&self, portion: &Portion) -> Result<HashMap<usize, CellRows>> {
        let (is_wanted, sampled) = (self.is_wanted(portion), Arc::clone(&self.sampled));
        let is_chosen = move |cell| sampled.group(cell).is_some_and(|place| is_wanted[place / 2]);
        let plans = rows_as_stored(&self.truth.atlas, is_chosen).filter(|plan| !plan.cells.is_empty());
        let convert = ConvertTestRows::new(self.real.scale, Arc::clone(&self.real.compared), Arc::clone(&self.sampled));
        let run = rows(&self.truth.atlas, plans, self.resources)
            .map("convert", self.resources.threads, move |rows| Ok(convert.convert(&rows)))
            .run("gather", GatherTestRows::default());
        Ok(completed(run, AGAIN)?.0)
    }

    fn predicted_cells(&self, prediction: &PredictedTestCells, portion: &Portion) -> Result<HashMap<usize, CellRows>> {
        let is_wanted = self.is_wanted(portion);
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
