//! A batch becomes tensors: copied to the device as CSR in its narrow types, made dense there.

use schemas::batch::{Expression, Genes, Labels, Values};
use tch::{Device, Kind, Tensor};

use crate::batch::Batch;

/// Rows of expression on a device, dense and sparse at once.
#[derive(Debug)]
pub struct Cells {
    /// `[cells, genes]`.
    pub dense: Tensor,
    /// Where the non-zeros stand in the flattened dense tensor, `[non-zeros]`, int64.
    pub places: Tensor,
    /// The non-zeros, `[non-zeros]`.
    pub values: Tensor,
}

/// What a model sees of a batch.
#[derive(Debug)]
pub struct Input {
    /// Expression.
    pub cells: Cells,
    /// Perturbation codes, `[cells, largest combination]`, int64, padded with 0.
    pub perturbations: Tensor,
    /// Their doses, padded with 0.
    pub doses: Tensor,
    /// Per covariate, the code of each cell, `[cells]`, int64.
    pub covariates: Vec<Tensor>,
    /// The adversary's class of each cell, `[cells]`, int64.
    pub combinations: Tensor,
}

impl Input {
    /// Brings a batch to a device.
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
        }
    }
}

impl Cells {
    /// Brings rows to a device.
    #[must_use]
    pub fn new(expression: &Expression, genes: i64, kind: Kind, device: Device) -> Self {
        let rows = i64::try_from(expression.rows()).unwrap_or(i64::MAX);
        let places = if device == Device::Cpu {
            places_on_host(expression, genes)
        } else {
            places_on_device(expression, genes, device)
        };
        let values = values_tensor(&expression.values, device).to_kind(kind);
        let dense = Tensor::zeros([rows * genes], (kind, device)).scatter_(0, &places, &values).view([rows, genes]);
        Self { dense, places, values }
    }
}

/// One pass over the entries: on a CPU cheaper than the operators that compute the same.
fn places_on_host(expression: &Expression, genes: i64) -> Tensor {
    fn walk<G: Copy + Into<i64>>(pointers: &[u32], ids: &[G], genes: i64) -> Vec<i64> {
        let mut places = Vec::with_capacity(ids.len());
        let mut start = 0;
        for pair in pointers.windows(2) {
            places.extend(ids[pair[0] as usize..pair[1] as usize].iter().map(|gene| start + (*gene).into()));
            start += genes;
        }
        places
    }
    Tensor::from_slice(&match &expression.genes {
        Genes::U16(ids) => walk(&expression.row_pointers, ids, genes),
        Genes::U32(ids) => walk(&expression.row_pointers, ids, genes),
    })
}

/// The same on a device, from the narrow types as they are.
fn places_on_device(expression: &Expression, genes: i64, device: Device) -> Tensor {
    let ids = match &expression.genes {
        // libtorch has no arithmetic on u16 and u32: the bits travel as signed numbers.
        Genes::U16(ids) => Tensor::from_slice(bytemuck::cast_slice::<u16, i16>(ids))
            .to_device(device)
            .to_kind(Kind::Int64)
            .bitwise_and(0xffff),
        Genes::U32(ids) => Tensor::from_slice(bytemuck::cast_slice::<u32, i32>(ids))
            .to_device(device)
            .to_kind(Kind::Int64)
            .bitwise_and(0xffff_ffff),
    };
    let pointers = Tensor::from_slice(bytemuck::cast_slice::<u32, i32>(&expression.row_pointers))
        .to_device(device)
        .to_kind(Kind::Int64);
    let rows = pointers.size()[0] - 1;
    let lengths = pointers.narrow(0, 1, rows) - pointers.narrow(0, 0, rows);
    let starts = Tensor::arange(rows, (Kind::Int64, device)) * genes;
    ids + starts.repeat_interleave_self_tensor(
        &lengths,
        0,
        i64::try_from(expression.row_pointers.last().copied().unwrap_or(0)).ok(),
    )
}

fn values_tensor(values: &Values, device: Device) -> Tensor {
    match values {
        Values::U8(values) => Tensor::from_slice(values).to_device(device),
        Values::U16(values) => Tensor::from_slice(bytemuck::cast_slice::<u16, i16>(values))
            .to_device(device)
            .to_kind(Kind::Int64)
            .bitwise_and(0xffff),
        Values::U32(values) => Tensor::from_slice(bytemuck::cast_slice::<u32, i32>(values))
            .to_device(device)
            .to_kind(Kind::Int64)
            .bitwise_and(0xffff_ffff),
        Values::F32(values) => Tensor::from_slice(values).to_device(device),
    }
}

fn codes_tensor(codes: &[u32], device: Device) -> Tensor {
    let codes: Vec<i64> = codes.iter().map(|code| i64::from(*code)).collect();
    Tensor::from_slice(&codes).to_device(device)
}

/// The perturbation CSR as two padded tensors, as wide as the largest combination of the batch.
fn padded(labels: &Labels, kind: Kind, device: Device) -> (Tensor, Tensor) {
    let matrix = &labels.perturbations;
    let width = matrix.outer_iterator().map(|row| row.nnz()).max().unwrap_or(0).max(1);
    let mut codes = vec![0_i64; matrix.rows() * width];
    let mut doses = vec![0_f32; matrix.rows() * width];
    for (cell, row) in matrix.outer_iterator().enumerate() {
        for (at, (code, dose)) in row.iter().enumerate() {
            codes[cell * width + at] = i64::try_from(code).unwrap_or(0);
            doses[cell * width + at] = *dose;
        }
    }
    let shape = [i64::try_from(matrix.rows()).unwrap_or(i64::MAX), i64::try_from(width).unwrap_or(i64::MAX)];
    (
        Tensor::from_slice(&codes).view(shape).to_device(device),
        Tensor::from_slice(&doses).view(shape).to_device(device).to_kind(kind),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_device_finds_the_same_places_as_the_host() {
        let expression = Expression {
            row_pointers: vec![0, 2, 2, 5],
            genes: Genes::U16(vec![1, 40_000, 0, 2, 65_535]),
            values: Values::U16(vec![1, 2, 3, 40_000, 5]),
        };
        let host = places_on_host(&expression, 65_536);
        assert_eq!(host, places_on_device(&expression, 65_536, Device::Cpu));
        let cells = Cells::new(&expression, 65_536, Kind::Double, Device::Cpu);
        assert_eq!(cells.dense.double_value(&[2, 2]), 40_000.0);
        assert_eq!(cells.dense.sum(Kind::Double).double_value(&[]), 40_011.0);
    }
}
