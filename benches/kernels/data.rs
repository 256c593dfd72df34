//! Inputs of the kernel benches: cells, layers, and output buffers.

use kernels::{
    layer::{BatchNormForward, Dropout, LayerNormForward},
    sparse::CsrView,
};
use model::input::Cells;
use simd::widest;
use tch::{Device, Kind, Tensor};

use super::{DENSITY, EPSILON, GENES, Result, WIDTH};

/// Cells by their non-zeros, as tensors and as slices.
pub(super) struct Batch {
    pub(super) cells: Cells,
    pub(super) pointers: Vec<i64>,
    pub(super) genes: Vec<i64>,
    pub(super) values: Vec<f32>,
}

impl Batch {
    pub(super) fn new(cells: usize) -> Result<Self> {
        let shape = [i64::try_from(cells)?, i64::try_from(GENES)?];
        let there = Tensor::rand(shape, (Kind::Float, Device::Cpu)).lt(DENSITY);
        let counts = Tensor::rand(shape, (Kind::Float, Device::Cpu)).square() * 8.0;
        let cells = Cells::from_dense(&((counts.floor() + 1.0) * there));
        Ok(Self {
            pointers: Vec::try_from(&cells.pointers)?,
            genes: Vec::try_from(&cells.genes)?,
            values: Vec::try_from(&cells.values)?,
            cells,
        })
    }

    pub(super) fn rows(&self) -> CsrView<'_, f32> {
        CsrView { pointers: &self.pointers, columns: &self.genes, values: &self.values }
    }
}

/// `[rows, columns]` of normal draws, as tensor and as numbers.
pub(super) fn drawn(rows: usize, columns: usize) -> Result<(Tensor, Vec<f32>)> {
    let tensor = Tensor::randn([i64::try_from(rows)?, i64::try_from(columns)?], (Kind::Float, Device::Cpu));
    let numbers = Vec::try_from(tensor.view([-1]))?;
    Ok((tensor, numbers))
}

/// The input of a layer, and the gradient by its output.
pub(super) struct Side {
    pub(super) input: (Tensor, Vec<f32>),
    pub(super) weight: (Tensor, Vec<f32>),
    pub(super) bias: (Tensor, Vec<f32>),
    pub(super) gradient: (Tensor, Vec<f32>),
}

impl Side {
    pub(super) fn new(cells: usize) -> Result<Self> {
        Ok(Self {
            input: drawn(cells, WIDTH)?,
            weight: drawn(1, WIDTH)?,
            bias: drawn(1, WIDTH)?,
            gradient: drawn(cells, WIDTH)?,
        })
    }

    pub(super) fn leaves(&self) -> [Tensor; 3] {
        let leaf = |tensor: &Tensor| tensor.detach().set_requires_grad(true);
        [leaf(&self.input.0), leaf(&self.weight.0.view([-1])), leaf(&self.bias.0.view([-1]))]
    }
}

/// The output of the kernels.
pub(super) struct Room {
    pub(super) input: Vec<f32>,
    pub(super) output: Vec<f32>,
    pub(super) gradient: Vec<f32>,
    pub(super) down: Vec<f32>,
    pub(super) adjoint: Vec<f32>,
    pub(super) onto: Vec<f32>,
    pub(super) statistics: [Vec<f32>; 3],
    pub(super) by_weights: [Vec<f32>; 2],
    pub(super) of_cells: [Vec<f32>; 2],
}

impl Room {
    pub(super) fn new(cells: usize) -> Self {
        let large = || vec![0.0; cells * WIDTH];
        Self {
            input: large(),
            output: large(),
            gradient: large(),
            down: large(),
            adjoint: large(),
            onto: large(),
            statistics: std::array::from_fn(|_| vec![0.0; WIDTH]),
            by_weights: std::array::from_fn(|_| vec![0.0; WIDTH]),
            of_cells: std::array::from_fn(|_| vec![0.0; cells]),
        }
    }

    pub(super) fn batch_norm(&mut self, side: &Side, dropout: Dropout) {
        widest(BatchNormForward {
            input: &side.input.1,
            weight: &side.weight.1,
            bias: &side.bias.1,
            epsilon: EPSILON,
            dropout,
            output: &mut self.output,
            statistics: self.statistics.each_mut().map(|numbers| &mut numbers[..]),
        });
    }

    pub(super) fn layer_norm(&mut self, side: &Side, dropout: Dropout) {
        self.input.copy_from_slice(&side.input.1);
        widest(LayerNormForward {
            input: &mut self.input,
            bias: &side.bias.1,
            epsilon: EPSILON,
            dropout,
            output: &mut self.output,
            statistics: self.of_cells.each_mut().map(|numbers| &mut numbers[..]),
        });
    }
}

pub(super) fn normed(x: &Tensor, weight: &Tensor, bias: &Tensor) -> Tensor {
    x.batch_norm(Some(weight), Some(bias), None::<&Tensor>, None::<&Tensor>, true, 0.1, EPSILON, false)
}

pub(super) fn layer_normed(x: &Tensor) -> Tensor {
    let width = x.size()[1];
    x.layer_norm([width], None::<&Tensor>, None::<&Tensor>, EPSILON, false)
}
