//! Logits, negative binomial likelihood and their gradients, for a few cells at a time.

use std::sync::Arc;

use kernels::{
    dispersion::DispersionTerms,
    negative_binomial::{NegativeBinomial, RowsLoss},
};
use offset::CellOffsets;
use schemas::numbers::bounded;
use simd::widest;
use stage::workers::Workers;
use tch::Tensor;
use torch::{
    OneThread,
    memory::{TensorNumber, numbers, numbers_mut},
};

use super::pieces::{SparseCells, positions, product, ranges};
use crate::{input::Cells, layers::Linear};

/// Fewest cells of a piece: each brings the weight into the form that libtorch's kernel reads.
const FEWEST_CELLS: i64 = 64;

/// The last layer of a decoder of negative binomials.
#[derive(Clone, Copy)]
pub(super) struct LastLayer<'a> {
    /// The layer whose outputs are logits of each gene's share of a library.
    pub(super) logits: &'a Linear,
    /// Logarithm of each gene's inverse dispersion, `[genes]`.
    pub(super) dispersion: &'a Tensor,
}

/// Gradients of the loss.
pub(super) struct Slopes {
    pub(super) by_hidden: Tensor,
    pub(super) by_weight: Tensor,
    pub(super) by_bias: Tensor,
    pub(super) by_dispersion: Tensor,
}

impl LastLayer<'_> {
    /// The loss of cells with these activations before the last layer, `[cells, width]`, and its gradients if `learns`.
    pub(super) fn loss<T: TensorNumber>(
        self,
        workers: &Workers,
        hidden: &Tensor,
        (cells, offset): (&Cells, Option<&CellOffsets>),
        learns: bool,
    ) -> (f64, Option<Slopes>) {
        let [all, genes] = cells.shape;
        let terms = Arc::new(DispersionTerms::new(numbers::<T>(self.dispersion)));
        let sparse = SparseCells::new(cells, &cells.values);
        let by_logits = Tensor::empty([all, genes], (T::KIND, hidden.device()));
        let by_hidden = learns.then(|| hidden.empty_like());
        let pieces = ranges(all, FEWEST_CELLS).map(|(start, count)| PieceOfCells {
            rows: (start, count),
            hidden: hidden.narrow(0, start, count),
            offset: offset.map(|offset| offset.narrow(start, count)),
            library: cells.library.narrow(0, start, count),
            sparse: sparse.shallow_clone(),
            weight: self.logits.weight.detach(),
            bias: self.logits.bias.detach(),
            terms: Arc::clone(&terms),
            logits: by_logits.narrow(0, start, count),
            by_hidden: by_hidden.as_ref().map(|by_hidden| by_hidden.narrow(0, start, count)),
        });
        let losses = workers.map(pieces.collect(), move |piece| piece.loss(all));
        let RowsLoss { loss, by_bias, by_theta } = RowsLoss::of_all(losses);
        let slopes = by_hidden.map(|by_hidden| {
            let mut by_dispersion = self.dispersion.detach().zeros_like();
            terms.slopes(&by_theta, numbers_mut(&mut by_dispersion));
            Slopes {
                by_hidden,
                by_weight: product(workers, &by_logits.tr(), hidden),
                by_bias: Tensor::from_slice(&by_bias).to_kind(T::KIND),
                by_dispersion,
            }
        });
        (loss, slopes)
    }
}

/// Consecutive cells of a batch, with everything that their loss needs.
struct PieceOfCells<T> {
    /// The first one, and their number.
    rows: (i64, i64),
    hidden: Tensor,
    offset: Option<CellOffsets>,
    library: Tensor,
    sparse: SparseCells,
    weight: Tensor,
    bias: Tensor,
    terms: Arc<DispersionTerms<T>>,
    /// Receives the gradient with respect to the logits, `[cells, genes]`.
    logits: Tensor,
    /// Receives the one with respect to the activations, `[cells, width]`, if it is computed.
    by_hidden: Option<Tensor>,
}

impl<T: TensorNumber> PieceOfCells<T> {
    /// Their share of the loss of `all` cells.
    fn loss(mut self, all: i64) -> RowsLoss {
        let _one_thread = OneThread::hold();
        match &self.offset {
            Some(offset) => {
                offset.write(&self.logits);
                let _ = self.logits.addmm_(&self.hidden, &self.weight.tr());
            }
            None => drop(self.hidden.mm_out(&self.logits, &self.weight.tr())),
        }
        let loss = widest(NegativeBinomial {
            logits: numbers_mut::<T>(&mut self.logits),
            bias: numbers(&self.bias),
            cells: self.sparse.view().part(positions(self.rows)),
            library: numbers(&self.library),
            dispersion: &self.terms,
            of_cells: bounded(all),
            learns: self.by_hidden.is_some(),
        });
        if let Some(by_hidden) = &self.by_hidden {
            let _ = self.logits.mm_out(by_hidden, &self.weight);
        }
        loss
    }
}
