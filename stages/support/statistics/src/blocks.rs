//! Sums over blocks of cells, for resampling: a bootstrap draws whole blocks, so that cells need not be kept.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Number of blocks that cells are divided into.
pub const BLOCKS: usize = 16;

/// Sums of each gene over each block of a group's cells.
#[derive(Clone, Debug, PartialEq)]
pub struct BlockSums {
    cells: [u64; BLOCKS],
    /// `[blocks, genes]`.
    sums: Vec<f32>,
    genes: usize,
}

impl BlockSums {
    /// Empty sums for this many genes.
    #[must_use]
    pub fn new(genes: usize) -> Self {
        Self { cells: [0; BLOCKS], sums: vec![0.0; BLOCKS * genes], genes }
    }

    /// Adds a cell to a block, given by its non-zero genes.
    ///
    /// # Panics
    /// If a gene or a block is beyond the last one.
    #[expect(clippy::cast_possible_truncation, reason = "resampling needs no more than f32")]
    pub fn push_sparse(&mut self, block: usize, genes: &[u32], values: impl IntoIterator<Item = f64>) {
        self.cells[block] += 1;
        let sums = &mut self.sums[block * self.genes..(block + 1) * self.genes];
        genes.iter().zip(values).for_each(|(gene, value)| sums[*gene as usize] += value as f32);
    }

    /// Adds all cells of `other`, block by block.
    pub fn merge(&mut self, other: &Self) {
        self.cells.iter_mut().zip(other.cells).for_each(|(cells, more)| *cells += more);
        self.sums.iter_mut().zip(&other.sums).for_each(|(sum, more)| *sum += more);
    }

    /// The same cells, reduced to these genes.
    ///
    /// # Panics
    /// If a gene is beyond the last one.
    #[must_use]
    pub fn only(&self, genes: &[usize]) -> Self {
        let block = |block: usize| genes.iter().map(move |gene| self.sums[block * self.genes + gene]);
        Self { cells: self.cells, sums: (0..BLOCKS).flat_map(block).collect(), genes: genes.len() }
    }

    /// The weight of each block's sums in the mean over blocks drawn with replacement; `None` if no cell was drawn. The same
    /// draws for the same `seed` and number of the `draw`.
    #[must_use]
    pub fn weights(&self, seed: u64, draw: u64) -> Option<[f64; BLOCKS]> {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        random.set_stream(draw);
        let mut times = [0_u32; BLOCKS];
        (0..BLOCKS).for_each(|_| times[random.random_range(0..BLOCKS)] += 1);
        let cells: u64 = times.iter().zip(self.cells).map(|(times, cells)| u64::from(*times) * cells).sum();
        (cells > 0).then(|| times.map(|times| f64::from(times) / cells as f64))
    }

    /// The mean of each gene with these weights of the blocks' sums.
    #[must_use]
    pub fn weighted(&self, weights: &[f64; BLOCKS]) -> Vec<f64> {
        let mut mean = vec![0.0; self.genes];
        for (weight, sums) in weights.iter().zip(self.sums.chunks_exact(self.genes.max(1))).filter(|one| *one.0 > 0.0) {
            mean.iter_mut().zip(sums).for_each(|(mean, sum)| *mean += weight * f64::from(*sum));
        }
        mean
    }

    /// By how much each block's sums differ from as many cells with this mean.
    #[must_use]
    pub fn deviations(&self, mean: &[f64]) -> [Vec<f64>; BLOCKS] {
        std::array::from_fn(|block| {
            let sums = &self.sums[block * self.genes..(block + 1) * self.genes];
            let cells = self.cells[block] as f64;
            sums.iter().zip(mean).map(|(sum, mean)| f64::from(*sum) - cells * mean).collect()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resampled_means_vary_like_the_mean_of_the_cells() {
        let (cells, genes) = (640_usize, 50);
        let mut random = ChaCha8Rng::seed_from_u64(3);
        let mut sums = BlockSums::new(genes);
        let all: Vec<u32> = (0..50).collect();
        for cell in 0..cells {
            sums.push_sparse(cell % BLOCKS, &all, (0..genes).map(|_| random.random::<f64>()));
        }
        let resampled = |sums: &BlockSums, draw| Some(sums.weighted(&sums.weights(7, draw)?));
        let draws: Vec<Vec<f64>> = (0..200).filter_map(|draw| resampled(&sums, draw)).collect();
        assert_eq!(draws.len(), 200);
        let variance = |gene: usize| {
            let mean = draws.iter().map(|draw| draw[gene]).sum::<f64>() / 200.0;
            draws.iter().map(|draw| (draw[gene] - mean).powi(2)).sum::<f64>() / 199.0
        };
        let found = (0..genes).map(variance).sum::<f64>() / genes as f64;
        // A uniform number has a variance of 1/12; a bootstrap of 16 blocks finds 15/16 of it.
        let expected = 15.0 / 16.0 / 12.0 / cells as f64;
        assert!((found / expected - 1.0).abs() < 0.25, "{found} is not {expected}");
        assert_eq!(resampled(&sums, 3), resampled(&sums, 3));
        assert_eq!(resampled(&BlockSums::new(2), 3), None);
        let weights = sums.weights(7, 3).expect("it has cells");
        let deviations = sums.deviations(&[0.5; 50]);
        let mean = 0.5 + weights.iter().zip(&deviations).map(|(weight, block)| weight * block[9]).sum::<f64>();
        assert!((mean - sums.weighted(&weights)[9]).abs() < 1e-12);
    }
}
