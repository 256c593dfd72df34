//! What changes from epoch to epoch: a pure function of the epoch.

use schemas::config::Plan;

/// What holds in one epoch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    /// Whether the autoencoder learns against its adversaries; before, it learns alone and they beside it.
    pub adversarial: bool,
    /// The weight of the adversaries' loss in the autoencoder's.
    pub adversary_weight: f64,
    /// What the learning rates are multiplied by.
    pub rate: f64,
}

impl Schedule {
    /// The schedule of an epoch, counted from 0.
    #[must_use]
    pub fn at(plan: &Plan, epoch: u32) -> Self {
        let train = &plan.train;
        let pretraining = train.n_epochs_pretrain_ae;
        let into = f64::from(epoch.saturating_sub(pretraining));
        let warmup = f64::from(train.n_epochs_adv_warmup);
        let share = if into < warmup { into / warmup } else { 1.0 };
        let decays = epoch.checked_div(train.step_size_lr).unwrap_or(0);
        Self {
            adversarial: pretraining <= epoch,
            adversary_weight: plan.adversary.reg_adv * share,
            rate: train.lr_decay.powi(i32::try_from(decays).unwrap_or(i32::MAX)),
        }
    }
}

#[cfg(test)]
mod tests {
    use schemas::{
        atlas::ValueKind,
        config::{Preset, Settings},
    };

    use super::*;

    #[test]
    fn the_adversaries_wait_for_pretraining_and_grow_over_their_warm_up() {
        let assignments = [
            "train.n_epochs_pretrain_ae=2",
            "train.n_epochs_adv_warmup=4",
            "adversary.reg_adv=8",
            "train.step_size_lr=5",
        ];
        let settings = Settings::layered(Preset::Cpa, None, &assignments.map(String::from)).expect("good settings");
        let plan = settings.check(ValueKind::Counts).expect("a good plan");
        let at = |epoch| Schedule::at(&plan, epoch);
        assert!(!at(1).adversarial && at(2).adversarial);
        assert_eq!([2, 3, 5, 6, 60].map(|epoch| at(epoch).adversary_weight), [0.0, 2.0, 6.0, 8.0, 8.0]);
        assert_eq!([4, 5, 10].map(|epoch| at(epoch).rate), [1.0, 0.9, 0.81]);
    }
}
