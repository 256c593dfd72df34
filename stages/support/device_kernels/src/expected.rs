//! Expected counts of a decoder, summed over cells (`cuda/expected.cuh`).

use schemas::numbers::to_i64;
use tch::Tensor;
use torch::launch::{Address, Argument, arguments, launch};

use super::{STRIP, STRIP_THREADS, count, empty, run_rows};

#[repr(C)]
#[derive(Clone, Copy, Debug)]
struct TargetLogits<'a> {
    logits: Address<'a>,
    added: Address<'a>,
    targets: i64,
    cells: i64,
    genes: i64,
}

impl Argument for TargetLogits<'_> {}

arguments! {
    SoftmaxRowsArguments<'a>, "softmax_rows" {
        of: TargetLogits<'a>,
        library: Address<'a>,
        largest: Address<'a>,
        scale: Address<'a>,
    }
}

arguments! {
    ExpectedSumsArguments<'a>, "expected_sums" {
        of: TargetLogits<'a>,
        largest: Address<'a>,
        scale: Address<'a>,
        first: Address<'a>,
        second: Address<'a>,
    }
}

/// Adds the expected counts of cells, and their squares, to the sums of each target, `[targets, genes]` in
/// float64. `logits`, `[targets · cells, genes]`, are the logits of each gene's share of a cell's library,
/// `[cells]`, without the terms in `added`, `[targets, genes]`, which are the same for all cells of a target.
pub fn add_expected(logits: &Tensor, added: &Tensor, library: &Tensor, sums: [&Tensor; 2]) {
    let ([targets, genes], cells) = (super::shape(added), library.numel());
    let cells = to_i64(cells);
    assert_eq!(logits.size(), [targets * cells, genes], "each target has each cell");
    let target_logits = TargetLogits {
        logits: Address::from_tensor(logits),
        added: Address::from_tensor(added),
        targets,
        cells,
        genes,
    };
    let [largest, scale] = [(); 2].map(|()| empty(logits, &[targets * cells]));
    let library = Address::from_tensor(library);
    let (to_largest, to_scale) = (Address::from_tensor_mut(&largest), Address::from_tensor_mut(&scale));
    run_rows(
        &SoftmaxRowsArguments { of: target_logits, library, largest: to_largest, scale: to_scale },
        logits,
        targets * cells,
    );
    let [first, second] = sums.map(Address::from_tensor_mut);
    let arguments = ExpectedSumsArguments {
        of: target_logits,
        largest: Address::from_tensor(&largest),
        scale: Address::from_tensor(&scale),
        first,
        second,
    };
    let grid = [count((genes + STRIP - 1) / STRIP), count(targets)];
    launch(&arguments, logits.kind(), logits.device(), grid, STRIP_THREADS, STRIP_THREADS * 8)
        .unwrap_or_else(|error| panic!("{error}"));
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind};

    use super::*;

    #[test]
    fn sums_over_cells_are_those_of_a_softmax() {
        tch::manual_seed(3);
        let (targets, cells, genes) = (3, 37, 21);
        let drawn = |size: &[i64]| Tensor::randn(size, (Kind::Double, Device::Cpu));
        let (logits, added) = (drawn(&[targets * cells, genes]), drawn(&[targets, genes]));
        let library = drawn(&[cells]).abs() * 900.0;
        let sums = [1.0, 2.0].map(|start| Tensor::full([targets, genes], start, (Kind::Double, Device::Cpu)));
        add_expected(&logits, &added, &library, sums.each_ref());
        let whole = logits.view([targets, cells, genes]) + added.unsqueeze(1);
        let means = whole.softmax(-1, Kind::Double) * library.view([1, cells, 1]);
        for ((found, start), expected) in sums.iter().zip([1.0, 2.0]).zip([means.shallow_clone(), means.square()]) {
            let expected = expected.sum_dim_intlist([1_i64].as_slice(), false, Kind::Double) + start;
            assert!((found / expected - 1.0).abs().max().double_value(&[]) < 1e-12);
        }
    }
}
