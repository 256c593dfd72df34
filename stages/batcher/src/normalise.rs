//! Values on a common scale, computed while a row is copied.
//!
//! Nearly all counts are small, and a row has few different ones: their logarithms are looked up in a table that is filled
//! for each row, up to its largest count.

use reader::row::ValueSlice;
use schemas::batch::count_to_f32;
use stage::cast::narrow;

/// The conversion of a cell's values before they are in a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Normalisation {
    /// Nothing.
    #[default]
    None,
    /// `ln(1 + 10,000 · x / Σx)`, with the sum over all genes of the cell, visible or not.
    Log1pCp10k,
}

/// The counts that every cell is scaled to.
const SCALE: f64 = 1e4;

/// Largest count whose logarithm is looked up.
const LARGEST: usize = 31;

/// The memory of one thread that normalises rows.
#[derive(Debug)]
pub struct Normaliser {
    rule: Normalisation,
    /// Logarithms of small counts, in the scale of the current row; one for each byte, so that no index needs a check.
    table: Box<[f32; 256]>,
    values: Vec<f32>,
}

impl Normaliser {
    /// Memory for a rule.
    #[must_use]
    pub fn new(rule: Normalisation) -> Self {
        Self { rule, table: Box::new([0.0; 256]), values: Vec::new() }
    }

    /// The values of a row, normalised. A row without counts stays as it is.
    pub fn row<'a>(&'a mut self, values: ValueSlice<'a>) -> ValueSlice<'a> {
        match self.rule {
            Normalisation::None => values,
            Normalisation::Log1pCp10k => {
                self.log1p_cp10k(values);
                ValueSlice::F32(&self.values)
            }
        }
    }

    fn log1p_cp10k(&mut self, values: ValueSlice<'_>) {
        self.values.clear();
        match values {
            ValueSlice::U8(counts) => self.of_bytes(counts),
            ValueSlice::U16(counts) => self.of(counts.iter().map(|count| f64::from(*count))),
            ValueSlice::U32(counts) => self.of(counts.iter().map(|count| f64::from(count_to_f32(*count)))),
            ValueSlice::F32(values) => self.of(values.iter().map(|value| f64::from(*value))),
        }
    }

    fn of_bytes(&mut self, counts: &[u8]) {
        let factor = factor(counts.iter().map(|count| u64::from(*count)).sum::<u64>() as f64);
        let largest = counts.iter().copied().max().map_or(0, usize::from);
        for (count, log) in (0_u8..).zip(self.table.iter_mut().take(1 + largest.min(LARGEST))) {
            *log = log_of_count(f64::from(count), factor);
        }
        let table = &*self.table;
        self.values.extend(counts.iter().map(|count| table[usize::from(*count)]));
        if LARGEST < largest {
            for (count, value) in counts.iter().zip(&mut self.values) {
                if LARGEST < usize::from(*count) {
                    *value = log_of_count(f64::from(*count), factor);
                }
            }
        }
    }

    fn of(&mut self, values: impl Iterator<Item = f64> + Clone) {
        let factor = factor(values.clone().sum());
        self.values.extend(values.map(|value| scaled_log(value, factor)));
    }
}

/// The factor of the values.
fn factor(sum: f64) -> f64 {
    if sum == 0.0 { 0.0 } else { SCALE / sum }
}

/// The same for a count of up to 8 bits. A row has at most 2³² of these, so scaled counts are not small enough for `ln_1p` to differ
/// from the faster `ln` in an `f32`.
fn log_of_count(count: f64, factor: f64) -> f32 {
    narrow((1.0 + count * factor).ln())
}

fn scaled_log(value: f64, factor: f64) -> f32 {
    narrow((value * factor).ln_1p())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normalised(values: ValueSlice<'_>) -> Vec<f32> {
        match Normaliser::new(Normalisation::Log1pCp10k).row(values) {
            ValueSlice::F32(values) => values.to_vec(),
            other => panic!("{other:?} are not logarithms"),
        }
    }

    #[test]
    fn counts_of_any_width_get_the_same_logarithms() {
        let counts = [1_u8, 2, 31, 32, 200, 1];
        let expected: Vec<f32> = counts.iter().map(|count| narrow((f64::from(*count) * 1e4 / 267.0).ln_1p())).collect();
        assert_eq!(normalised(ValueSlice::U8(&counts)), expected);
        assert_eq!(normalised(ValueSlice::U16(&counts.map(u16::from))), expected);
        assert_eq!(normalised(ValueSlice::U32(&counts.map(u32::from))), expected);
        assert_eq!(normalised(ValueSlice::F32(&counts.map(f32::from))), expected);
    }

    #[test]
    fn rows_do_not_see_each_other() {
        let mut normaliser = Normaliser::new(Normalisation::Log1pCp10k);
        normaliser.row(ValueSlice::U8(&[1, 30]));
        let ValueSlice::F32(values) = normaliser.row(ValueSlice::U8(&[5, 5])) else { panic!("logarithms are floats") };
        assert_eq!(values, [narrow(5e3_f64.ln_1p()); 2]);
        assert_eq!(normaliser.row(ValueSlice::U8(&[])), ValueSlice::F32(&[]), "a cell without counts");
    }
}
