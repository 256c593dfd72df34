//! Writes the latents of cells to an `.h5ad` file: labels in `obs`, latents in `obsm`, the basal one also as `X`.

use std::{ops::ControlFlow, path::Path, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, AsArray, RecordBatch},
    datatypes::{DataType, Float32Type, Schema},
};
use hdf5::h5ad_write::{DenseFrame, DenseH5adWriter, H5adColumn, H5adKind, H5adWriteOptions};
use schemas::{Error, Result, arrow::PROVENANCE_KEY};
use stage::{BoxError, Sink};

use super::h5ad_doses::{DoseReading, NumericDoses};

/// Columns of latents, and their names in `obsm`; the first is also the matrix.
const LATENTS: [(&str, &str); 3] = [("basal", "X_cpa"), ("corrected", "X_cpa_corrected"), ("after", "X_cpa_after")];
/// The column with the names of cells.
const CELL: &str = "cell";

/// An `.h5ad` file of latents that is being written.
#[derive(Debug)]
pub struct LatentH5ad {
    writer: DenseH5adWriter,
    latents: Vec<usize>,
    names: usize,
    labels: Vec<usize>,
    doses: NumericDoses,
}

impl LatentH5ad {
    /// Starts a file for tables of `schema`, with `doses` as numbers; `provenance` is added to the schema's metadata.
    ///
    /// # Errors
    /// A target that exists or can't be created, or tables that are not of latents.
    pub fn create(path: &Path, schema: &Schema, doses: DoseReading, provenance: &[(&str, &str)]) -> Result<Self> {
        let no_latents = || Error::Bug("a table of latents lacks a column".into());
        let place = |name: &str| schema.index_of(name).map_err(|_| no_latents());
        let latents = LATENTS.iter().map(|(name, _)| place(name)).collect::<Result<Vec<usize>>>()?;
        let names = place(CELL)?;
        let DataType::FixedSizeList(_, width) = schema.field(latents[0]).data_type() else { return Err(no_latents()) };
        let labels: Vec<usize> =
            (0..schema.fields().len()).filter(|at| *at != names && !latents.contains(at)).collect();
        let mut texts: Vec<(String, String)> =
            schema.metadata().iter().map(|(key, text)| (key.clone(), text.clone())).collect();
        texts.extend(provenance.iter().map(|(key, text)| ((*key).to_owned(), (*text).to_owned())));
        texts.sort();
        let column = |at: &usize| H5adColumn { name: schema.field(*at).name().clone(), kind: H5adKind::Category };
        let doses = NumericDoses::new(doses, schema);
        let mut columns: Vec<H5adColumn> = labels.iter().map(column).collect();
        doses.describe(&mut columns);
        let frame = DenseFrame {
            genes: (0..*width).map(|at| format!("latent_{at}")).collect(),
            columns,
            layers: Vec::new(),
            obsm: LATENTS.iter().map(|(_, name)| (*name).to_owned()).collect(),
            uns_texts: Some((PROVENANCE_KEY.to_owned(), texts)),
        };
        let writer = DenseH5adWriter::create(path, &frame, H5adWriteOptions::default())?;
        Ok(Self { writer, latents, names, labels, doses })
    }

    fn append(&mut self, batch: &RecordBatch) -> Result<()> {
        let column = |at: &usize| (batch.schema_ref().field(*at).name().as_str(), Arc::clone(batch.column(*at)));
        let names: (&str, ArrayRef) = ("", Arc::clone(batch.column(self.names)));
        let labels = self.labels.iter().map(column).filter(|(name, _)| !self.doses.replace(name));
        let obs = RecordBatch::try_from_iter([names].into_iter().chain(labels).chain(self.doses.of(batch)?))
            .map_err(|error| Error::Bug(error.to_string()))?;
        let latents: Vec<Vec<f32>> = self.latents.iter().map(|at| numbers(batch.column(*at))).collect();
        let matrices: Vec<&[f32]> = latents.first().into_iter().chain(&latents).map(Vec::as_slice).collect();
        self.writer.append(&obs, &matrices)
    }
}

/// The numbers of all rows; a row without a latent is not a number.
fn numbers(column: &ArrayRef) -> Vec<f32> {
    let lists = column.as_fixed_size_list();
    let width = usize::try_from(lists.value_length()).unwrap_or(0);
    let mut numbers = lists.values().as_primitive::<Float32Type>().values().to_vec();
    for row in (0..lists.len()).filter(|row| lists.is_null(*row)) {
        numbers[row * width..(row + 1) * width].fill(f32::NAN);
    }
    numbers
}

impl Sink for LatentH5ad {
    type In = RecordBatch;
    type Summary = u64;

    fn push(&mut self, batch: RecordBatch) -> Result<ControlFlow<()>, BoxError> {
        self.append(&batch)?;
        Ok(ControlFlow::Continue(()))
    }

    fn finish(self) -> Result<u64, BoxError> {
        let rows = self.writer.rows() as u64;
        self.writer.finish()?;
        Ok(rows)
    }
}
