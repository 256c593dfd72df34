//! Mixes cells in pairs; rows of expression without making them dense, where possible.

use kernels::sparse::index;
use schemas::numbers::to_i64;
use tch::{Device, Kind, Tensor};
use torch::memory::{TensorNumber, numbers};

use super::input::{Cells, Input};

/// How the cells of a batch are mixed: each with one other cell.
#[derive(Debug)]
pub struct Mixup {
    /// The partner of each cell.
    pub partners: Vec<i64>,
    /// A cell's own share in the mixture.
    pub share: f64,
}

impl Mixup {
    /// Each row mixed with its partner's.
    pub fn mixed(&self, rows: &Tensor) -> Tensor {
        rows * self.share + self.of_partners(rows) * (1.0 - self.share)
    }

    /// The rows of each cell's partner.
    pub fn of_partners(&self, rows: &Tensor) -> Tensor {
        rows.index_select(0, &self.partners_on(rows.device()))
    }

    fn partners_on(&self, device: Device) -> Tensor {
        Tensor::from_slice(&self.partners).to_device(device)
    }

    /// A batch with mixed expression; labels remain those of the first cell of each pair.
    #[must_use]
    pub fn of_input(&self, input: &Input) -> Input {
        let cells = match (input.cells.values.device(), input.cells.values.kind()) {
            (Device::Cpu, Kind::Float) => mixed::<f32>(&input.cells, self),
            (Device::Cpu, Kind::Double) => mixed::<f64>(&input.cells, self),
            _ => Cells::from_dense(&self.mixed(&input.cells.dense())),
        };
        let offset = input
            .offset
            .as_ref()
            .map(|offset| offset.mixed(&self.partners_on(input.cells.values.device()), self.share));
        Input { cells, offset, ..input.shallow_clone() }
    }
}

/// Each row times its own share, plus its partner's row times the rest. The genes of a row are ascending,
/// before and after.
fn mixed<T: TensorNumber>(cells: &Cells, mixup: &Mixup) -> Cells {
    let (pointers, genes) = (numbers::<i64>(&cells.pointers), numbers::<i64>(&cells.genes));
    let (values, library) = (numbers::<T>(&cells.values), numbers::<T>(&cells.library));
    let (keeps, takes) = (T::from_f64(mixup.share), T::from_f64(1.0 - mixup.share));
    let mut mixed = MixedRows { pointers: vec![0], genes: Vec::new(), values: Vec::new() };
    let mut libraries = Vec::with_capacity(library.len());
    for (row, partner) in mixup.partners.iter().enumerate() {
        let partner = index(*partner);
        let entries = |row: usize| {
            let entries = index(pointers[row])..index(pointers[row + 1]);
            (&genes[entries.clone()], &values[entries])
        };
        mixed.merge(entries(row), entries(partner), |own, other| own * keeps + other * takes);
        libraries.push(library[row] * keeps + library[partner] * takes);
    }
    let library = Tensor::from_slice(&libraries).unsqueeze(-1);
    let [pointers, genes] = [&mixed.pointers, &mixed.genes].map(|numbers| Tensor::from_slice(numbers));
    Cells::of_rows(cells.shape, pointers, genes, Tensor::from_slice(&mixed.values), library)
}

struct MixedRows<T> {
    pointers: Vec<i64>,
    genes: Vec<i64>,
    values: Vec<T>,
}

impl<T: TensorNumber> MixedRows<T> {
    /// Appends a row mixed from two; entries that become 0 are left out.
    fn merge(&mut self, own: (&[i64], &[T]), other: (&[i64], &[T]), mix: impl Fn(T, T) -> T) {
        let (mut at, mut other_at) = (0, 0);
        loop {
            let next = |genes: &[i64], at: usize| genes.get(at).copied().unwrap_or(i64::MAX);
            let (gene, other_gene) = (next(own.0, at), next(other.0, other_at));
            let first = gene.min(other_gene);
            if first == i64::MAX {
                break;
            }
            let (mut value, mut other_value) = (T::default(), T::default());
            if gene == first {
                (value, at) = (own.1[at], at + 1);
            }
            if other_gene == first {
                (other_value, other_at) = (other.1[other_at], other_at + 1);
            }
            let mixed = mix(value, other_value);
            if mixed != T::default() {
                self.genes.push(first);
                self.values.push(mixed);
            }
        }
        self.pointers.push(to_i64(self.genes.len()));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn mixed_rows_are_the_dense_rows_mixed(
            values in prop::collection::vec(prop_oneof![2 => Just(0.0), 1 => 0.0_f64..9.0], 5 * 7),
            partners in Just((0..5).collect::<Vec<i64>>()).prop_shuffle(),
            share in prop_oneof![Just(0.0), Just(1.0), 0.0_f64..1.0],
        ) {
            let dense = Tensor::from_slice(&values).view([5, 7]);
            let mixup = Mixup { partners, share };
            let (found, expected) = (mixed::<f64>(&Cells::from_dense(&dense), &mixup), Cells::from_dense(&mixup.mixed(&dense)));
            prop_assert_eq!(found.pointers, expected.pointers);
            prop_assert_eq!(found.genes, expected.genes);
            prop_assert_eq!(found.values, expected.values);
            prop_assert!((found.library - expected.library).abs().max().double_value(&[]) < 1e-12);
        }
    }
}
