//! Offsets of the decoder's output: computed from mean profiles of training cells for a condition in a context.
//!
//! Every offset consists of a control profile and a shift: a sum of measured shifts (`additive`), or their posterior mean
//! (`shrunken`). Profiles and shifts are measured in one pass over the training cells, and saved with the model. With a the
//! control profile and Δ the shift, the mean of continuous values starts at a + Δ. For counts, a is on log(1 + counts in a library
//! T). So is a sum Δ, and logits start at ln max(exp(a + Δ) − 1, ε); a posterior mean is one of cells' normalised logarithms
//! (`log_shares`).
//!
//! ```
//! use offset::offset_bytes;
//! use schemas::{config::Settings, vocabulary::Vocabulary};
//!
//! fn cost(settings: &Settings, vocabulary: &Vocabulary) -> usize {
//!     offset_bytes(settings, 5_000, vocabulary)
//! }
//! ```
#![forbid(unsafe_code)]

mod additive;
mod cell_offsets;
mod half_effects;
mod layout;
mod log_shares;
mod profiles;
mod rule;
mod shrunken;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

use schemas::{
    Result,
    config::{OffsetChoice, ReconLoss, Settings},
    numbers::to_i64,
    vocabulary::{CovariateTerm, GroupCodes, Vocabulary},
};
pub use shrinkage::GeneErrors;
use shrinkage::MOST_KERNELS;
use tch::Tensor;
use torch::{memory::on_device, parameters::Parameters};

use self::{additive::AdditiveShifts, layout::TargetContext, shrunken::ShrunkenShifts};
pub use self::{
    cell_offsets::CellOffsets,
    layout::{GroupRole, OffsetLayout},
    profiles::{LIBRARIES, OffsetProfiles, ShrinkageProfiles},
};

const CONTROLS: &str = "offset.controls";
const SHIFTS: &str = "offset.shifts";
/// The smallest mean count of a gene, or a hundredth of its even share of the library.
const SMALLEST_MEAN: f64 = 0.02;
const SMALLEST_SHARE: f64 = 0.01;

/// The offsets of a network.
#[derive(Debug)]
pub struct Offset {
    layout: OffsetLayout,
    /// Control profile of each context, `[contexts, genes]`.
    controls: Tensor,
    /// Shift of each perturbed group, `[groups, genes]`.
    shifts: Tensor,
    estimate: ShiftSource,
}

/// The offset of a target.
#[derive(Debug)]
pub struct TargetOffset {
    /// The addition to the decoder's output, `[1, genes]`.
    pub offset: Tensor,
    /// The change by the offset of cells' ln(1 + 10,000 x / Σx), `[1, genes]`; `None` if it was estimated on another scale.
    pub log_shift: Option<Tensor>,
}

/// The source of a target's shift.
#[derive(Debug)]
enum ShiftSource {
    Additive(Box<AdditiveShifts>),
    Shrunken(Box<ShrunkenShifts>),
}

impl Offset {
    /// Offsets that are not filled in yet; `None` if the settings don't enable them. `embeddings` are given rows of perturbations
    /// by code, `[codes, width]`, filled in before the offsets are.
    pub fn new(
        parameters: &mut Parameters,
        settings: &Settings,
        genes: i64,
        vocabulary: &Vocabulary,
        embeddings: Option<&Tensor>,
    ) -> Option<Self> {
        let model = &settings.model;
        if model.offset == OffsetChoice::None {
            return None;
        }
        let layout = OffsetLayout::from_vocabulary(vocabulary);
        let [contexts, groups] = layout.sizes().map(to_i64);
        let controls = parameters.statistic(CONTROLS, &[contexts, genes], 0.0);
        let shifts = parameters.statistic(SHIFTS, &[groups, genes], 0.0);
        let profiles = [&controls, &shifts];
        let estimate = if model.offset == OffsetChoice::Shrinkage {
            ShiftSource::Shrunken(Box::new(ShrunkenShifts::new(parameters, &layout, profiles, embeddings)))
        } else {
            let (counts, names) = (model.recon_loss != ReconLoss::Gauss, vocabulary.perturbations.len());
            ShiftSource::Additive(Box::new(AdditiveShifts::new(parameters, &layout, counts, names, profiles)))
        };
        Some(Self { layout, controls, shifts, estimate })
    }

    /// Stores the profiles, and chooses the free parameters.
    ///
    /// # Errors
    /// Profiles from which nothing can be estimated.
    pub fn fill(&mut self, profiles: &OffsetProfiles) -> Result<()> {
        let _no_grad = tch::no_grad_guard();
        copy_into(&mut self.controls, &profiles.controls);
        copy_into(&mut self.shifts, &profiles.shifts);
        match &mut self.estimate {
            ShiftSource::Additive(additive) => additive.fill(profiles),
            ShiftSource::Shrunken(shrunken) => shrunken.fill(profiles)?,
        }
        let [contexts, groups] = self.layout.sizes();
        tracing::info!("offsets of {contexts} contexts and {groups} groups");
        Ok(())
    }

    /// Shares the estimate of another network, which has the same parameters.
    pub fn share(&mut self, other: &Self) {
        if let (ShiftSource::Shrunken(own), ShiftSource::Shrunken(other)) = (&mut self.estimate, &other.estimate) {
            own.share(other);
        }
    }

    /// The offset of a condition, codes ascending (control is its own entry), with these covariate terms.
    pub fn of_terms(&self, parts: &[(u32, f64)], terms: &[CovariateTerm]) -> TargetOffset {
        let _no_grad = tch::no_grad_guard();
        let target = self.target(terms);
        match &self.estimate {
            ShiftSource::Additive(additive) => additive.shifted(parts, &target),
            ShiftSource::Shrunken(shrunken) => shrunken.shifted(parts, &target),
        }
    }

    /// The expected error of a predicted change, a root mean square over genes. A scalar of float64 on the device.
    pub fn uncertainty(&self, parts: &[(u32, f64)], terms: &[CovariateTerm]) -> Tensor {
        let target = self.target(terms);
        match &self.estimate {
            ShiftSource::Additive(additive) => additive.uncertainty(parts, &target),
            ShiftSource::Shrunken(shrunken) => shrunken.uncertainty(parts, &target),
        }
    }

    /// The errors of the shift of each gene; `None` for control, for additive offsets, and if a perturbation was not trained.
    pub fn gene_errors(&self, parts: &[(u32, f64)], terms: &[CovariateTerm]) -> Option<GeneErrors> {
        match &self.estimate {
            ShiftSource::Additive(_) => None,
            ShiftSource::Shrunken(shrunken) => shrunken.gene_errors(parts, &self.target(terms)),
        }
    }

    fn target(&self, terms: &[CovariateTerm]) -> TargetContext {
        let code = |term: &CovariateTerm| match term {
            CovariateTerm::Value(code) => Some(*code),
            CovariateTerm::Mean | CovariateTerm::Nothing => None,
        };
        let open: Vec<Option<u32>> = terms.iter().map(code).collect();
        let codes: Vec<u32> = open.iter().map(|code| code.unwrap_or(u32::MAX)).collect();
        let own = self.layout.context(&codes);
        let stand_ins = own.map_or_else(|| self.layout.stand_ins(&open), |own| self.layout.stand_ins_of(own));
        TargetContext { own, stand_ins }
    }

    /// The offsets of groups, given the codes of each; `None` for groups that are not looked up.
    pub fn of_groups(&self, groups: &[Option<GroupCodes>], batch_at: Option<usize>) -> GroupOffsets {
        let mut known: HashMap<OffsetKey, usize> = HashMap::new();
        let (mut rows, mut row_of) = (Vec::new(), Vec::with_capacity(groups.len()));
        for group in groups {
            let Some(GroupCodes { parts, covariates }) = group else {
                row_of.push(0);
                continue;
            };
            let term = |(at, code): (usize, &u32)| {
                if batch_at == Some(at) { CovariateTerm::Nothing } else { CovariateTerm::Value(*code) }
            };
            let terms: Vec<CovariateTerm> = covariates.iter().enumerate().map(term).collect();
            let key = (parts.iter().map(|(code, dose)| (*code, dose.to_bits())).collect::<Vec<_>>(), terms);
            let row = match known.get(&key) {
                Some(row) => *row,
                None => {
                    rows.push(self.of_terms(parts, &key.1).offset);
                    known.insert(key, rows.len() - 1);
                    rows.len() - 1
                }
            };
            row_of.push(to_i64(row));
        }
        GroupOffsets { table: Tensor::cat(&rows, 0), row_of }
    }
}

/// The key of an offset: codes and bits of the doses, and the covariate terms.
type OffsetKey = (Vec<(u32, u64)>, Vec<CovariateTerm>);

/// Copies numbers into a tensor of as many.
fn copy_into(to: &mut Tensor, numbers: &[f32]) {
    to.copy_(&Tensor::from_slice(numbers).view(to.size().as_slice()));
}

/// The smallest mean count of a gene in the library of profiles.
fn smallest_mean(profiles: &OffsetProfiles) -> f64 {
    SMALLEST_MEAN.min(SMALLEST_SHARE * profiles.library / profiles.genes.max(1) as f64)
}

/// Offsets of the groups of an atlas, for look-up.
#[derive(Debug)]
pub struct GroupOffsets {
    /// Offsets, `[distinct groups, genes]`.
    table: Tensor,
    /// The row of each group.
    row_of: Vec<i64>,
}

impl GroupOffsets {
    /// The offsets of cells in these groups.
    pub fn for_groups(&self, groups: &[u32]) -> CellOffsets {
        CellOffsets::new(&self.table, on_device(&self.rows(groups), self.table.device()))
    }

    /// All offsets, `[distinct groups, genes]`.
    pub fn table(&self) -> &Tensor {
        &self.table
    }

    /// The rows of some groups in the table.
    pub fn rows(&self, groups: &[u32]) -> Vec<i64> {
        groups.iter().map(|group| self.row_of.get(*group as usize).copied().unwrap_or(0)).collect()
    }
}

/// Upper bound of the bytes for a vocabulary's offsets: sums, profiles, saved copies, a table of groups.
#[must_use]
pub fn offset_bytes(settings: &Settings, genes: usize, vocabulary: &Vocabulary) -> usize {
    let choice = settings.model.offset;
    if choice == OffsetChoice::None {
        return 0;
    }
    let [contexts, groups] = OffsetLayout::from_vocabulary(vocabulary).sizes();
    // First the sums, in float64 and by batch; then the profiles, the copies kept as the best weights, and the
    // table.
    let batches = vocabulary.batch_at().map_or(1, |at| vocabulary.covariates[at].values.len());
    let slots = contexts * batches + groups;
    let training = 4 * (3 * (contexts + groups) + vocabulary.trained.len());
    if choice != OffsetChoice::Shrinkage {
        return genes * (8 * slots + 4 * (contexts + groups)).max(training);
    }
    // Sums of logarithms and of their squares too; then, for each group, six numbers while shrinkage is fitted, and one for each
    // kernel between contexts that is kept; for given embeddings, three for each perturbation.
    let kernels = if contexts > 1 { MOST_KERNELS } else { 1 };
    let embedded = if vocabulary.embedding_width.is_some() { vocabulary.perturbations.len() } else { 0 };
    let fitting = 8 * ((6 + kernels) * (contexts + groups) + 3 * embedded);
    genes * (24 * slots + 4 * (contexts + groups)).max(training + fitting)
}
