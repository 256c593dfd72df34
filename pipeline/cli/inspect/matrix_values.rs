//! The kind of a matrix's values: counts, logarithms of normalised counts, or scaled values.

use serde_json::{Value, json};

use schemas::{chunk::CsrRows, counting::grouped};

/// Number of cells whose sums are compared.
const COMPARED_CELLS: usize = 2000;
/// Largest relative difference between the sums of normalised cells.
const SAME_SUM: f64 = 0.01;
/// Logarithms of counts stay below this; `e` to the power of 20 is half a billion.
const LARGEST_LOGARITHM: f32 = 20.0;

/// Findings of one pass over a matrix.
#[derive(Default)]
pub(super) struct ValueSurvey {
    pub(super) nonzeros: u64,
    has_fractions: bool,
    least: f32,
    largest: f32,
    /// The sums of the first cells, of values and of their exponentials minus 1.
    sums: Vec<[f64; 2]>,
}

impl ValueSurvey {
    pub(super) fn add(&mut self, rows: &CsrRows) {
        let values = rows.values();
        self.nonzeros += values.len() as u64;
        for value in values {
            self.has_fractions |= value.fract() != 0.0;
            self.least = self.least.min(*value);
            self.largest = self.largest.max(*value);
        }
        for range in rows.row_pointers().windows(2) {
            if self.sums.len() == COMPARED_CELLS {
                break;
            }
            let of_cell = values.get(range[0] as usize..range[1] as usize).unwrap_or_default();
            let sum = of_cell.iter().map(|value| f64::from(*value)).sum();
            let exponentials = of_cell.iter().map(|value| f64::from(*value).exp_m1()).sum();
            self.sums.push([sum, exponentials]);
        }
    }

    /// Whether all values are non-negative integers.
    pub(super) fn are_counts(&self) -> bool {
        !self.has_fractions && self.least >= 0.0
    }

    /// The sum of every cell, if all have the same one.
    fn common_sum(&self, at: usize) -> Option<f64> {
        let sums = || self.sums.iter().map(|sums| sums[at]).filter(|sum| *sum > 0.0);
        let (least, largest) = (sums().fold(f64::INFINITY, f64::min), sums().fold(0.0, f64::max));
        (largest.is_finite() && sums().count() > 1 && largest - least <= SAME_SUM * largest)
            .then_some(f64::midpoint(least, largest))
    }

    /// The kind of the values in JSON, and in words.
    fn kind(&self) -> (&'static str, String) {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a sum of counts is shown")]
        let whole = |sum: f64| grouped(sum.round() as u64);
        if self.are_counts() {
            return ("counts", "counts: non-negative integers".to_owned());
        }
        if self.least < 0.0 {
            return ("scaled", "scaled or centred, as by `scanpy.pp.scale`: some are negative".to_owned());
        }
        if let Some(sum) = self.common_sum(1) {
            return ("log_normalised", format!("log-normalised: log(1 + counts scaled to {} per cell)", whole(sum)));
        }
        if let Some(sum) = self.common_sum(0) {
            return ("normalised", format!("normalised to {} per cell, not logarithms", whole(sum)));
        }
        match self.largest < LARGEST_LOGARITHM {
            true => ("log_normalised", "most likely log-normalised, with genes left out afterwards".to_owned()),
            false => ("continuous", "continuous: neither counts nor logarithms".to_owned()),
        }
    }

    /// All of this, as JSON.
    pub(super) fn value(&self, name: &str) -> Value {
        let (kind, words) = self.kind();
        json!({ "name": name, "likely": kind, "described": words, "min": self.least, "max": self.largest })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(rows: &[&[f32]]) -> &'static str {
        let mut survey = ValueSurvey::default();
        let (mut pointers, mut genes, mut values) = (vec![0], Vec::new(), Vec::new());
        for row in rows {
            for (gene, value) in (0..).zip(*row) {
                genes.push(gene);
                values.push(*value);
            }
            pointers.push(u32::try_from(values.len()).expect("a short list"));
        }
        survey.add(&CsrRows::canonical(pointers, genes, values, 4).expect("rows"));
        survey.kind().0
    }

    #[test]
    fn kinds_of_values_are_distinguished() {
        assert_eq!(kind(&[&[1.0, 3.0], &[2.0, 7.0]]), "counts");
        assert_eq!(kind(&[&[-1.5, 0.5], &[2.0, 0.1]]), "scaled");
        assert_eq!(kind(&[&[0.25, 0.75], &[0.5, 0.5]]), "normalised");
        let log = |share: f32| (100.0 * share).ln_1p();
        assert_eq!(kind(&[&[log(0.2), log(0.8)], &[log(0.5), log(0.5)]]), "log_normalised");
        assert_eq!(kind(&[&[0.2, 3.8], &[1.5, 0.5]]), "log_normalised");
        assert_eq!(kind(&[&[0.2, 3000.8], &[1.5, 0.5]]), "continuous");
    }
}
