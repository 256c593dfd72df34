//! Names of cells, read in ascending order.

use arrow::array::{AsArray, RecordBatch};
use reader::atlas::Atlas;
use schemas::{Result, ids::CellIndex, numbers::to_usize};
use stage::BoxError;
use storage::parquet_read::Batches;

/// Reads the names of the cells of one job after another; cells ascend within a job.
pub(crate) struct NamesByJob {
    atlas: Atlas,
    open: Option<(u32, CellNameReader)>,
}

impl NamesByJob {
    pub(crate) fn new(atlas: Atlas) -> Self {
        Self { atlas, open: None }
    }

    /// The names of some cells of a job.
    pub(crate) fn for_cells(&mut self, job: u32, cells: &[CellIndex]) -> Result<Vec<String>, BoxError> {
        let names = match self.open.take() {
            Some((known_job, names)) if known_job == job => names,
            _ => CellNameReader::new(&self.atlas)?,
        };
        let (_, names) = self.open.insert((job, names));
        cells.iter().map(|cell| names.get(*cell)).collect()
    }
}

struct CellNameReader {
    reader: Batches,
    batch: Option<RecordBatch>,
    first: u64,
}

impl CellNameReader {
    fn new(atlas: &Atlas) -> Result<Self> {
        Ok(Self { reader: atlas.obs(&["cell"])?, batch: None, first: 0 })
    }

    fn get(&mut self, cell: CellIndex) -> Result<String, BoxError> {
        loop {
            let rows = self.batch.as_ref().map_or(0, |batch| batch.num_rows() as u64);
            if let Some(batch) = &self.batch
                && (self.first..self.first + rows).contains(&cell.0)
            {
                return Ok(batch.column(0).as_string::<i32>().value(to_usize(cell.0 - self.first)).to_owned());
            }
            self.first += rows;
            self.batch = Some(self.reader.next().ok_or("cells.parquet has fewer rows than the atlas has cells")??);
        }
    }
}
