//! Conversions between number types where the lost bits don't matter.

/// A count as a floating-point number: exact below 2⁵³, which no number of cells, genes or groups reaches.
#[expect(clippy::cast_precision_loss, reason = "a mean needs no more than 53 bits of a count")]
pub fn real(count: u64) -> f64 {
    count as f64
}

/// A result in the type that files store and networks compute with.
#[expect(clippy::cast_possible_truncation, reason = "it was computed with more bits than measurements have")]
pub fn narrow(number: f64) -> f32 {
    number as f32
}
