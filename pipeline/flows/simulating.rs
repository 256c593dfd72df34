//! `order → simulate → write`.

use std::{
    ops::{ControlFlow, Range},
    path::{Path, PathBuf},
};

use hdf5::h5ad_write::{H5adColumn, H5adKind, H5adWriteOptions, H5adWriter};
use schemas::{ByteSize, Error, Result, chunk::Chunk};
use simulate::Simulator;
use stage::{BoxError, Sink};
use storage::{
    disk::{StagedFile, refuse_existing},
    parquet_file::ParquetFile,
};

use super::{Pipeline, Resources, completed};

/// Simulates ranges of cells and writes them to an `.h5ad` file; the true mean of every condition goes to
/// `FILE.truth.parquet`.
///
/// # Errors
/// A target that can't be written; then nothing is left behind.
pub fn simulate(simulator: &Simulator, out: &Path, gzip: Option<u8>, resources: &Resources) -> Result<PathBuf> {
    let truth = out.with_extension("truth.parquet");
    refuse_existing(&truth)?;
    let category = |name: &str| H5adColumn { name: name.into(), kind: H5adKind::Category };
    let columns = ["condition", "dose", "cell_type", "batch"].map(category);
    let options = H5adWriteOptions { gzip, cells: Some(simulator.settings().cells) };
    let writer = H5adWriter::create(out, simulator.genes(), &columns, options)?;
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

    let staged = StagedFile::create(&truth)?;
    let mut file = ParquetFile::create(staged.path(), simulator.truth_schema())?;
    for batch in simulator.truth() {
        file.write(&batch?)?;
    }
    file.finish()?;
    staged.commit()?;
    Ok(truth)
}

struct CellRange(Range<u64>);

impl ByteSize for CellRange {
    fn byte_size(&self) -> usize {
        0
    }
}

struct Append(H5adWriter);

impl Sink for Append {
    type In = Chunk;
    type Summary = ();

    fn push(&mut self, chunk: Chunk) -> Result<ControlFlow<()>, BoxError> {
        self.0.append(&chunk)?;
        Ok(ControlFlow::Continue(()))
    }

    fn finish(self) -> Result<(), BoxError> {
        Ok(self.0.finish()?)
    }
}
