//! Expected normalised logarithms of cells whose offset was estimated on that scale.
//!
//! There the change by the offset is its shift itself, whatever a cell's own level. Decoded, it would depend on how much of the
//! difference between cells the network reproduces: the mean of a logarithm is not the logarithm of a mean.

use model::{layers::Mode, network::Network};
use tch::Tensor;

use super::latent::TargetLatentTerms;

/// Cells decoded as control.
pub(super) struct CellsAsControl<'a, F> {
    pub(super) network: &'a Network,
    /// Basal latents, `[cells, latent]`.
    pub(super) basal: &'a Tensor,
    /// Library sizes, `[cells, 1]`.
    pub(super) library: &'a Tensor,
    /// The terms of control.
    pub(super) control: &'a TargetLatentTerms,
    /// Expected logarithms of expected counts, both `[cells, genes]`.
    pub(super) logarithms: F,
}

impl<F: Fn(&Tensor) -> Tensor> CellsAsControl<'_, F> {
    /// Expected logarithms with the latent of some terms and the offset of others, `[cells, genes]`.
    fn decoded(&self, latent: &TargetLatentTerms, offset: &TargetLatentTerms) -> Tensor {
        let latent = self.basal + latent.all();
        (self.logarithms)(&self.network.decode(&latent, offset.offset.as_ref(), self.library, Mode::Eval).mean())
    }

    /// Expected logarithms of the cells as control.
    pub(super) fn unmoved(&self) -> Tensor {
        self.decoded(self.control, self.control)
    }

    /// The change of the logarithms under a target: the shift of its offset, and the change by its latent. `None` if the offset was
    /// not estimated on this scale.
    pub(super) fn change(&self, target: &TargetLatentTerms) -> Option<Tensor> {
        let shift = target.log_shift.as_ref()?;
        if target.all().equal(&self.control.all()) {
            return Some(shift.shallow_clone());
        }
        Some(self.decoded(target, target) - self.decoded(self.control, target) + shift)
    }
}
