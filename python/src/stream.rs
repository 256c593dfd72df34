//! Batches as a Python iterator. Whoever waits for one lets other Python threads run, and notices Ctrl-C.

use std::{
    collections::HashSet,
    num::NonZeroUsize,
    sync::{Mutex, PoisonError},
    task::Poll,
};

use batcher::normalise::Normalisation;
use pyo3::prelude::*;
use reader::atlas::Atlas as OpenAtlas;
use runtime::Stream;
use schemas::{Error, Result, atlas::ValueKind};

use crate::{
    atlas::Atlas,
    batch::{NativeBatch, SharedContent},
    columns::Columns,
    error::{OrRaise, exception, of_run},
    flow::{Format, Making},
    order::BatchOrder,
    process::Owned,
    wait::LONGEST_WAIT,
};

/// The least memory that a pipeline gets, in bytes.
const LEAST_MEMORY: usize = 1 << 20;

/// An iterator over batches, made on threads of its own.
#[pyclass(frozen, module = "perturbine._native")]
pub(crate) struct BatchStream {
    /// `None` once it was closed.
    running: Mutex<Option<Owned<Stream<SharedContent>>>>,
    /// The last batch, until the iterator in Python has it: an interrupt may come in between.
    last: Mutex<Option<Py<NativeBatch>>>,
}

/// The form of the batches, as Python asks for it.
#[derive(FromPyObject)]
pub(crate) struct Look {
    format: String,
    genes: Option<Vec<u32>>,
    normalize: Option<String>,
    threads: Option<usize>,
    memory: usize,
}

/// Which batches of an order, as Python says it.
#[derive(FromPyObject)]
struct Place {
    epoch: u32,
    position: u64,
    worker: u64,
    workers: u64,
}

#[pymethods]
impl BatchStream {
    #[new]
    fn new(
        py: Python<'_>,
        atlas: &Bound<'_, Atlas>,
        order: &Bound<'_, BatchOrder>,
        columns: &Bound<'_, Columns>,
        look: &Bound<'_, PyAny>,
        place: &Bound<'_, PyAny>,
    ) -> PyResult<Self> {
        let (look, place): (Look, Place) = (look.extract()?, place.extract()?);
        let (atlas, order, columns) = (&atlas.get().open, order.get(), columns.get().clone());
        py.detach(|| {
            let plans = order.plans(place.epoch, place.position, place.worker, place.workers);
            let running = look.making(atlas, columns)?.of(plans).stream();
            Result::Ok(Self { running: Mutex::new(Some(Owned::new(running))), last: Mutex::default() })
        })
        .or_raise(py)
    }

    /// Checks what batches would look like, without making any.
    #[staticmethod]
    fn check(
        py: Python<'_>,
        atlas: &Bound<'_, Atlas>,
        columns: &Bound<'_, Columns>,
        look: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let look: Look = look.extract()?;
        look.making(&atlas.get().open, columns.get().clone()).map(drop).or_raise(py)
    }

    fn __iter__(this: PyRef<'_, Self>) -> PyRef<'_, Self> {
        this
    }

    /// The next batch; the same one until [`BatchStream::set_is_taken`].
    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Py<NativeBatch>>> {
        if let Some(last) = self.last.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
            return Ok(Some(last.clone_ref(py)));
        }
        loop {
            let waited = py.detach(|| {
                let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
                let Some(stream) = running.as_mut() else { return Ok(Poll::Ready(None)) };
                if stream.is_of_this_process() { Ok(stream.next_within(LONGEST_WAIT)) } else { Err(forked()) }
            });
            match waited.or_raise(py)? {
                // A signal's exception leaves the stream as it is: the next call goes on.
                Poll::Pending => py.check_signals()?,
                Poll::Ready(None) => return Ok(None),
                Poll::Ready(Some(Ok(content))) => {
                    let batch = Py::new(py, NativeBatch::new(content))?;
                    *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(batch.clone_ref(py));
                    return Ok(Some(batch));
                }
                Poll::Ready(Some(Err(failure))) => return Err(exception(py, &of_run(failure))),
            }
        }
    }

    /// Says that the last batch has arrived: the next one may come. Setting an attribute is not interrupted, a call may be.
    #[setter]
    fn set_is_taken(&self, is_taken: bool) {
        if is_taken {
            drop(self.last.lock().unwrap_or_else(PoisonError::into_inner).take());
        }
    }

    /// Ends the threads; nothing comes any more.
    fn close(&self, py: Python<'_>) {
        py.detach(|| drop(self.running.lock().unwrap_or_else(PoisonError::into_inner).take()));
    }
}

fn forked() -> Error {
    let message =
        "the loader was being iterated when this process was forked, and its threads are in the other process";
    Error::usage(message, "iterate the loader itself in this process")
}

impl Look {
    fn making(&self, atlas: &OpenAtlas, columns: Columns) -> Result<Making> {
        let normalisation = match self.normalize.as_deref() {
            None => Normalisation::None,
            Some("log1p_cp10k") => Normalisation::Log1pCp10k,
            Some(other) => return Err(Error::unknown("normalisation", other, ["log1p_cp10k"])),
        };
        let manifest = atlas.manifest();
        if normalisation != Normalisation::None
            && manifest.values == ValueKind::Continuous
            && manifest.non_negative == Some(false)
        {
            let message = "normalize=\"log1p_cp10k\" is for counts, and the atlas has values below 0";
            return Err(Error::usage(message, "leave normalize out, or ingest the counts (--layer, --raw)"));
        }
        let threads = match self.threads {
            None => std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
            Some(count) => {
                NonZeroUsize::new(count).ok_or_else(|| Error::usage("0 threads make no batch", "give at least 1"))?
            }
        };
        if self.memory < LEAST_MEMORY {
            return Err(Error::usage(format!("{} bytes of memory are too few", self.memory), "give at least a MiB"));
        }
        let atlas = match &self.genes {
            None => atlas.clone(),
            Some(places) => with_genes(atlas, places)?,
        };
        let format = Format::named(&self.format)?;
        Ok(Making { atlas, format, normalisation, columns, threads, memory: self.memory })
    }
}

/// The atlas with the genes at these places, in this order.
fn with_genes(atlas: &OpenAtlas, places: &[u32]) -> Result<OpenAtlas> {
    let all = atlas.genes();
    let names: Vec<String> = places
        .iter()
        .map(|place| {
            all.get(*place as usize).cloned().ok_or_else(|| {
                Error::usage(format!("there is no gene {place}: the atlas has {}", all.len()), "genes count from 0")
            })
        })
        .collect::<Result<_>>()?;
    if names.is_empty() {
        return Err(Error::usage("no gene is left", "give at least one"));
    }
    let mut seen = HashSet::new();
    if let Some(twice) = places.iter().find(|place| !seen.insert(**place)) {
        let name = &all[*twice as usize];
        return Err(Error::usage(format!("gene {twice}, `{name}`, is given twice"), "give each gene once"));
    }
    let some = atlas.with_genes(&names)?;
    match some.ambiguous_genes() {
        [] => Ok(some),
        // The atlas finds genes by name, and would take the first of that name.
        names => Err(Error::usage(
            format!("several genes are called {}", reader::atlas::some_of(names)),
            "give genes without a name of their own all together, in the atlas's order, or not at all",
        )),
    }
}
