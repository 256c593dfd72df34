//! What offsets are made of, measured on training cells.

/// Profiles of a layout's contexts and groups.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OffsetProfiles {
    /// How many genes a profile has.
    pub genes: usize,
    /// The library that counts are told for: the geometric mean of the training cells'; 0 for continuous values.
    pub library: f64,
    /// The mean of each context's controls, one after the other: of counts as log(1 + mean in that library). Of a context without
    /// controls, that of those that stand in.
    pub controls: Vec<f32>,
    /// What each perturbed group has beyond the controls of its context, from the same batches where these have enough.
    pub shifts: Vec<f32>,
    /// The square of what chance makes of each shift, a mean over genes: the variance between cells over how many there are.
    pub noises: Vec<f32>,
    /// Logarithm of the inverse dispersion of each gene by mean and variance within groups; of continuous values that of the variance.
    pub dispersion: Vec<f32>,
}

impl OffsetProfiles {
    /// The control profile of a context.
    #[must_use]
    pub fn control(&self, context: usize) -> &[f32] {
        &self.controls[context * self.genes..][..self.genes]
    }

    /// The shift of a group.
    #[must_use]
    pub fn shift(&self, row: usize) -> &[f32] {
        &self.shifts[row * self.genes..][..self.genes]
    }
}
