//! The header of a Matrix Market file: its banner and its sizes.
//!
//! The format is described in "The Matrix Market Exchange Formats: Initial Design" (Boisvert, Pozo and Remington, NISTIR
//! 5935, 1996).

use schemas::Result;

use super::text::LineReader;

/// How entries are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MatrixMarketFormat {
    /// Row, column and value of each entry.
    Coordinate,
    /// All values, column by column.
    Array,
}

/// The type of an entry's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MatrixMarketField {
    Real,
    Integer,
    /// There is no value: every entry is 1.
    Pattern,
}

/// Which entries also determine another entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Symmetry {
    General,
    /// Entry (i, j) is also entry (j, i).
    Symmetric,
    /// Entry (i, j) is also entry (j, i) with the opposite sign; arrays leave out the diagonal.
    Skew,
}

/// The header before the entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MatrixMarketHeader {
    pub(super) layout: MatrixMarketFormat,
    pub(super) field: MatrixMarketField,
    pub(super) symmetry: Symmetry,
    pub(super) rows: u64,
    pub(super) columns: u64,
    /// Number of listed entries.
    pub(super) entries: u64,
}

const NOT_ONE: &str = "a Matrix Market file begins with `%%MatrixMarket matrix coordinate real general` or the like";

impl MatrixMarketHeader {
    /// Reads banner, comments and sizes.
    pub(super) fn read(lines: &mut LineReader) -> Result<Self> {
        let (layout, field, symmetry) = read_banner(lines)?;
        loop {
            if !lines.advance_to_text()? {
                return Err(lines.error("the file ends before the line of its sizes", "it is cut short; get it again"));
            }
            if !lines.bytes().trim_ascii_start().starts_with(b"%") {
                break;
            }
        }
        let text = String::from_utf8_lossy(lines.bytes()).into_owned();
        let sizes: Vec<u64> =
            text.split_ascii_whitespace().map(|size| read_size(size, lines)).collect::<Result<_>>()?;
        let (rows, columns, entries) = match (layout, sizes.as_slice()) {
            (MatrixMarketFormat::Coordinate, [rows, columns, entries]) => (*rows, *columns, *entries),
            (MatrixMarketFormat::Array, [rows, columns]) => (*rows, *columns, array_entries(*rows, *columns, symmetry)),
            (MatrixMarketFormat::Coordinate, _) => {
                let message = format!("`{}` are not sizes", text.trim());
                return Err(lines.error(message, "rows, columns and the number of entries are expected"));
            }
            (MatrixMarketFormat::Array, _) => {
                let message = format!("`{}` are not sizes", text.trim());
                return Err(lines.error(message, "rows and columns are expected"));
            }
        };
        if symmetry != Symmetry::General && rows != columns {
            let message = format!("a symmetric matrix can't have {rows} rows and {columns} columns");
            return Err(lines.error(message, "check how the file was written"));
        }
        Ok(Self { layout, field, symmetry, rows, columns, entries })
    }
}

fn read_banner(lines: &mut LineReader) -> Result<(MatrixMarketFormat, MatrixMarketField, Symmetry)> {
    lines.advance()?;
    let text = String::from_utf8_lossy(lines.bytes()).to_ascii_lowercase();
    let mut words = text.split_ascii_whitespace();
    // Some programs write a single percent sign, or blanks before the banner.
    let is_banner = |word: &str| matches!(word, "%%matrixmarket" | "%matrixmarket");
    if !words.next().is_some_and(is_banner) {
        return Err(lines.error("is not a Matrix Market banner", NOT_ONE));
    }
    let mut word = |what: &str| {
        words.next().ok_or_else(|| lines.error(format!("the banner ends before it names the {what}"), NOT_ONE))
    };
    let unknown =
        |what: &str, word: &str| lines.error(format!("the banner names an unknown {what}, `{word}`"), NOT_ONE);
    match word("object")? {
        "matrix" => {}
        "vector" => {
            let message = "holds a vector, not a matrix of cells and genes";
            return Err(lines.error(message, "give the file that holds the matrix"));
        }
        other => return Err(unknown("object", other)),
    }
    let layout = match word("format")? {
        "coordinate" => MatrixMarketFormat::Coordinate,
        "array" => MatrixMarketFormat::Array,
        other => return Err(unknown("format", other)),
    };
    let field = match word("field")? {
        "real" | "double" => MatrixMarketField::Real,
        "integer" | "unsigned-integer" => MatrixMarketField::Integer,
        "pattern" if layout == MatrixMarketFormat::Coordinate => MatrixMarketField::Pattern,
        "pattern" => return Err(lines.error("an array of the field pattern has no values", NOT_ONE)),
        "complex" => {
            let message = "holds complex values, but expression is real";
            return Err(lines.error(message, "write the matrix with real values"));
        }
        other => return Err(unknown("field", other)),
    };
    let symmetry = match word("symmetry")? {
        "general" => Symmetry::General,
        // For real values, the two are the same.
        "symmetric" | "hermitian" => Symmetry::Symmetric,
        "skew-symmetric" => Symmetry::Skew,
        other => return Err(unknown("symmetry", other)),
    };
    Ok((layout, field, symmetry))
}

fn read_size(text: &str, lines: &LineReader) -> Result<u64> {
    const HINT: &str = "check how the file was written";
    let error = |message: &str| Err(lines.error(format!("`{text}` {message}"), HINT));
    let digits = text.strip_prefix('-').unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return error("is not a size");
    }
    if digits != text {
        return error("is negative, which a size can't be");
    }
    text.parse().or_else(|_| error("overflows: it is more than 64 bits hold"))
}

/// Number of values that an array lists; saturates if that is too large to count.
fn array_entries(rows: u64, columns: u64, symmetry: Symmetry) -> u64 {
    match symmetry {
        Symmetry::General => rows.saturating_mul(columns),
        Symmetry::Symmetric => rows.saturating_mul(rows.saturating_add(1)) / 2,
        Symmetry::Skew => rows.saturating_mul(rows.saturating_sub(1)) / 2,
    }
}
