//! The rows of an array, as vectors and matrices of numbers.

use std::ops::Range;

use arrays::{number::Number, numbers::Numbers, place::ObjectPlace};
use schemas::{Result, atlas::StoredNumber, numbers::to_usize};
use zarrs::array::ArrayBytes;

use super::{array::Array, metadata::WRITE_AGAIN};

impl Array {
    /// Calls `show` with the values of some rows, one part after another: the bytes of some values of fixed
    /// length, or one text.
    ///
    /// # Errors
    /// Rows that do not exist, chunks that are damaged or lost.
    pub(super) fn for_each(&self, rows: Range<u64>, mut show: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        if rows.end < rows.start || self.rows < rows.end {
            let message = format!("rows {} to {} were requested, of {}", rows.start, rows.end, self.rows);
            return Err(self.place.error(message, "the store may be damaged; write it again"));
        }
        let [chunk_rows, chunk_columns] = [self.chunk[0], self.chunk.get(1).copied().unwrap_or(1)];
        let mut row = rows.start;
        while row < rows.end {
            let (band, first) = (row / chunk_rows, row % chunk_rows);
            let count = (rows.end - row).min(chunk_rows - first);
            let beside = (0..self.across).map(|column| self.get(band, column)).collect::<Result<Vec<_>>>()?;
            // Rows that are entirely in one chunk are shown at once.
            let (steps, height) = if self.columns == chunk_columns { (1, count) } else { (count, 1) };
            for step in 0..steps {
                let start = (first + step) * chunk_columns;
                let mut left = self.columns * height;
                for chunk in &beside {
                    let width = left.min(chunk_columns * height);
                    self.show(chunk, to_usize(start)..to_usize(start + width), &mut show)?;
                    left -= width;
                }
            }
            row += count;
        }
        Ok(())
    }

    /// Some values of a chunk.
    fn show(&self, chunk: &ArrayBytes, values: Range<usize>, show: &mut impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        match chunk {
            ArrayBytes::Fixed(bytes) => {
                let each = bytes.len() / to_usize(self.chunk.iter().product::<u64>());
                show(bytes.get(values.start * each..values.end * each).unwrap_or_default())
            }
            ArrayBytes::Variable(texts) => {
                let bounds = texts.offsets().get(values.start..=values.end).unwrap_or_default();
                bounds.windows(2).try_for_each(|text| show(&texts.bytes()[text[0]..text[1]]))
            }
            ArrayBytes::Optional(_) => Err(self.place.error("has values that may be missing", WRITE_AGAIN)),
        }
    }

    /// The number type of the array; flags are 0 and 1.
    ///
    /// # Errors
    /// An array of texts.
    pub(super) fn number(&self) -> Result<StoredNumber> {
        self.element.number().ok_or_else(|| {
            self.place.error("does not hold numbers, where numbers are expected", "check how the store was written")
        })
    }

    /// Reads some rows of numbers, appending them to `out`.
    ///
    /// # Errors
    /// Those of [`Array::for_each`], and an array of texts.
    pub(super) fn numbers<T: Number>(&self, rows: Range<u64>, out: &mut Vec<T>) -> Result<()> {
        let element = self.number()?;
        self.for_each(rows, |bytes| {
            T::append(element, bytes, out);
            Ok(())
        })
    }

    /// Reads some rows of numbers.
    ///
    /// # Errors
    /// Those of [`Array::numbers`].
    pub(super) fn vector<T: Number>(&self, rows: Range<usize>) -> Result<Vec<T>> {
        let mut out = Vec::new();
        self.numbers(rows.start as u64..rows.end as u64, &mut out)?;
        Ok(out)
    }
}

impl Numbers for Array {
    fn place(&self) -> &ObjectPlace {
        &self.place
    }

    fn dimensions(&self) -> usize {
        self.chunk.len()
    }

    fn rows(&self) -> u64 {
        self.rows
    }

    fn columns(&self) -> u64 {
        self.columns
    }

    fn rounded(&self, rows: Range<u64>, out: &mut Vec<f32>) -> Result<()> {
        self.numbers(rows, out)
    }

    fn doubles(&self, rows: Range<u64>, out: &mut Vec<f64>) -> Result<()> {
        self.numbers(rows, out)
    }

    fn ids(&self, rows: Range<u64>, out: &mut Vec<u32>) -> Result<()> {
        self.numbers(rows, out)
    }

    fn integers(&self, rows: Range<u64>, out: &mut Vec<i64>) -> Result<()> {
        self.numbers(rows, out)
    }
}
