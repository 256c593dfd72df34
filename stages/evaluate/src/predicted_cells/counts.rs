//! Whether a prediction holds counts, as its first values show.

use arrow::array::AsArray;
use schemas::{Error, Result, chunk::CsrRows};

use super::PredictedCells;

impl PredictedCells {
    /// Whether all values of the first rows that have any are counts.
    ///
    /// # Errors
    /// A file that can't be read, or values most of which are counts: one bad value does not make the others logarithms.
    pub fn begins_with_counts(&self) -> Result<bool> {
        let mut first = 0;
        while first < self.source.cells() {
            let end = self.source.range_end(first)?.clamp(first + 1, self.source.cells());
            let rows = self.source.expression(first..end, CsrRows::default())?;
            if !rows.values().is_empty() {
                return self.are_counts(first, &rows);
            }
            first = end;
        }
        Ok(false)
    }

    fn are_counts(&self, first: u64, rows: &CsrRows) -> Result<bool> {
        let entries = (first..).zip(0..rows.rows()).flat_map(|(row, at)| {
            let (genes, values) = rows.row(at);
            genes.iter().zip(values).map(move |(gene, value)| (row, *gene, *value))
        });
        let mut others = entries.filter(|(.., value)| !is_count(*value));
        let Some((row, gene, value)) = others.next() else { return Ok(true) };
        // Zeros are no sign of counts: logarithms have them too.
        let counts = rows.values().iter().filter(|value| **value > 0.0 && is_count(**value)).count();
        if counts <= 1 + others.count() {
            return Ok(false);
        }
        Err(self.not_a_count(row, gene, value))
    }

    /// The error about a value among counts that is not one.
    pub(super) fn not_a_count(&self, row: u64, gene: u32, value: f32) -> Error {
        let (file, place) = self.place_of(row, gene);
        let hint = "correct it, or say which numbers these are with --values; counts that were expected, not drawn, are \
                    --values counts";
        Error::data(file, format!("the value of {place} is {value}, but its first values are mostly counts"), hint)
    }

    /// The file of a row, and the gene and the row in words.
    pub(super) fn place_of(&self, row: u64, gene: u32) -> (String, String) {
        let name = self.source.var().column(0).as_string::<i32>().value(gene as usize).to_owned();
        let (file, row) = self.source.locate(row);
        (file, format!("gene `{name}` in row {row}"))
    }
}

/// Whether a value is a whole number that is not negative.
pub(super) fn is_count(value: f32) -> bool {
    value >= 0.0 && value.fract() == 0.0
}
