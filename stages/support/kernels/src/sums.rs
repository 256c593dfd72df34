//! Sums over many numbers, in lanes and blocks.

use super::real::Real;

/// Numbers that are added side by side.
pub const LANES: usize = 16;
/// Numbers that are summed in their own type before the sum is added in float64.
const BLOCK: usize = 8 * LANES;
/// Rows whose column sums stay in their own type.
const BLOCK_ROWS: usize = 32;

/// The sum of all numbers.
#[inline(always)]
pub fn sum<T: Real>(numbers: &[T]) -> f64 {
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

/// The largest of all numbers; without numbers, the smallest possible one.
#[inline(always)]
pub fn largest<T: Real>(numbers: &[T]) -> T {
    let larger = |a: T, b: T| if a < b { b } else { a };
    let mut lanes = [T::from_f64(f64::MIN); LANES];
    let (chunks, rest) = numbers.as_chunks::<LANES>();
    for chunk in chunks {
        for lane in 0..LANES {
            lanes[lane] = larger(lanes[lane], chunk[lane]);
        }
    }
    for (lane, number) in lanes.iter_mut().zip(rest) {
        *lane = larger(*lane, *number);
    }
    lanes.into_iter().fold(T::from_f64(f64::MIN), larger)
}

/// Several sums by column at once: in their own type for a block of rows, then in float64.
pub struct ColumnSums<T, const N: usize> {
    block: [Vec<T>; N],
    sums: [Vec<f64>; N],
    rows: usize,
}

impl<T: Real, const N: usize> ColumnSums<T, N> {
    /// Empty sums over this many columns.
    #[inline(always)]
    pub fn new(columns: usize) -> Self {
        Self {
            block: std::array::from_fn(|_| vec![T::default(); columns]),
            sums: std::array::from_fn(|_| vec![0.0; columns]),
            rows: 0,
        }
    }

    /// The current column sums, to which the caller adds the next row.
    #[inline(always)]
    pub(crate) fn next_row(&mut self) -> [&mut [T]; N] {
        if self.rows == BLOCK_ROWS {
            self.flush();
        }
        self.rows += 1;
        self.block.each_mut().map(Vec::as_mut_slice)
    }

    /// The sums.
    #[inline(always)]
    pub fn finish(mut self) -> [Vec<f64>; N] {
        self.flush();
        self.sums
    }

    #[inline(always)]
    fn flush(&mut self) {
        for (block, sums) in self.block.iter_mut().zip(&mut self.sums) {
            for (part, sum) in block.iter_mut().zip(sums) {
                *sum += part.wide();
                *part = T::default();
            }
        }
        self.rows = 0;
    }
}
