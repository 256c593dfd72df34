//! Converts a batch to tensors: copied to the device as CSR in its narrow types, made dense there if necessary.

use std::cell::OnceCell;

use offset::CellOffsets;
use schemas::{
    batch::{Expression, Genes, Labels, Values},
    numbers::{bounded, to_i64},
};
use stage::batch::Batch;
use tch::{Device, Kind, Tensor, kind::Element};
use torch::memory::{numbers_mut, on_device};

/// Sparse rows of expression on a device.
#[derive(Debug)]
pub struct Cells {
    /// Shape of the dense matrix.
    pub shape: [i64; 2],
    /// Row pointers, `[cells + 1]`, int64.
    pub pointers: Tensor,
    /// The gene of each non-zero, `[non-zeros]`, int64.
    pub genes: Tensor,
    /// The non-zeros, `[non-zeros]`.
    pub values: Tensor,
    /// Library size of each cell, `[cells, 1]`.
    pub library: Tensor,
    /// Whether the non-zeros may include zeros, several of them for the same gene.
    pub(super) padded: bool,
    /// The result of [`Cells::places`], once computed.
    places: OnceCell<Tensor>,
}

/// The model's input.
#[derive(Debug)]
pub struct Input {
    /// Expression.
    pub cells: Cells,
    /// Perturbation codes, `[cells, largest combination]`, int64, padded with 0.
    pub perturbations: Tensor,
    /// Their doses, in the same shape, padded with 0.
    pub doses: Tensor,
    /// Per covariate, the code of each cell, `[cells]`, int64.
    pub covariates: Vec<Tensor>,
    /// The adversary's class of each cell, `[cells]`, int64.
    pub combinations: Tensor,
    /// Offsets added to the decoder's output, for a network with offsets.
    pub offset: Option<CellOffsets>,
    /// The cell from whose basal latent each cell is decoded, `[cells]`, int64; `None`: the cell itself.
    pub sources: Option<Tensor>,
}

impl Input {
    /// Moves a batch to a device.
    #[must_use]
    pub fn new(batch: &Batch, genes: i64, kind: Kind, device: Device) -> Self {
        let Labels { combinations, covariates, .. } = &batch.labels;
        let (perturbations, doses) = padded(&batch.labels, kind, device);
        Self {
            cells: Cells::new(&batch.expression, genes, kind, device),
            perturbations,
            doses,
            covariates: covariates.iter().map(|codes| codes_tensor(codes, device)).collect(),
            combinations: codes_tensor(combinations, device),
            offset: None,
            sources: None,
        }
    }
}

impl Input {
    /// The cells' offsets, `[cells, genes]`, for a network with offsets.
    #[must_use]
    pub fn offsets(&self) -> Option<Tensor> {
        self.offset.as_ref().map(CellOffsets::gathered)
    }

    /// A shallow copy.
    #[must_use]
    pub fn shallow_clone(&self) -> Self {
        let Cells { shape, pointers, genes, values, library, padded, places } = &self.cells;
        let again = Tensor::shallow_clone;
        Self {
            cells: Cells {
                shape: *shape,
                pointers: again(pointers),
                genes: again(genes),
                values: again(values),
                library: again(library),
                padded: *padded,
                places: places.get().map(again).map_or_else(OnceCell::new, OnceCell::from),
            },
            perturbations: again(&self.perturbations),
            doses: again(&self.doses),
            covariates: self.covariates.iter().map(again).collect(),
            combinations: again(&self.combinations),
            offset: self.offset.as_ref().map(CellOffsets::shallow_clone),
            sources: self.sources.as_ref().map(again),
        }
    }
}

impl Cells {
    /// Moves rows to a device.
    #[must_use]
    pub fn new(expression: &Expression, genes: i64, kind: Kind, device: Device) -> Self {
        let rows = to_i64(expression.rows());
        let ids = gene_ids(&expression.genes, device);
        let values = values_tensor(&expression.values, kind, device);
        let pointers: Vec<i64> = expression.row_pointers.iter().map(|pointer| i64::from(*pointer)).collect();
        let mut library = vec![0.0_f64; expression.rows()];
        expression.for_each(|row, _, value| library[row] += f64::from(value));
        Self {
            shape: [rows, genes],
            pointers: Tensor::from_slice(&pointers).to_device(device),
            genes: ids,
            values,
            library: Tensor::from_slice(&library).to_kind(kind).to_device(device).unsqueeze(-1),
            padded: false,
            places: OnceCell::new(),
        }
    }

    /// Rows from their parts.
    pub(super) fn of_rows(shape: [i64; 2], pointers: Tensor, genes: Tensor, values: Tensor, library: Tensor) -> Self {
        Self { shape, pointers, genes, values, library, padded: false, places: OnceCell::new() }
    }

    /// Rows from their parts; the last row may be padded with zeros among its non-zeros.
    pub(super) fn padded(shape: [i64; 2], pointers: Tensor, genes: Tensor, values: Tensor, library: Tensor) -> Self {
        Self { padded: true, ..Self::of_rows(shape, pointers, genes, values, library) }
    }

    /// The rows of a dense matrix `[cells, genes]`.
    #[must_use]
    pub fn from_dense(dense: &Tensor) -> Self {
        let genes = dense.size()[1];
        let flat = dense.reshape([-1]);
        let places = flat.nonzero().view([-1]);
        let first = Tensor::zeros([1], (Kind::Int64, dense.device()));
        let counts = dense.ne(0.0).sum_dim_intlist([1_i64].as_slice(), false, Kind::Int64);
        Self {
            shape: [dense.size()[0], genes],
            pointers: Tensor::cat(&[first, counts.cumsum(0, Kind::Int64)], 0),
            genes: places.remainder(genes),
            values: flat.index_select(0, &places),
            library: dense.sum_dim_intlist([1_i64].as_slice(), true, dense.kind()),
            padded: false,
            places: OnceCell::from(places),
        }
    }

    /// Positions of the non-zeros in the flattened dense matrix, `[non-zeros]`, int64.
    pub fn places(&self) -> &Tensor {
        self.places.get_or_init(|| {
            let lengths = self.pointers.diff(1, 0, None::<&Tensor>, None::<&Tensor>);
            Tensor::repeat_interleave(&lengths, self.values.size()[0]) * self.shape[1] + &self.genes
        })
    }

    /// The dense matrix, `[cells, genes]`.
    pub fn dense(&self) -> Tensor {
        self.scattered(&self.values)
    }

    /// The dense matrix of log(1 + value), `[cells, genes]`.
    pub fn log1p(&self) -> Tensor {
        self.scattered(&self.values.log1p())
    }

    fn scattered(&self, values: &Tensor) -> Tensor {
        let mut dense = Tensor::zeros([self.shape[0] * self.shape[1]], (values.kind(), values.device()));
        // Adding a zero changes nothing; writing it over a number would.
        let _ = match self.padded {
            true => dense.scatter_add_(0, self.places(), values),
            false => dense.scatter_(0, self.places(), values),
        };
        dense.view(self.shape)
    }
}

/// Gene ids as int64.
fn gene_ids(genes: &Genes, device: Device) -> Tensor {
    match (genes, device) {
        (Genes::U16(ids), Device::Cpu) => converted(ids, i64::from),
        (Genes::U32(ids), Device::Cpu) => converted(ids, i64::from),
        (Genes::U16(ids), _) => {
            widened(&Tensor::from_slice(bytemuck::cast_slice::<u16, i16>(ids)).to_device(device), 0xffff, Kind::Int64)
        }
        (Genes::U32(ids), _) => {
            let bits = Tensor::from_slice(bytemuck::cast_slice::<u32, i32>(ids));
            widened(&bits.to_device(device), 0xffff_ffff, Kind::Int64)
        }
    }
}

fn values_tensor(values: &Values, kind: Kind, device: Device) -> Tensor {
    let narrow = match values {
        Values::U8(values) if (kind, device) == (Kind::Float, Device::Cpu) => converted(values, f32::from),
        Values::U16(values) if (kind, device) == (Kind::Float, Device::Cpu) => converted(values, f32::from),
        Values::U8(values) => Tensor::from_slice(values).to_device(device),
        Values::U16(values) => {
            let bits = Tensor::from_slice(bytemuck::cast_slice::<u16, i16>(values));
            widened(&bits.to_device(device), 0xffff, Kind::Int)
        }
        Values::U32(values) => {
            let bits = Tensor::from_slice(bytemuck::cast_slice::<u32, i32>(values));
            widened(&bits.to_device(device), 0xffff_ffff, Kind::Int64)
        }
        Values::F32(values) => Tensor::from_slice(values).to_device(device),
    };
    narrow.to_kind(kind)
}

/// Numbers on the host converted to another type, in one pass.
fn converted<A: Copy, B: Element>(numbers: &[A], convert: impl Fn(A) -> B) -> Tensor {
    let count = to_i64(numbers.len());
    let mut tensor = Tensor::empty([count], (B::KIND, Device::Cpu));
    for (to, from) in numbers_mut(&mut tensor).iter_mut().zip(numbers) {
        *to = convert(*from);
    }
    tensor
}

/// Widens unsigned integers: libtorch has no arithmetic on u16 and u32, so their bits are transferred as
/// signed numbers of the same width and widened on the device.
pub(super) fn widened(bits: &Tensor, mask: i64, kind: Kind) -> Tensor {
    bits.to_kind(kind).bitwise_and(mask)
}

pub(super) fn codes_tensor(codes: &[u32], device: Device) -> Tensor {
    let codes: Vec<i64> = codes.iter().map(|code| i64::from(*code)).collect();
    on_device(&codes, device)
}

/// The perturbation CSR as two padded tensors, as wide as the largest combination of the batch.
fn padded(labels: &Labels, kind: Kind, device: Device) -> (Tensor, Tensor) {
    let matrix = &labels.perturbations;
    let rows =
        matrix.outer_iterator().map(|row| row.iter().map(|(code, dose)| (bounded(code), f64::from(*dose))).collect());
    pad(&rows.collect::<Vec<_>>(), kind, device)
}

/// Rows of codes and doses as two tensors `[rows, longest row]`, padded with 0.
pub fn pad(rows: &[Vec<(u32, f64)>], kind: Kind, device: Device) -> (Tensor, Tensor) {
    let width = rows.iter().map(Vec::len).max().unwrap_or(0).max(1);
    let mut codes = vec![0_i64; rows.len() * width];
    let mut doses = vec![0.0_f64; rows.len() * width];
    for (row, parts) in rows.iter().enumerate() {
        for (at, (code, dose)) in parts.iter().enumerate() {
            (codes[row * width + at], doses[row * width + at]) = (i64::from(*code), *dose);
        }
    }
    let shape = [rows.len(), width].map(to_i64);
    (on_device(&codes, device).view(shape), on_device(&doses, device).view(shape).to_kind(kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_in_narrow_types_become_the_dense_matrix_they_stand_for() {
        let expression = Expression {
            row_pointers: vec![0, 2, 2, 5],
            genes: Genes::U16(vec![1, 40_000, 0, 2, 65_535]),
            values: Values::U16(vec![1, 2, 3, 40_000, 5]),
        };
        let cells = Cells::new(&expression, 65_536, Kind::Double, Device::Cpu);
        let dense = cells.dense();
        assert_eq!(
            [[0, 1], [0, 40_000], [2, 0], [2, 2], [2, 65_535]].map(|at| dense.double_value(&at)),
            [1.0, 2.0, 3.0, 40_000.0, 5.0]
        );
        assert_eq!(Vec::<f64>::try_from(cells.library.view([-1])).expect("numbers"), [3.0, 0.0, 40_008.0]);
        let back = Cells::from_dense(&dense);
        assert_eq!(back.places(), cells.places());
        assert_eq!((back.pointers, back.genes, back.values), (cells.pointers, cells.genes, cells.values));
    }
}
