//! Finds the genes that vary most, like scanpy's `sc.pp.highly_variable_genes`.
//!
//! Counts are ranked as with `flavor="seurat_v3"` ([`Trend`]): local regression of the logarithm of each
//! gene's variance on that of its mean gives the expected variance, and the variance is computed again for
//! values scaled by it, with large values cut off. Logarithms of normalised counts are ranked as with
//! `flavor="seurat"` ([`dispersions`]): the ratio of variance and mean is compared with that of genes with a
//! similar mean, in twenty bins.

pub mod sums;

use stage::cast::real;

use self::sums::GeneSums;

/// The share of the genes with which a gene is compared.
const SPAN: f64 = 0.3;
/// Number of bins of means.
const BINS: usize = 20;
/// Replaces the mean of a gene that no cell expresses.
const NO_MEAN: f64 = 1e-12;

/// The expected variance of each gene's counts, given their mean.
#[derive(Clone, Debug)]
pub struct Trend {
    cells: f64,
    mean: Vec<f64>,
    deviation: Vec<f64>,
}

impl Trend {
    /// The trend among the genes that vary at all.
    #[must_use]
    pub fn fit(sums: &GeneSums) -> Self {
        let (mean, variance) = (sums.mean(), sums.variance());
        let varying: Vec<usize> = (0..mean.len()).filter(|gene| variance[*gene] > 0.0).collect();
        let logs = |numbers: &[f64]| varying.iter().map(|gene| numbers[*gene].log10()).collect::<Vec<f64>>();
        let fitted = statistics::loess::smooth(&logs(&mean), &logs(&variance), SPAN);
        let mut deviation = vec![1.0; mean.len()];
        for (gene, fitted) in varying.into_iter().zip(fitted) {
            deviation[gene] = 10_f64.powf(fitted).sqrt();
        }
        Self { cells: real(sums.cells), mean, deviation }
    }

    /// The bound at which each gene's counts are cut off: √n deviations above its mean.
    #[must_use]
    pub fn bounds(&self) -> Vec<f64> {
        self.deviation.iter().zip(&self.mean).map(|(deviation, mean)| deviation * self.cells.sqrt() + mean).collect()
    }

    /// The variance of each gene's counts, cut off at [`Trend::bounds`], in units of the expected one.
    #[must_use]
    pub fn normalised(&self, cut_off: &GeneSums) -> Vec<f64> {
        let of_gene = |gene: usize| {
            let (mean, deviation) = (self.mean[gene], self.deviation[gene]);
            let deviations = self.cells * mean * mean + cut_off.squares[gene] - 2.0 * cut_off.sums[gene] * mean;
            deviations / ((self.cells - 1.0) * deviation * deviation)
        };
        (0..self.mean.len()).map(of_gene).collect()
    }
}

/// The dispersion of each gene, relative to the mean and the deviation within its bin; NaN for a gene that
/// does not vary. The sums are of values whose logarithm was undone.
#[must_use]
pub fn dispersions(sums: &GeneSums) -> Vec<f64> {
    let mean: Vec<f64> = sums.mean().into_iter().map(|mean| if mean == 0.0 { NO_MEAN } else { mean }).collect();
    let ratio = |(variance, mean): (f64, &f64)| if variance == 0.0 { f64::NAN } else { (variance / mean).ln() };
    let dispersion: Vec<f64> = sums.variance().into_iter().zip(&mean).map(ratio).collect();
    let bins = bins(&mean.iter().map(|mean| mean.ln_1p()).collect::<Vec<f64>>());
    let mut normalised = vec![f64::NAN; mean.len()];
    for bin in 0..BINS {
        let there = || (0..mean.len()).filter(|gene| bins[*gene] == bin && !dispersion[*gene].is_nan());
        let genes = real(there().count() as u64);
        let average = there().map(|gene| dispersion[gene]).sum::<f64>() / genes;
        let squares: f64 = there().map(|gene| (dispersion[gene] - average).powi(2)).sum();
        // A gene that is alone in its bin has a normalised dispersion of 1.
        let (from, unit) = if genes == 1.0 { (0.0, average) } else { (average, (squares / (genes - 1.0)).sqrt()) };
        there().for_each(|gene| normalised[gene] = (dispersion[gene] - from) / unit);
    }
    normalised
}

/// The bin of each value: the range is divided evenly, and a value on a boundary belongs to the bin below it.
fn bins(values: &[f64]) -> Vec<usize> {
    let (low, high) =
        values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), x| (low.min(*x), high.max(*x)));
    let width = (high - low) / real(BINS as u64);
    let cuts: Vec<f64> = (1..BINS).map(|cut| low + real(cut as u64) * width).collect();
    values.iter().map(|value| cuts.partition_point(|cut| cut < value)).collect()
}

/// The genes with the largest scores, at most this many, in gene order; among equals, the earlier genes are
/// preferred. Genes with NaN scores are never included.
#[must_use]
pub fn largest(scores: &[f64], most: usize) -> Vec<usize> {
    let mut ranked: Vec<usize> = (0..scores.len()).filter(|gene| !scores[*gene].is_nan()).collect();
    ranked.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]).then(a.cmp(b)));
    ranked.truncate(most);
    ranked.sort_unstable();
    ranked
}
