//! A classifier's loss, accuracy and gradient with respect to the logits (`cuda/guess.cuh`).

use tch::{Kind, Tensor};
use torch::launch::{Address, arguments};

use super::{mixing::MixingArguments, run, run_rows, shape, unpack::Unpacked};

/// Threads of the block that sums over all cells.
const SUM_THREADS: u32 = 1024;

arguments! {
    GuessRowsArguments<'a>, "guess_rows" {
        logits: Address<'a>,
        classes: Address<'a>,
        weights: Address<'a>,
        emphasis: Address<'a>,
        mixing: MixingArguments<'a>,
        is_alone: i64,
        losses: Address<'a>,
        guesses: Address<'a>,
        cells: i64,
        class_count: i64,
        is_focal: i64,
    }
}

arguments! {
    GuessSumsArguments<'a>, "guess_sums" {
        losses: Address<'a>,
        guesses: Address<'a>,
        classes: Address<'a>,
        counts: Address<'a>,
        mixing: MixingArguments<'a>,
        is_alone: i64,
        loss: Address<'a>,
        accuracy: Address<'a>,
        cells: i64,
        class_count: i64,
    }
}

/// How predictions are scored.
#[derive(Clone, Copy, Debug)]
pub struct ClassificationTargets<'a> {
    /// The class of each cell, `[cells]`, int64.
    pub classes: &'a Tensor,
    /// Class weights, `[classes]`; none: equal weights.
    pub weights: Option<&'a Tensor>,
    /// Factor of the loss, a scalar; none: 1.
    pub emphasis: Option<&'a Tensor>,
    /// Whether the loss of mixed cells includes only the first class.
    pub is_alone: bool,
    /// Whether the loss is the focal loss instead of cross-entropy.
    pub is_focal: bool,
    /// Whether the accuracy is computed within each class and averaged over classes.
    pub by_class: bool,
}

/// Scores the predictions of a batch: `loss`, a scalar, receives their loss, and the logits `[cells, classes]` are overwritten by its gradient.
/// Returns the accuracy, a scalar of float32.
pub fn losses_and_accuracy(
    logits: &Tensor,
    judged: ClassificationTargets<'_>,
    batch: &Unpacked,
    loss: &Tensor,
) -> Tensor {
    let ([cells, class_count], device) = (shape(logits), logits.device());
    let losses = Tensor::empty([cells], (Kind::Double, device));
    let guesses = Tensor::empty([cells], (Kind::Int64, device));
    let counts = judged.by_class.then(|| Tensor::empty([4, class_count], (Kind::Int, device)));
    let accuracy = Tensor::empty([], (Kind::Float, device));
    let arguments = GuessRowsArguments {
        logits: Address::from_tensor_mut(logits),
        classes: Address::from_tensor(judged.classes),
        weights: Address::from_optional(judged.weights),
        emphasis: Address::from_optional(judged.emphasis),
        mixing: batch.mixing(),
        is_alone: i64::from(judged.is_alone),
        losses: Address::from_tensor_mut(&losses),
        guesses: Address::from_tensor_mut(&guesses),
        cells,
        class_count,
        is_focal: i64::from(judged.is_focal),
    };
    run_rows(&arguments, logits, cells);
    let arguments = GuessSumsArguments {
        losses: Address::from_tensor(&losses),
        guesses: Address::from_tensor(&guesses),
        classes: Address::from_tensor(judged.classes),
        counts: Address::from_optional(counts.as_ref()),
        mixing: batch.mixing(),
        is_alone: i64::from(judged.is_alone),
        loss: Address::from_tensor_mut(loss),
        accuracy: Address::from_tensor_mut(&accuracy),
        cells,
        class_count,
    };
    run(&arguments, logits, 1, SUM_THREADS, 0);
    accuracy
}
