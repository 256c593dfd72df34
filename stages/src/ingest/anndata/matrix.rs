//! The expression matrix of a file: CSR, CSC or dense, any number type, read by rows.

use std::ops::Range;

use schemas::{
    Result,
    atlas::{InPlaceForm, StoredChunk},
    chunk::{BadRows, CsrRows},
    numbers::to_usize,
};

use super::{
    super::{
        exact,
        source::{PIECE_CELLS, PIECE_ENTRIES},
    },
    csc::Csc,
    group::{Gaps, Group, Member, Numbers},
    sparse::{self, Major, Vectors, gene_count},
};
use crate::{interrupt::Interrupt, place::Place, recycle::Pool};

/// A row has at most this many entries a gene (a few repeats are added up); more are a sign of damage, not to be allocated.
const MOST_REPEATS: u64 = 4;

/// A matrix whose shape and members have been checked.
#[derive(Debug)]
pub(in crate::ingest) enum Matrix {
    Csr(Csr),
    Csc(Csc),
    Dense(Dense),
}

#[derive(Debug)]
pub(in crate::ingest) struct Csr {
    place: Place,
    rows: u64,
    genes: u32,
    row_pointers: Box<dyn Numbers>,
    indices: Box<dyn Numbers>,
    data: Box<dyn Numbers>,
}

#[derive(Debug)]
pub(in crate::ingest) struct Dense {
    place: Place,
    genes: u32,
    data: Box<dyn Numbers>,
    spare: Pool<Vec<f32>>,
}

impl Matrix {
    /// Opens the member `name` of a group as a matrix.
    pub(super) fn open(parent: &dyn Group, name: &str, interrupt: &Interrupt) -> Result<Self> {
        let place = parent.place().child(name);
        match parent.member(name)? {
            Member::Missing => {
                Err(place.error("there is no such matrix", "set adata.X, or name a layer that the file has"))
            }
            Member::Array => Dense::open(parent.numbers(name, Gaps::Filled)?).map(Self::Dense),
            Member::Group => {
                let group = parent.group(name)?;
                let by_rows = match sparse::encoding(&*group).as_deref() {
                    Some("csr_matrix" | "csr") => true,
                    Some("csc_matrix" | "csc") => false,
                    Some(other) => return Err(unknown_encoding(&place, other)),
                    None => return Err(unknown_encoding(&place, "a group without an encoding-type")),
                };
                let (rows, genes) = sparse::shape(&*group)?;
                match by_rows {
                    true => Csr::open(&*group, rows, genes).map(Self::Csr),
                    false => Csc::open(&*group, rows, genes, interrupt).map(Self::Csc),
                }
            }
            Member::Other => Err(unknown_encoding(&place, "neither an array nor a group")),
        }
    }

    pub(super) fn rows(&self) -> u64 {
        match self {
            Self::Csr(csr) => csr.rows,
            Self::Csc(csc) => csc.rows(),
            Self::Dense(dense) => dense.data.rows(),
        }
    }

    pub(super) fn genes(&self) -> u64 {
        match self {
            Self::Csr(csr) => csr.genes.into(),
            Self::Csc(csc) => csc.genes().into(),
            Self::Dense(dense) => dense.genes.into(),
        }
    }

    pub(super) fn nonzeros(&self) -> Option<u64> {
        match self {
            Self::Csr(csr) => Some(csr.entries()),
            Self::Csc(csc) => Some(csc.entries()),
            Self::Dense(_) => None,
        }
    }

    /// Where it is in the file, if it can be read there by rows without this source; appends its chunks.
    pub(super) fn in_place(&self, chunks: &mut Vec<StoredChunk>) -> Option<InPlaceForm> {
        Some(match self {
            Self::Csr(csr) => InPlaceForm::Csr {
                row_pointers: csr.row_pointers.stored(chunks)?,
                indices: csr.indices.stored(chunks)?,
                data: csr.data.stored(chunks)?,
            },
            Self::Csc(_) => return None,
            Self::Dense(dense) => InPlaceForm::Dense { data: dense.data.stored(chunks)? },
        })
    }

    /// A matrix of this many rows and genes in the place from [`Matrix::in_place`]; `open` opens an array by its name.
    #[cfg(feature = "hdf5")]
    pub(in crate::ingest) fn open_in_place(
        form: &InPlaceForm,
        rows: u64,
        genes: u32,
        place: Place,
        open: impl Fn(&schemas::atlas::StoredArray, Place) -> Result<Box<dyn Numbers>>,
    ) -> Result<Self> {
        let (matrix, fits) = match form {
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
                (Self::Dense(Dense { place: place.clone(), genes, data, spare: Pool::default() }), fits)
            }
        };
        match fits {
            true => Ok(matrix),
            false => Err(place.error("does not have the shape of its atlas", "ingest it again")),
        }
    }

    /// Where the piece that starts at a row ends.
    pub(in crate::ingest) fn piece_end(&self, first: u64) -> Result<u64> {
        match self {
            Self::Csr(csr) => csr.piece_end(first),
            Self::Csc(csc) => csc.transposed()?.piece_end(first),
            Self::Dense(dense) => {
                let cells = PIECE_ENTRIES / u64::from(dense.genes.max(1));
                Ok(dense.data.rows().min(first + cells.clamp(1, PIECE_CELLS)))
            }
        }
    }

    /// Reads some rows.
    pub(in crate::ingest) fn read(&self, rows: Range<u64>, spare: CsrRows) -> Result<CsrRows> {
        match self {
            Self::Csr(csr) => csr.read(rows, spare),
            Self::Csc(csc) => csc.transposed()?.expression(rows, spare),
            Self::Dense(dense) => dense.read(rows, spare),
        }
    }
}

impl Csr {
    /// A matrix whose shape stands elsewhere than in the group of its vectors.
    pub(in crate::ingest) fn open(group: &dyn Group, rows: u64, genes: u32) -> Result<Self> {
        let Vectors { pointers, indices, data } = Vectors::open(group, Major::Rows, rows)?;
        Ok(Self { place: group.place().clone(), rows, genes, row_pointers: pointers, indices, data })
    }

    pub(in crate::ingest) fn entries(&self) -> u64 {
        self.data.rows()
    }

    pub(in crate::ingest) fn piece_end(&self, first: u64) -> Result<u64> {
        let bounds = self.bounds(first..self.rows.min(first + PIECE_CELLS))?;
        let fitting = bounds.partition_point(|bound| bound - bounds[0] <= PIECE_ENTRIES);
        Ok(first + (fitting as u64 - 1).max(1))
    }

    pub(in crate::ingest) fn read(&self, rows: Range<u64>, spare: CsrRows) -> Result<CsrRows> {
        let first = rows.start;
        let bounds = self.bounds(rows)?;
        // The genes of a row have different ids, so there can't be more entries than genes.
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

    /// Where each of some rows starts among the entries, and where the last of them ends.
    fn bounds(&self, rows: Range<u64>) -> Result<Vec<u64>> {
        sparse::bounds(&*self.row_pointers, rows, self.data.rows(), Major::Rows, &self.place)
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

impl Dense {
    fn open(data: Box<dyn Numbers>) -> Result<Self> {
        let place = data.place().clone();
        if data.dimensions() != 2 {
            let message = format!("has {} dimension(s), but a matrix has 2", data.dimensions());
            return Err(place.error(message, "set adata.X to a matrix of cells by genes"));
        }
        Ok(Self { genes: gene_count(data.columns(), &place)?, place, data, spare: Pool::default() })
    }

    fn read(&self, rows: Range<u64>, spare: CsrRows) -> Result<CsrRows> {
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

fn entry_count(entries: u64, place: &Place) -> Result<u32> {
    u32::try_from(entries)
        .map_err(|_| place.error(format!("{entries} entries in one chunk"), "ask for fewer rows per chunk"))
}

fn unknown_encoding(place: &Place, found: &str) -> schemas::Error {
    place.error(
        format!("is {found}, which is not a supported kind of matrix"),
        "CSR and CSC matrices and dense arrays can be read; convert it in Python, then write it again",
    )
}
