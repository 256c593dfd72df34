//! Shifts of cells' logarithms, or of continuous values, by adaptive shrinkage of the measured ones.

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
};

use schemas::{
    Error, Result,
    numbers::{bounded, to_i64},
};
use shrinkage::{
    AdaptiveShrinkage, DosedPart, GeneErrors, MeasuredControls, MeasuredShift, MeasuredShifts, ShiftTarget,
};
use tch::{Device, Kind, Tensor};
use torch::{memory::on_device, parameters::Parameters};

use super::{
    TargetOffset, copy_into,
    layout::{OffsetLayout, TargetContext, is_control},
    log_shares::LogShares,
    profiles::{LIBRARIES, OffsetProfiles},
    smallest_mean,
};

/// The code of the first perturbation, after padding and control.
const FIRST_PERTURBATION: usize = 2;
const NOISES: &str = "offset.noises";
const LOG_CONTROLS: &str = "offset.log_controls";
const CONTROL_NOISES: &str = "offset.control_noises";
const VARIANCES: &str = "offset.variances";
const LIBRARY_SIZES: &str = "offset.libraries";
/// The library of the control profiles, and the smallest mean count of a gene in it.
const LEVELS: &str = "offset.levels";

/// The measurements that the estimator reads, and the estimator.
#[derive(Debug)]
pub(super) struct ShrunkenShifts {
    layout: OffsetLayout,
    /// Control profile of each context, `[contexts, genes]`.
    profiles: Tensor,
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
    /// Given rows of perturbations by code, `[codes, width]`.
    embeddings: Option<Tensor>,
    /// Estimated on first use, after all fields above are filled in, once for all networks with the same parameters.
    fitted: Arc<OnceLock<Fitted>>,
}

#[derive(Debug)]
struct Fitted {
    /// `None` if nothing can be estimated: then nothing has an effect.
    estimator: Option<AdaptiveShrinkage>,
    /// Control profile of each context, on the host.
    profiles: Vec<Vec<f64>>,
    /// `None` for continuous values.
    shares: Option<LogShares>,
    library: f64,
    smallest: f64,
}

impl ShrunkenShifts {
    /// Shifts that are not filled in yet.
    pub(super) fn new(
        parameters: &mut Parameters,
        layout: &OffsetLayout,
        [profiles, shifts]: [&Tensor; 2],
        embeddings: Option<&Tensor>,
    ) -> Self {
        let [contexts, groups, genes] = [profiles.size()[0], shifts.size()[0], shifts.size()[1]];
        Self {
            layout: layout.clone(),
            profiles: profiles.shallow_clone(),
            shifts: shifts.shallow_clone(),
            noises: parameters.statistic(NOISES, &[groups], 0.0),
            controls: parameters.statistic(LOG_CONTROLS, &[contexts, genes], 0.0),
            control_noises: parameters.statistic(CONTROL_NOISES, &[contexts], 0.0),
            variances: parameters.statistic(VARIANCES, &[genes], 0.0),
            libraries: parameters.statistic(LIBRARY_SIZES, &[to_i64(LIBRARIES)], 0.0),
            levels: parameters.statistic(LEVELS, &[2], 0.0),
            embeddings: embeddings.map(Tensor::shallow_clone),
            fitted: Arc::default(),
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
        self.fitted = Arc::new(OnceLock::from(self.fit()?));
        Ok(())
    }

    /// Shares the estimate of another network, which has the same parameters.
    pub(super) fn share(&mut self, other: &Self) {
        self.fitted = Arc::clone(&other.fitted);
    }

    fn fitted(&self) -> &Fitted {
        // A saved model was fitted to the same numbers before it was saved.
        self.fitted.get_or_init(|| self.fit().unwrap_or_else(|error| panic!("the profiles of the offset: {error}")))
    }

    fn fit(&self) -> Result<Fitted> {
        let [library, smallest] = numbers(&self.levels)?[..] else { unreachable!("two levels") };
        let measured = self.measured()?;
        let estimator = match measured.shifts.is_empty() {
            true => None,
            false => Some(AdaptiveShrinkage::fit_with_vectors(measured, &self.vectors()?)?),
        };
        let shares = LogShares::new(&numbers(&self.libraries)?);
        Ok(Fitted { estimator, profiles: rows(&self.profiles)?, shares, library, smallest })
    }

    /// The shifts of contexts with controls. If no group has controls in its own context, all count with those that replace them.
    fn measured(&self) -> Result<MeasuredShifts> {
        let [_, groups] = self.layout.sizes();
        let (noises, control_noises) = (numbers(&self.noises)?, numbers(&self.control_noises)?);
        let own = |row: usize| control_noises[self.layout.context_of(row)];
        let any_own = (0..groups).any(|row| own(row) > 0.0 && noises[row] > 0.0);
        let least = control_noises.iter().copied().filter(|noise| *noise > 0.0).fold(f64::INFINITY, f64::min);
        let control = |(mean, own): (Vec<f64>, &f64)| {
            let noise = if any_own { *own } else { least };
            (noise > 0.0 && noise.is_finite()).then_some(MeasuredControls { mean, noise })
        };
        let controls: Vec<_> = rows(&self.controls)?.into_iter().zip(&control_noises).map(control).collect();
        // A perturbation at dose 0 is none, but its cells are not the controls either.
        let all_dosed = |at: usize| {
            let parts = &self.layout.rows[at].parts;
            parts.iter().all(|part| is_control(std::slice::from_ref(part)) || part.1 > 0.0)
        };
        let known = |at: usize| noises[at] > 0.0 && all_dosed(at) && controls[self.layout.context_of(at)].is_some();
        let shift = |(at, shift): (usize, Vec<f64>)| {
            let (parts, context) = (dosed(&self.layout.rows[at].parts), self.layout.context_of(at));
            known(at).then(|| MeasuredShift { parts, context, shift, noise: noises[at] })
        };
        let shifts = rows(&self.shifts)?.into_iter().enumerate().filter_map(shift).collect();
        Ok(MeasuredShifts { variances: numbers(&self.variances)?, controls, shifts })
    }

    /// The given rows of perturbations by code, if any.
    fn vectors(&self) -> Result<BTreeMap<u32, Vec<f64>>> {
        let given = self.embeddings.as_ref().map_or(Ok(Vec::new()), rows)?;
        Ok((0..).zip(given).skip(FIRST_PERTURBATION).collect())
    }

    /// The shift of parts at doses, a number for each gene: 0 for control.
    fn estimate(&self, parts: &[(u32, f64)], target: &TargetContext) -> Vec<f64> {
        let shift = self.asked(parts, target, |estimator, target| estimator.predict(target, 0..estimator.genes()));
        shift.unwrap_or_else(|| vec![0.0; bounded(self.shifts.size()[1])])
    }

    /// The estimator's answer; `None` for control, and if nothing could be estimated.
    fn asked<T>(
        &self,
        parts: &[(u32, f64)],
        target: &TargetContext,
        ask: impl FnOnce(&AdaptiveShrinkage, &ShiftTarget) -> Result<T>,
    ) -> Option<T> {
        let parts = dosed(parts);
        let estimator = self.fitted().estimator.as_ref().filter(|_| !parts.is_empty())?;
        let target = ShiftTarget { parts: &parts, context: target.own.unwrap_or(usize::MAX) };
        // The parts of a condition differ, and their doses are positive.
        Some(ask(estimator, &target).unwrap_or_else(|error| panic!("{error}")))
    }

    /// The control profile of a context after the shift of parts at doses, as an offset of the decoder's output.
    pub(super) fn shifted(&self, parts: &[(u32, f64)], target: &TargetContext) -> TargetOffset {
        let fitted = self.fitted();
        let mut values = vec![0.0; bounded(self.shifts.size()[1])];
        for context in &target.stand_ins {
            let share = 1.0 / target.stand_ins.len() as f64;
            values.iter_mut().zip(&fitted.profiles[*context]).for_each(|(value, level)| *value += share * level);
        }
        let estimate = self.estimate(parts, target);
        for (value, shift) in values.iter_mut().zip(&estimate) {
            let Some(shares) = &fitted.shares else {
                *value += shift;
                continue;
            };
            let count = value.exp_m1().max(fitted.smallest);
            let moved = shares.expected(count / fitted.library) + shift;
            let count = if *shift == 0.0 { count } else { (fitted.library * shares.share(moved)).max(fitted.smallest) };
            *value = count.ln();
        }
        let row = |numbers: &[f64]| on_device(numbers, self.shifts.device()).to_kind(self.shifts.kind()).unsqueeze(0);
        TargetOffset { offset: row(&values), log_shift: fitted.shares.is_some().then(|| row(&estimate)) }
    }

    /// The expected error of a shift, a root mean square over genes: 0 for control.
    pub(super) fn uncertainty(&self, parts: &[(u32, f64)], target: &TargetContext) -> Tensor {
        let variance = self.asked(parts, target, AdaptiveShrinkage::variance).unwrap_or(0.0);
        on_device(&[variance.sqrt()], self.shifts.device()).view([])
    }
}

impl ShrunkenShifts {
    /// The errors of the shift of each gene; `None` for control, and for a perturbation that was not trained.
    pub(super) fn gene_errors(&self, parts: &[(u32, f64)], target: &TargetContext) -> Option<GeneErrors> {
        self.asked(parts, target, AdaptiveShrinkage::gene_errors).flatten()
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

/// The rows of a matrix, copied to the host at once.
fn rows(matrix: &Tensor) -> Result<Vec<Vec<f64>>> {
    let genes = bounded::<usize>(matrix.size()[1]);
    Ok(numbers(matrix)?.chunks_exact(genes.max(1)).map(<[f64]>::to_vec).collect())
}
