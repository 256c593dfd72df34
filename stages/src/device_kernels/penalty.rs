//! The backward pass of a gradient penalty (down) and its adjoint (up) through a norm, ReLU and dropout (`cuda/penalty.cuh`).

use tch::{Kind, Tensor};

use super::{
    BLOCKS_EACH, ROW_THREADS, count, empty,
    layer::{DropoutArguments, Passed},
    run, run_numbers, run_rows, run_strips, shape,
};
use crate::libtorch::launch::{Address, arguments, multiprocessors};

arguments! {
    BatchNormDown<'a>, "batch_norm_down" {
        input: Address<'a>,
        output: Address<'a>,
        mean: Address<'a>,
        inverse: Address<'a>,
        weight: Address<'a>,
        above: Address<'a>,
        rows_apart: i64,
        gradient: Address<'a>,
        by_input: Address<'a>,
        cells: i64,
        width: i64,
        dropout: DropoutArguments<'a>,
    }
}

arguments! {
    LayerNormDown<'a>, "layer_norm_down" {
        input: Address<'a>,
        output: Address<'a>,
        mean: Address<'a>,
        inverse: Address<'a>,
        above: Address<'a>,
        rows_apart: i64,
        gradient: Address<'a>,
        by_input: Address<'a>,
        cells: i64,
        width: i64,
        dropout: DropoutArguments<'a>,
    }
}

arguments! {
    CutThrough<'a>, "cut_through" {
        output: Address<'a>,
        above: Address<'a>,
        rows_apart: i64,
        out: Address<'a>,
        cells: i64,
        width: i64,
        dropout: DropoutArguments<'a>,
    }
}

/// One layer of the downward pass, `[cells, width]` each.
#[derive(Debug)]
pub(crate) struct Down {
    /// The gradient after the mask.
    gradient: Tensor,
    /// The gradient by the linear layer's output.
    pub(crate) by_input: Tensor,
}

/// The downward pass of a layer, from the gradient `above`, `[cells, width]` or, if it is the same for every cell, `[width]`; `weight` is batch norm's.
pub(crate) fn down(passed: &Passed, weight: Option<&Tensor>, above: &Tensor) -> Down {
    let [cells, width] = shape(&passed.output);
    let rows_apart = if above.dim() == 1 { 0 } else { width };
    let (output, above, dropout) = (Address::of(&passed.output), Address::of(above), passed.dropout.arguments());
    let gradient = empty(&passed.output, &[cells, width]);
    let Some([mean, inverse]) = &passed.statistics else {
        let arguments =
            CutThrough { output, above, rows_apart, out: Address::mut_of(&gradient), cells, width, dropout };
        run_numbers(&arguments, &gradient, cells * width);
        return Down { by_input: gradient.shallow_clone(), gradient };
    };
    let by_input = empty(&passed.output, &[cells, width]);
    let (input, mean, inverse) = (Address::of(&passed.linear), Address::of(mean), Address::of(inverse));
    let (d, dx) = (Address::mut_of(&gradient), Address::mut_of(&by_input));
    match weight.map(Address::of) {
        Some(weight) => {
            let arguments = BatchNormDown {
                input,
                output,
                mean,
                inverse,
                weight,
                above,
                rows_apart,
                gradient: d,
                by_input: dx,
                cells,
                width,
                dropout,
            };
            run_strips(&arguments, &gradient, width);
        }
        None => {
            let arguments = LayerNormDown {
                input,
                output,
                mean,
                inverse,
                above,
                rows_apart,
                gradient: d,
                by_input: dx,
                cells,
                width,
                dropout,
            };
            run_rows(&arguments, &gradient, cells);
        }
    }
    Down { gradient, by_input }
}

arguments! {
    BatchNormUp<'a>, "batch_norm_up" {
        input: Address<'a>,
        output: Address<'a>,
        mean: Address<'a>,
        inverse: Address<'a>,
        weight: Address<'a>,
        gradient: Address<'a>,
        adjoint: Address<'a>,
        onto: Address<'a>,
        of_weight: Address<'a>,
        cells: i64,
        width: i64,
        dropout: DropoutArguments<'a>,
    }
}

arguments! {
    LayerNormUp<'a>, "layer_norm_up" {
        input: Address<'a>,
        output: Address<'a>,
        mean: Address<'a>,
        inverse: Address<'a>,
        gradient: Address<'a>,
        adjoint: Address<'a>,
        onto: Address<'a>,
        cells: i64,
        width: i64,
        dropout: DropoutArguments<'a>,
    }
}

/// Terms that the upward pass adds to the ordinary backward pass of a norm.
#[derive(Debug)]
pub(crate) struct Left {
    /// What is added to the gradient by the norm's input, `[cells, width]`.
    pub(crate) onto: Tensor,
    /// The gradient by the weight of batch norm, `[width]`.
    pub(crate) by_weight: Option<Tensor>,
}

/// The upward pass: `adjoint`, `[cells, width]`, of the gradient by the linear layer's output becomes that of the gradient from above.
pub(crate) fn up(passed: &Passed, weight: Option<&Tensor>, down: &Down, adjoint: &Tensor) -> Option<Left> {
    let [cells, width] = shape(adjoint);
    let (output, dropout) = (Address::of(&passed.output), passed.dropout.arguments());
    let v = Address::mut_of(adjoint);
    let Some([mean, inverse]) = &passed.statistics else {
        let arguments =
            CutThrough { output, above: Address::of(adjoint), rows_apart: width, out: v, cells, width, dropout };
        run_numbers(&arguments, adjoint, cells * width);
        return None;
    };
    let onto = empty(adjoint, &[cells, width]);
    let (input, mean, inverse) = (Address::of(&passed.linear), Address::of(mean), Address::of(inverse));
    let (gradient, onto_input) = (Address::of(&down.gradient), Address::mut_of(&onto));
    let by_weight = weight.map(|weight| {
        let by_weight = empty(adjoint, &[width]);
        let arguments = BatchNormUp {
            input,
            output,
            mean,
            inverse,
            weight: Address::of(weight),
            gradient,
            adjoint: v,
            onto: onto_input,
            of_weight: Address::mut_of(&by_weight),
            cells,
            width,
            dropout,
        };
        run_strips(&arguments, adjoint, width);
        by_weight
    });
    if by_weight.is_none() {
        let arguments =
            LayerNormUp { input, output, mean, inverse, gradient, adjoint: v, onto: onto_input, cells, width, dropout };
        run_rows(&arguments, adjoint, cells);
    }
    Some(Left { onto, by_weight })
}

arguments! {
    PenaltyValue<'a>, "penalty_value" {
        e: Address<'a>,
        adjoint: Address<'a>,
        parts: Address<'a>,
        numbers: i64,
        weight: f64,
    }
}

arguments! {
    SumOfParts<'a>, "sum_of_parts" {
        parts: Address<'a>,
        count: i64,
        sum: Address<'a>,
    }
}

/// Writes the mean of the squares of `slopes` `[cells, latent]` to `penalty`, a scalar; returns the start of the adjoint of `weight`
/// times it, `[cells, latent]`.
pub(crate) fn value(slopes: &Tensor, weight: f64, penalty: &Tensor) -> Tensor {
    let [cells, latent] = shape(slopes);
    let numbers = cells * latent;
    let blocks = count((numbers + i64::from(ROW_THREADS) - 1) / i64::from(ROW_THREADS));
    let blocks = blocks.min(BLOCKS_EACH * multiprocessors(slopes.device()));
    let parts = Tensor::empty([i64::from(blocks)], (Kind::Double, slopes.device()));
    let adjoint = empty(slopes, &[cells, latent]);
    let (e, v, to) = (Address::of(slopes), Address::mut_of(&adjoint), Address::mut_of(&parts));
    run(&PenaltyValue { e, adjoint: v, parts: to, numbers, weight }, slopes, blocks, ROW_THREADS, 0);
    let arguments = SumOfParts { parts: Address::of(&parts), count: i64::from(blocks), sum: Address::mut_of(penalty) };
    run(&arguments, slopes, 1, ROW_THREADS, 0);
    adjoint
}

arguments! {
    AddRow<'a>, "add_row" {
        matrix: Address<'a>,
        row: Address<'a>,
        rows: i64,
        width: i64,
    }
}

/// Adds a row, `[width]`, to every row of a matrix.
pub(crate) fn add_row(matrix: &Tensor, row: &Tensor) {
    let [rows, width] = shape(matrix);
    let arguments = AddRow { matrix: Address::mut_of(matrix), row: Address::of(row), rows, width };
    run_numbers(&arguments, matrix, rows * width);
}
