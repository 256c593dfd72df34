//! How likely genes are under each scale of a mixture, and the shares of scales that fit them best.
//!
//! Tables are `genes × scales` with the genes of a scale side by side. They are read a [`CHUNK`] of genes at a time, which stays in
//! the processor's first cache, by loops that are compiled for its widest instructions.

use std::ops::Range;

use kernels::{real::Real, sums::LANES};
use simd::{InstructionSet, Kernel, widest};

use crate::{Matrix, mean};

/// Responsibilities treat no share as smaller than this.
const SMALLEST_SHARE: f64 = 1e-12;
/// Number of genes that are worked on at a time.
const CHUNK: usize = 256;

/// Likelihoods of genes under each scale, relative to each gene's likeliest.
#[derive(Debug)]
pub(crate) struct Likelihoods {
    /// `genes × scales`, at most 1.
    relative: Matrix,
    /// The logarithm of each gene's largest.
    largest: Vec<f64>,
}

impl Likelihoods {
    /// From their logarithms, `genes × scales`.
    pub(crate) fn new(mut logarithms: Matrix) -> Self {
        let mut largest = vec![f64::NEG_INFINITY; logarithms.nrows()];
        widest(Relate { logarithms: logarithms.as_mut_slice(), largest: &mut largest });
        Self { relative: logarithms, largest }
    }

    /// Number of genes.
    pub(crate) fn genes(&self) -> usize {
        self.largest.len()
    }

    /// How likely each scale is for each gene, `genes × scales`, given its share of all genes.
    pub(crate) fn responsibilities(&self, shares: &[f64]) -> Matrix {
        let mut out = self.relative.clone();
        widest(Normalise { table: out.as_mut_slice(), genes: self.genes(), shares: &floored(shares) });
        out
    }

    /// The same, given the shares of each gene (`genes × scales`).
    pub(crate) fn responsibilities_by_gene(&self, shares: &Matrix) -> Matrix {
        let mut out = self.relative.component_mul(shares);
        widest(Normalise { table: out.as_mut_slice(), genes: self.genes(), shares: &vec![1.0; shares.ncols()] });
        out
    }

    /// The mean over genes of the logarithm of a gene's likelihood, given the shares of the scales.
    pub(crate) fn mean_log(&self, shares: &[f64]) -> f64 {
        mean(self.logs(shares))
    }

    /// The logarithm of each gene's likelihood, given the shares of the scales.
    pub(crate) fn logs(&self, shares: &[f64]) -> impl Iterator<Item = f64> {
        let of_gene = &self.relative * nalgebra::DVectorView::from_slice(shares, shares.len());
        (0..self.largest.len()).map(move |gene| self.largest[gene] + of_gene[gene].ln())
    }
}

/// The shares of scales that some genes have, by expectation maximisation with a Dirichlet prior: as if `strength` more
/// genes had the prior's shares.
pub(crate) fn shares(genes: &[Likelihoods], prior: &[f64], strength: f64, iterations: usize) -> Vec<f64> {
    let mut shares = prior.to_vec();
    for _ in 0..iterations {
        let given = floored(&shares);
        let mut counts = vec![0.0; shares.len()];
        for Likelihoods { relative, .. } in genes {
            widest(Count { table: relative.as_slice(), genes: relative.nrows(), shares: &given, counts: &mut counts });
        }
        for (at, share) in shares.iter_mut().enumerate() {
            *share = given[at] * counts[at] + strength * prior[at];
        }
        let total: f64 = shares.iter().sum();
        shares.iter_mut().for_each(|share| *share /= total);
    }
    shares
}

fn floored(shares: &[f64]) -> Vec<f64> {
    shares.iter().map(|share| share.max(SMALLEST_SHARE)).collect()
}

/// Turns logarithms into likelihoods relative to each gene's largest.
struct Relate<'a> {
    logarithms: &'a mut [f64],
    /// Receives the largest logarithm of each gene; −∞ before.
    largest: &'a mut [f64],
}

impl Kernel for Relate<'_> {
    type Out = ();

    #[inline(always)]
    fn run<W: InstructionSet>(self) {
        let genes = self.largest.len();
        for range in chunks(genes) {
            let largest = &mut self.largest[range.clone()];
            for scale in self.logarithms.chunks_exact(genes) {
                for (most, value) in largest.iter_mut().zip(&scale[range.clone()]) {
                    *most = if *most < *value { *value } else { *most };
                }
            }
            for scale in self.logarithms.chunks_exact_mut(genes) {
                for (value, most) in scale[range.clone()].iter_mut().zip(largest.iter()) {
                    *value = (*value - *most).exp_of_negative::<W>();
                }
            }
        }
    }
}

/// Multiplies each scale's entries by its share, and divides each gene's by their sum.
struct Normalise<'a> {
    table: &'a mut [f64],
    genes: usize,
    shares: &'a [f64],
}

impl Kernel for Normalise<'_> {
    type Out = ();

    #[inline(always)]
    fn run<W: InstructionSet>(self) {
        for range in chunks(self.genes) {
            let inverse = inverse_totals::<W>(self.table, self.genes, range.clone(), self.shares);
            for (scale, share) in self.table.chunks_exact_mut(self.genes).zip(self.shares) {
                for (value, inverse) in scale[range.clone()].iter_mut().zip(&inverse) {
                    *value *= share * inverse;
                }
            }
        }
    }
}

/// Adds to `counts` how many genes have each scale, given shares, divided by its share.
struct Count<'a> {
    table: &'a [f64],
    genes: usize,
    shares: &'a [f64],
    counts: &'a mut [f64],
}

impl Kernel for Count<'_> {
    type Out = ();

    #[inline(always)]
    fn run<W: InstructionSet>(self) {
        for range in chunks(self.genes) {
            let inverse = inverse_totals::<W>(self.table, self.genes, range.clone(), self.shares);
            for (scale, count) in self.table.chunks_exact(self.genes).zip(self.counts.iter_mut()) {
                *count += product::<W>(&scale[range.clone()], &inverse);
            }
        }
    }
}

/// Ranges of at most [`CHUNK`] genes.
#[inline(always)]
fn chunks(genes: usize) -> impl Iterator<Item = Range<usize>> {
    (0..genes).step_by(CHUNK).map(move |start| start..genes.min(start + CHUNK))
}

/// One over the sum of each gene's entries times the scales' shares, for a range of at most [`CHUNK`] genes; 0 beyond it.
#[inline(always)]
fn inverse_totals<W: InstructionSet>(table: &[f64], genes: usize, range: Range<usize>, shares: &[f64]) -> [f64; CHUNK] {
    let mut totals = [0.0; CHUNK];
    for (scale, share) in table.chunks_exact(genes).zip(shares) {
        for (total, value) in totals.iter_mut().zip(&scale[range.clone()]) {
            *total = Real::mul_add::<W>(*value, *share, *total);
        }
    }
    for total in &mut totals[..range.len()] {
        *total = 1.0 / *total;
    }
    totals
}

/// The sum of products; what the second has beyond the first counts as nothing.
#[inline(always)]
fn product<W: InstructionSet>(a: &[f64], b: &[f64; CHUNK]) -> f64 {
    let mut lanes = [0.0; LANES];
    let (chunks, rest) = a.as_chunks::<LANES>();
    let (others, _) = b.as_chunks::<LANES>();
    for (chunk, other) in chunks.iter().zip(others) {
        for lane in 0..LANES {
            lanes[lane] = Real::mul_add::<W>(chunk[lane], other[lane], lanes[lane]);
        }
    }
    for (lane, (a, b)) in lanes.iter_mut().zip(rest.iter().zip(&b[chunks.len() * LANES..])) {
        *lane = Real::mul_add::<W>(*a, *b, *lane);
    }
    lanes.iter().sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use simd::every_instruction_set;

    use super::*;

    #[test]
    fn shares_are_counts_where_each_gene_has_one_scale() {
        let sure = |scale: usize| (0..2).map(move |at| if at == scale { 0.0 } else { -50.0 });
        let rows: Vec<f64> = (0..10).flat_map(|gene| sure(usize::from(gene < 3))).collect();
        let likelihoods = Likelihoods::new(Matrix::from_row_slice(10, 2, &rows));
        let found = shares(&[likelihoods], &[0.5, 0.5], 0.0, 25);
        assert!((found[1] - 0.3).abs() < 1e-9, "{found:?}");
    }

    proptest! {
        #[test]
        fn kernels_are_the_formulas(
            genes in 1_usize..600,
            logarithms in prop::collection::vec(-900.0_f64..50.0, 3 * 600),
            shares in prop::array::uniform3(1e-6_f64..1.0),
        ) {
            let entry = |gene: usize, scale: usize| logarithms[scale * genes + gene];
            let most = |gene: usize| (0..3).fold(f64::NEG_INFINITY, |most, scale| entry(gene, scale).max(most));
            let relative = |gene: usize, scale: usize| (entry(gene, scale) - most(gene)).exp();
            let total = |gene: usize| (0..3).map(|scale| relative(gene, scale) * shares[scale]).sum::<f64>();
            let close = |found: f64, expected: f64| (found - expected).abs() <= 1e-12 * expected.abs() + 1e-300;

            let mut largest = vec![f64::NEG_INFINITY; genes];
            let mut table = logarithms[..3 * genes].to_vec();
            widest(Relate { logarithms: &mut table, largest: &mut largest });
            let mut normalised = table.clone();
            widest(Normalise { table: &mut normalised, genes, shares: &shares });
            for (gene, largest) in largest.into_iter().enumerate() {
                prop_assert_eq!(largest, most(gene));
                for (scale, share) in shares.iter().enumerate() {
                    let (at, expected) = (scale * genes + gene, relative(gene, scale));
                    prop_assert!(close(table[at], expected));
                    prop_assert!(close(normalised[at], expected * share / total(gene)));
                }
            }
            for counts in every_instruction_set(|| Counted { table: &table, genes, shares: &shares }) {
                for (scale, count) in counts.into_iter().enumerate() {
                    prop_assert!(close(count, (0..genes).map(|gene| relative(gene, scale) / total(gene)).sum()));
                }
            }
        }
    }

    struct Counted<'a> {
        table: &'a [f64],
        genes: usize,
        shares: &'a [f64],
    }

    impl Kernel for Counted<'_> {
        type Out = Vec<f64>;

        #[inline(always)]
        fn run<W: InstructionSet>(self) -> Vec<f64> {
            let mut counts = vec![0.0; self.shares.len()];
            Count { table: self.table, genes: self.genes, shares: self.shares, counts: &mut counts }.run::<W>();
            counts
        }
    }
}
