//! Writes predictions to an `.h5ad` file: the table's text columns become `obs`, doses also or only as numbers, one list of numbers
//! `X`, other lists layers.

use std::{ops::ControlFlow, path::Path, sync::Arc};

use arrow::{
    array::{ArrayRef, AsArray, RecordBatch, StringArray},
    datatypes::{DataType, Float32Type, Schema},
};
use hdf5::h5ad_write::{DenseFrame, DenseH5adWriter, H5adColumn, H5adKind, H5adWriteOptions};
use schemas::{
    Error, Result,
    arrow::{GENES_KEY, PROVENANCE_KEY},
};
use stage::{BoxError, Sink};

use super::{
    OutputPrecision,
    h5ad_doses::{DoseReading, NumericDoses},
    layout::PRECISION_KEY,
};

/// Lists that can be the matrix `X`: the first of these that exists is used.
const MATRICES: [&str; 2] = ["expression", "mean"];

/// Writes tables of predictions into an `.h5ad` file.
#[derive(Debug)]
pub struct PredictedH5ad {
    writer: DenseH5adWriter,
    /// Indices of the lists: `X`, then the layers.
    lists: Vec<usize>,
    obs: Vec<usize>,
    doses: NumericDoses,
    /// The column by which rows are named.
    named_after: usize,
}

impl PredictedH5ad {
    /// Starts a file for tables of `schema`, whose numbers already have this `precision`, with `doses` as numbers; `provenance` is added
    /// to the schema's metadata.
    ///
    /// # Errors
    /// A target that exists or can't be created, or tables without a list that has one number per gene.
    pub fn create(
        path: &Path,
        schema: &Schema,
        doses: DoseReading,
        precision: OutputPrecision,
        provenance: &[(&str, &str)],
    ) -> Result<Self> {
        // Latents have no genes.
        let genes: Vec<String> =
            schema.metadata().get(GENES_KEY).and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
        let is_matrix = |at: &usize| match schema.field(*at).data_type() {
            DataType::FixedSizeList(_, length) => usize::try_from(*length).is_ok_and(|length| length == genes.len()),
            _ => false,
        };
        let columns = 0..schema.fields().len();
        let mut lists: Vec<usize> = columns.clone().filter(is_matrix).collect();
        let first = MATRICES.iter().find_map(|name| lists.iter().position(|at| schema.field(*at).name() == name));
        let is_list = |kind: &DataType| matches!(kind, DataType::FixedSizeList(..) | DataType::List(_));
        let others = columns.clone().filter(|at| is_list(schema.field(*at).data_type())).count();
        let Some(first) = first.filter(|_| lists.len() == others) else {
            return Err(Error::usage(
                "an .h5ad file needs one row of genes per cell or condition, which this output does not have",
                "use --output cells, --output means --layout wide, or --format parquet",
            ));
        };
        lists[..=first].rotate_right(1);
        let obs: Vec<usize> = columns.filter(|at| !lists.contains(at)).collect();
        let name = |at: &usize| schema.field(*at).name().clone();
        let named_after =
            obs.iter().copied().find(|at| ["cell", "condition"].contains(&schema.field(*at).name().as_str()));
        let named_after = named_after.ok_or_else(|| Error::Bug("a table of predictions names no condition".into()))?;
        let kind = |at: usize| match schema.field(at).data_type() {
            DataType::Utf8 if schema.field(at).name() == "cell" => H5adKind::Text,
            DataType::Utf8 => H5adKind::Category,
            kind if kind.is_integer() => H5adKind::Integer,
            _ => H5adKind::Number,
        };
        let metadata = schema.metadata().iter().filter(|(key, _)| *key != GENES_KEY);
        let mut texts: Vec<(String, String)> = metadata.map(|(key, text)| (key.to_owned(), text.to_owned())).collect();
        texts.push((PRECISION_KEY.to_owned(), precision.name().to_owned()));
        texts.extend(provenance.iter().map(|(key, text)| ((*key).to_owned(), (*text).to_owned())));
        texts.sort();
        let doses = NumericDoses::new(doses, schema);
        let mut columns: Vec<H5adColumn> =
            obs.iter().map(|at| H5adColumn { name: name(at), kind: kind(*at) }).collect();
        doses.describe(&mut columns);
        let frame = DenseFrame {
            genes,
            columns,
            layers: lists[1..].iter().map(name).collect(),
            obsm: Vec::new(),
            uns_texts: Some((PROVENANCE_KEY.to_owned(), texts)),
        };
        let writer = DenseH5adWriter::create(path, &frame, H5adWriteOptions::default())?;
        Ok(Self { writer, lists, obs, doses, named_after })
    }

    fn append(&mut self, batch: &RecordBatch) -> Result<()> {
        let bug = |error: arrow::error::ArrowError| Error::Bug(error.to_string());
        let stems = batch.column(self.named_after).as_string::<i32>();
        let before = self.writer.rows();
        // The number makes each name unique, whatever the names of the cells.
        let names =
            stems.iter().enumerate().map(|(row, stem)| format!("{}-{}", stem.unwrap_or_default(), before + row));
        let names: ArrayRef = Arc::new(StringArray::from_iter_values(names));
        let columns =
            self.obs.iter().map(|at| (batch.schema_ref().field(*at).name().as_str(), Arc::clone(batch.column(*at))));
        let columns = columns.filter(|(name, _)| !self.doses.replace(name)).chain(self.doses.of(batch)?);
        let obs = RecordBatch::try_from_iter([("", names)].into_iter().chain(columns)).map_err(bug)?;
        let matrices: Vec<&[f32]> = self
            .lists
            .iter()
            .map(|at| batch.column(*at).as_fixed_size_list().values().as_primitive::<Float32Type>().values().as_ref())
            .collect();
        self.writer.append(&obs, &matrices)
    }
}

impl Sink for PredictedH5ad {
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
