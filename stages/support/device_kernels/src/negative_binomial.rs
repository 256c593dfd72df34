//! Softmax, negative binomial log-likelihood and its gradients (`cuda/negative_binomial.cuh`).

use schemas::numbers::to_i64;
use tch::{Kind, Tensor};
use torch::launch::{Address, arguments, multiprocessors};

use super::{
    count, empty,
    mixing::MixingArguments,
    run, run_numbers, run_strips, shape,
    unpack::{SparseRows, Unpacked},
};

/// Threads of a block, which processes one row of logits at a time.
const THREADS: u32 = 512;
/// Blocks per multiprocessor: each keeps a row, and its own per-gene sums.
const BLOCKS_EACH: u32 = 2;
/// Shared memory available for a row of means, so that two blocks fit.
const MOST_SHARED: i64 = 96 << 10;
/// Per-gene terms that depend only on the dispersion.
const TERMS: i64 = 4;

arguments! {
    NegativeBinomialGenesArguments<'a>, "negative_binomial_genes" {
        dispersion: Address<'a>,
        terms: Address<'a>,
        genes: i64,
    }
}

arguments! {
    NegativeBinomialRowsArguments<'a>, "negative_binomial_rows" {
        logits: Address<'a>,
        bias: Address<'a>,
        offset: Address<'a>,
        offset_rows: Address<'a>,
        cells: SparseRows<'a>,
        counts: Address<'a>,
        mixing: MixingArguments<'a>,
        library: Address<'a>,
        terms: Address<'a>,
        room: Address<'a>,
        losses: Address<'a>,
        by_theta: Address<'a>,
        count: i64,
        genes: i64,
    }
}

arguments! {
    NegativeBinomialSumsArguments<'a>, "negative_binomial_sums" {
        losses: Address<'a>,
        by_theta: Address<'a>,
        terms: Address<'a>,
        loss: Address<'a>,
        by_dispersion: Address<'a>,
        blocks: i64,
        count: i64,
        genes: i64,
    }
}

/// The loss of a batch and its gradients.
#[derive(Debug)]
pub struct Likelihood {
    /// −ln P, averaged over cells: a scalar.
    pub loss: Tensor,
    /// The gradient with respect to the logarithm of the inverse dispersion, `[genes]`.
    pub by_dispersion: Tensor,
}

/// The loss of cells. `logits`, `[cells, genes]`, are the logits of each gene's share of the library, to
/// which `bias`, `[genes]`, and rows of an offset table are added; `dispersion`, `[genes]`, is the logarithm
/// of the inverse dispersion. The logits are overwritten by their gradient.
pub fn negative_binomial(
    logits: &Tensor,
    bias: &Tensor,
    offset: Option<(&Tensor, &Tensor)>,
    batch: &Unpacked,
    dispersion: &Tensor,
) -> Likelihood {
    let [cells, genes] = shape(logits);
    let terms = empty(logits, &[TERMS, genes]);
    run_numbers(
        &NegativeBinomialGenesArguments {
            dispersion: Address::from_tensor(dispersion),
            terms: Address::from_tensor_mut(&terms),
            genes,
        },
        logits,
        genes,
    );
    let blocks = count(cells).min(BLOCKS_EACH * multiprocessors(logits.device()));
    let by_theta = empty(logits, &[i64::from(blocks), genes]);
    let losses = Tensor::empty([i64::from(blocks)], (Kind::Double, logits.device()));
    let row_bytes = genes * to_i64(logits.kind().elt_size_in_bytes());
    let room = (row_bytes > MOST_SHARED).then(|| empty(logits, &[i64::from(blocks), genes]));
    let shared_bytes = if room.is_some() { 0 } else { u32::try_from(row_bytes).expect("it is below the limit") };
    let (table, rows) = offset.map_or((Address::none(), Address::none()), |(table, rows)| {
        (Address::from_tensor(table), Address::from_tensor(rows))
    });
    let arguments = NegativeBinomialRowsArguments {
        logits: Address::from_tensor_mut(logits),
        bias: Address::from_tensor(bias),
        offset: table,
        offset_rows: rows,
        cells: batch.rows(),
        counts: Address::from_optional(batch.counts()),
        mixing: batch.mixing(),
        library: Address::from_tensor(&batch.library),
        terms: Address::from_tensor(&terms),
        room: Address::from_optional(room.as_ref()),
        losses: Address::from_tensor_mut(&losses),
        by_theta: Address::from_tensor_mut(&by_theta),
        count: cells,
        genes,
    };
    run(&arguments, logits, blocks, THREADS, shared_bytes);
    let (loss, by_dispersion) = (empty(logits, &[]), empty(logits, &[genes]));
    let arguments = NegativeBinomialSumsArguments {
        losses: Address::from_tensor(&losses),
        by_theta: Address::from_tensor(&by_theta),
        terms: Address::from_tensor(&terms),
        loss: Address::from_tensor_mut(&loss),
        by_dispersion: Address::from_tensor_mut(&by_dispersion),
        blocks: i64::from(blocks),
        count: cells,
        genes,
    };
    run_strips(&arguments, logits, genes);
    Likelihood { loss, by_dispersion }
}
