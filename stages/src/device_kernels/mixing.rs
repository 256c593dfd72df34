//! Which cells are mixed with which (`cuda/mixing.cuh`).

use tch::Tensor;

use crate::libtorch::launch::{Address, Argument};

/// Every cell is mixed with another one.
#[derive(Debug)]
pub(crate) struct Mixing {
    /// The other cell of each, and the cell whose other one each is, `[cells]`, int64.
    pub(crate) partners: Tensor,
    pub(crate) partner_of: Tensor,
    /// The share that a cell keeps of itself, a scalar, float64.
    pub(crate) share: Tensor,
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
    /// The arguments of cells that are mixed, or are not.
    pub(super) fn arguments(mixing: Option<&Self>) -> MixingArguments<'_> {
        let of = |part: fn(&Self) -> &Tensor| Address::of_any(mixing.map(part));
        MixingArguments {
            partners: of(|mixing| &mixing.partners),
            partner_of: of(|mixing| &mixing.partner_of),
            share: of(|mixing| &mixing.share),
        }
    }
}
