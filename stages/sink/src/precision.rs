//! The precision of predicted numbers.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, AsArray, FixedSizeListArray, Float32Array, ListArray, RecordBatch},
    datatypes::{DataType, Float32Type},
    error::ArrowError,
};
use schemas::{Error, Result};

/// The precision of numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum OutputPrecision {
    /// Single precision: 24 bits of mantissa.
    #[default]
    Single,
    /// bfloat16: 8 bits of mantissa, about three decimal digits. Numbers are stored as singles whose lower half
    /// is zero, which takes almost no space after compression.
    Bfloat16,
}

impl OutputPrecision {
    /// The name used by users and in files.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Single => "f32",
            Self::Bfloat16 => "bf16",
        }
    }

    /// The table with its measured numbers rounded to this precision.
    ///
    /// # Errors
    /// This fails only through a bug.
    pub fn round(self, table: &RecordBatch) -> Result<RecordBatch> {
        let columns = table.columns().iter().map(|column| self.of_column(column)).collect::<Result<_, _>>();
        columns
            .and_then(|columns| RecordBatch::try_new(table.schema(), columns))
            .map_err(|error| Error::Bug(error.to_string()))
    }

    /// The column, rounded to this precision.
    pub(super) fn of_column(self, column: &ArrayRef) -> Result<ArrayRef, ArrowError> {
        match self {
            Self::Single => Ok(Arc::clone(column)),
            Self::Bfloat16 => rounded(column),
        }
    }
}

fn rounded(column: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    Ok(match column.data_type() {
        DataType::Float32 => {
            let numbers = column.as_primitive::<Float32Type>();
            let values: Vec<f32> = numbers.values().iter().map(|value| to_bfloat16(*value)).collect();
            Arc::new(Float32Array::try_new(values.into(), numbers.nulls().cloned())?)
        }
        DataType::FixedSizeList(item, length) => {
            let lists = column.as_fixed_size_list();
            let values = rounded(lists.values())?;
            Arc::new(FixedSizeListArray::try_new(Arc::clone(item), *length, values, lists.nulls().cloned())?)
        }
        DataType::List(item) => {
            let lists = column.as_list::<i32>();
            let values = rounded(lists.values())?;
            Arc::new(ListArray::try_new(Arc::clone(item), lists.offsets().clone(), values, lists.nulls().cloned())?)
        }
        _ => Arc::clone(column),
    })
}

/// The nearest bfloat16; of two equally near ones, the even one.
#[must_use]
pub fn to_bfloat16(value: f32) -> f32 {
    if value.is_nan() {
        return f32::NAN;
    }
    let bits = value.to_bits();
    // Adds just under half of the last kept bit, plus that bit itself, so that ties go to the even number.
    f32::from_bits(bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) & 0xffff_0000)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ties_go_to_the_even_neighbour() {
        let between = |low: u32| f32::from_bits((low << 16) | 0x8000);
        assert_eq!(to_bfloat16(between(0x3f80)), f32::from_bits(0x3f80_0000));
        assert_eq!(to_bfloat16(between(0x3f81)), f32::from_bits(0x3f82_0000));
        assert_eq!(to_bfloat16(f32::MAX), f32::INFINITY);
        assert_eq!(to_bfloat16(f32::NEG_INFINITY), f32::NEG_INFINITY);
        assert_eq!(to_bfloat16(-0.0).to_bits(), (-0.0_f32).to_bits());
        assert!(to_bfloat16(f32::from_bits(0x7f80_0001)).is_nan());
    }

    proptest! {
        #[test]
        fn no_bfloat16_is_nearer(value in -1e30_f32..1e30) {
            let found = to_bfloat16(value);
            prop_assert_eq!(found.to_bits() & 0xffff, 0);
            let distance = (f64::from(found) - f64::from(value)).abs();
            for bits in [found.to_bits().wrapping_sub(0x1_0000), found.to_bits().wrapping_add(0x1_0000)] {
                let other = f32::from_bits(bits);
                if other.is_finite() {
                    prop_assert!(distance <= (f64::from(other) - f64::from(value)).abs());
                }
            }
        }
    }
}
