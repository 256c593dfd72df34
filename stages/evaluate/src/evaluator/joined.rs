//! Profiles joined over batches: of a condition in a context, and of the controls of a context.

use reader::profiles::GroupProfiles;
use schemas::conditions::CONTROL;
use statistics::{
    blocks::BlockSums,
    matched::BatchControls,
    moments::{MeanProfile, Moments},
    scale::Scale,
};

use super::evidence::logarithms;
use crate::ContextGroup;

/// The profiles of a condition in a context, over all batches.
#[derive(Default)]
pub(super) struct JoinedProfiles {
    pub(super) training: Option<Moments>,
    pub(super) halves: [Option<Moments>; 2],
    /// Evaluated cells, or reference controls, in blocks.
    pub(super) blocks: Option<BlockSums>,
    /// Number of training cells of each batch.
    pub(super) training_batches: Vec<(u32, u64)>,
    /// Number of evaluated cells of each batch.
    pub(super) judged_batches: Vec<(u32, u64)>,
}

/// The controls of a context.
#[derive(Default)]
pub(super) struct Context {
    pub(super) number: usize,
    /// Index of their group.
    pub(super) group: Option<usize>,
    /// Those from which predictions start.
    pub(super) source: Option<BatchControls>,
    /// Those from which real changes are measured.
    pub(super) reference: Option<BatchControls>,
    /// All perturbed cells: of each condition the evaluated ones, or else the training cells.
    pub(super) perturbed: Option<Moments>,
    /// The mean change of each gene's variance over the perturbed training profiles.
    pub(super) variance_change: Option<Vec<f64>>,
}

impl Context {
    /// Adds the cells of a perturbed condition.
    pub(super) fn add_perturbed(&mut self, condition: &JoinedProfiles) {
        match (&mut self.perturbed, condition.evaluated_or_trained()) {
            (Some(all), Some(cells)) => all.merge(&cells),
            (none @ None, cells) => *none = cells,
            (Some(_), None) => {}
        }
    }

    /// All perturbed cells but those of a condition that was added; `None` if there are no others.
    pub(super) fn without(&self, condition: &JoinedProfiles) -> Option<Moments> {
        self.perturbed.as_ref()?.without(&condition.evaluated_or_trained()?)
    }

    /// The mean over perturbed training profiles of how their variances differ from those of the controls.
    pub(super) fn mean_variance_change(
        &self,
        groups: &[ContextGroup],
        profiles: &[JoinedProfiles],
        scale: Scale,
    ) -> Option<Vec<f64>> {
        let own = on_scale(self.source.as_ref()?.all(), scale).variance_unbiased()?;
        let context = &groups[self.group?].context;
        let perturbed =
            groups.iter().zip(profiles).filter(|(group, _)| group.condition != CONTROL && group.context == *context);
        let variances: Vec<Vec<f64>> = perturbed
            .filter_map(|(_, profile)| {
                on_scale(MeanProfile::from(profile.training.as_ref()?), scale).variance_unbiased()
            })
            .collect();
        let count = variances.len() as f64;
        let mean = |gene: usize| variances.iter().map(|variance| variance[gene]).sum::<f64>() / count;
        (count > 0.0).then(|| own.iter().enumerate().map(|(gene, own)| mean(gene) - own).collect())
    }
}

impl JoinedProfiles {
    /// The evaluated cells; if there are none, the training cells.
    fn evaluated_or_trained(&self) -> Option<Moments> {
        merged(&self.halves).or_else(|| self.training.clone())
    }

    /// Joins the profiles of batches.
    pub(super) fn new(batches: impl Iterator<Item = (u32, GroupProfiles)>) -> Self {
        let mut joined = Self::default();
        let count = |moments: &Option<Moments>| moments.as_ref().map_or(0, Moments::cells);
        for (batch, profiles) in batches {
            let GroupProfiles { training, halves: [first, second], blocks, .. } = profiles;
            joined.training_batches.push((batch, count(&training)));
            joined.judged_batches.push((batch, count(&first) + count(&second)));
            match (&mut joined.blocks, blocks) {
                (Some(into), Some(from)) => into.merge(&from),
                (None, Some(from)) => joined.blocks = Some(from),
                (_, None) => {}
            }
            let [joined_first, joined_second] = &mut joined.halves;
            for (into, from) in
                [(&mut joined.training, training), (&mut *joined_first, first), (&mut *joined_second, second)]
            {
                match (&mut *into, from) {
                    (Some(into), Some(from)) => into.merge(&from),
                    (None, Some(from)) => *into = Some(from),
                    (_, None) => {}
                }
            }
        }
        joined
    }
}

/// Turns means into a profile on a scale: on the pseudobulk scale, a mean is replaced by its logarithm, and the variance
/// is transformed to first order.
#[must_use]
pub fn on_scale(mut profile: MeanProfile, scale: Scale) -> MeanProfile {
    if scale == Scale::Pseudobulk {
        logarithms(&mut profile.mean, &mut profile.variance);
    }
    profile
}

pub(super) fn merged([first, second]: &[Option<Moments>; 2]) -> Option<Moments> {
    let mut all = first.as_ref().or(second.as_ref())?.clone();
    if let (Some(_), Some(second)) = (first, second) {
        all.merge(second);
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moments(values: &[f32]) -> Option<Moments> {
        let mut moments = Moments::new(1);
        values.iter().for_each(|value| moments.push_dense(&[*value]));
        Some(moments)
    }

    #[test]
    fn the_rest_are_the_evaluated_cells_of_other_conditions_or_their_training_cells() {
        let evaluated = JoinedProfiles {
            training: moments(&[50.0]),
            halves: [moments(&[1.0]), moments(&[3.0])],
            ..JoinedProfiles::default()
        };
        let trained = JoinedProfiles { training: moments(&[4.0, 6.0]), ..JoinedProfiles::default() };
        let mut context = Context::default();
        assert!(context.without(&evaluated).is_none());
        context.add_perturbed(&evaluated);
        assert!(context.without(&evaluated).is_none(), "it has no other condition");
        context.add_perturbed(&JoinedProfiles::default());
        context.add_perturbed(&trained);
        assert_eq!(context.without(&evaluated), moments(&[4.0, 6.0]));
        assert_eq!(context.without(&trained), moments(&[1.0, 3.0]));
    }
}
