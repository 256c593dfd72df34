//! The expression matrix of a file: CSR, CSC or dense, any number type, read by rows.

use std::ops::Range;

use hdf5_metno::{Dataset, Group, LocationType};
use schemas::{
    Result,
    chunk::{BadRows, CsrRows},
};

use super::{
    super::source::{PIECE_CELLS, PIECE_ENTRIES},
    csc::Csc,
    sparse::{self, Major, Vectors, expect_numbers, gene_count},
    values::read_slice,
};
use crate::h5::{self, Place};

/// A row has at most so many entries a gene (a few repeats are added up); more are a sign of damage, not to be allocated.
const MOST_REPEATS: usize = 4;

/// A matrix whose shape and members have been checked.
#[derive(Debug)]
pub(super) enum Matrix {
    Csr(Csr),
    Csc(Csc),
    Dense(Dense),
}

#[derive(Debug)]
pub(in crate::ingest) struct Csr {
    place: Place,
    rows: u64,
    genes: u32,
    row_pointers: Dataset,
    indices: Dataset,
    data: Dataset,
}

#[derive(Debug)]
pub(super) struct Dense {
    place: Place,
    rows: u64,
    genes: u32,
    data: Dataset,
}

impl Matrix {
    /// Opens the member `name` of a group as a matrix.
    pub(super) fn open(group: &Group, name: &str, place: Place) -> Result<Self> {
        if !group.link_exists(name) {
            return Err(place.error("there is no such matrix", "set adata.X, or name a layer that the file has"));
        }
        match group.loc_type_by_name(name).map_err(|error| place.unreadable(error))? {
            LocationType::Dataset => {
                let data = group.dataset(name).map_err(|error| place.unreadable(error))?;
                Dense::open(data, place).map(Self::Dense)
            }
            LocationType::Group => {
                let group = group.group(name).map_err(|error| place.unreadable(error))?;
                let (rows, genes) = sparse::shape(&group, &place)?;
                match sparse::encoding(&group).as_deref() {
                    Some("csr_matrix" | "csr") => Csr::open(&group, place, rows, genes).map(Self::Csr),
                    Some("csc_matrix" | "csc") => Csc::open(&group, place, rows, genes).map(Self::Csc),
                    Some(other) => Err(unknown_encoding(&place, other)),
                    None => Err(unknown_encoding(&place, "a group without an encoding-type")),
                }
            }
            LocationType::NamedDatatype | LocationType::TypeMap => Err(unknown_encoding(&place, "a datatype")),
        }
    }

    pub(super) fn rows(&self) -> u64 {
        match self {
            Self::Csr(csr) => csr.rows,
            Self::Csc(csc) => csc.rows(),
            Self::Dense(dense) => dense.rows,
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

    /// Where the piece that starts at a row ends.
    pub(super) fn piece_end(&self, first: u64) -> Result<u64> {
        match self {
            Self::Csr(csr) => csr.piece_end(first),
            Self::Csc(csc) => csc.transposed()?.piece_end(first),
            Self::Dense(dense) => {
                let cells = PIECE_ENTRIES / u64::from(dense.genes.max(1));
                Ok(dense.rows.min(first + cells.clamp(1, PIECE_CELLS)))
            }
        }
    }

    /// Reads some rows.
    pub(super) fn read(&self, rows: Range<u64>, spare: CsrRows) -> Result<CsrRows> {
        match self {
            Self::Csr(csr) => csr.read(rows, spare),
            Self::Csc(csc) => csc.transposed()?.expression(rows, spare),
            Self::Dense(dense) => dense.read(rows, spare),
        }
    }
}

impl Csr {
    /// A matrix whose shape stands elsewhere than in the group of its vectors.
    pub(in crate::ingest) fn open(group: &Group, place: Place, rows: u64, genes: u32) -> Result<Self> {
        let Vectors { pointers, indices, data } = Vectors::open(group, &place, Major::Rows, rows)?;
        Ok(Self { place, rows, genes, row_pointers: pointers, indices, data })
    }

    pub(in crate::ingest) fn entries(&self) -> u64 {
        self.data.size() as u64
    }

    pub(in crate::ingest) fn piece_end(&self, first: u64) -> Result<u64> {
        let start = h5::index(first)?;
        let rows = h5::index((self.rows - first).min(PIECE_CELLS))?;
        let bounds = self.bounds(start, rows)?;
        let fitting = bounds.partition_point(|bound| (bound - bounds[0]) as u64 <= PIECE_ENTRIES);
        Ok(first + (fitting as u64 - 1).max(1))
    }

    pub(in crate::ingest) fn read(&self, rows: Range<u64>, spare: CsrRows) -> Result<CsrRows> {
        let (first, start) = (rows.start, h5::index(rows.start)?);
        let bounds = self.bounds(start, h5::index(rows.end - rows.start)?)?;
        // The genes of a row are told apart by their ids, so that more entries than genes can't be.
        if let Some(row) =
            bounds.windows(2).position(|pair| MOST_REPEATS * self.genes as usize + 1024 < pair[1] - pair[0])
        {
            let message =
                format!("row {} has {} entries for {} genes", start + row, bounds[row + 1] - bounds[row], self.genes);
            return Err(self.place.child("indptr").error(message, "the file is damaged; write it again"));
        }
        let (begin, end) = (bounds[0], bounds[bounds.len() - 1]);
        let (mut pointers, mut genes, mut values) = spare.into_parts();
        let place = self.place.child("indices");
        // What does not fit is clipped to the ends of the range by libhdf5, and so is found below: all genes fit an i32.
        let indices: Vec<i32> = read_slice(&self.indices, begin..end, &place)?;
        for (at, index) in indices.iter().enumerate() {
            genes.push(u32::try_from(*index).map_err(|_| {
                let row = start + bounds.partition_point(|bound| *bound <= begin + at) - 1;
                place.error(format!("gene index {index} at row {row} is negative"), "write the file again")
            })?);
        }
        values.extend(read_slice::<f32>(&self.data, begin..end, &self.place.child("data"))?);
        for bound in &bounds {
            pointers.push(entry_count(bound - begin, &self.place)?);
        }
        canonical(pointers, genes, values, self.genes, first, &self.place)
    }

    /// Where each of some rows starts among the entries, and where the last of them ends.
    fn bounds(&self, start: usize, rows: usize) -> Result<Vec<usize>> {
        sparse::bounds(&self.row_pointers, start..start + rows, self.data.size(), Major::Rows, &self.place)
    }
}

impl Dense {
    fn open(data: Dataset, place: Place) -> Result<Self> {
        let shape = data.get_shape().map_err(|error| place.unreadable(error))?;
        let &[rows, genes] = shape.as_slice() else {
            let message = format!("has {} dimension(s), but a matrix has 2", shape.len());
            return Err(place.error(message, "set adata.X to a matrix of cells by genes"));
        };
        expect_numbers(&data, &place)?;
        Ok(Self { rows: rows as u64, genes: gene_count(genes as u64, &place)?, place, data })
    }

    fn read(&self, rows: Range<u64>, spare: CsrRows) -> Result<CsrRows> {
        let first = rows.start;
        let (mut pointers, mut genes, mut kept) = spare.into_parts();
        pointers.push(0);
        if self.genes == 0 {
            pointers.resize(h5::index(rows.end - rows.start)? + 1, 0);
            return canonical(pointers, genes, kept, 0, first, &self.place);
        }
        let values = self
            .data
            .read_slice_2d::<f32, _>((h5::index(rows.start)?..h5::index(rows.end)?, ..))
            .map_err(|error| self.place.unreadable(error))?;
        for row in values.rows() {
            for (gene, value) in (0_u32..).zip(row).filter(|(_, value)| **value != 0.0) {
                genes.push(gene);
                kept.push(*value);
            }
            pointers.push(entry_count(genes.len(), &self.place)?);
        }
        canonical(pointers, genes, kept, self.genes, first, &self.place)
    }
}

fn entry_count(entries: usize, place: &Place) -> Result<u32> {
    u32::try_from(entries)
        .map_err(|_| place.error(format!("{entries} entries in one chunk"), "ask for fewer rows per chunk"))
}

fn canonical(
    row_pointers: Vec<u32>,
    genes: Vec<u32>,
    values: Vec<f32>,
    gene_count: u32,
    first: u64,
    place: &Place,
) -> Result<CsrRows> {
    CsrRows::canonical(row_pointers, genes, values, gene_count).map_err(|bad| match bad {
        BadRows::Gene { row, gene, genes } => {
            let row = first + row as u64;
            let message = format!("gene index {gene} at row {row}, but there are {genes} genes");
            place.child("indices").error(message, "check how the file was written")
        }
        BadRows::Pointers { .. } => schemas::Error::Bug(bad.to_string()),
    })
}

fn unknown_encoding(place: &Place, found: &str) -> schemas::Error {
    place.error(
        format!("is {found}, which is no matrix that is known here"),
        "CSR and CSC matrices and dense arrays can be read; convert it in Python, then `adata.write_h5ad(...)`",
    )
}
