//! The quantities that change during training, as a pure function of settings and time.

use schemas::{
    config::{RateSchedule, TrainingPlan},
    numbers::saturating,
};
use serde::{Deserialize, Serialize};

/// The position in training.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clock {
    /// The epoch, from 0.
    pub epoch: u32,
    /// The batch of the epoch, from 0.
    pub batch: u64,
    /// The batch of the run, from 0.
    pub step: u64,
    /// Updates of all optimisers so far; the original counts these as steps.
    pub updates: u64,
    /// Batches of the whole run.
    pub of: u64,
}

/// The schedule's values at one time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    /// Whether the autoencoder trains against its adversaries; before that, each side trains separately.
    pub adversarial: bool,
    /// Whether the autoencoder learns from this batch.
    pub autoencoder_learns: bool,
    /// Whether the adversaries learn from this batch.
    pub adversaries_learn: bool,
    /// The weight of the adversaries' loss in the autoencoder's.
    pub adversary_weight: f64,
    /// The weight of the Kullback-Leibler divergence.
    pub divergence_weight: f64,
    /// α of the Beta(α, α) for mixup; 0: no mixup.
    pub mixup_alpha: f64,
    /// Factor of the learning rates.
    pub rate: f64,
    /// The batch of the epoch, from 0.
    pub batch: u64,
}

impl Schedule {
    /// The schedule at a time.
    #[must_use]
    pub fn at(plan: &TrainingPlan, clock: Clock) -> Self {
        let original = plan.compat.is_original();
        let times =
            if original { ScheduleState::of_the_original(plan, clock) } else { ScheduleState::new(plan, clock) };
        let adversarial = times.adversarial;
        let every = u64::from(plan.adversary.adv_steps);
        // The original counts batches from 0 in every epoch, so the autoencoder learns from the first one of each.
        let turn = if original { clock.batch } else { clock.step };
        let both = !adversarial || every == 0;
        let autoencoders_turn = both || turn.is_multiple_of(every);
        Self {
            batch: clock.batch,
            adversarial,
            autoencoder_learns: autoencoders_turn,
            adversaries_learn: both || !autoencoders_turn,
            adversary_weight: plan.adversary.reg_adv * times.adversary_share,
            divergence_weight: divergence_weight(plan, clock, original),
            mixup_alpha: plan.train.mixup_alpha * times.mixup_share,
            rate: match plan.train.lr_schedule {
                RateSchedule::Steps => plan.train.lr_decay.powi(saturating(times.decays)),
                RateSchedule::Cosine => f64::midpoint(1.0, (std::f64::consts::PI * share(clock.step, clock.of)).cos()),
            },
        }
    }
}

impl Schedule {
    /// The schedule at the end of an epoch with this many batches.
    #[must_use]
    pub fn at_end_of(plan: &TrainingPlan, epoch: u32, batches: u64) -> Self {
        let batch = batches.saturating_sub(1);
        Self::at(plan, Clock { epoch, batch, step: u64::from(epoch) * batches + batch, updates: 0, of: 0 })
    }

    /// Whether pretraining and the adversaries' warm-up are over.
    #[must_use]
    pub fn is_settled(&self, plan: &TrainingPlan) -> bool {
        self.adversarial && plan.adversary.reg_adv <= self.adversary_weight
    }
}

struct ScheduleState {
    adversarial: bool,
    adversary_share: f64,
    mixup_share: f64,
    decays: u32,
}

impl ScheduleState {
    fn new(plan: &TrainingPlan, clock: Clock) -> Self {
        let train = &plan.train;
        // Pretraining is given in batches or in epochs, as is each warm-up, which starts where pretraining ends.
        let (adversarial, epochs_into, steps_into) = match train.n_steps_pretrain_ae {
            0 => {
                let pretraining = train.n_epochs_pretrain_ae;
                let batches_an_epoch =
                    clock.step.saturating_sub(clock.batch).checked_div(u64::from(clock.epoch)).unwrap_or(0);
                let steps = clock.step.saturating_sub(batches_an_epoch * u64::from(pretraining));
                (pretraining <= clock.epoch, clock.epoch.saturating_sub(pretraining), steps)
            }
            steps => (steps <= clock.step, clock.epoch, clock.step.saturating_sub(steps)),
        };
        let adversary_share = match train.n_steps_adv_warmup {
            0 => share(u64::from(epochs_into), u64::from(train.n_epochs_adv_warmup)),
            steps => share(steps_into, steps),
        };
        let mixup_share = match train.n_epochs_mixup_warmup {
            0 => 1.0,
            epochs if adversarial => share(u64::from(epochs_into), u64::from(epochs)),
            _ => 0.0,
        };
        let decays = clock.epoch.checked_div(train.step_size_lr).unwrap_or(0);
        Self { adversarial, adversary_share, mixup_share, decays }
    }

    /// The schedule of cpa-tools 0.8.8. Pretraining takes one epoch (or update) longer than set; mixup with a
    /// warm-up never starts if there is pretraining, since the epoch is subtracted from itself; and a scheduler
    /// that waits for `step_size_lr` calls is itself called only every `step_size_lr` epochs, and not in the
    /// first two.
    fn of_the_original(plan: &TrainingPlan, clock: Clock) -> Self {
        let train = &plan.train;
        let adversarial = match (train.n_steps_pretrain_ae, train.n_epochs_pretrain_ae) {
            (0, 0) => true,
            (0, epochs) => epochs < clock.epoch,
            (steps, _) => steps < clock.updates,
        };
        let adversary_share = match train.n_steps_adv_warmup {
            0 => below_too(
                i64::from(clock.epoch) - i64::from(train.n_epochs_pretrain_ae),
                i64::from(train.n_epochs_adv_warmup),
            ),
            steps => below_too(
                saturating::<i64>(clock.updates) - saturating::<i64>(train.n_steps_pretrain_ae),
                saturating(steps),
            ),
        };
        let mixup_share = match train.n_epochs_mixup_warmup {
            0 => 1.0,
            _ if train.n_epochs_pretrain_ae > 0 => 0.0,
            epochs => share(u64::from(clock.epoch), u64::from(epochs)),
        };
        let every = train.step_size_lr;
        let too_early = u32::from(every == 1 && clock.epoch > 1);
        let calls = clock.epoch.saturating_sub(1).checked_div(every).unwrap_or(0) - too_early;
        Self { adversarial, adversary_share, mixup_share, decays: calls.checked_div(every).unwrap_or(0) }
    }
}

fn divergence_weight(plan: &TrainingPlan, clock: Clock, original: bool) -> f64 {
    let steps = if original { clock.updates } else { clock.step };
    match plan.train.n_epochs_kl_warmup {
        0 => share(steps, plan.train.n_steps_kl_warmup),
        epochs => share(u64::from(clock.epoch), u64::from(epochs)),
    }
}

/// The completed share of a warm-up, 1 if there is none.
#[expect(clippy::cast_precision_loss, reason = "a share needs no more than 52 bits")]
fn share(into: u64, all: u64) -> f64 {
    if into < all { into as f64 / all as f64 } else { 1.0 }
}

/// The same, but negative before the warm-up: the original computes such values but does not use them.
#[expect(clippy::cast_precision_loss, reason = "a share needs no more than 52 bits")]
fn below_too(into: i64, all: i64) -> f64 {
    if all > 0 && into < all { into as f64 / all as f64 } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use schemas::{
        atlas::ValueKind,
        config::{Preset, Settings},
    };

    use super::*;

    fn plan(assignments: &[&str]) -> TrainingPlan {
        let assignments: Vec<String> = assignments.iter().map(|text| (*text).to_owned()).collect();
        let settings = Settings::layered(Preset::Cpa, None, &assignments).expect("good settings");
        settings.check(ValueKind::Counts).expect("a good plan")
    }

    fn at(plan: &TrainingPlan, epoch: u32, batch: u64) -> Schedule {
        Schedule::at(plan, Clock { epoch, batch, step: u64::from(epoch) * 10 + batch, updates: 0, of: 100 })
    }

    #[test]
    fn the_adversaries_wait_for_pretraining_and_grow_over_their_warm_up() {
        let plan = plan(&[
            "train.n_epochs_pretrain_ae=2",
            "train.n_epochs_adv_warmup=4",
            "adversary.reg_adv=8",
            "train.step_size_lr=5",
        ]);
        assert!(!at(&plan, 1, 0).adversarial && at(&plan, 2, 0).adversarial);
        assert_eq!([2, 3, 5, 6, 60].map(|epoch| at(&plan, epoch, 0).adversary_weight), [0.0, 2.0, 6.0, 8.0, 8.0]);
        assert_eq!([4, 5, 10].map(|epoch| at(&plan, epoch, 0).rate), [1.0, 0.9, 0.81]);
    }

    #[test]
    fn learning_rates_may_fall_along_a_cosine_to_the_end_of_the_run() {
        let plan = plan(&["train.lr_schedule=cosine"]);
        assert_eq!([(0, 0), (5, 0)].map(|(epoch, batch)| (at(&plan, epoch, batch).rate * 1e9).round()), [1e9, 5e8]);
        let last = at(&plan, 9, 9).rate;
        assert!(0.0 < last && last < 0.001, "{last}");
    }

    #[test]
    fn pretraining_and_warm_up_may_be_told_in_batches() {
        let plan = plan(&["train.n_steps_pretrain_ae=15", "train.n_steps_adv_warmup=10", "adversary.reg_adv=8"]);
        assert!(!at(&plan, 1, 4).adversarial && at(&plan, 1, 5).adversarial);
        assert_eq!([(1, 5), (2, 0), (2, 5)].map(|(e, b)| at(&plan, e, b).adversary_weight), [0.0, 4.0, 8.0]);
        let plan = self::plan(&["train.n_epochs_pretrain_ae=2", "train.n_steps_adv_warmup=10", "adversary.reg_adv=8"]);
        assert_eq!([(1, 9), (2, 5), (3, 0)].map(|(e, b)| at(&plan, e, b).adversary_weight), [0.0, 4.0, 8.0]);
    }

    #[test]
    fn mixup_and_divergence_warm_up_on_their_own() {
        let settings = [
            "train.n_epochs_pretrain_ae=2",
            "train.mixup_alpha=0.4",
            "train.n_epochs_mixup_warmup=4",
            "train.n_epochs_kl_warmup=8",
        ];
        let plan = plan(&settings);
        assert_eq!([1, 2, 4, 6].map(|epoch| at(&plan, epoch, 0).mixup_alpha), [0.0, 0.0, 0.2, 0.4]);
        assert_eq!([0, 2, 8].map(|epoch| at(&plan, epoch, 0).divergence_weight), [0.0, 0.25, 1.0]);
        let original: Vec<&str> = settings.into_iter().chain(["compat=cpa-tools-0.8.8"]).collect();
        assert_eq!(at(&self::plan(&original), 60, 0).mixup_alpha, 0.0);
    }

    #[test]
    fn sides_take_turns_over_the_run_and_in_the_original_over_each_epoch() {
        let turns = |plan: &TrainingPlan| {
            [(0, 8), (0, 9), (1, 0), (1, 1), (1, 2)].map(|(epoch, batch)| at(plan, epoch, batch).autoencoder_learns)
        };
        let settings = ["train.n_epochs_pretrain_ae=0", "adversary.adv_steps=4"];
        assert_eq!(turns(&plan(&settings)), [true, false, false, false, true]);
        let original: Vec<&str> = settings.into_iter().chain(["compat=cpa-tools-0.8.8"]).collect();
        assert_eq!(turns(&plan(&original)), [true, false, true, false, false]);
    }
}
