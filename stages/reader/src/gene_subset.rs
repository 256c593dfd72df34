//! An atlas restricted to some of its genes: rows are filtered and renumbered after they were gathered.

use std::collections::{HashMap, HashSet};

use schemas::batch::{Expression, Genes, Values, count_to_f32};

use crate::row::{GeneSlice, ValueSlice};

/// The number of a gene that is not in the subset.
const UNSEEN: u32 = u32::MAX;

/// Some genes of an atlas, in their own order.
#[derive(Clone, Debug)]
pub struct GeneSubset {
    names: Vec<String>,
    /// Names of genes that the atlas does not have.
    missing: Vec<String>,
    /// Names that several genes of the atlas share, or several of this subset.
    ambiguous: Vec<String>,
    /// For each gene of the atlas, its number in the subset.
    numbers: Vec<u32>,
    /// Whether the genes are in the atlas's order.
    in_order: bool,
}

impl GeneSubset {
    /// The genes with these names. If several genes of the atlas have the same name, its first mention means the
    /// first of them, and so on. Genes that the atlas does not have are missing: 0 in every row.
    pub fn by_name(names: &[String], atlas: &[String]) -> Self {
        let mut places: HashMap<&str, std::collections::VecDeque<usize>> = HashMap::new();
        for (at, name) in atlas.iter().enumerate() {
            places.entry(name).or_default().push_back(at);
        }
        let mut numbers = vec![UNSEEN; atlas.len()];
        let mut missing = Vec::new();
        let mut in_order = true;
        let mut last = None;
        for (number, name) in (0_u32..).zip(names) {
            let Some(at) = places.get_mut(name.as_str()).and_then(std::collections::VecDeque::pop_front) else {
                missing.push(name.clone());
                continue;
            };
            numbers[at] = number;
            in_order &= last < Some(at);
            last = Some(at);
        }
        let mut seen = HashSet::new();
        let repeated: HashSet<&String> = names.iter().filter(|name| !seen.insert(*name)).collect();
        let is_left = |name: &String| places.get(name.as_str()).is_some_and(|left| !left.is_empty());
        let mut named = HashSet::new();
        let ambiguous = names.iter().filter(|name| repeated.contains(name) || is_left(name));
        let ambiguous = ambiguous.filter(|name| named.insert(*name)).cloned().collect();
        Self { names: names.to_vec(), missing, ambiguous, numbers, in_order }
    }

    /// Names of the genes.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Names of the genes that the atlas does not have.
    #[must_use]
    pub fn missing(&self) -> &[String] {
        &self.missing
    }

    /// Names that several genes of the atlas share, or several of this subset: which of them is meant can't be told in another
    /// atlas than that from which the names are.
    #[must_use]
    pub fn ambiguous(&self) -> &[String] {
        &self.ambiguous
    }

    /// Removes all other genes from the rows, and renumbers these.
    pub fn keep(&self, rows: &mut Expression) {
        let Expression { row_pointers, genes, values } = rows;
        #[expect(
            clippy::cast_possible_truncation,
            reason = "an atlas refuses more genes than its numbers have room for"
        )]
        match genes {
            Genes::U16(genes) => self.keep_of(row_pointers, genes, values, |number| number as u16),
            Genes::U32(genes) => self.keep_of(row_pointers, genes, values, |number| number),
        }
    }

    /// Writes a row of the atlas as a dense row of these genes.
    pub fn write_dense(&self, genes: GeneSlice<'_>, values: ValueSlice<'_>, out: &mut [f32]) {
        match genes {
            GeneSlice::U16(genes) => self.write_dense_of(genes, values, out),
            GeneSlice::U32(genes) => self.write_dense_of(genes, values, out),
        }
    }

    fn write_dense_of<G: Copy + Into<u32>>(&self, genes: &[G], values: ValueSlice<'_>, out: &mut [f32]) {
        out.fill(0.0);
        let mut write = |gene: G, value: f32| {
            let number = self.numbers[gene.into() as usize];
            if number != UNSEEN {
                out[number as usize] = value;
            }
        };
        let genes = genes.iter().copied();
        match values {
            ValueSlice::U8(values) => genes.zip(values).for_each(|(gene, value)| write(gene, f32::from(*value))),
            ValueSlice::U16(values) => genes.zip(values).for_each(|(gene, value)| write(gene, f32::from(*value))),
            ValueSlice::U32(values) => genes.zip(values).for_each(|(gene, value)| write(gene, count_to_f32(*value))),
            ValueSlice::F32(values) => genes.zip(values).for_each(|(gene, value)| write(gene, *value)),
        }
    }

    fn keep_of<G: Copy + Ord + Into<u32>>(
        &self,
        row_pointers: &mut [u32],
        genes: &mut Vec<G>,
        values: &mut Values,
        narrow: impl Fn(u32) -> G,
    ) {
        match values {
            Values::U8(values) => self.walk(row_pointers, genes, values, narrow),
            Values::U16(values) => self.walk(row_pointers, genes, values, narrow),
            Values::U32(values) => self.walk(row_pointers, genes, values, narrow),
            Values::F32(values) => self.walk(row_pointers, genes, values, narrow),
        }
    }

    fn walk<G: Copy + Ord + Into<u32>, V: Copy>(
        &self,
        row_pointers: &mut [u32],
        genes: &mut Vec<G>,
        values: &mut Vec<V>,
        narrow: impl Fn(u32) -> G,
    ) {
        let (mut read, mut written) = (0, 0);
        let mut row = Vec::new();
        for end in row_pointers.iter_mut().skip(1) {
            let first = written;
            for at in read..*end as usize {
                // There is no branch: entries of other genes are written too, and then overwritten.
                let number = self.numbers[genes[at].into() as usize];
                (genes[written], values[written]) = (narrow(number), values[at]);
                written += usize::from(number != UNSEEN);
            }
            read = *end as usize;
            *end = row_pointer(written);
            if !self.in_order {
                row.clear();
                row.extend(genes[first..written].iter().copied().zip(values[first..written].iter().copied()));
                row.sort_unstable_by_key(|(gene, _)| *gene);
                for (at, (gene, value)) in (first..).zip(&row) {
                    (genes[at], values[at]) = (*gene, *value);
                }
            }
        }
        genes.truncate(written);
        values.truncate(written);
    }
}

#[expect(clippy::cast_possible_truncation, reason = "no row pointer grows")]
fn row_pointer(entries: usize) -> u32 {
    entries as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    fn rows() -> Expression {
        Expression {
            row_pointers: vec![0, 3, 3, 5],
            genes: Genes::U16(vec![0, 1, 3, 2, 3]),
            values: Values::U8(vec![10, 11, 13, 22, 23]),
        }
    }

    #[test]
    fn rows_keep_the_chosen_genes_under_new_numbers() {
        let mut rows = rows();
        GeneSubset::by_name(&names("B D"), &names("A B C D")).keep(&mut rows);
        assert_eq!(rows.row_pointers, [0, 2, 2, 3]);
        assert_eq!(rows.genes, Genes::U16(vec![0, 1, 1]));
        assert_eq!(rows.values, Values::U8(vec![11, 13, 23]));
    }

    #[test]
    fn genes_ascend_in_another_order_too() {
        let mut rows = rows();
        GeneSubset::by_name(&names("D C A"), &names("A B C D")).keep(&mut rows);
        assert_eq!(rows.row_pointers, [0, 2, 2, 4]);
        assert_eq!(rows.genes, Genes::U16(vec![0, 2, 0, 1]));
        assert_eq!(rows.values, Values::U8(vec![13, 10, 23, 22]));
    }

    #[test]
    fn genes_that_share_a_name_are_told_apart_by_their_order() {
        let subset = GeneSubset::by_name(&names("X X A"), &names("A X B X"));
        assert_eq!(subset.numbers, [2, 0, UNSEEN, 1]);
    }

    #[test]
    fn genes_that_are_not_there_are_named_and_have_no_values() {
        let mut rows = rows();
        let subset = GeneSubset::by_name(&names("E B F D"), &names("A B C D"));
        assert_eq!(subset.missing(), ["E", "F"]);
        subset.keep(&mut rows);
        assert_eq!(rows.row_pointers, [0, 2, 2, 3]);
        assert_eq!(rows.genes, Genes::U16(vec![1, 3, 3]));
    }
}
