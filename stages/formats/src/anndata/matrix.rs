//! The expression matrix of a file: CSR, CSC or dense, read by rows.

use std::ops::Range;

use arrays::{
    place::ObjectPlace,
    rows::{DenseMatrix, RowMatrix},
};
use schemas::{
    Result,
    atlas::{InPlaceForm, StoredChunk},
    chunk::CsrRows,
};
use stage::interrupt::Interrupt;

use super::{
    csc::Csc,
    group::{MemberKind, StoredGroup, UnwrittenParts},
    sparse,
};

/// A matrix whose shape and members have been checked.
#[derive(Debug)]
pub(crate) enum CheckedMatrix {
    Rows(RowMatrix),
    Csc(Csc),
}

impl CheckedMatrix {
    /// Opens the member `name` of a group as a matrix.
    pub(super) fn open(parent: &dyn StoredGroup, name: &str, interrupt: &Interrupt) -> Result<Self> {
        let place = parent.place().child(name);
        match parent.member(name)? {
            MemberKind::Missing => {
                Err(place.error("there is no such matrix", "set adata.X, or name a layer that the file has"))
            }
            MemberKind::Array => DenseMatrix::new(parent.numbers(name, UnwrittenParts::Filled)?)
                .map(|dense| Self::Rows(RowMatrix::Dense(dense))),
            MemberKind::Group => {
                let group = parent.group(name)?;
                let by_rows = match sparse::encoding(&*group).as_deref() {
                    Some("csr_matrix" | "csr") => true,
                    Some("csc_matrix" | "csc") => false,
                    Some(other) => return Err(unknown_encoding(&place, other)),
                    None => return Err(unknown_encoding(&place, "a group without an encoding-type")),
                };
                let (rows, genes) = sparse::shape(&*group)?;
                match by_rows {
                    true => sparse::csr(&*group, rows, genes).map(|csr| Self::Rows(RowMatrix::Csr(csr))),
                    false => Csc::open(&*group, rows, genes, interrupt).map(Self::Csc),
                }
            }
            MemberKind::Other => Err(unknown_encoding(&place, "neither an array nor a group")),
        }
    }

    pub(super) fn rows(&self) -> u64 {
        match self {
            Self::Rows(matrix) => matrix.rows(),
            Self::Csc(csc) => csc.rows(),
        }
    }

    pub(super) fn genes(&self) -> u64 {
        match self {
            Self::Rows(matrix) => matrix.genes().into(),
            Self::Csc(csc) => csc.genes().into(),
        }
    }

    pub(super) fn nonzeros(&self) -> Option<u64> {
        match self {
            Self::Rows(matrix) => matrix.nonzeros(),
            Self::Csc(csc) => Some(csc.entries()),
        }
    }

    /// Where the matrix is in the file, if it can be read there by rows without this source; appends its chunks.
    pub(super) fn in_place(&self, chunks: &mut Vec<StoredChunk>) -> Option<InPlaceForm> {
        match self {
            Self::Rows(matrix) => matrix.in_place(chunks),
            Self::Csc(_) => None,
        }
    }

    /// The end of the row range that starts at a row.
    pub(crate) fn range_end(&self, first: u64) -> Result<u64> {
        match self {
            Self::Rows(matrix) => matrix.range_end(first),
            Self::Csc(csc) => csc.transposed()?.range_end(first),
        }
    }

    /// Reads some rows.
    pub(crate) fn read(&self, rows: Range<u64>, spare: CsrRows) -> Result<CsrRows> {
        match self {
            Self::Rows(matrix) => matrix.read(rows, spare),
            Self::Csc(csc) => csc.transposed()?.expression(rows, spare),
        }
    }
}

fn unknown_encoding(place: &ObjectPlace, found: &str) -> schemas::Error {
    place.error(
        format!("is {found}, which is not a supported kind of matrix"),
        "CSR and CSC matrices and dense arrays can be read; convert it in Python, then write it again",
    )
}
