//! Sums of products of many pairs of vectors.

use simd::{InstructionSet, Kernel, widest};

/// Sums computed side by side: two registers of the widest instruction set.
const LANES: usize = 16;

/// Columns multiplied with a row at once.
const COLUMNS: usize = 4;

/// Genes whose products are summed before the next: so that all vectors stay in the cache.
const TILE: usize = 512;

/// Σ a b over genes for each of the `rows` a and of the `columns` b: `[rows, columns]`, row by row.
///
/// # Panics
/// If the vectors have different lengths.
#[must_use]
pub fn products(rows: &[&[f64]], columns: &[&[f64]]) -> Vec<f64> {
    let genes = rows.first().map_or(0, |row| row.len());
    assert!(rows.iter().chain(columns).all(|vector| vector.len() == genes), "vectors have the same length");
    widest(PairProducts { rows, columns, genes })
}

struct PairProducts<'a> {
    rows: &'a [&'a [f64]],
    columns: &'a [&'a [f64]],
    genes: usize,
}

impl Kernel for PairProducts<'_> {
    type Out = Vec<f64>;

    #[inline(always)]
    fn run<W: InstructionSet>(self) -> Vec<f64> {
        let width = self.columns.len();
        let mut all = vec![0.0; self.rows.len() * width];
        for start in (0..self.genes).step_by(TILE) {
            let tile = start..self.genes.min(start + TILE);
            for (row, sums) in self.rows.iter().zip(all.chunks_exact_mut(width.max(1))) {
                let row = &row[tile.clone()];
                let mut groups = self.columns.chunks_exact(COLUMNS);
                let mut into = sums.chunks_exact_mut(COLUMNS);
                for (columns, sums) in (&mut groups).zip(&mut into) {
                    let columns: [&[f64]; COLUMNS] = std::array::from_fn(|at| &columns[at][tile.clone()]);
                    sums.iter_mut().zip(dot::<COLUMNS, W>(row, columns)).for_each(|(sum, product)| *sum += product);
                }
                for (column, sum) in groups.remainder().iter().zip(into.into_remainder()) {
                    *sum += dot::<1, W>(row, [&column[tile.clone()]])[0];
                }
            }
        }
        all
    }
}

/// The products of a row with some columns of the same length.
#[inline(always)]
fn dot<const N: usize, W: InstructionSet>(row: &[f64], columns: [&[f64]; N]) -> [f64; N] {
    let mut lanes = [[0.0; LANES]; N];
    let (chunks, rest) = row.as_chunks::<LANES>();
    // Slices of a length that the compiler does not know would be multiplied one number at a time.
    let in_chunks = columns.map(|column| column.as_chunks::<LANES>().0);
    for (at, row) in chunks.iter().enumerate() {
        for (lanes, column) in lanes.iter_mut().zip(&in_chunks) {
            add_products::<W>(lanes, row, &column[at]);
        }
    }
    std::array::from_fn(|column| {
        let last = rest.iter().zip(&columns[column][row.len() - rest.len()..]).map(|(a, b)| a * b);
        lanes[column].iter().sum::<f64>() + last.sum::<f64>()
    })
}

#[inline(always)]
fn add_products<W: InstructionSet>(sums: &mut [f64; LANES], a: &[f64; LANES], b: &[f64; LANES]) {
    for lane in 0..LANES {
        sums[lane] = if W::FUSED { a[lane].mul_add(b[lane], sums[lane]) } else { sums[lane] + a[lane] * b[lane] };
    }
}

#[cfg(test)]
mod tests {
    use simd::every_instruction_set;

    use super::*;

    #[test]
    fn every_pair_is_multiplied_whatever_the_lengths() {
        for (rows, columns, genes) in [(3, 7, 1_100), (1, 4, 16), (2, 1, 5), (0, 3, 0)] {
            let vector = |seed: usize| (0..genes).map(|gene| ((gene * 7 + seed) as f64).sin()).collect::<Vec<f64>>();
            let (rows, columns): (Vec<_>, Vec<_>) =
                ((0..rows).map(vector).collect(), (0..columns).map(|at| vector(at + 50)).collect());
            let [row_slices, column_slices] =
                [&rows, &columns].map(|vectors| vectors.iter().map(Vec::as_slice).collect::<Vec<_>>());
            let expected: Vec<f64> = rows
                .iter()
                .flat_map(|a| columns.iter().map(move |b| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>()))
                .collect();
            let near = |found: &[f64]| {
                found.len() == expected.len() && found.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-10)
            };
            assert!(near(&products(&row_slices, &column_slices)));
            let found = every_instruction_set(|| PairProducts { rows: &row_slices, columns: &column_slices, genes });
            assert!(found.iter().all(|found| near(found)));
        }
    }
}
