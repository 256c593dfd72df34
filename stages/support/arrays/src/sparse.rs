//! Shared checks of CSR and CSC matrices.

use std::ops::Range;

use schemas::{Result, numbers::saturating};

use super::{numbers::Numbers, place::ObjectPlace};

/// How a sparse matrix is ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Major {
    /// Row by row: CSR.
    Rows,
    /// Column by column: CSC.
    Columns,
}

/// Checks and converts a number of genes.
///
/// # Errors
/// More genes than an `i32` holds.
pub fn gene_count(genes: u64, place: &ObjectPlace) -> Result<u32> {
    i32::try_from(genes).map(i32::unsigned_abs).map_err(|_| {
        place.error(format!("has {genes} genes, more than can be counted"), "check how the file was written")
    })
}

/// Where each of some rows (or columns) starts among the entries, followed by the end of the last one;
/// `place` is the matrix.
///
/// # Errors
/// Pointers that can't be read, decrease, or are outside the entries.
pub fn bounds(
    pointers: &dyn Numbers,
    lines: Range<u64>,
    entries: u64,
    major: Major,
    place: &ObjectPlace,
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
    /// The name of a row or column in errors.
    #[must_use]
    pub fn line(self) -> &'static str {
        match self {
            Self::Rows => "row",
            Self::Columns => "column",
        }
    }
}
