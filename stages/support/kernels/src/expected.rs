//! Softmax and the expected count of each gene: in every cell, or summed over cells, which is all that the
//! predicted mean of a condition needs.

use simd::{InstructionSet, Kernel};

use super::{negative_binomial::softmax, real::Real, sums::ColumnSums};

/// Computes the expected counts of cells from a decoder's logits.
pub struct ExpectedOfCells<'a, T> {
    /// Logits of each gene's share of a cell's library, without the bias, `[cells, genes]`; overwritten with
    /// intermediate values.
    pub logits: &'a mut [T],
    /// Terms added to the logits of every cell, `[genes]`.
    pub bias: &'a [T],
    /// Library sizes, `[cells]`.
    pub library: &'a [T],
    /// Receives the means, `[cells, genes]`.
    pub means: &'a mut [T],
}

impl<T: Real> Kernel for ExpectedOfCells<'_, T> {
    type Out = ();

    #[inline(always)]
    fn run<W: InstructionSet>(self) {
        let Self { logits, bias, library, means } = self;
        let genes = bias.len();
        let rows = logits.chunks_exact_mut(genes).zip(means.chunks_exact_mut(genes)).zip(library);
        for ((logits, mean), library) in rows {
            softmax::<T, W>(logits, bias, *library, mean);
        }
    }
}

/// Sums expected counts, and their squares, over cells, from a decoder's logits.
pub struct ExpectedCounts<'a, T> {
    /// Logits of each gene's share of a cell's library, without the bias, `[cells, genes]`; overwritten with
    /// intermediate values.
    pub logits: &'a mut [T],
    /// Terms added to the logits of every cell, `[genes]`.
    pub bias: &'a [T],
    /// Library sizes, `[cells]`.
    pub library: &'a [T],
    /// Sums of μ and of μ² so far, `[genes]` each; both are added to.
    pub sums: [&'a mut [f64]; 2],
}

impl<T: Real> Kernel for ExpectedCounts<'_, T> {
    type Out = ();

    #[inline(always)]
    fn run<W: InstructionSet>(self) {
        let Self { logits, bias, library, sums } = self;
        let genes = bias.len();
        let mut both = ColumnSums::<T, 2>::new(genes);
        let mut mean = vec![T::default(); genes];
        for (logits, library) in logits.chunks_exact_mut(genes).zip(library) {
            softmax::<T, W>(logits, bias, *library, &mut mean);
            let [first, second] = both.next_row();
            let (first, second, mean) = (&mut first[..genes], &mut second[..genes], &mean[..genes]);
            for at in 0..genes {
                first[at] += mean[at];
                second[at] = mean[at].mul_add::<W>(mean[at], second[at]);
            }
        }
        for (sums, more) in sums.into_iter().zip(both.finish()) {
            sums.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use simd::every_instruction_set;

    use super::*;

    struct Owned(Vec<f64>, Vec<f64>, Vec<f64>);

    impl Kernel for Owned {
        type Out = [Vec<f64>; 3];

        fn run<W: InstructionSet>(self) -> Self::Out {
            let Self(mut logits, bias, library) = self;
            let (mut again, mut means) = (logits.clone(), vec![0.0; logits.len()]);
            ExpectedOfCells { logits: &mut again, bias: &bias, library: &library, means: &mut means }.run::<W>();
            let mut sums = [vec![1.0; bias.len()], vec![2.0; bias.len()]];
            let both = sums.each_mut().map(Vec::as_mut_slice);
            ExpectedCounts { logits: &mut logits, bias: &bias, library: &library, sums: both }.run::<W>();
            let [first, second] = sums;
            [first, second, means]
        }
    }

    proptest! {
        #[test]
        fn means_and_sums_are_those_of_a_softmax(
            cells in prop::collection::vec((prop::collection::vec(-5.0..5.0_f64, 7), 0.0..900.0_f64), 1..60),
            bias in prop::collection::vec(-2.0..2.0_f64, 7),
        ) {
            let mut expected = [vec![1.0; 7], vec![2.0; 7], Vec::new()];
            for (logits, library) in &cells {
                let exponentials: Vec<f64> = logits.iter().zip(&bias).map(|(logit, bias)| (logit + bias).exp()).collect();
                let whole: f64 = exponentials.iter().sum();
                for (gene, exponential) in exponentials.iter().enumerate() {
                    let mean = library * exponential / whole;
                    expected[0][gene] += mean;
                    expected[1][gene] += mean * mean;
                    expected[2].push(mean);
                }
            }
            let (logits, library): (Vec<Vec<f64>>, Vec<f64>) = cells.into_iter().unzip();
            for found in every_instruction_set(|| Owned(logits.concat(), bias.clone(), library.clone())) {
                for (found, expected) in found.iter().flatten().zip(expected.iter().flatten()) {
                    prop_assert!((found - expected).abs() <= 1e-9 * expected.abs(), "{found} is not {expected}");
                }
            }
        }
    }
}
