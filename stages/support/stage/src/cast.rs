//! Numbers of one kind as those of another, where the bits that are lost don't count.

/// A count as a number to compute with: exact below 2⁵³, which no count of cells, genes or groups reaches.
#[expect(clippy::cast_precision_loss, reason = "a mean needs no more than 53 bits of a count")]
pub fn real(count: u64) -> f64 {
    count as f64
}

/// A result in the numbers that files hold and networks compute with.
#[expect(clippy::cast_possible_truncation, reason = "it was computed with more bits than measurements have")]
pub fn narrow(number: f64) -> f32 {
    number as f32
}
