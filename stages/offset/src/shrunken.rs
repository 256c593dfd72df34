//! Shifts of cells' logarithms, or of continuous values, by adaptive shrinkage of the measured ones.

use std::cell::OnceCell;

use schemas::{
    Error, Result,
    numbers::{bounded, to_i64},
};
use shrinkage::{AdaptiveShrinkage, DosedPart, MeasuredControls, MeasuredShift, MeasuredShifts, ShiftTarget};
use tch::{Device, Kind, Tensor};
use torch::{memory::on_device, parameters::Parameters};

use super::{
    copy_into,
    layout::{OffsetLayout, is_control},
    log_shares::LogShares,
    profiles::{LIBRARIES, OffsetProfiles},
    rule::TargetContext,
    smallest_mean,
};

const NOISES: &str = "offset.noises";
const LOG_CONTROLS: &str = "offset.log_controls";
const CONTROL_NOISES: &str = "offset.control_noises";
const VARIANCES: &str = "offset.variances";
const LIBRARY_SIZES: &str = "offset.libraries";
/// The library of the control profiles, and the smallest mean count of a gene in it.
const LEVELS: &str = "offset.levels";

/// What the estimator reads, and the estimator.
#[derive(Debug)]
pub(super) struct ShrunkenShifts {
    layout: OffsetLayout,
    /// Measured shift of each perturbed group, `[groups, genes]`.
    shifts: Tensor,
    /// Noise of each group's mean in units of the genes' variances, `[groups]`; 0 for a group without cells.
    noises: Tensor,
    /// Mean of each context's controls, `[contexts, genes]`.
    controls: Tensor,
    /// Noise of these means, `[contexts]`; 0 for contexts without controls.
    control_noises: Tensor,
    /// Variance of each gene within groups, `[genes]`.
    variances: Tensor,
    libraries: Tensor,
    levels: Tensor,
    /// Estimated on first use, after all fields above are filled in.
    fitted: OnceCell<Fitted>,
}

#[derive(Debug)]
struct Fitted {
    /// `None` if nothing can be estimated: then nothing has an effect.
    estimator: Option<AdaptiveShrinkage>,
    /// `None` for continuous values.
    shares: Option<LogShares>,
    library: f64,
    smallest: f64,
}

impl ShrunkenShifts {
    /// Shifts that are not filled in yet.
    pub(super) fn new(parameters: &mut Parameters, layout: &OffsetLayout, shifts: &Tensor, contexts: i64) -> Self {
        let [groups, genes] = shifts.size()[..] else { unreachable!("shifts are a matrix") };
        Self {
            layout: layout.clone(),
            shifts: shifts.shallow_clone(),
            noises: parameters.statistic(NOISES, &[groups], 0.0),
            controls: parameters.statistic(LOG_CONTROLS, &[contexts, genes], 0.0),
            control_noises: parameters.statistic(CONTROL_NOISES, &[contexts], 0.0),
            variances: parameters.statistic(VARIANCES, &[genes], 0.0),
            libraries: parameters.statistic(LIBRARY_SIZES, &[to_i64(LIBRARIES)], 0.0),
            levels: parameters.statistic(LEVELS, &[2], 0.0),
            fitted: OnceCell::new(),
        }
    }

    /// Stores what was measured; the shifts are filled in.
    ///
    /// # Errors
    /// Measurements from which nothing can be estimated, though there are some.
    pub(super) fn fill(&mut self, profiles: &OffsetProfiles) -> Result<()> {
        #[expect(clippy::cast_possible_truncation, reason = "a library size")]
        let levels = [profiles.library as f32, smallest_mean(profiles) as f32];
        copy_into(&mut self.levels, &levels);
        if let Some(measured) = &profiles.shrinkage {
            copy_into(&mut self.noises, &profiles.noises);
            copy_into(&mut self.controls, &measured.controls);
            copy_into(&mut self.control_noises, &measured.control_noises);
            copy_into(&mut self.variances, &measured.variances);
            copy_into(&mut self.libraries, &measured.libraries);
        }
        self.fitted = OnceCell::from(self.fit()?);
        Ok(())
    }

    fn fitted(&self) -> &Fitted {
        // A saved model was fitted to the same numbers before it was saved.
        self.fitted.get_or_init(|| {
            self.fit().unwrap_or_else(|error| {
                tracing::error!("the offset can't be estimated from the model's profiles: {error}");
                Fitted { estimator: None, shares: None, library: 1.0, smallest: 1.0 }
            })
        })
    }

    fn fit(&self) -> Result<Fitted> {
        let [library, smallest] = numbers(&self.levels)?[..] else { unreachable!("two levels") };
        let measured = self.measured()?;
        let estimator = if measured.shifts.is_empty() { None } else { Some(AdaptiveShrinkage::fit(measured)?) };
        Ok(Fitted { estimator, shares: LogShares::new(&numbers(&self.libraries)?), library, smallest })
    }

    /// The shifts of contexts with controls. If no group has controls in its own context, all count with those that replace them.
    fn measured(&self) -> Result<MeasuredShifts> {
        let [contexts, groups] = self.layout.sizes();
        let (noises, control_noises) = (numbers(&self.noises)?, numbers(&self.control_noises)?);
        let own = |row: usize| control_noises[self.layout.context_of(row)];
        let any_own = (0..groups).any(|row| own(row) > 0.0 && noises[row] > 0.0);
        let least = control_noises.iter().copied().filter(|noise| *noise > 0.0).fold(f64::INFINITY, f64::min);
        let control = |context: usize| -> Result<Option<MeasuredControls>> {
            let noise = if any_own { control_noises[context] } else { least };
            let mean = |_| Ok(MeasuredControls { mean: row(&self.controls, context)?, noise });
            (noise > 0.0 && noise.is_finite()).then_some(()).map(mean).transpose()
        };
        let controls = (0..contexts).map(control).collect::<Result<Vec<_>>>()?;
        let known = |at: &usize| noises[*at] > 0.0 && controls[self.layout.context_of(*at)].is_some();
        let shift = |at: usize| {
            let (parts, context) = (dosed(&self.layout.rows[at].parts), self.layout.context_of(at));
            Ok(MeasuredShift { parts, context, shift: row(&self.shifts, at)?, noise: noises[at] })
        };
        let shifts = (0..groups).filter(known).map(shift).collect::<Result<Vec<_>>>()?;
        Ok(MeasuredShifts { variances: numbers(&self.variances)?, controls, shifts })
    }

    /// The shift of parts at doses, `[1, genes]`: 0 for control.
    pub(super) fn shift(&self, parts: &[(u32, f64)], target: &TargetContext) -> Tensor {
        on_device(&self.estimate(parts, target), self.shifts.device()).to_kind(self.shifts.kind()).unsqueeze(0)
    }

    fn estimate(&self, parts: &[(u32, f64)], target: &TargetContext) -> Vec<f64> {
        let parts = dosed(parts);
        let shift = self.fitted().estimator.as_ref().filter(|_| !parts.is_empty()).and_then(|estimator| {
            let asked = ShiftTarget { parts: &parts, context: target.own.unwrap_or(usize::MAX) };
            estimator.predict(&asked, 0..estimator.genes()).inspect_err(|error| tracing::error!("{error}")).ok()
        });
        shift.map_or_else(|| vec![0.0; bounded(self.shifts.size()[1])], |estimate| estimate.shift)
    }

    /// A control profile `[1, genes]` after the shift of parts at doses, as an offset of the decoder's output.
    pub(super) fn shifted(&self, level: &Tensor, parts: &[(u32, f64)], target: &TargetContext) -> Tensor {
        let fitted = self.fitted();
        let shift = self.estimate(parts, target);
        let Some(shares) = &fitted.shares else {
            return level + on_device(&shift, level.device()).to_kind(level.kind()).unsqueeze(0);
        };
        let mut values: Vec<f64> = numbers(level).unwrap_or_default();
        for (value, shift) in values.iter_mut().zip(shift) {
            let count = value.exp_m1().max(fitted.smallest);
            let moved = shares.expected(count / fitted.library) + shift;
            let count = if shift == 0.0 { count } else { (fitted.library * shares.share(moved)).max(fitted.smallest) };
            *value = count.ln();
        }
        on_device(&values, level.device()).to_kind(level.kind()).unsqueeze(0)
    }

    /// The expected error of a shift, a root mean square over genes: 0 for control.
    pub(super) fn uncertainty(&self, parts: &[(u32, f64)], target: &TargetContext) -> Tensor {
        let parts = dosed(parts);
        let variance = self.fitted().estimator.as_ref().filter(|_| !parts.is_empty()).and_then(|estimator| {
            let asked = ShiftTarget { parts: &parts, context: target.own.unwrap_or(usize::MAX) };
            estimator.variance(&asked).inspect_err(|error| tracing::error!("{error}")).ok()
        });
        Tensor::from(variance.unwrap_or(0.0).sqrt()).to_kind(Kind::Double).to_device(self.shifts.device())
    }
}

/// Parts of a condition, without control and without doses of 0, neither of which does anything.
fn dosed(parts: &[(u32, f64)]) -> Vec<DosedPart> {
    let perturbs = |part: &&(u32, f64)| !is_control(std::slice::from_ref(*part)) && part.1 > 0.0;
    let dosed = |(perturbation, dose): &(u32, f64)| DosedPart { perturbation: *perturbation, dose: *dose };
    parts.iter().filter(perturbs).map(dosed).collect()
}

fn numbers(tensor: &Tensor) -> Result<Vec<f64>> {
    let host = tensor.to_kind(Kind::Double).to_device(Device::Cpu).contiguous().view([-1]);
    Vec::try_from(host).map_err(|error| Error::Bug(format!("a tensor has no numbers: {error}")))
}

fn row(matrix: &Tensor, at: usize) -> Result<Vec<f64>> {
    numbers(&matrix.get(to_i64(at)))
}
