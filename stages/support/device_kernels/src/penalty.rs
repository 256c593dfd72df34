//! The backward pass of a gradient penalty (down) and its adjoint (up) through a norm, ReLU and dropout (`cuda/penalty.cuh`).

use tch::{Kind, Tensor};
use torch::launch::{Address, Argument, arguments, multiprocessors};

use super::{
    BLOCKS_EACH, ROW_THREADS, count, empty,
    layer::{LayerForward, LayerForwardArguments, PenaltyTerms},
    run, run_numbers, run_rows, run_strips, shape,
};

#[repr(C)]
#[derive(Clone, Copy, Debug)]
struct AboveArguments<'a> {
    gradient: Address<'a>,
    rows_apart: i64,
}

impl Argument for AboveArguments<'_> {}

arguments! {
    BatchNormDownArguments<'a>, "batch_norm_down" {
        passed: LayerForwardArguments<'a>,
        weight: Address<'a>,
        above: AboveArguments<'a>,
        gradient: Address<'a>,
        by_input: Address<'a>,
    }
}

arguments! {
    LayerNormDownArguments<'a>, "layer_norm_down" {
        passed: LayerForwardArguments<'a>,
        above: AboveArguments<'a>,
        gradient: Address<'a>,
        by_input: Address<'a>,
    }
}

arguments! {
    CutThroughArguments<'a>, "cut_through" {
        passed: LayerForwardArguments<'a>,
        above: AboveArguments<'a>,
        out: Address<'a>,
    }
}

/// One layer of the downward pass, `[cells, width]` each.
#[derive(Debug)]
pub struct DeviceDownwardGradients {
    /// The gradient after applying the mask.
    gradient: Tensor,
    /// The gradient with respect to the linear layer's output.
    pub by_input: Tensor,
}

/// The downward pass of a layer. `above` is the gradient from the layer above, `[cells, width]` or, if it is
/// the same for every cell, `[width]`; `weight` is that of batch norm.
pub fn down(layer: &LayerForward, weight: Option<&Tensor>, above: &Tensor) -> DeviceDownwardGradients {
    let [cells, width] = shape(&layer.output);
    let rows_apart = if above.dim() == 1 { 0 } else { width };
    let (passed, above) = (layer.arguments(), AboveArguments { gradient: Address::from_tensor(above), rows_apart });
    let found = empty(&layer.output, &[cells, width]);
    if layer.statistics.is_none() {
        run_numbers(
            &CutThroughArguments { passed, above, out: Address::from_tensor_mut(&found) },
            &found,
            cells * width,
        );
        return DeviceDownwardGradients { by_input: found.shallow_clone(), gradient: found };
    }
    let by_input = empty(&layer.output, &[cells, width]);
    let (gradient, dx) = (Address::from_tensor_mut(&found), Address::from_tensor_mut(&by_input));
    match weight.map(Address::from_tensor) {
        Some(weight) => {
            run_strips(&BatchNormDownArguments { passed, weight, above, gradient, by_input: dx }, &found, width);
        }
        None => run_rows(&LayerNormDownArguments { passed, above, gradient, by_input: dx }, &found, cells),
    }
    DeviceDownwardGradients { gradient: found, by_input }
}

#[repr(C)]
#[derive(Clone, Copy, Debug)]
struct UpArguments<'a> {
    gradient: Address<'a>,
    adjoint: Address<'a>,
    onto: Address<'a>,
}

impl Argument for UpArguments<'_> {}

arguments! {
    BatchNormUpArguments<'a>, "batch_norm_up" {
        passed: LayerForwardArguments<'a>,
        weight: Address<'a>,
        up: UpArguments<'a>,
        of_weight: Address<'a>,
    }
}

arguments! {
    LayerNormUpArguments<'a>, "layer_norm_up" {
        passed: LayerForwardArguments<'a>,
        up: UpArguments<'a>,
    }
}

/// The upward pass: turns `adjoint`, `[cells, width]`, of the gradient with respect to the linear layer's
/// output into the adjoint of the gradient from above.
pub fn up(
    layer: &LayerForward,
    weight: Option<&Tensor>,
    down: &DeviceDownwardGradients,
    adjoint: &Tensor,
) -> Option<PenaltyTerms> {
    let [cells, width] = shape(adjoint);
    let (passed, v) = (layer.arguments(), Address::from_tensor_mut(adjoint));
    if layer.statistics.is_none() {
        let above = AboveArguments { gradient: Address::from_tensor(adjoint), rows_apart: width };
        run_numbers(&CutThroughArguments { passed, above, out: v }, adjoint, cells * width);
        return None;
    }
    let onto = empty(adjoint, &[cells, width]);
    let up = UpArguments {
        gradient: Address::from_tensor(&down.gradient),
        adjoint: v,
        onto: Address::from_tensor_mut(&onto),
    };
    let by_weight = weight.map(|weight| {
        let by_weight = empty(adjoint, &[width]);
        let (weight, of_weight) = (Address::from_tensor(weight), Address::from_tensor_mut(&by_weight));
        run_strips(&BatchNormUpArguments { passed, weight, up, of_weight }, adjoint, width);
        by_weight
    });
    if by_weight.is_none() {
        run_rows(&LayerNormUpArguments { passed, up }, adjoint, cells);
    }
    Some(PenaltyTerms { onto, by_weight })
}

arguments! {
    PenaltyValueArguments<'a>, "penalty_value" {
        e: Address<'a>,
        adjoint: Address<'a>,
        parts: Address<'a>,
        numbers: i64,
        weight: f64,
    }
}

arguments! {
    SumOfPartsArguments<'a>, "sum_of_parts" {
        parts: Address<'a>,
        count: i64,
        sum: Address<'a>,
    }
}

/// Writes the mean of the squares of `slopes`, `[cells, latent]`, to `penalty`, a scalar; returns the adjoint
/// of `weight` times this mean, `[cells, latent]`, with which the upward pass starts.
pub fn value(slopes: &Tensor, weight: f64, penalty: &Tensor) -> Tensor {
    let [cells, latent] = shape(slopes);
    let numbers = cells * latent;
    let blocks = count((numbers + i64::from(ROW_THREADS) - 1) / i64::from(ROW_THREADS));
    let blocks = blocks.min(BLOCKS_EACH * multiprocessors(slopes.device()));
    let parts = Tensor::empty([i64::from(blocks)], (Kind::Double, slopes.device()));
    let adjoint = empty(slopes, &[cells, latent]);
    let (e, v, to) =
        (Address::from_tensor(slopes), Address::from_tensor_mut(&adjoint), Address::from_tensor_mut(&parts));
    run(&PenaltyValueArguments { e, adjoint: v, parts: to, numbers, weight }, slopes, blocks, ROW_THREADS, 0);
    let arguments = SumOfPartsArguments {
        parts: Address::from_tensor(&parts),
        count: i64::from(blocks),
        sum: Address::from_tensor_mut(penalty),
    };
    run(&arguments, slopes, 1, ROW_THREADS, 0);
    adjoint
}

arguments! {
    AddRowArguments<'a>, "add_row" {
        matrix: Address<'a>,
        row: Address<'a>,
        rows: i64,
        width: i64,
    }
}

/// Adds a row, `[width]`, to every row of a matrix.
pub fn add_row(matrix: &Tensor, row: &Tensor) {
    let [rows, width] = shape(matrix);
    let arguments =
        AddRowArguments { matrix: Address::from_tensor_mut(matrix), row: Address::from_tensor(row), rows, width };
    run_numbers(&arguments, matrix, rows * width);
}
