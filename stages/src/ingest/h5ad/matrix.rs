//! The expression matrix of a file: CSR or dense, any number type, read by rows.

use hdf5_metno::{Dataset, Group, LocationType};
use schemas::{
    Result,
    chunk::{BadRows, CsrRows},
};

use super::values::{read_slice, text_attribute};
use crate::h5::{self, Place};

/// The most entries that are read at once, so that heavy rows make smaller chunks and not more memory.
const MOST_ENTRIES: usize = 4 << 20;

/// A matrix whose shape and members have been checked.
#[derive(Debug)]
pub(super) enum Matrix {
    Csr(Csr),
    Dense(Dense),
}

#[derive(Debug)]
pub(super) struct Csr {
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
                Csr::open(&group, place).map(Self::Csr)
            }
            LocationType::NamedDatatype | LocationType::TypeMap => Err(unknown_encoding(&place, "a datatype")),
        }
    }

    pub(super) fn rows(&self) -> u64 {
        match self {
            Self::Csr(csr) => csr.rows,
            Self::Dense(dense) => dense.rows,
        }
    }

    pub(super) fn genes(&self) -> u64 {
        match self {
            Self::Csr(csr) => csr.genes.into(),
            Self::Dense(dense) => dense.genes.into(),
        }
    }

    pub(super) fn nonzeros(&self) -> Option<u64> {
        match self {
            Self::Csr(csr) => Some(csr.data.size() as u64),
            Self::Dense(_) => None,
        }
    }

    /// Reads at least one and at most `most_rows` rows from `first` on.
    pub(super) fn read(&self, first: u64, most_rows: usize) -> Result<CsrRows> {
        match self {
            Self::Csr(csr) => csr.read(first, most_rows),
            Self::Dense(dense) => dense.read(first, most_rows),
        }
    }
}

impl Csr {
    fn open(group: &Group, place: Place) -> Result<Self> {
        // `h5sparse_format` is what anndata wrote before 0.7.
        let encoding = text_attribute(group, "encoding-type").or_else(|| text_attribute(group, "h5sparse_format"));
        match encoding.as_deref() {
            Some("csr_matrix" | "csr") => {}
            Some("csc_matrix" | "csc") => {
                return Err(place.error(
                    "is stored by columns (CSC), which can't be streamed by cells",
                    "convert it once in Python: `adata.X = adata.X.tocsr()`, then `adata.write_h5ad(...)`",
                ));
            }
            Some(other) => return Err(unknown_encoding(&place, other)),
            None => return Err(unknown_encoding(&place, "a group without an encoding-type")),
        }
        let (rows, genes) = sparse_shape(group, &place)?;
        let member = |name: &str| -> Result<Dataset> {
            let dataset = group.dataset(name).map_err(|error| place.child(name).unreadable(error))?;
            if dataset.ndim() != 1 {
                return Err(place.child(name).error("is not a vector", "check how the file was written"));
            }
            Ok(dataset)
        };
        let (row_pointers, indices, data) = (member("indptr")?, member("indices")?, member("data")?);
        if row_pointers.size() as u64 != rows + 1 {
            let found = row_pointers.size();
            let message = format!("has {found} row pointers, but {rows} rows need {}", rows + 1);
            return Err(place.child("indptr").error(message, "the file may be cut short; write it again"));
        }
        if indices.size() != data.size() {
            let message = format!("has {} entries, but `data` has {}", indices.size(), data.size());
            return Err(place.child("indices").error(message, "the file may be cut short; write it again"));
        }
        Ok(Self { place, rows, genes, row_pointers, indices, data })
    }

    fn read(&self, first: u64, most_rows: usize) -> Result<CsrRows> {
        let start = h5::index(first)?;
        let rows = most_rows.min(h5::index(self.rows - first)?);
        let bounds = self.bounds(start, rows)?;
        let fitting = bounds.partition_point(|bound| bound - bounds[0] <= MOST_ENTRIES);
        // A single row may be heavier than that, if the genes are that many.
        let rows = (fitting - 1).max(1);
        let (begin, end) = (bounds[0], bounds[rows]);
        if MOST_ENTRIES.max(self.genes as usize) < end - begin {
            let message = format!("row {first} has {} entries for {} genes", end - begin, self.genes);
            return Err(self.place.child("indptr").error(message, "the file is damaged; write it again"));
        }
        let place = self.place.child("indices");
        // What does not fit is clipped to the ends of the range by libhdf5, and so is found below: all genes fit an i32.
        let indices: Vec<i32> = read_slice(&self.indices, begin..end, &place)?;
        let genes = indices.iter().map(|index| u32::try_from(*index)).collect::<std::result::Result<Vec<u32>, _>>();
        let genes = genes.map_err(|_| {
            let at = indices.iter().position(|index| *index < 0).unwrap_or_default();
            let row = start + bounds.partition_point(|bound| *bound <= begin + at) - 1;
            place.error(format!("gene index {} at row {row} is negative", indices[at]), "write the file again")
        })?;
        let values = read_slice::<f32>(&self.data, begin..end, &self.place.child("data"))?;
        let pointers =
            bounds[..=rows].iter().map(|bound| entry_count(bound - begin, &self.place)).collect::<Result<_>>()?;
        canonical(pointers, genes, values, self.genes, first, &self.place)
    }

    /// Where each of some rows starts among the entries, and where the last of them ends.
    fn bounds(&self, start: usize, rows: usize) -> Result<Vec<usize>> {
        let place = self.place.child("indptr");
        let pointers: Vec<i64> = read_slice(&self.row_pointers, start..start + rows + 1, &place)?;
        let entries = i64::try_from(self.data.size()).unwrap_or(i64::MAX);
        let bad = |row: usize, message: String| {
            Err(place.error(format!("at row {row}: {message}"), "the file may be damaged or cut short; write it again"))
        };
        if start == 0 && pointers[0] != 0 {
            return bad(0, format!("the first row pointer is {}, not 0", pointers[0]));
        }
        if let Some(row) = pointers.windows(2).position(|pair| pair[1] < pair[0]) {
            return bad(start + row, format!("row pointers fall from {} to {}", pointers[row], pointers[row + 1]));
        }
        if let Some(row) = pointers.iter().position(|pointer| *pointer < 0 || entries < *pointer) {
            return bad(start + row, format!("row pointer {} lies outside the {entries} entries", pointers[row]));
        }
        pointers.into_iter().map(|pointer| h5::index(pointer.unsigned_abs())).collect()
    }
}

impl Dense {
    fn open(data: Dataset, place: Place) -> Result<Self> {
        let shape = data.get_shape().map_err(|error| place.unreadable(error))?;
        let &[rows, genes] = shape.as_slice() else {
            let message = format!("has {} dimension(s), but a matrix has 2", shape.len());
            return Err(place.error(message, "set adata.X to a matrix of cells by genes"));
        };
        Ok(Self { rows: rows as u64, genes: gene_count(genes as u64, &place)?, place, data })
    }

    fn read(&self, first: u64, most_rows: usize) -> Result<CsrRows> {
        let start = h5::index(first)?;
        let width = self.genes as usize;
        let rows = (MOST_ENTRIES / width.max(1)).clamp(1, most_rows).min(h5::index(self.rows - first)?);
        if width == 0 {
            return canonical(vec![0; rows + 1], Vec::new(), Vec::new(), 0, first, &self.place);
        }
        let values = self
            .data
            .read_slice_2d::<f32, _>((start..start + rows, ..))
            .map_err(|error| self.place.unreadable(error))?;
        let mut pointers = vec![0];
        let (mut genes, mut kept) = (Vec::new(), Vec::new());
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

fn sparse_shape(group: &Group, place: &Place) -> Result<(u64, u32)> {
    let attribute = group.attr("shape").or_else(|_| group.attr("h5sparse_shape"));
    let shape = attribute.and_then(|attribute| match attribute.size() {
        2 => attribute.read_raw::<i64>(),
        _ => Err("the shape of a matrix is 2 numbers".into()),
    });
    let shape = shape.map_err(|error| place.child("shape").unreadable(error))?;
    match (u64::try_from(shape[0]), u64::try_from(shape[1])) {
        (Ok(rows), Ok(genes)) => Ok((rows, gene_count(genes, place)?)),
        _ => Err(place.error(format!("has the shape {shape:?}"), "check how the file was written")),
    }
}

fn gene_count(genes: u64, place: &Place) -> Result<u32> {
    i32::try_from(genes).map(i32::unsigned_abs).map_err(|_| {
        place.error(format!("has {genes} genes, more than can be counted"), "check how the file was written")
    })
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
        "CSR matrices and dense arrays can be read; convert it in Python, then `adata.write_h5ad(...)`",
    )
}
