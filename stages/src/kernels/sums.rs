//! Sums over many numbers, in lanes and blocks.

use super::real::Real;

/// Numbers that are added side by side.
pub(crate) const LANES: usize = 16;
/// Numbers that are added in their own kind before they go into float64.
const BLOCK: usize = 8 * LANES;
/// Rows whose sums by column stay in their own kind.
pub(crate) const BLOCK_ROWS: usize = 32;

/// The sum of all numbers.
#[inline(always)]
pub(crate) fn sum<T: Real>(numbers: &[T]) -> f64 {
    let mut wide = [0.0_f64; LANES];
    for block in numbers.chunks(BLOCK) {
        let mut lanes = [T::default(); LANES];
        let (chunks, rest) = block.as_chunks::<LANES>();
        for chunk in chunks {
            for lane in 0..LANES {
                lanes[lane] += chunk[lane];
            }
        }
        for (lane, number) in lanes.iter_mut().zip(rest) {
            *lane += *number;
        }
        for lane in 0..LANES {
            wide[lane] += lanes[lane].wide();
        }
    }
    wide.iter().sum()
}

/// The largest of all numbers; of none, the smallest there is.
#[inline(always)]
pub(crate) fn largest<T: Real>(numbers: &[T]) -> T {
    let larger = |a: T, b: T| if a < b { b } else { a };
    let mut lanes = [T::of(f64::MIN); LANES];
    let (chunks, rest) = numbers.as_chunks::<LANES>();
    for chunk in chunks {
        for lane in 0..LANES {
            lanes[lane] = larger(lanes[lane], chunk[lane]);
        }
    }
    for (lane, number) in lanes.iter_mut().zip(rest) {
        *lane = larger(*lane, *number);
    }
    lanes.into_iter().fold(T::of(f64::MIN), larger)
}

/// Adds a block's sums by column, and starts the next block.
#[inline(always)]
pub(crate) fn flush<T: Real>(block: &mut [T], sums: &mut [f64]) {
    for (sum, part) in sums.iter_mut().zip(block) {
        *sum += part.wide();
        *part = T::default();
    }
}
