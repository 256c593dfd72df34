//! The entries of a Matrix Market file, one at a time, as they are in the full matrix.

use arrays::exact;
use schemas::{Result, chunk::is_rounded};

use super::{
    banner::{MatrixMarketField, MatrixMarketFormat, MatrixMarketHeader, Symmetry},
    text::LineReader,
};

/// Calls `show` with row, column (both from 0) and value of every entry after the header; symmetric entries
/// are shown twice, and zeros of an array are skipped.
///
/// # Errors
/// The first line that contradicts the header, or errors of `show`.
pub(super) fn for_each(
    lines: &mut LineReader,
    header: &MatrixMarketHeader,
    mut show: impl FnMut(u64, u64, f32) -> Result<()>,
) -> Result<()> {
    let mut show_both = |row: u64, column: u64, value: f32| {
        show(row, column, value)?;
        match header.symmetry {
            Symmetry::Symmetric if row != column => show(column, row, value),
            Symmetry::Skew if row != column => show(column, row, -value),
            Symmetry::General | Symmetry::Symmetric | Symmetry::Skew => Ok(()),
        }
    };
    let mut place = ArrayPlace::first(header);
    for entry in 0..header.entries {
        if !lines.advance_to_text()? {
            let message = format!("the file ends after {entry} of {} entries", header.entries);
            return Err(lines.error(message, "it is cut short; get it again"));
        }
        match header.layout {
            MatrixMarketFormat::Coordinate => {
                let (row, column, value) = read_coordinate(lines.bytes(), header)
                    .map_err(|message| lines.error(message, "check how the file was written"))?;
                show_both(row, column, value)?;
            }
            MatrixMarketFormat::Array => {
                let value = read_alone(lines.bytes(), header.field)
                    .map_err(|message| lines.error(message, "check how the file was written"))?;
                if value != 0.0 {
                    show_both(place.row, place.column, value)?;
                }
                place.advance(header);
            }
        }
    }
    if lines.advance_to_text()? {
        let message = format!("the file continues after its {} entries", header.entries);
        return Err(lines.error(message, "check the number of entries, in the line of the sizes"));
    }
    Ok(())
}

/// The position of a value in an array: column by column, without the part above the diagonal if symmetric.
struct ArrayPlace {
    row: u64,
    column: u64,
}

impl ArrayPlace {
    fn first(header: &MatrixMarketHeader) -> Self {
        Self { row: u64::from(header.symmetry == Symmetry::Skew), column: 0 }
    }

    fn advance(&mut self, header: &MatrixMarketHeader) {
        self.row += 1;
        if self.row == header.rows {
            self.column += 1;
            self.row = match header.symmetry {
                Symmetry::General => 0,
                Symmetry::Symmetric => self.column,
                Symmetry::Skew => self.column + 1,
            };
        }
    }
}

fn read_coordinate(line: &[u8], header: &MatrixMarketHeader) -> Result<(u64, u64, f32), String> {
    let (row, rest) = read_index(line, header.rows, "row")?;
    let (column, rest) = read_index(rest, header.columns, "column")?;
    let (value, rest) = match header.field {
        MatrixMarketField::Pattern => (1.0, rest),
        MatrixMarketField::Real | MatrixMarketField::Integer => {
            let (word, rest) = first_word(rest);
            (read_value(word, header.field)?, rest)
        }
    };
    expect_end(rest)?;
    Ok((row, column, value))
}

fn read_alone(line: &[u8], field: MatrixMarketField) -> Result<f32, String> {
    let (word, rest) = first_word(line);
    expect_end(rest)?;
    read_value(word, field)
}

fn expect_end(rest: &[u8]) -> Result<(), String> {
    match first_word(rest).0 {
        [] => Ok(()),
        word => Err(format!("`{}` follows the entry", text(word))),
    }
}

/// The first word, and the rest of the line; the word is empty if there is none.
fn first_word(line: &[u8]) -> (&[u8], &[u8]) {
    let start = line.iter().position(|byte| !is_blank(*byte)).unwrap_or(line.len());
    let length = line[start..].iter().position(|byte| is_blank(*byte)).unwrap_or(line.len() - start);
    (&line[start..start + length], &line[start + length..])
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

fn text(word: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(word)
}

/// An index from 0, and the rest of the line.
fn read_index<'a>(line: &'a [u8], size: u64, kind: &str) -> Result<(u64, &'a [u8]), String> {
    let (word, rest) = first_word(line);
    match digits(word) {
        Some(index) if (1..=size).contains(&index) => Ok((index - 1, rest)),
        _ if word.is_empty() => Err(format!("the line ends before its {kind}")),
        Some(index) => Err(format!("{kind} {index} is out of range: there are {size}")),
        None => {
            let number = word.strip_prefix(b"-").unwrap_or(word);
            let is_number = !number.is_empty() && number.iter().all(u8::is_ascii_digit);
            match (is_number, number.len() < word.len()) {
                (true, true) => Err(format!("{kind} {} is out of range: there are {size}", text(word))),
                (true, false) => Err(format!("{kind} {} overflows: it is more than 64 bits hold", text(word))),
                (false, _) => Err(format!("`{}` is not a {kind}", text(word))),
            }
        }
    }
}

fn read_value(word: &[u8], field: MatrixMarketField) -> Result<f32, String> {
    if let Some(count) = digits(word) {
        #[expect(clippy::cast_precision_loss, reason = "values are kept as f32")]
        return kept_exactly(count as f64, count as f32, word);
    }
    if word.is_empty() {
        return Err("the line ends before its value".into());
    }
    let unreadable = || {
        format!(
            "`{}` is not {}",
            text(word),
            if field == MatrixMarketField::Integer { "an integer" } else { "a number" }
        )
    };
    let word = std::str::from_utf8(word).map_err(|_| unreadable())?;
    let overflows = || format!("value {word} overflows: it is more than 32 bits hold");
    if field == MatrixMarketField::Integer {
        let digits = word.trim_start_matches(['-', '+']);
        if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
            return Err(unreadable());
        }
        let integer: i64 = word.parse().map_err(|_| overflows())?;
        #[expect(clippy::cast_precision_loss, reason = "values are kept as f32")]
        return kept_exactly(integer as f64, integer as f32, word.as_bytes());
    }
    let value: f32 = word.parse().map_err(|_| unreadable())?;
    if exact::may_be_rounded(&[value]) && value.is_finite() {
        return kept_exactly(word.parse().map_err(|_| unreadable())?, value, word.as_bytes());
    }
    // An infinity that is spelled out is accepted here; the policy for such values is applied later.
    let spelled_out = !word.bytes().any(|byte| byte.is_ascii_digit());
    if value.is_infinite() && !spelled_out { Err(overflows()) } else { Ok(value) }
}

/// A value as stored; fails for a whole number that would change.
fn kept_exactly(value: f64, kept: f32, word: &[u8]) -> Result<f32, String> {
    if is_rounded(value, kept) { Err(exact::message(text(word))) } else { Ok(kept) }
}

/// The number that some digits spell; `None` if they are not digits, or the number exceeds 64 bits.
fn digits(word: &[u8]) -> Option<u64> {
    const SURE_TO_FIT: usize = 19;
    let mut number = 0_u64;
    if word.is_empty() {
        return None;
    }
    for byte in word {
        let digit = u64::from(byte.wrapping_sub(b'0'));
        if digit > 9 {
            return None;
        }
        number =
            if word.len() <= SURE_TO_FIT { number * 10 + digit } else { number.checked_mul(10)?.checked_add(digit)? };
    }
    Some(number)
}
