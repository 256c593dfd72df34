//! Annotations as text, by which labels, filters and joined columns are compared.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, AsArray, StringArray},
    compute::cast,
    datatypes::{DataType, Float32Type, Float64Type},
    error::ArrowError,
};

/// 2⁶⁴: from here on, no column of whole numbers holds what a float does.
const PAST_WHOLE: f64 = 18_446_744_073_709_551_616.0;

/// Converts a column to text. A missing value is null in any type; so is NaN. Equal numbers become the same
/// text: `1`, whether stored as a whole number or as a float. Whole numbers between floats (2⁵³ + 1) are
/// unchanged.
///
/// # Errors
/// A type that is not text and can't be converted to it.
pub fn as_text(column: &dyn Array) -> Result<ArrayRef, ArrowError> {
    match column.data_type() {
        DataType::Float16 => as_text(&cast(column, &DataType::Float32)?),
        DataType::Float32 => {
            let numbers = column.as_primitive::<Float32Type>().iter();
            floats_as_text(column, numbers.map(|number| number.map(f64::from)))
        }
        DataType::Float64 => floats_as_text(column, column.as_primitive::<Float64Type>().iter()),
        _ => cast(column, &DataType::Utf8),
    }
}

fn floats_as_text(column: &dyn Array, numbers: impl Iterator<Item = Option<f64>>) -> Result<ArrayRef, ArrowError> {
    let texts = cast(column, &DataType::Utf8)?;
    let texts = numbers.zip(texts.as_string::<i32>()).map(|(number, text)| match number {
        Some(number) if number.is_nan() => None,
        // Adding zero turns -0 into 0.
        Some(number) if number.fract() == 0.0 && number.abs() < PAST_WHOLE => Some(format!("{:.0}", number + 0.0)),
        _ => text.map(str::to_owned),
    });
    Ok(Arc::new(texts.collect::<StringArray>()))
}

#[cfg(test)]
mod tests {
    use arrow::array::{Float32Array, Float64Array, Int64Array, UInt64Array};

    use super::*;

    fn texts(column: &dyn Array) -> Vec<Option<String>> {
        let text = as_text(column).expect("a column of numbers");
        text.as_string::<i32>().iter().map(|text| text.map(str::to_owned)).collect()
    }

    #[test]
    fn equal_numbers_are_the_same_text_and_nan_is_missing() {
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(texts(&Int64Array::from(vec![Some(1), None])), [some("1"), None]);
        assert_eq!(
            texts(&Float64Array::from(vec![1.0, f64::NAN, 0.5, -0.0])),
            [some("1"), None, some("0.5"), some("0")]
        );
        assert_eq!(texts(&Float32Array::from(vec![Some(0.1), None, Some(2.0)])), [some("0.1"), None, some("2")]);
    }
    #[test]
    fn large_whole_numbers_are_the_text_of_their_digits() {
        let wholes = [10_000_000_000_000_000, 1 << 53, (1 << 53) + 2, i64::MIN];
        let floats = [1e16, 9_007_199_254_740_992.0, 9_007_199_254_740_994.0, -9_223_372_036_854_775_808.0];
        let digits = texts(&Int64Array::from(wholes.to_vec()));
        assert_eq!(texts(&Float64Array::from(floats.to_vec())), digits);
        assert_eq!(digits[0].as_deref(), Some("10000000000000000"));
        assert_eq!(
            texts(&UInt64Array::from(vec![1 << 63])),
            texts(&Float32Array::from(vec![9_223_372_036_854_775_808.0]))
        );
        // Between two floats.
        assert_eq!(texts(&Int64Array::from(vec![(1 << 53) + 1])), [Some("9007199254740993".to_owned())]);
    }
}
