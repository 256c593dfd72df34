//! The shift that a perturbation causes in a context, estimated from sums of groups of cells.
//!
//! All that is known of a group is its number of cells and, gene by gene, the sums of its values and of their squares
//! ([`CellSums`]). Its mean, and the noise of its mean ([`GeneVariances`]), are what the estimator reads
//! ([`MeasuredShifts`]). [`AdaptiveShrinkage::fit`] estimates everything once; [`AdaptiveShrinkage::predict`] then answers
//! for any condition in any context, gene range by gene range. It is empirical Bayes throughout:
//!
//! | module | what is estimated | method |
//! |---|---|---|
//! | `noise` | variances of genes, noise of means | moderated variances (Smyth 2004) |
//! | `shifts` | means of groups minus those of their controls, in units of a gene's deviation | |
//! | `mixture` | posterior means under a normal prior of unknown scale | scale mixtures, fitted by expectation maximisation (Stephens 2017; with covariances between rows, Urbut et al. 2019) |
//! | `background` | what all perturbations of a context share, and the noise of its controls | the mixture |
//! | `doses` | half-effect doses; what a dose has of its own | products of shifts; marginal likelihood |
//! | `contexts`, `choice` | how alike contexts respond | kernels, averaged by marginal likelihood and left-out contexts |
//! | `effects`, `joint` | the effect of each perturbation | the mixture; backfitting |
//! | `gene_errors` | the error of each gene's shift, and whether the measured shifts differ from none | posterior variances; a linear test |
//! | `embedded` | effects of perturbations that were not seen, from vectors that are known of them | kernels, averaged by marginal likelihood |
//! | `combinations` | what combinations have beyond the sum of their parts | a slope; the mixture |
//!
//! - Smyth 2004, *Statistical Applications in Genetics and Molecular Biology*, [doi:10.2202/1544-6115.1027](https://doi.org/10.2202/1544-6115.1027)
//! - Stephens 2017, *Biostatistics*, [doi:10.1093/biostatistics/kxw041](https://doi.org/10.1093/biostatistics/kxw041)
//! - Urbut et al. 2019, *Nature Genetics*, [doi:10.1038/s41588-018-0268-8](https://doi.org/10.1038/s41588-018-0268-8)
//!
//! Nothing here is random or global: equal sums in any order give the same estimate.
//!
//! ```
//! use shrinkage::{
//!     AdaptiveShrinkage, CellSums, DosedPart, GeneVariances, MeasuredControls, MeasuredShift, MeasuredShifts, ShiftTarget,
//! };
//!
//! // A thousand cells of two genes, of variance 1: controls have means 1 and 2, perturbed cells 1 and 4.
//! let controls = CellSums { cells: 1_000, values: &[1_000.0, 2_000.0], squares: &[1_999.0, 4_999.0] };
//! let perturbed = CellSums { cells: 1_000, values: &[1_000.0, 4_000.0], squares: &[1_999.0, 16_999.0] };
//! let variances = GeneVariances::pooled(2, [controls, perturbed].into_iter())?;
//! let parts = vec![DosedPart { perturbation: 0, dose: 1.0 }];
//! let measured = MeasuredShifts {
//!     controls: vec![Some(MeasuredControls { mean: vec![1.0, 2.0], noise: variances.noise_of_mean(&controls) })],
//!     shifts: vec![MeasuredShift {
//!         parts: parts.clone(),
//!         context: 0,
//!         shift: vec![0.0, 2.0],
//!         noise: variances.noise_of_mean(&perturbed),
//!     }],
//!     variances: variances.variances,
//! };
//! let estimator = AdaptiveShrinkage::fit(measured)?;
//! let estimate = estimator.predict(&ShiftTarget { parts: &parts, context: 0 }, 0..2)?;
//! assert!(estimate[0].abs() < 0.02 && (estimate[1] - 2.0).abs() < 0.02);
//! # Ok::<(), schemas::Error>(())
//! ```
#![forbid(unsafe_code)]

mod background;
mod choice;
mod combinations;
mod contexts;
mod doses;
mod effects;
mod embedded;
mod estimator;
mod gene_errors;
mod joint;
mod likelihoods;
mod measured;
mod mixture;
mod noise;
mod polygamma;
mod process;
mod shifts;
mod sums;

pub use self::{
    choice::MOST_KERNELS,
    estimator::{AdaptiveShrinkage, FittedParameters, ShiftTarget},
    gene_errors::GeneErrors,
    measured::{DosedPart, MeasuredControls, MeasuredShift, MeasuredShifts},
    noise::GeneVariances,
    sums::CellSums,
};

/// Column-major: a column has the genes of one row of data, one context or one scale.
pub(crate) type Matrix = nalgebra::DMatrix<f64>;

/// A count, exactly: below 2⁵³, which no number of cells, genes or groups reaches.
pub(crate) fn real(count: usize) -> f64 {
    count as f64
}

/// The mean of some numbers; 0 of none.
pub(crate) fn mean(numbers: impl Iterator<Item = f64>) -> f64 {
    let mut count = 0;
    let sum: f64 = numbers.inspect(|_| count += 1).sum();
    sum / real(count.max(1))
}

/// The median, of two middle numbers their mean; `None` of no numbers.
pub(crate) fn median(mut numbers: Vec<f64>) -> Option<f64> {
    numbers.sort_unstable_by(f64::total_cmp);
    let upper = *numbers.get(numbers.len() / 2)?;
    Some(if numbers.len() % 2 == 1 { upper } else { 0.5 * (numbers[numbers.len() / 2 - 1] + upper) })
}

/// At most `most` positions of `count`, evenly spaced.
pub(crate) fn evenly_spaced(count: usize, most: usize) -> Vec<usize> {
    let kept = count.min(most);
    (0..kept).map(|at| at * count / kept).collect()
}
