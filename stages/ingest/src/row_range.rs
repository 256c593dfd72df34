//! Reads a row range of a source: annotations and narrow rows, with bad values handled.

use std::{ops::Range, sync::Arc};

use arrow::{
    array::{BooleanArray, RecordBatch},
    compute::filter_record_batch,
};
use formats::source::Source;
use reader::records::{RowRecords, RowValues};
use schemas::{ByteSize, Error, Result, atlas::GeneWidth, chunk::CsrRows, numbers::bounded};
use stage::pool::{Pool, Pooled};

use super::census::{BadValue, OnBadValues, ValueCensus, ValuesAs};

/// Cells that were read.
#[derive(Debug)]
pub struct ReadRowRange {
    /// The position of each cell in the source.
    pub cells: Vec<u64>,
    /// Their annotations.
    pub obs: RecordBatch,
    /// Their rows.
    pub records: Pooled<RowRecords>,
    /// The census of the values.
    pub census: ValueCensus,
}

impl ByteSize for ReadRowRange {
    fn byte_size(&self) -> usize {
        self.cells.byte_size() + self.obs.byte_size() + self.records.byte_size()
    }
}

/// Selects cells given a batch of their annotations; `None` if all are selected.
pub type CellFilter = Arc<dyn Fn(&RecordBatch) -> Result<Option<BooleanArray>> + Send + Sync>;

/// Reads ranges of rows, on any number of threads.
#[derive(Clone)]
pub struct RowRangeReader {
    source: Arc<dyn Source>,
    columns: Vec<usize>,
    gene_width: GeneWidth,
    values: ValuesAs,
    on_bad_values: OnBadValues,
    filter: Option<CellFilter>,
    spare_rows: Pool<CsrRows>,
    spare_records: Pool<RowRecords>,
}

impl std::fmt::Debug for RowRangeReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PieceReader").field("source", &self.source).finish_non_exhaustive()
    }
}

impl RowRangeReader {
    /// Creates a reader for a source.
    #[must_use]
    pub fn new(
        source: Arc<dyn Source>,
        values: ValuesAs,
        on_bad_values: OnBadValues,
        filter: Option<CellFilter>,
    ) -> Self {
        // A source with more genes is refused before any cell is read.
        let genes = bounded(source.var().num_rows());
        Self {
            columns: (0..source.obs_schema().fields().len()).collect(),
            gene_width: GeneWidth::for_genes(genes),
            source,
            values,
            on_bad_values,
            filter,
            spare_rows: Pool::default(),
            spare_records: Pool::default(),
        }
    }

    /// Reads some cells.
    ///
    /// # Errors
    /// A source that can't be read.
    pub fn read(&self, cells: Range<u64>) -> Result<ReadRowRange> {
        let obs = self.source.obs(cells.clone(), &self.columns)?;
        let selected = match &self.filter {
            Some(filter) => filter(&obs)?,
            None => None,
        };
        let mut records = self.spare_records.take(|| RowRecords::new(self.gene_width));
        records.clear();
        let mut range = ReadRowRange { cells: Vec::new(), obs, records, census: ValueCensus::default() };
        if selected.as_ref().is_none_or(|selected| selected.true_count() > 0) {
            let mut rows = self.spare_rows.take(CsrRows::default);
            *rows = self.source.expression(cells.clone(), std::mem::take(&mut *rows))?;
            range.records.reserve(rows.rows(), rows.genes().len());
            let is_selected = |row: &usize| selected.as_ref().is_none_or(|selected| selected.value(*row));
            for row in (0..rows.rows()).filter(is_selected) {
                let (genes, values) = rows.row(row);
                self.take(&mut range, cells.start + row as u64, genes, values);
            }
        }
        if range.census.empty_cells < range.cells.len() as u64 {
            let fraction = range.census.fractions.first().copied();
            range.census.files.insert(self.source.origin_of(cells.start), fraction);
        }
        let all = cells.end - cells.start;
        if range.cells.len() as u64 != all {
            let mut kept = range.cells.iter().peekable();
            let kept: BooleanArray = cells.map(|cell| Some(kept.next_if_eq(&&cell).is_some())).collect();
            range.obs = filter_record_batch(&range.obs, &kept).map_err(|error| Error::Bug(error.to_string()))?;
        }
        Ok(range)
    }

    fn take(&self, range: &mut ReadRowRange, cell: u64, genes: &[u32], values: &[f32]) {
        let kind = RowValues::detect(values);
        if kind == RowValues::Other {
            let bad = values.iter().filter(|value| !self.values.takes(**value)).count() as u64;
            match self.on_bad_values {
                OnBadValues::Drop if bad > 0 => {
                    range.census.dropped += 1;
                    return;
                }
                OnBadValues::Clip if bad > 0 => {
                    range.census.clipped += bad;
                    return self.take_clipped(range, cell, genes, values);
                }
                OnBadValues::Error | OnBadValues::Drop | OnBadValues::Clip => {
                    for (gene, value) in genes.iter().zip(values) {
                        range.census.enter(BadValue { cell, gene: *gene, value: *value });
                    }
                }
            }
        }
        range.census.empty_cells += u64::from(genes.is_empty());
        range.records.push(genes, values, kind);
        range.cells.push(cell);
    }

    fn take_clipped(&self, range: &mut ReadRowRange, cell: u64, genes: &[u32], values: &[f32]) {
        let clipped = genes.iter().zip(values).map(|(gene, value)| (*gene, self.values.clip(*value)));
        let (genes, values): (Vec<u32>, Vec<f32>) = clipped.filter(|(_, value)| *value != 0.0).unzip();
        self.take(range, cell, &genes, &values);
    }
}
