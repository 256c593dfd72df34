//! Annotations as text, by which labels, filters and joined columns are compared.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, AsArray, StringArray},
    compute::cast,
    datatypes::{DataType, Float32Type, Float64Type},
    error::ArrowError,
};

/// From here on, floats can't represent every integer.
const LARGEST_WHOLE: f64 = 9_007_199_254_740_992.0;

/// Converts a column to text. A missing value is null in any type; so is NaN. Equal numbers become the same
/// be it stored as a whole number or as a float.
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
        Some(number) if number.fract() == 0.0 && number.abs() < LARGEST_WHOLE => Some(format!("{:.0}", number + 0.0)),
        _ => text.map(str::to_owned),
    });
    Ok(Arc::new(texts.collect::<StringArray>()))
}

#[cfg(test)]
mod tests {
    use arrow::array::{Float32Array, Float64Array, Int64Array};

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
}
