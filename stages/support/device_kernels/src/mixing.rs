//! The partners of mixed cells (`cuda/mixing.cuh`).

use tch::Tensor;
use torch::launch::{Address, Argument};

/// How the cells of a batch are mixed: each with one other cell.
#[derive(Debug)]
pub struct Mixing {
    /// The partner of each cell, `[cells]`, int64.
    pub partners: Tensor,
    /// For each cell, the cell whose partner it is, `[cells]`, int64.
    pub partner_of: Tensor,
    /// The share of the cell itself in the mixture, a scalar, float64.
    pub share: Tensor,
}

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(super) struct MixingArguments<'a> {
    partners: Address<'a>,
    partner_of: Address<'a>,
    share: Address<'a>,
}

impl Argument for MixingArguments<'_> {}

impl Mixing {
    /// The kernel arguments, with or without mixup.
    pub(super) fn arguments(mixing: Option<&Self>) -> MixingArguments<'_> {
        let address_of = |part: fn(&Self) -> &Tensor| Address::from_optional(mixing.map(part));
        MixingArguments {
            partners: address_of(|mixing| &mixing.partners),
            partner_of: address_of(|mixing| &mixing.partner_of),
            share: address_of(|mixing| &mixing.share),
        }
    }
}
