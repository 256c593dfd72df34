//! Which stage follows which: the only file that knows.

use std::num::NonZeroUsize;
#[cfg(feature = "hdf5")]
use std::path::{Path, PathBuf};

use schemas::{Error, Result, batch::BatchPlan};
use stages::{
    BoxError,
    atlas::Atlas,
    batch::{Batch, Gatherer},
    encode::Encoder,
    profiles::Rows,
    read::Read,
};

use crate::runtime::{Capacity, Error as RunError, Outcome, Pipeline, Report, Run, Stop};

#[cfg(feature = "torch")]
pub mod judging;
#[cfg(feature = "torch")]
pub mod predicting;
#[cfg(feature = "torch")]
pub mod training;

/// Edges of the longest road: order, read, encode, batch, predict, rows, write.
const MOST_EDGES: usize = 6;

/// What a run may use.
#[derive(Clone, Debug)]
pub struct Resources {
    /// Worker threads of a parallel stage.
    pub threads: NonZeroUsize,
    /// Bytes that all edges together may hold.
    pub memory: usize,
    /// Ends the run early.
    pub stop: Stop,
}

impl Default for Resources {
    fn default() -> Self {
        let threads = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        Self { threads, memory: 256 << 20, stop: Stop::default() }
    }
}

impl Resources {
    /// One edge of a road: no road has more than [`MOST_EDGES`], so together they stay within the memory.
    fn edge(&self) -> Capacity {
        Capacity { items: 1 + self.threads.get(), bytes: self.memory / MOST_EDGES }
    }
}

/// `order → read → encode → batch`: the batches of some plans, with their labels coded for a model.
pub fn batches<I>(atlas: &Atlas, plans: I, encoder: Encoder, resources: &Resources) -> Pipeline<Batch>
where
    I: IntoIterator<Item = BatchPlan> + Send + 'static,
    I::IntoIter: Send,
{
    let gatherer = Gatherer::new(atlas);
    Pipeline::from_source("order", resources.edge(), Plans(plans))
        .with_stop(resources.stop.clone())
        .then("read", Read::new(atlas.clone()))
        .map("encode", resources.threads, move |pinned| encoder.encode(pinned))
        .map("batch", resources.threads, move |encoded| gatherer.gather(encoded))
}

/// `order → read → batch`: the rows of some plans, without labels.
pub fn rows<I>(atlas: &Atlas, plans: I, resources: &Resources) -> Pipeline<Rows>
where
    I: IntoIterator<Item = BatchPlan> + Send + 'static,
    I::IntoIter: Send,
{
    let gatherer = Gatherer::new(atlas);
    Pipeline::from_source("order", resources.edge(), Plans(plans))
        .with_stop(resources.stop.clone())
        .then("read", Read::new(atlas.clone()))
        .map("batch", resources.threads, move |pinned| {
            let expression = gatherer.rows(&pinned)?;
            Ok(Rows { plan: pinned.plan, expression })
        })
}

/// Plans can't fail; the runtime's sources may.
struct Plans<I>(I);

impl<I: IntoIterator<Item = BatchPlan>> IntoIterator for Plans<I> {
    type Item = Result<BatchPlan, Error>;
    type IntoIter = std::iter::Map<I::IntoIter, fn(BatchPlan) -> Result<BatchPlan, Error>>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter().map(Ok)
    }
}

/// The summary of a run that completed; `resume` says how to take one up that was stopped.
///
/// # Errors
/// What made the run fail, or that it was stopped.
pub fn completed<S>(run: Result<Run<S>, RunError>, resume: &str) -> Result<(S, Report)> {
    let stopped = || Error::Stopped { resume: resume.to_owned() };
    match run {
        Ok(Run { outcome: Outcome::Complete(summary), report }) => Ok((summary, report)),
        Ok(Run { outcome: Outcome::Stopped, .. }) | Err(RunError::Stopped) => Err(stopped()),
        Err(RunError::Failed { stage, cause }) => Err(cause_of(stage, cause)),
    }
}

/// The error of ours within a run's; anything else is a bug of the stage.
fn cause_of(stage: &str, cause: BoxError) -> Error {
    match cause.downcast::<Error>() {
        Ok(error) => *error,
        Err(other) => match other.downcast::<RunError>() {
            Ok(inner) => match *inner {
                RunError::Failed { stage, cause } => cause_of(stage, cause),
                other => Error::Bug(format!("stage `{stage}`: {other}")),
            },
            Err(other) => Error::Bug(format!("stage `{stage}`: {other}")),
        },
    }
}

#[cfg(feature = "hdf5")]
pub use h5ad::{IngestOptions, Ingested, ingest, simulate};

#[cfg(feature = "hdf5")]
mod h5ad {
    use schemas::{
        atlas::{Codec, GeneWidth, Keys, Manifest, Source},
        bytes::ByteSize,
        chunk::Chunk,
    };
    use stages::{
        Sink,
        disk::StagedFile,
        h5ad_write::{H5adColumn, H5adKind, H5adWriteOptions, H5adWriter},
        ingest::{
            h5ad::{H5adOptions, H5adReader},
            keys::{AskedKeys, resolve},
            label::Labeller,
            pack::pack,
            slab::CutSlabs,
            store::{Store, StoreOptions, ValuesAs},
        },
        simulate::Simulator,
        write::ParquetFile,
    };

    use super::{Error, Path, PathBuf, Pipeline, Resources, Result, completed};

    /// How a file becomes an atlas.
    #[derive(Clone, Debug)]
    pub struct IngestOptions {
        /// Which columns are labels, as far as the user said.
        pub keys: AskedKeys,
        /// Which matrix, and how much of it at once.
        pub h5ad: H5adOptions,
        /// Raw or zstd blocks.
        pub codec: Codec,
        /// What the values are taken for.
        pub values: ValuesAs,
    }

    impl Default for IngestOptions {
        fn default() -> Self {
            Self { keys: AskedKeys::default(), h5ad: H5adOptions::default(), codec: Codec::Raw, values: ValuesAs::Auto }
        }
    }

    /// What came of an ingest.
    #[derive(Debug)]
    pub struct Ingested {
        /// The atlas's manifest.
        pub manifest: Manifest,
        /// What was guessed of the labels, as the flags that say so.
        pub guessed: Vec<String>,
    }

    /// `.h5ad → slabs → blocks → atlas`.
    ///
    /// # Errors
    /// A file that can't be read or understood, a target that can't be written; nothing is left behind then.
    pub fn ingest(input: &Path, out: &Path, options: &IngestOptions, resources: &Resources) -> Result<Ingested> {
        let reader = H5adReader::open(input, &options.h5ad)?;
        let file = input.display().to_string();
        let keys = resolve(&file, &reader, &options.keys)?;
        let genes =
            u32::try_from(reader.genes()).map_err(|_| Error::data(&file, "there are more than 2^32 genes", ""))?;
        let bytes = std::fs::metadata(input).map_err(Error::io("read", input))?.len();
        let matrix = match (&options.h5ad.layer, options.h5ad.raw) {
            (Some(layer), _) => format!("layers/{layer}"),
            (None, true) => "raw/X".into(),
            (None, false) => "X".into(),
        };
        let name = input.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let store = StoreOptions {
            source: Source { path: name, bytes, matrix },
            var: reader.var().clone(),
            obs_schema: reader.obs_schema(),
            keys: Keys {
                perturbation: keys.columns.perturbation.clone(),
                dose: keys.columns.dose.clone(),
                batch: options.keys.batch.clone(),
            },
            codec: options.codec,
            values: options.values,
        };
        let store = Store::create(out, store, Labeller::new(file, keys.columns, keys.rules))?;
        let (width, codec) = (GeneWidth::for_genes(genes), options.codec);
        let run = Pipeline::from_source("read", resources.edge(), reader.chunks())
            .with_stop(resources.stop.clone())
            .then("cut", CutSlabs::default())
            .map("pack", resources.threads, move |slab| pack(&slab, width, codec))
            .run("store", store);
        let (manifest, _) = completed(run, "run the same ingest again: nothing was written")?;
        Ok(Ingested { manifest, guessed: keys.guessed })
    }

    /// Cell ranges → cells → `.h5ad`; the true mean of every condition goes into `FILE.truth.parquet`.
    ///
    /// # Errors
    /// A target that can't be written; nothing is left behind then.
    pub fn simulate(simulator: &Simulator, out: &Path, gzip: Option<u8>, resources: &Resources) -> Result<PathBuf> {
        let truth = out.with_extension("truth.parquet");
        for path in [out, truth.as_path()] {
            if path.exists() {
                return Err(Error::usage(
                    format!("{} exists already", path.display()),
                    "remove it first, or choose another name",
                ));
            }
        }
        let category = |name: &str| H5adColumn { name: name.into(), kind: H5adKind::Category };
        let columns = ["condition", "dose", "cell_type", "batch"].map(category);
        let writer = H5adWriter::create(out, simulator.genes(), &columns, H5adWriteOptions { gzip })?;
        let source = simulator.clone();
        let run = Pipeline::from_source(
            "order",
            resources.edge(),
            simulator.chunks().map(|range| Ok::<_, Error>(CellRange(range))),
        )
        .with_stop(resources.stop.clone())
        .map("simulate", resources.threads, move |CellRange(range)| Ok(source.chunk(range)?))
        .run("write", Append(writer));
        completed(run, "run the same command again: nothing was written")?;

        let staged = StagedFile::beside(&truth)?;
        let mut file = ParquetFile::create(staged.path(), simulator.truth_schema())?;
        for batch in simulator.truth() {
            file.write(&batch?)?;
        }
        file.finish()?;
        staged.commit()?;
        Ok(truth)
    }

    struct CellRange(std::ops::Range<u64>);

    impl ByteSize for CellRange {
        fn byte_size(&self) -> usize {
            0
        }
    }

    struct Append(H5adWriter);

    impl Sink for Append {
        type In = Chunk;
        type Summary = ();

        fn push(&mut self, chunk: Chunk) -> Result<std::ops::ControlFlow<()>, stages::BoxError> {
            self.0.append(&chunk)?;
            Ok(std::ops::ControlFlow::Continue(()))
        }

        fn finish(self) -> Result<(), stages::BoxError> {
            Ok(self.0.finish()?)
        }
    }
}
