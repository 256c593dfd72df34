//! Which genes of an atlas are compared, if predictions lack some.

/// Genes of an atlas that are compared, in ascending order. The others still count towards a cell's sum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ComparedGenes {
    /// Indices of the compared genes among the atlas's.
    chosen: Vec<usize>,
    /// For each gene of the atlas, its index among the compared ones.
    places: Vec<Option<u32>>,
}

impl ComparedGenes {
    /// All of an atlas's genes.
    #[must_use]
    pub fn all(genes: usize) -> Self {
        Self::new(genes, (0..genes).collect())
    }

    /// These of an atlas's genes.
    ///
    /// # Panics
    /// If one of them is beyond the last.
    #[must_use]
    pub fn new(genes: usize, mut chosen: Vec<usize>) -> Self {
        chosen.sort_unstable();
        chosen.dedup();
        let mut places = vec![None; genes];
        for (place, gene) in (0_u32..).zip(&chosen) {
            places[*gene] = Some(place);
        }
        Self { chosen, places }
    }

    /// Their indices among the atlas's genes.
    #[must_use]
    pub fn chosen(&self) -> &[usize] {
        &self.chosen
    }

    /// Number of genes of the atlas.
    #[must_use]
    pub fn of(&self) -> usize {
        self.places.len()
    }

    /// Leaves out the other genes of a cell; genes become indices among the compared ones.
    pub fn keep(&self, genes: &mut Vec<u32>, values: &mut Vec<f64>) {
        self.keep_from(0, genes, values);
    }

    /// The same for the entries from this one on.
    ///
    /// # Panics
    /// If there are fewer entries.
    pub fn keep_from(&self, first: usize, genes: &mut Vec<u32>, values: &mut Vec<f64>) {
        if self.chosen.len() == self.places.len() {
            return;
        }
        let mut kept = first;
        for at in first..genes.len() {
            if let Some(place) = self.places[genes[at] as usize] {
                (genes[kept], values[kept]) = (place, values[at]);
                kept += 1;
            }
        }
        genes.truncate(kept);
        values.truncate(kept);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn genes_that_are_not_compared_are_left_out() {
        let kept = |compared: ComparedGenes| {
            let (mut genes, mut values) = (vec![0, 2, 3], vec![1.0, 2.0, 3.0]);
            compared.keep(&mut genes, &mut values);
            (genes, values)
        };
        assert_eq!(kept(ComparedGenes::all(4)), (vec![0, 2, 3], vec![1.0, 2.0, 3.0]));
        assert_eq!(kept(ComparedGenes::new(4, vec![3, 0, 3])), (vec![0, 1], vec![1.0, 3.0]));
    }
}
