//! Measurements on training cells from which offsets are computed.

/// Profiles of a layout's contexts and groups.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OffsetProfiles {
    /// Number of genes of a profile.
    pub genes: usize,
    /// The library size of the profiles: the geometric mean of the training cells'; 0 for continuous values.
    pub library: f64,
    /// The mean profile of each context's controls, `[contexts, genes]`: for counts, log(1 + mean at that library
    /// size). A context without controls has the profile of the contexts that replace it.
    pub controls: Vec<f32>,
    /// The shift of each perturbed group relative to the controls of its context, `[groups, genes]`; relative to
    /// controls of the same batches, if these have enough.
    pub shifts: Vec<f32>,
    /// The squared noise of each shift, averaged over genes: the variance between cells over their number. For an offset by
    /// shrinkage, in units of the genes' variances.
    pub noises: Vec<f32>,
    /// Measurements for an offset by shrinkage: then the shifts are of logarithms.
    pub shrinkage: Option<ShrinkageProfiles>,
    /// Per gene, the logarithm of the inverse dispersion, computed from mean and variance within groups; for
    /// continuous values, of the variance.
    pub dispersion: Vec<f32>,
}

/// Measurements for an offset by shrinkage. They are of cells' ln(1 + 10,000 x / Σx) if values are counts, otherwise of the values
/// themselves.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ShrinkageProfiles {
    /// The mean of each context's controls, `[contexts, genes]`.
    pub controls: Vec<f32>,
    /// The noise of these means, in units of the genes' variances; 0 for a context without controls of its own.
    pub control_noises: Vec<f32>,
    /// The variance of each gene within groups, moderated.
    pub variances: Vec<f32>,
    /// Library sizes of the training cells, at [`LIBRARIES`] evenly spaced quantiles; 0 for continuous values.
    pub libraries: Vec<f32>,
}

/// Number of library sizes that are kept.
pub const LIBRARIES: usize = 16;

impl OffsetProfiles {
    /// The shift of a group.
    pub(super) fn shift(&self, row: usize) -> &[f32] {
        &self.shifts[row * self.genes..][..self.genes]
    }
}
