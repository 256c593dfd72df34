//! Values that are not counts, or not numbers: a census of them, and the policies for them.

use std::collections::BTreeMap;

use reader::records::LARGEST_COUNT;

/// Maximum number of bad values that are listed individually.
pub(crate) const NAMED_BAD_VALUES: usize = 5;

/// The policy for invalid values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnBadValues {
    /// Report the first ones, and write nothing.
    #[default]
    Error,
    /// Leave out their cells.
    Drop,
    /// Replace them by the nearest valid value; values that are not finite become 0.
    Clip,
}

/// How to interpret values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ValuesAs {
    /// Counts if all are integers, otherwise continuous; among counts, negative values and those that are too
    /// large are bad.
    #[default]
    Auto,
    /// Counts, or an error.
    Counts,
    /// Continuous, whatever the values are.
    Continuous,
}

impl ValuesAs {
    /// Whether a value is valid.
    #[must_use]
    pub fn takes(self, value: f32) -> bool {
        value.is_finite() && (self != Self::Counts || is_count(value))
    }

    /// The nearest valid value; 0 for values that are not finite.
    #[must_use]
    pub fn clip(self, value: f32) -> f32 {
        match (value.is_finite(), self) {
            (false, _) => 0.0,
            (true, Self::Counts) => value.round().clamp(0.0, LARGEST_COUNT),
            (true, Self::Auto | Self::Continuous) => value,
        }
    }
}

fn is_count(value: f32) -> bool {
    (0.0..=LARGEST_COUNT).contains(&value) && value.fract() == 0.0
}

/// An invalid value, and where it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BadValue {
    /// The index of its cell in the source.
    pub cell: u64,
    /// The index of its gene.
    pub gene: u32,
    /// The value.
    pub value: f32,
}

/// Counts and examples of values that are not counts, or not numbers.
#[derive(Clone, Debug, Default)]
pub struct ValueCensus {
    /// The first NaN or infinite values.
    pub not_finite: Vec<BadValue>,
    /// Number of these values.
    pub not_finite_count: u64,
    /// The first negative values.
    pub negative: Vec<BadValue>,
    /// Number of these values.
    pub negative_count: u64,
    /// The first values that are not integers.
    pub fractions: Vec<BadValue>,
    /// Number of these values.
    pub fraction_count: u64,
    /// The first integers too large to be exact in float32.
    pub too_large: Vec<BadValue>,
    /// Number of these values.
    pub too_large_count: u64,
    /// For each file with values, by its index among the origins of its source: the first value that is not an integer.
    pub files: BTreeMap<usize, Option<BadValue>>,
    /// Number of cells without any values.
    pub empty_cells: u64,
    /// Number of values that were clipped.
    pub clipped: u64,
    /// Number of cells that were left out because of their values.
    pub dropped: u64,
}

impl ValueCensus {
    /// Records a value, unless it is a count.
    pub fn enter(&mut self, bad_value: BadValue) {
        if !bad_value.value.is_finite() {
            self.not_finite_count += 1;
            keep_first(&mut self.not_finite, bad_value);
            return;
        }
        if bad_value.value < 0.0 {
            self.negative_count += 1;
            keep_first(&mut self.negative, bad_value);
        }
        if bad_value.value.fract() != 0.0 {
            self.fraction_count += 1;
            keep_first(&mut self.fractions, bad_value);
        } else if bad_value.value > LARGEST_COUNT {
            self.too_large_count += 1;
            keep_first(&mut self.too_large, bad_value);
        }
    }

    /// Whether all values are integers, but some of them can't be counts.
    #[must_use]
    pub fn has_bad_counts(&self) -> bool {
        self.fraction_count == 0 && self.negative_count + self.too_large_count > 0
    }

    /// A file that holds only integers, and another one with its first value that is not an integer; `None` if
    /// the files agree.
    #[must_use]
    pub fn files_that_differ(&self) -> Option<(usize, (usize, BadValue))> {
        let whole = self.files.iter().find(|(_, fraction)| fraction.is_none());
        let other = self.files.iter().find_map(|(file, fraction)| Some((*file, (*fraction)?)));
        Some((*whole?.0, other?))
    }

    /// Adds the census of later rows.
    pub fn merge(&mut self, later: Self) {
        self.not_finite_count += later.not_finite_count;
        self.negative_count += later.negative_count;
        self.fraction_count += later.fraction_count;
        self.too_large_count += later.too_large_count;
        self.empty_cells += later.empty_cells;
        self.clipped += later.clipped;
        self.dropped += later.dropped;
        for (file, fraction) in later.files {
            let first = self.files.entry(file).or_default();
            *first = first.or(fraction);
        }
        later.not_finite.into_iter().for_each(|bad_value| keep_first(&mut self.not_finite, bad_value));
        later.negative.into_iter().for_each(|bad_value| keep_first(&mut self.negative, bad_value));
        later.fractions.into_iter().for_each(|bad_value| keep_first(&mut self.fractions, bad_value));
        later.too_large.into_iter().for_each(|bad_value| keep_first(&mut self.too_large, bad_value));
    }
}

fn keep_first(list: &mut Vec<BadValue>, bad_value: BadValue) {
    if list.len() < NAMED_BAD_VALUES {
        list.push(bad_value);
    }
}
