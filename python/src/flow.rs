//! `order → read → batch`: the pipeline of a loader.

use std::{num::NonZeroUsize, sync::Arc};

use batcher::{dense::Densifier, gather::Gatherer, normalise::Normalisation};
use flows::Resources;
use reader::{atlas::Atlas as OpenAtlas, read_ahead::ReadAhead};
use runtime::{Capacity, Pipeline};
use schemas::{
    Error, Result,
    batch::BatchPlan,
    ids::{CellIndex, ConditionId},
};
use stage::{BoxError, cast::narrow, pool::Pool};

use crate::{
    batch::{Content, Perturbations, Rows, SharedContent},
    columns::Columns,
    order::indices,
    process::Owned,
    wide::WideRows,
};

/// Codes are prefetched this many cells ahead.
const CELLS_AHEAD: usize = 16;
/// Edges that share the memory beside cached blocks: behind `read`, behind `batch`, and what the user holds.
const EDGES: usize = 3;

/// The form of a batch's rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// One `f32` for each cell and gene.
    Dense,
    /// CSR in 32-bit numbers.
    Csr,
    /// CSR as it is stored.
    Packed,
}

impl Format {
    /// The format of a name.
    ///
    /// # Errors
    /// Any other name.
    pub(crate) fn named(name: &str) -> Result<Self> {
        match name {
            "dense" => Ok(Self::Dense),
            "csr" => Ok(Self::Csr),
            "packed" => Ok(Self::Packed),
            other => Err(Error::unknown("format", other, ["dense", "csr", "packed"])),
        }
    }
}

/// The batches to make of the cells of an atlas.
pub(crate) struct Making {
    /// The atlas, with the genes that batches have.
    pub(crate) atlas: OpenAtlas,
    pub(crate) format: Format,
    pub(crate) normalisation: Normalisation,
    pub(crate) columns: Columns,
    pub(crate) threads: NonZeroUsize,
    /// Bytes of all edges and cached blocks.
    pub(crate) memory: usize,
}

impl Making {
    /// Batches of these plans.
    pub(crate) fn of<I>(self, plans: I) -> Pipeline<SharedContent>
    where
        I: Iterator<Item = BatchPlan> + Send + 'static,
    {
        let Self { atlas, format, normalisation, columns, threads, memory } = self;
        let held = Resources { threads, memory, ..Resources::default() }.held_bytes(&atlas);
        let capacity = Capacity { items: 1 + threads.get(), bytes: (memory - held) / EDGES };
        let gather = gathering(&atlas, format, normalisation, held);
        let read = ReadAhead::new(atlas.clone(), plans).map(Ok::<_, Error>);
        Pipeline::from_source("read", capacity, read).map("batch", threads, move |plan| {
            // Another part of the process may have taken the signal of lost pages meanwhile.
            storage::mmap::keep_watching();
            let rows = gather(&plan)?;
            Ok(SharedContent(Arc::new(with_labels(&atlas, &columns, &plan, rows))))
        })
    }
}

type Gather = Box<dyn Fn(&BatchPlan) -> Result<Rows, BoxError> + Send + Sync>;

fn gathering(atlas: &OpenAtlas, format: Format, normalisation: Normalisation, held: usize) -> Gather {
    if format == Format::Dense {
        let densifier = Densifier::new(atlas, held).normalised(normalisation);
        return Box::new(move |plan| Ok(Rows::Dense(densifier.rows(plan)?)));
    }
    let gatherer = Gatherer::new(atlas, held).normalised(normalisation);
    if format == Format::Packed {
        return Box::new(move |plan| Ok(Rows::Packed(gatherer.rows(plan)?)));
    }
    let wide: Pool<WideRows> = Pool::default();
    Box::new(move |plan| {
        let mut out = wide.take(WideRows::default);
        out.fill(&*gatherer.rows(plan)?)?;
        Ok(Rows::Csr(out))
    })
}

fn with_labels(atlas: &OpenAtlas, columns: &Columns, plan: &BatchPlan, rows: Rows) -> Content {
    let cells: &[CellIndex] = &plan.cells;
    let table = &atlas.manifest().conditions;
    let mut perturbations = Perturbations::default();
    let mut conditions = Vec::with_capacity(cells.len());
    perturbations.offsets.reserve(cells.len() + 1);
    perturbations.offsets.push(0);
    let mut count = 0;
    for (at, cell) in cells.iter().enumerate() {
        if let Some(later) = cells.get(at + CELLS_AHEAD) {
            atlas.prefetch_codes(*later);
        }
        let condition: ConditionId = atlas.condition(*cell);
        conditions.push(i64::from(condition.0));
        for (perturbation, dose) in table.parts(condition) {
            perturbations.codes.push(i64::from(perturbation.0));
            perturbations.doses.push(narrow(dose));
            count += 1;
        }
        perturbations.offsets.push(count);
    }
    Content {
        rows: Owned::new(rows),
        genes: atlas.genes().len(),
        cells: indices(cells),
        conditions,
        perturbations,
        columns: columns.of(atlas, cells),
    }
}
