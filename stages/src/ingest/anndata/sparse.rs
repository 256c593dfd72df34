//! Shared code of CSR and CSC matrices: shape, pointers, indices and data, checked when they are opened.

use std::ops::Range;

use schemas::{Result, numbers::saturating};

use super::group::{Gaps, Group, Numbers};
use crate::place::Place;

/// By what a sparse matrix is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::ingest) enum Major {
    Rows,
    Columns,
}

/// The encoding of a sparse matrix, under the names that anndata has given it; none if there is no name.
pub(super) fn encoding(group: &dyn Group) -> Option<String> {
    // `h5sparse_format` is what anndata wrote before 0.7.
    group.text("encoding-type").or_else(|| group.text("h5sparse_format"))
}

/// The number of rows and columns, from an attribute.
pub(super) fn shape(group: &dyn Group) -> Result<(u64, u32)> {
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

/// A number of genes as it is counted here.
pub(in crate::ingest) fn gene_count(genes: u64, place: &Place) -> Result<u32> {
    i32::try_from(genes).map(i32::unsigned_abs).map_err(|_| {
        place.error(format!("has {genes} genes, more than can be counted"), "check how the file was written")
    })
}

/// The three vectors of a sparse matrix.
#[derive(Debug)]
pub(super) struct Vectors {
    pub(super) pointers: Box<dyn Numbers>,
    pub(super) indices: Box<dyn Numbers>,
    pub(super) data: Box<dyn Numbers>,
}

impl Vectors {
    /// Opens the vectors of a matrix with this many rows, or columns, by which it is stored.
    pub(super) fn open(group: &dyn Group, major: Major, lines: u64) -> Result<Self> {
        let place = group.place();
        let member = |name: &str| {
            // Pointers grow and no entry is zero: a part without anything in it is lost.
            let numbers = group.numbers(name, Gaps::Lost)?;
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

/// Where each of some rows (or columns) starts among the entries, and where the last of them ends; `place` is the matrix.
pub(super) fn bounds(
    pointers: &dyn Numbers,
    lines: Range<u64>,
    entries: u64,
    major: Major,
    place: &Place,
) -> Result<Vec<u64>> {
    let (first, line, place) = (lines.start, major.line(), place.child("indptr"));
    let mut read: Vec<i64> = Vec::new();
    pointers.integers(first..lines.end + 1, &mut read)?;
    let pointers = read;
    let entries: i64 = saturating(entries);
    let bad = |at: usize, message: String| {
        let hint = "the file may be damaged or cut short; write it again";
        Err(place.error(format!("at {line} {}: {message}", first + at as u64), hint))
    };
    if let Some(at) = pointers.iter().position(|pointer| *pointer < 0) {
        let message =
            format!("at {line} {}: {line} pointer {} has overflowed 32 bits", first + at as u64, pointers[at]);
        let hint = "recompute it in 64 bits in Python, `lengths = np.diff(X.indptr.view('uint32'))` and \
                    `X.indptr = np.concatenate([[0], np.cumsum(lengths, dtype='int64')])`, then write the file again";
        return Err(place.error(message, hint));
    }
    if first == 0 && pointers[0] != 0 {
        return bad(0, format!("the first {line} pointer is {}, not 0", pointers[0]));
    }
    if let Some(at) = pointers.windows(2).position(|pair| pair[1] < pair[0]) {
        return bad(at, format!("{line} pointers fall from {} to {}", pointers[at], pointers[at + 1]));
    }
    if let Some(at) = pointers.iter().position(|pointer| entries < *pointer) {
        return bad(at, format!("{line} pointer {} is outside the {entries} entries", pointers[at]));
    }
    Ok(pointers.into_iter().map(i64::unsigned_abs).collect())
}

impl Major {
    pub(super) fn line(self) -> &'static str {
        match self {
            Self::Rows => "row",
            Self::Columns => "column",
        }
    }
}
