//! How noisy the means of groups are.

use schemas::Result;

use crate::{
    mean,
    measured::refused,
    polygamma::{digamma, trigamma},
    real,
    sums::CellSums,
};

/// Noise of a mean beyond what its cells show, for groups differ by more than their cells.
const INFLATION: f64 = 1.1;
/// A group's own variance counts as much as the pooled one if it has this many cells.
const POOLED_CELLS: f64 = 20.0;

/// The variance of each gene within groups.
#[derive(Clone, Debug)]
pub struct GeneVariances {
    /// Moderated variances, pooled over groups.
    pub variances: Vec<f64>,
}

impl GeneVariances {
    /// Pools groups, those of contexts without controls too.
    ///
    /// # Errors
    /// Sums that are not finite numbers of all genes, empty groups, no group with two cells, or no gene that varies.
    pub fn pooled<'a>(genes: usize, groups: impl Iterator<Item = CellSums<'a>>) -> Result<Self> {
        let (mut freedom, mut pooled) = (0.0, vec![0.0; genes]);
        for cells in groups {
            cells.check(genes)?;
            freedom += cells.count() - 1.0;
            pooled.iter_mut().enumerate().for_each(|(gene, sum)| *sum += cells.scatter(gene));
        }
        if freedom < 1.0 {
            let hint = "give several cells of at least one group as one, for example the controls";
            return Err(refused("no group has two cells, so their noise is unknown", hint));
        }
        pooled.iter_mut().for_each(|sum| *sum = (*sum / freedom).max(0.0));
        if pooled.iter().all(|variance| *variance == 0.0) {
            return Err(refused("no gene varies within a group", "give values of single cells, or of wells"));
        }
        Ok(Self { variances: moderated(&pooled, freedom) })
    }

    /// The noise of a group's mean in units of the variances, the same for all genes: its cells' mean square deviation,
    /// as of `POOLED_CELLS` more cells that vary as all do.
    #[must_use]
    pub fn noise_of_mean(&self, cells: &CellSums) -> f64 {
        let scatter = mean(self.variances.iter().enumerate().map(|(gene, variance)| cells.scatter(gene) / variance));
        INFLATION * (scatter.max(0.0) + POOLED_CELLS) / (cells.count() - 1.0 + POOLED_CELLS) / cells.count()
    }
}

/// Posterior means of variances, given estimates with `freedom` degrees of freedom d (Smyth 2004, section 6.2).
/// Logarithms of the estimates vary by ψ′(d/2) due to sampling, and by ψ′(d₀/2) among genes.
fn moderated(pooled: &[f64], freedom: f64) -> Vec<f64> {
    let floor = 1e-3 * mean(pooled.iter().copied()) + 1e-12;
    let pooled: Vec<f64> = pooled.iter().map(|variance| variance.max(floor)).collect();
    let offset = (freedom / 2.0).ln() - digamma(freedom / 2.0);
    let logarithms: Vec<f64> = pooled.iter().map(|variance| variance.ln() + offset).collect();
    let centre = mean(logarithms.iter().copied());
    let among_genes = mean(logarithms.iter().map(|value| (value - centre).powi(2))) - trigamma(freedom / 2.0);
    if among_genes <= 0.0 {
        return vec![centre.exp(); pooled.len()];
    }
    let halves = (0..400).map(|at| (1e-3_f64.ln() + 1e6_f64.ln() * real(at) / 399.0).exp());
    let miss = |half: &f64| (trigamma(*half) - among_genes).abs();
    let half = halves.min_by(|a, b| miss(a).total_cmp(&miss(b))).unwrap_or(1.0);
    let common = (centre + digamma(half) - half.ln()).exp();
    pooled.into_iter().map(|variance| (2.0 * half * common + freedom * variance) / (2.0 * half + freedom)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variances_of_few_cells_move_towards_the_others() {
        let pooled = [0.5, 1.0, 1.5, 8.0];
        let few = moderated(&pooled, 3.0);
        let many = moderated(&pooled, 3e4);
        assert!(few[3] < 8.0 && few[0] > 0.5, "{few:?}");
        assert!(pooled.iter().zip(&many).all(|(own, moderated)| (own - moderated).abs() < 1e-2 * own), "{many:?}");
    }

    #[test]
    fn equal_variances_stay_equal() {
        let moderated = moderated(&[2.0; 5], 50.0);
        assert!(moderated.windows(2).all(|pair| pair[0] == pair[1]));
    }
}
