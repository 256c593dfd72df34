//! Jobs whose first target is control, from which the changes of the others are measured.

use std::sync::Arc;

use model::saved::ModelCard;
use schemas::conditions::dose_label;

use super::{Extrapolation, Job, Target, jobs::Jobs};

/// The code of control.
const CONTROL_CODE: u32 = 1;

impl Jobs {
    /// The same jobs, each divided by the covariates of its targets, with control in these covariates first.
    #[must_use]
    pub fn against_control(&self, card: &ModelCard) -> Self {
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
        against
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
