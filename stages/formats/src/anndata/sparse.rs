//! Code shared by CSR and CSC matrices: shape, pointers, indices and data, checked when a matrix is opened.

use arrays::{
    numbers::Numbers,
    rows::{Csr, CsrVectors},
    sparse::{Major, gene_count},
};
use schemas::Result;

use super::group::{StoredGroup, UnwrittenParts};

/// The encoding of a sparse matrix, as named by anndata; `None` if there is no name.
pub(super) fn encoding(group: &dyn StoredGroup) -> Option<String> {
    // Before 0.7, anndata wrote `h5sparse_format`.
    group.text("encoding-type").or_else(|| group.text("h5sparse_format"))
}

/// The number of rows and columns, from an attribute.
pub(super) fn shape(group: &dyn StoredGroup) -> Result<(u64, u32)> {
    let place = group.place();
    let shape = group.integers("shape").or_else(|| group.integers("h5sparse_shape"));
    let Some([rows, columns]) = shape.as_deref() else {
        let message = "can't be read: the shape of a matrix is 2 numbers";
        return Err(place.child("shape").error(message, "the file may be damaged or cut short; write it again"));
    };
    match (u64::try_from(*rows), u64::try_from(*columns)) {
        (Ok(rows), Ok(columns)) => Ok((rows, gene_count(columns, place)?)),
        _ => Err(place.error(format!("has the shape [{rows}, {columns}]"), "check how the file was written")),
    }
}

/// The three vectors of a sparse matrix.
#[derive(Debug)]
pub(super) struct SparseVectors {
    pub(super) pointers: Box<dyn Numbers>,
    pub(super) indices: Box<dyn Numbers>,
    pub(super) data: Box<dyn Numbers>,
}

impl SparseVectors {
    /// Opens the vectors of a matrix that is stored by rows or columns, `lines` of them.
    pub(super) fn open(group: &dyn StoredGroup, major: Major, lines: u64) -> Result<Self> {
        let place = group.place();
        let member = |name: &str| {
            // Pointers increase and no entry is zero: a part that was never written is lost.
            let numbers = group.numbers(name, UnwrittenParts::Lost)?;
            match numbers.dimensions() {
                1 => Ok(numbers),
                _ => Err(place.child(name).error("is not a vector", "check how the file was written")),
            }
        };
        let (pointers, indices, data) = (member("indptr")?, member("indices")?, member("data")?);
        if pointers.rows() != lines.saturating_add(1) {
            let (found, line) = (pointers.rows(), major.line());
            let message = format!("has {found} {line} pointers, but {lines} {line}s need {}", lines.saturating_add(1));
            return Err(place.child("indptr").error(message, "the file may be cut short; write it again"));
        }
        if indices.rows() != data.rows() {
            let message = format!("has {} entries, but `data` has {}", indices.rows(), data.rows());
            return Err(place.child("indices").error(message, "the file may be cut short; write it again"));
        }
        Ok(Self { pointers, indices, data })
    }
}

/// A CSR matrix whose shape is not stored in the group of its vectors.
pub(crate) fn csr(group: &dyn StoredGroup, rows: u64, genes: u32) -> Result<Csr> {
    let SparseVectors { pointers: row_pointers, indices, data } = SparseVectors::open(group, Major::Rows, rows)?;
    Ok(Csr::new(group.place().clone(), rows, genes, CsrVectors { row_pointers, indices, data }))
}
