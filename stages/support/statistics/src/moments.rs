//! Means and variances of genes over a stream of cells, in one pass.

/// Per-gene sums over cells: all that is kept of the cells seen so far.
#[derive(Clone, Debug, PartialEq)]
pub struct Moments {
    cells: u64,
    sums: Vec<f64>,
    squares: Vec<f64>,
}

/// A group of cells, summarised by the mean and variance of each gene.
#[derive(Clone, Debug, PartialEq)]
pub struct MeanProfile {
    /// Number of cells.
    pub cells: u64,
    /// The mean of each gene.
    pub mean: Vec<f64>,
    /// The population variance of each gene (divided by the number of cells).
    pub variance: Vec<f64>,
}

impl Moments {
    /// Empty sums for this many genes.
    #[must_use]
    pub fn new(genes: usize) -> Self {
        Self { cells: 0, sums: vec![0.0; genes], squares: vec![0.0; genes] }
    }

    /// Adds a cell, given by its non-zero genes, each at most once.
    ///
    /// # Panics
    /// If a gene is beyond the last one.
    pub fn push_sparse(&mut self, genes: &[u32], values: impl IntoIterator<Item = f64>) {
        self.cells += 1;
        for (gene, value) in genes.iter().zip(values) {
            self.sums[*gene as usize] += value;
            self.squares[*gene as usize] += value * value;
        }
    }

    /// Adds a cell, given by the values of all genes.
    ///
    /// # Panics
    /// If the number of values is not the number of genes.
    pub fn push_dense(&mut self, values: &[f32]) {
        assert_eq!(values.len(), self.sums.len(), "a dense cell has a value for every gene");
        self.cells += 1;
        for ((sum, square), value) in self.sums.iter_mut().zip(&mut self.squares).zip(values) {
            let value = f64::from(*value);
            *sum += value;
            *square += value * value;
        }
    }

    /// Adds all cells that `other` has seen.
    ///
    /// # Panics
    /// If the two were created for different numbers of genes.
    pub fn merge(&mut self, other: &Self) {
        assert_eq!(self.sums.len(), other.sums.len(), "only moments of the same genes add up");
        self.cells += other.cells;
        add(&mut self.sums, &other.sums);
        add(&mut self.squares, &other.squares);
    }

    /// The cells that remain without those that `part` has seen, which are among those seen here; `None` if none remain.
    ///
    /// # Panics
    /// If the two were created for different numbers of genes.
    #[must_use]
    pub fn without(&self, part: &Self) -> Option<Self> {
        assert_eq!(self.sums.len(), part.sums.len(), "only moments of the same genes can be subtracted");
        let cells = self.cells.checked_sub(part.cells).filter(|cells| *cells > 0)?;
        let difference = |all: &[f64], part: &[f64]| all.iter().zip(part).map(|(all, part)| all - part).collect();
        Some(Self {
            cells,
            sums: difference(&self.sums, &part.sums),
            squares: difference(&self.squares, &part.squares),
        })
    }

    /// The same cells, reduced to these genes.
    ///
    /// # Panics
    /// If a gene is beyond the last one.
    #[must_use]
    pub fn only(&self, genes: &[usize]) -> Self {
        let chosen = |numbers: &[f64]| genes.iter().map(|gene| numbers[*gene]).collect();
        Self { cells: self.cells, sums: chosen(&self.sums), squares: chosen(&self.squares) }
    }

    /// Number of cells seen.
    #[must_use]
    pub fn cells(&self) -> u64 {
        self.cells
    }

    /// The sum of each gene's values.
    #[must_use]
    pub fn sums(&self) -> &[f64] {
        &self.sums
    }

    /// The sum of each gene's squared values.
    #[must_use]
    pub fn squares(&self) -> &[f64] {
        &self.squares
    }

    /// The mean of each gene; NaN without cells.
    #[must_use]
    pub fn mean(&self) -> Vec<f64> {
        let cells = self.cells as f64;
        self.sums.iter().map(|sum| sum / cells).collect()
    }

    /// The population variance of each gene (divided by n); NaN without cells.
    #[must_use]
    pub fn variance(&self) -> Vec<f64> {
        self.squared_deviations(self.cells as f64)
    }

    /// The sample variance of each gene (divided by n − 1); NaN with fewer than two cells.
    #[must_use]
    pub fn variance_unbiased(&self) -> Vec<f64> {
        match self.cells {
            0 | 1 => vec![f64::NAN; self.sums.len()],
            cells => self.squared_deviations(cells as f64 - 1.0),
        }
    }

    /// Σ (x − mean)² / divisor of each gene, as Σ x² − (Σ x)² / n.
    fn squared_deviations(&self, divisor: f64) -> Vec<f64> {
        let cells = self.cells as f64;
        let deviation = |(sum, square): (&f64, &f64)| {
            let squared = square - sum * sum / cells;
            // Rounding may take a constant gene just below zero; `f64::max` would also hide a NaN.
            if squared < 0.0 { 0.0 } else { squared / divisor }
        };
        self.sums.iter().zip(&self.squares).map(deviation).collect()
    }
}

impl From<&Moments> for MeanProfile {
    fn from(moments: &Moments) -> Self {
        Self { cells: moments.cells(), mean: moments.mean(), variance: moments.variance() }
    }
}

impl MeanProfile {
    /// The sample variance of each gene (divided by n − 1); `None` with fewer than two cells.
    #[must_use]
    pub fn variance_unbiased(&self) -> Option<Vec<f64>> {
        if self.cells < 2 {
            return None;
        }
        let correction = self.cells as f64 / (self.cells as f64 - 1.0);
        Some(self.variance.iter().map(|variance| variance * correction).collect())
    }
}

fn add(to: &mut [f64], from: &[f64]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to += from;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GENES: usize = 4;

    fn cells() -> impl Strategy<Value = Vec<[f32; GENES]>> {
        let value = prop_oneof![Just(0.0_f32), -20.0..20.0_f32];
        prop::collection::vec([value.clone(), value.clone(), value.clone(), value], 2..30)
    }

    fn dense(cells: &[[f32; GENES]]) -> Moments {
        let mut moments = Moments::new(GENES);
        cells.iter().for_each(|cell| moments.push_dense(cell));
        moments
    }

    fn sparse(cells: &[[f32; GENES]]) -> Moments {
        let mut moments = Moments::new(GENES);
        for cell in cells {
            let genes: Vec<u32> = (0..4).filter(|gene| cell[*gene as usize] != 0.0).collect();
            moments.push_sparse(&genes, genes.iter().map(|gene| f64::from(cell[*gene as usize])));
        }
        moments
    }

    fn near(a: &[f64], b: &[f64]) -> bool {
        a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-9)
    }

    proptest! {
        #[test]
        fn one_pass_gives_what_two_passes_give(cells in cells()) {
            let moments = dense(&cells);
            for gene in 0..GENES {
                let values: Vec<f64> = cells.iter().map(|cell| f64::from(cell[gene])).collect();
                let mean = values.iter().sum::<f64>() / values.len() as f64;
                let deviations: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
                prop_assert!((moments.mean()[gene] - mean).abs() < 1e-9);
                prop_assert!((moments.variance()[gene] - deviations / values.len() as f64).abs() < 1e-9);
                let unbiased = deviations / (values.len() as f64 - 1.0);
                prop_assert!((moments.variance_unbiased()[gene] - unbiased).abs() < 1e-9);
            }
        }

        #[test]
        fn zeros_may_be_left_out(cells in cells()) {
            prop_assert_eq!(sparse(&cells), dense(&cells));
        }

        #[test]
        fn merging_two_is_seeing_the_cells_of_both(cells in cells(), at in 0_usize..30) {
            let (first, second) = cells.split_at(at.min(cells.len()));
            let mut merged = dense(first);
            merged.merge(&dense(second));
            let whole = dense(&cells);
            prop_assert_eq!(merged.cells(), whole.cells());
            prop_assert!(near(&merged.mean(), &whole.mean()) && near(&merged.variance(), &whole.variance()));
        }

        #[test]
        fn without_a_part_the_others_remain(cells in cells(), at in 0_usize..30) {
            let (first, second) = cells.split_at(at.min(cells.len() - 1));
            let rest = dense(&cells).without(&dense(first)).expect("one cell remains");
            prop_assert_eq!(rest.cells(), dense(second).cells());
            prop_assert!(near(&rest.mean(), &dense(second).mean()) && near(&rest.variance(), &dense(second).variance()));
            prop_assert_eq!(dense(first).without(&dense(first)), None);
        }

        #[test]
        fn a_group_corrects_its_variance_as_the_moments_do(cells in cells()) {
            let moments = dense(&cells);
            let group = MeanProfile::from(&moments).variance_unbiased().expect("two cells or more");
            prop_assert!(near(&group, &moments.variance_unbiased()));
        }
    }

    #[test]
    fn one_cell_has_a_mean_and_no_sample_variance() {
        let moments = dense(&[[1.0, 2.0, 3.0, 4.0]]);
        assert_eq!(moments.mean(), [1.0, 2.0, 3.0, 4.0]);
        assert_eq!(moments.variance(), [0.0; 4]);
        assert!(moments.variance_unbiased().iter().all(|variance| variance.is_nan()));
        assert_eq!(MeanProfile::from(&moments).variance_unbiased(), None);
    }

    #[test]
    fn without_cells_there_is_no_mean() {
        assert!(Moments::new(2).mean().iter().all(|mean| mean.is_nan()));
        assert!(Moments::new(2).variance().iter().all(|variance| variance.is_nan()));
    }
}
