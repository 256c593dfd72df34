//! Jobs whose first target is control, from which the changes of the others are measured.

use std::sync::Arc;

use model_card::ModelCard;
use reader::atlas::Atlas;
use schemas::{
    Error, Result,
    conditions::{CONTROL, dose_label},
    counting::{counted, grouped},
    ids::CellIndex,
};

use super::{Extrapolation, Job, Target, jobs::Jobs};

/// The code of control.
const CONTROL_CODE: u32 = 1;

impl Jobs {
    /// The same jobs, each divided by the covariates of its targets, with control in these covariates first.
    ///
    /// # Errors
    /// Source cells that are not controls: a change from control would be added to the mean of cells that have an effect already.
    pub fn against_control(&self, card: &ModelCard, atlas: &Atlas) -> Result<Self> {
        self.check_controls(atlas)?;
        let mut jobs: Vec<Job> = Vec::new();
        for job in self.jobs.iter() {
            let first = jobs.len();
            for target in &job.targets {
                let is_here =
                    |job: &Job| job.targets[0].terms == target.terms && job.targets[0].covariates == target.covariates;
                let at = jobs[first..].iter().position(is_here).map_or(jobs.len(), |at| first + at);
                if at == jobs.len() {
                    jobs.push(Job { targets: vec![control_of(target, card)], ..job.clone() });
                }
                jobs[at].targets.push(target.clone());
            }
        }
        let mut against = self.clone();
        against.jobs = Arc::new(jobs);
        Ok(against)
    }

    fn check_controls(&self, atlas: &Atlas) -> Result<()> {
        let is_perturbed = |cell: &CellIndex| atlas.condition(*cell) != CONTROL;
        let Some(first) = self.all_source_cells(atlas).find(is_perturbed) else { return Ok(()) };
        let conditions = &atlas.manifest().conditions;
        let message = format!(
            "changes are from control, but {} of {} are not controls, the first of them of `{}`",
            grouped(self.all_source_cells(atlas).filter(is_perturbed).count() as u64),
            counted(self.all_source_cells(atlas).count() as u64, "source cell"),
            conditions.name(atlas.condition(first))
        );
        let hint = format!(
            "add condition={} to --from, or leave --from out; --output means starts from any cells",
            conditions.name(CONTROL)
        );
        Err(Error::usage(message, hint))
    }
}

impl Job {
    /// Whether the first target is control.
    #[must_use]
    pub fn begins_with_control(&self) -> bool {
        self.targets.first().is_some_and(|first| first.parts.iter().all(|(code, _)| *code == CONTROL_CODE))
    }
}

/// Control in the covariates of a target.
fn control_of(target: &Target, card: &ModelCard) -> Target {
    Target {
        condition: card.vocabulary.perturbations[CONTROL_CODE as usize].clone(),
        dose: dose_label(&[], &card.rules.delimiter),
        parts: vec![(CONTROL_CODE, 1.0)],
        extrapolation: Extrapolation::Seen,
        ..target.clone()
    }
}
