//! Cells row by row, and the same gene by gene.

/// Cells as their non-zero genes, ascending, and the values of these.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CellRows {
    /// Where each cell's entries end.
    ends: Vec<usize>,
    genes: Vec<u32>,
    values: Vec<f32>,
}

/// The values of each gene in a group of cells, ascending; zeros are left out.
#[derive(Clone, Debug, PartialEq)]
pub struct GeneColumns {
    cells: usize,
    /// Where each gene's values end.
    ends: Vec<usize>,
    values: Vec<f32>,
    /// Σ (t³ − t) over the values of each gene, where t cells have the same one.
    ties: Vec<f64>,
    /// The mean of each gene over all cells.
    means: Vec<f64>,
}

/// The values of a gene in a group of cells: those that are not 0, ascending.
#[derive(Clone, Copy, Debug)]
pub struct SortedValues<'a> {
    /// The values.
    pub values: &'a [f32],
    /// Number of cells, with those whose value is 0.
    pub cells: usize,
    /// Σ (t³ − t) over the values, where t cells have the same one.
    pub ties: f64,
}

impl CellRows {
    /// Adds a cell, given by some genes, in any order, among them all whose value is not 0.
    pub fn push(&mut self, genes: &[u32], values: impl IntoIterator<Item = f32>) {
        let first = self.values.len();
        self.values.extend(values);
        if genes.is_sorted() && !self.values[first..].contains(&0.0) {
            self.genes.extend(genes);
        } else {
            let mut entries: Vec<(u32, f32)> = genes.iter().copied().zip(self.values.drain(first..)).collect();
            entries.retain(|(_, value)| *value != 0.0);
            entries.sort_unstable_by_key(|(gene, _)| *gene);
            self.genes.extend(entries.iter().map(|(gene, _)| gene));
            self.values.extend(entries.iter().map(|(_, value)| value));
        }
        self.ends.push(self.genes.len());
    }

    /// Number of cells.
    #[must_use]
    pub fn count(&self) -> usize {
        self.ends.len()
    }

    /// The genes and values of each cell.
    pub fn all(&self) -> impl Iterator<Item = (&[u32], &[f32])> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| (&self.genes[start..*end], &self.values[start..*end]))
    }

    /// Number of values.
    #[must_use]
    pub fn values(&self) -> usize {
        self.genes.len()
    }

    /// Bytes that are in use.
    #[must_use]
    pub fn byte_size(&self) -> usize {
        8 * self.ends.len() + 8 * self.genes.len()
    }
}

impl GeneColumns {
    /// The columns of all cells of some groups.
    ///
    /// # Panics
    /// If a gene is beyond the last one.
    #[must_use]
    pub fn new(genes: usize, groups: &[&CellRows]) -> Self {
        let entries = || groups.iter().flat_map(|rows| rows.genes.iter().zip(&rows.values));
        let mut ends = vec![0; genes];
        entries().for_each(|(gene, _)| ends[*gene as usize] += 1);
        let mut before = 0;
        for end in &mut ends {
            (*end, before) = (before, before + *end);
        }
        let mut values = vec![0.0; before];
        // Each start moves to its gene's end.
        for (gene, value) in entries() {
            let place = &mut ends[*gene as usize];
            values[*place] = *value;
            *place += 1;
        }
        let cells = groups.iter().map(|rows| rows.count()).sum();
        let (mut ties, mut means) = (Vec::with_capacity(genes), Vec::with_capacity(genes));
        let mut start = 0;
        for end in &ends {
            let column = &mut values[start..*end];
            column.sort_unstable_by(f32::total_cmp);
            ties.push(tied(column));
            means.push(column.iter().map(|value| f64::from(*value)).sum::<f64>() / cells as f64);
            start = *end;
        }
        Self { cells, ends, values, ties, means }
    }

    /// Number of genes.
    #[must_use]
    pub fn genes(&self) -> usize {
        self.ends.len()
    }

    /// The mean of each gene over all cells; NaN without cells.
    #[must_use]
    pub fn means(&self) -> &[f64] {
        &self.means
    }

    /// The values of a gene.
    ///
    /// # Panics
    /// If the gene is beyond the last one.
    #[must_use]
    pub fn gene(&self, gene: usize) -> SortedValues<'_> {
        let start = gene.checked_sub(1).map_or(0, |before| self.ends[before]);
        SortedValues { values: &self.values[start..self.ends[gene]], cells: self.cells, ties: self.ties[gene] }
    }
}

/// Σ (t³ − t) over sorted values.
fn tied(values: &[f32]) -> f64 {
    let of_run = |run: &[f32]| (run.len() as f64).powi(3) - run.len() as f64;
    values.chunk_by(|a, b| a == b).map(of_run).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_have_the_values_of_all_cells_in_order() {
        let (mut first, mut second) = (CellRows::default(), CellRows::default());
        first.push(&[2, 0], [3.0, 1.0]);
        first.push(&[], []);
        second.push(&[2, 1, 0], [-1.0, 0.0, 1.0]);
        assert_eq!((first.count(), first.all().map(|(genes, _)| genes.len()).collect::<Vec<_>>()), (2, vec![2, 0]));
        let columns = GeneColumns::new(4, &[&first, &second]);
        let of = |gene| (columns.gene(gene).values, columns.gene(gene).ties);
        assert_eq!((of(0), of(1), of(2)), ((&[1.0, 1.0][..], 6.0), (&[][..], 0.0), (&[-1.0, 3.0][..], 0.0)));
        assert_eq!((columns.gene(3).cells, columns.genes()), (3, 4));
        assert_eq!(columns.means(), [2.0 / 3.0, 0.0, 2.0 / 3.0, 0.0]);
    }
}
