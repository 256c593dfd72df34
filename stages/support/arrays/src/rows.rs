//! The expression matrix of a file by rows: CSR or dense, any number type.

use std::{fs::File, ops::Range, path::Path, sync::Arc};

use schemas::{
    Error, Result,
    atlas::{InPlaceForm, InPlaceMatrix, StoredArray, StoredChunk},
    chunk::{BadRows, CsrRows},
    counting::counted,
    numbers::to_usize,
};
use stage::pool::Pool;

use super::{
    exact,
    numbers::Numbers,
    place::ObjectPlace,
    sparse::{Major, bounds, gene_count},
    stored_numbers::StoredNumbers,
};

/// A row has at most this many entries per gene: a few repeats are added up, but more are a sign of damage,
/// and no memory is allocated for them.
const MOST_REPEATS: u64 = 4;
/// Cells per row range, unless their rows have many entries.
pub const RANGE_CELLS: u64 = 512;
/// Entries per row range, unless a single cell has more.
pub const RANGE_ENTRIES: u64 = 1 << 20;

/// A matrix that can be read by rows, whose shape and members have been checked.
#[derive(Debug)]
pub enum RowMatrix {
    /// Sparse rows.
    Csr(Csr),
    /// Dense rows.
    Dense(DenseMatrix),
}

/// A matrix of sparse rows.
#[derive(Debug)]
pub struct Csr {
    place: ObjectPlace,
    rows: u64,
    genes: u32,
    row_pointers: Box<dyn Numbers>,
    indices: Box<dyn Numbers>,
    data: Box<dyn Numbers>,
}

/// A matrix of dense rows.
#[derive(Debug)]
pub struct DenseMatrix {
    place: ObjectPlace,
    genes: u32,
    data: Box<dyn Numbers>,
    spare: Pool<Vec<f32>>,
}

impl RowMatrix {
    /// Opens a matrix of this many rows and genes that is stored in `file` as described; also returns its name in
    /// errors.
    ///
    /// # Errors
    /// A file that can't be read, or is not as described.
    pub fn open_in_place(
        path: &Path,
        file: File,
        described: &InPlaceMatrix,
        chunks: &[StoredChunk],
        (rows, genes): (u64, u32),
    ) -> Result<(Self, ObjectPlace)> {
        let place = described.object.split('/').fold(ObjectPlace::root(path), |place, name| place.child(name));
        let length = file.metadata().map_err(Error::io("read", path))?.len();
        if length != described.bytes {
            return Err(has_changed(&place));
        }
        let file = Arc::new(file);
        let open = |array: &StoredArray, place: ObjectPlace| {
            let first = to_usize(array.first_chunk);
            let end = array.chunks().and_then(|count| first.checked_add(to_usize(count)));
            let chunks = end.and_then(|end| chunks.get(first..end)).unwrap_or_default();
            let numbers = StoredNumbers::reopen(array, chunks, Arc::clone(&file), length, place)?;
            Ok(Box::new(numbers) as Box<dyn Numbers>)
        };
        let (matrix, fits) = match &described.form {
            InPlaceForm::Csr { row_pointers, indices, data } => {
                let fits = rows.checked_add(1) == Some(row_pointers.rows) && indices.rows == data.rows;
                let open = |array, name| open(array, place.child(name));
                let (row_pointers, indices, data) =
                    (open(row_pointers, "indptr")?, open(indices, "indices")?, open(data, "data")?);
                (Self::Csr(Csr { place: place.clone(), rows, genes, row_pointers, indices, data }), fits)
            }
            InPlaceForm::Dense { data } => {
                let fits = (data.rows, data.columns) == (rows, genes.into());
                let data = open(data, place.clone())?;
                (Self::Dense(DenseMatrix { place: place.clone(), genes, data, spare: Pool::default() }), fits)
            }
        };
        match fits {
            true => Ok((matrix, place)),
            false => Err(place.error("does not have the shape of its atlas", "ingest it again")),
        }
    }

    /// Number of rows.
    #[must_use]
    pub fn rows(&self) -> u64 {
        match self {
            Self::Csr(csr) => csr.rows,
            Self::Dense(dense) => dense.data.rows(),
        }
    }

    /// Number of genes.
    #[must_use]
    pub fn genes(&self) -> u32 {
        match self {
            Self::Csr(csr) => csr.genes,
            Self::Dense(dense) => dense.genes,
        }
    }

    /// Number of entries; `None` if zeros are stored too.
    #[must_use]
    pub fn nonzeros(&self) -> Option<u64> {
        match self {
            Self::Csr(csr) => Some(csr.entries()),
            Self::Dense(_) => None,
        }
    }

    /// Where the matrix is in the file, if it can be read there without its source; appends its chunks.
    pub fn in_place(&self, chunks: &mut Vec<StoredChunk>) -> Option<InPlaceForm> {
        Some(match self {
            Self::Csr(csr) => InPlaceForm::Csr {
                row_pointers: csr.row_pointers.stored(chunks)?,
                indices: csr.indices.stored(chunks)?,
                data: csr.data.stored(chunks)?,
            },
            Self::Dense(dense) => InPlaceForm::Dense { data: dense.data.stored(chunks)? },
        })
    }

    /// The end of the row range that starts at a row.
    ///
    /// # Errors
    /// Row pointers that can't be read, or are invalid.
    pub fn range_end(&self, first: u64) -> Result<u64> {
        match self {
            Self::Csr(csr) => csr.range_end(first),
            Self::Dense(dense) => Ok(dense.range_end(first)),
        }
    }

    /// Reads some rows, into recycled memory.
    ///
    /// # Errors
    /// Rows that can't be read, or are invalid.
    pub fn read(&self, rows: Range<u64>, spare: CsrRows) -> Result<CsrRows> {
        match self {
            Self::Csr(csr) => csr.read(rows, spare),
            Self::Dense(dense) => dense.read(rows, spare),
        }
    }
}

/// The error for a file that has changed since it was ingested.
#[must_use]
pub fn has_changed(place: &ObjectPlace) -> Error {
    place.error("has changed since it was ingested", "ingest it again")
}

/// The vectors of a CSR matrix.
#[derive(Debug)]
pub struct CsrVectors {
    /// Where each row starts among the entries, followed by the end of the last one.
    pub row_pointers: Box<dyn Numbers>,
    /// The gene of each entry.
    pub indices: Box<dyn Numbers>,
    /// The value of each entry.
    pub data: Box<dyn Numbers>,
}

impl Csr {
    /// Creates a matrix from vectors that have been checked.
    #[must_use]
    pub fn new(place: ObjectPlace, rows: u64, genes: u32, vectors: CsrVectors) -> Self {
        let CsrVectors { row_pointers, indices, data } = vectors;
        Self { place, rows, genes, row_pointers, indices, data }
    }

    /// Number of entries.
    #[must_use]
    pub fn entries(&self) -> u64 {
        self.data.rows()
    }

    /// The end of the row range that starts at a row.
    ///
    /// # Errors
    /// Row pointers that can't be read, or are invalid.
    pub fn range_end(&self, first: u64) -> Result<u64> {
        let bounds = self.bounds(first..self.rows.min(first + RANGE_CELLS))?;
        let fitting = bounds.partition_point(|bound| bound - bounds[0] <= RANGE_ENTRIES);
        Ok(first + (fitting as u64 - 1).max(1))
    }

    /// Reads some rows, into recycled memory.
    ///
    /// # Errors
    /// Rows that can't be read, or are invalid.
    pub fn read(&self, rows: Range<u64>, spare: CsrRows) -> Result<CsrRows> {
        let first = rows.start;
        let bounds = self.bounds(rows)?;
        // A row has at most one entry for each gene.
        let most = MOST_REPEATS * u64::from(self.genes) + 1024;
        if let Some(row) = bounds.windows(2).position(|pair| most < pair[1] - pair[0]) {
            let found = bounds[row + 1] - bounds[row];
            let message = format!("row {} has {found} entries for {} genes", first + row as u64, self.genes);
            return Err(self.place.child("indptr").error(message, "the file is damaged; write it again"));
        }
        let (begin, end) = (bounds[0], bounds[bounds.len() - 1]);
        let (mut pointers, mut genes, mut values) = spare.into_parts();
        for bound in &bounds {
            pointers.push(entry_count(bound - begin, &self.place)?);
        }
        self.indices.ids(begin..end, &mut genes)?;
        self.data.floats(begin..end, &mut values)?;
        CsrRows::canonical(pointers, genes, values, self.genes).map_err(|bad| match bad {
            BadRows::Gene { .. } => self.bad_gene(&bounds, first),
            BadRows::Pointers { .. } | BadRows::Sum { .. } => exact::bad_rows(&bad, self.place.to_string(), first),
        })
    }

    /// Where each of some rows starts among the entries, followed by the end of the last one.
    fn bounds(&self, rows: Range<u64>) -> Result<Vec<u64>> {
        bounds(&*self.row_pointers, rows, self.data.rows(), Major::Rows, &self.place)
    }

    /// Finds the first invalid gene, and reports it as stored in the file.
    fn bad_gene(&self, bounds: &[u64], first: u64) -> schemas::Error {
        let place = self.place.child("indices");
        let mut indices: Vec<i64> = Vec::new();
        if let Err(error) = self.indices.integers(bounds[0]..bounds[bounds.len() - 1], &mut indices) {
            return error;
        }
        let at = indices.iter().position(|index| !(0..i64::from(self.genes)).contains(index)).unwrap_or_default();
        let row = first + bounds.partition_point(|bound| *bound <= bounds[0] + at as u64) as u64 - 1;
        match indices.get(at) {
            Some(index @ ..0) => {
                place.error(format!("gene index {index} at row {row} is negative"), "write the file again")
            }
            index => {
                let index = index.copied().unwrap_or_default();
                let message = format!("gene index {index} at row {row}, but there are {} genes", self.genes);
                place.error(message, "check how the file was written")
            }
        }
    }
}

impl DenseMatrix {
    /// A dense matrix.
    ///
    /// # Errors
    /// An array that does not have 2 dimensions, or has too many genes.
    pub fn new(data: Box<dyn Numbers>) -> Result<Self> {
        let place = data.place().clone();
        if data.dimensions() != 2 {
            let message = format!("has {}, but a matrix has 2", counted(data.dimensions() as u64, "dimension"));
            return Err(place.error(message, "set adata.X to a matrix of cells by genes"));
        }
        Ok(Self { genes: gene_count(data.columns(), &place)?, place, data, spare: Pool::default() })
    }

    /// The end of the row range that starts at a row.
    #[must_use]
    pub fn range_end(&self, first: u64) -> u64 {
        let cells = RANGE_ENTRIES / u64::from(self.genes.max(1));
        self.data.rows().min(first + cells.clamp(1, RANGE_CELLS))
    }

    /// Reads some rows, into recycled memory.
    ///
    /// # Errors
    /// Rows that can't be read.
    pub fn read(&self, rows: Range<u64>, spare: CsrRows) -> Result<CsrRows> {
        let (mut pointers, mut genes, mut kept) = spare.into_parts();
        pointers.push(0);
        if self.genes == 0 {
            pointers.resize(to_usize(rows.end - rows.start) + 1, 0);
        } else {
            let mut values = self.spare.take(Vec::new);
            values.clear();
            self.data.floats(rows, &mut values)?;
            for row in values.chunks_exact(self.genes as usize) {
                for (gene, value) in (0_u32..).zip(row).filter(|(_, value)| **value != 0.0) {
                    genes.push(gene);
                    kept.push(*value);
                }
                pointers.push(entry_count(genes.len() as u64, &self.place)?);
            }
        }
        CsrRows::canonical(pointers, genes, kept, self.genes).map_err(|bad| schemas::Error::Bug(bad.to_string()))
    }
}

fn entry_count(entries: u64, place: &ObjectPlace) -> Result<u32> {
    u32::try_from(entries)
        .map_err(|_| place.error(format!("{entries} entries in one chunk"), "ask for fewer rows per chunk"))
}
