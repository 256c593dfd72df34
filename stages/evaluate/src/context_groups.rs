//! The cells of a condition in a context, over all batches.
//!
//! A context is a combination of covariate values without the batch. The batches of a condition are evaluated
//! together: split by batch, groups would be small, and a batch that changes nothing would change every score.

use std::{collections::HashMap, sync::Arc};

use reader::{atlas::Atlas, groups::Groups};
use schemas::ids::ConditionId;

use crate::evaluator::{ControlProfile, ModelProfiles};

/// The cells of a condition in a context.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContextGroup {
    /// The condition.
    pub condition: ConditionId,
    /// Covariate codes without the batch.
    pub context: Vec<u32>,
    /// Indices of its groups, one per batch.
    pub members: Vec<usize>,
}

/// The groups of an atlas, joined over batches, in the order of their first cells.
#[derive(Clone, Debug)]
pub struct ContextGroups {
    all: Vec<ContextGroup>,
    /// The context group of each group.
    of_group: Vec<usize>,
}

impl ContextGroups {
    /// Joins an atlas's groups over batches.
    #[must_use]
    pub fn new(atlas: &Atlas, groups: &Groups) -> Self {
        let mut places: HashMap<(ConditionId, &[u32]), usize> = HashMap::new();
        let (mut all, mut of_group): (Vec<ContextGroup>, Vec<usize>) = (Vec::new(), Vec::new());
        for (at, group) in groups.all().iter().enumerate() {
            let context = atlas.context_of(&group.covariates);
            let place = *places.entry((group.condition, context)).or_insert_with(|| {
                all.push(ContextGroup { condition: group.condition, context: context.to_vec(), members: Vec::new() });
                all.len() - 1
            });
            all[place].members.push(at);
            of_group.push(place);
        }
        Self { all, of_group }
    }

    /// The joined groups.
    #[must_use]
    pub fn all(&self) -> &[ContextGroup] {
        &self.all
    }

    /// The joined group of a group.
    ///
    /// # Panics
    /// If there is no such group.
    #[must_use]
    pub fn of_group(&self, group: usize) -> usize {
        self.of_group[group]
    }

    /// Joins predictions without points for groups over batches, weighted by the number of evaluated cells of each group.
    ///
    /// # Panics
    /// If there is no such group.
    #[must_use]
    pub fn joined(&self, predictions: Vec<ModelProfiles>, cells: impl Fn(usize) -> u64) -> Vec<ModelProfiles> {
        let mut by_place: HashMap<usize, Vec<ModelProfiles>> = HashMap::new();
        for prediction in predictions {
            by_place.entry(self.of_group[prediction.group]).or_default().push(prediction);
        }
        let mut joined: Vec<ModelProfiles> = by_place
            .into_iter()
            .map(|(place, members)| {
                let weights: Vec<f64> = members.iter().map(|member| cells(member.group) as f64).collect();
                ModelProfiles { group: place, ..weighted(members, &weights) }
            })
            .collect();
        joined.sort_by_key(|prediction| prediction.group);
        joined
    }
}

/// The weighted mean of predictions; their variances and the variance between them add up.
fn weighted(mut members: Vec<ModelProfiles>, weights: &[f64]) -> ModelProfiles {
    if members.len() == 1 {
        return members.remove(0);
    }
    let total: f64 = weights.iter().sum();
    let shares: Vec<f64> = weights.iter().map(|weight| weight / total).collect();
    let join_means = |members: &[&[f64]]| {
        let mut mean = vec![0.0; members[0].len()];
        for (share, means) in shares.iter().zip(members) {
            mean.iter_mut().zip(*means).for_each(|(mean, value)| *mean += share * value);
        }
        mean
    };
    let join_variances = |mean: &[f64], members: &[(&[f64], &[f64])]| {
        let mut variance = vec![0.0; mean.len()];
        for (share, (means, variances)) in shares.iter().zip(members) {
            for gene in 0..mean.len() {
                variance[gene] += share * (variances[gene] + (means[gene] - mean[gene]).powi(2));
            }
        }
        variance
    };
    let condition = join_means(&members.iter().map(|one| &*one.condition).collect::<Vec<_>>());
    let variances: Option<Vec<_>> =
        members.iter().map(|one| Some((&*one.condition, one.variance.as_deref()?))).collect();
    let variance = variances.map(|variances| join_variances(&condition, &variances));
    let offsets: Option<Vec<&[f64]>> = members.iter().map(|one| one.offset.as_deref()).collect();
    let offset = offsets.map(|offsets| join_means(&offsets));
    let controls: Option<Vec<&ControlProfile>> = members.iter().map(|one| one.control.as_deref()).collect();
    let control = controls.map(|controls| {
        let mean = join_means(&controls.iter().map(|one| &*one.mean).collect::<Vec<_>>());
        let members: Vec<_> = controls.iter().map(|one| (&*one.mean, &*one.variance)).collect();
        let variance = join_variances(&mean, &members);
        Arc::new(ControlProfile { mean, variance })
    });
    let distances: Option<Vec<f64>> = members.iter().map(|one| one.distance).collect();
    let distance = distances.map(|distances| shares.iter().zip(distances).map(|(share, one)| share * one).sum());
    ModelProfiles { group: members[0].group, condition, variance, points: None, offset, control, distance, tests: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn predictions_of_batches_are_joined_by_their_cells() {
        let of = |group, mean: f64| ModelProfiles {
            group,
            condition: vec![mean],
            variance: Some(vec![1.0]),
            points: None,
            offset: None,
            control: Some(Arc::new(ControlProfile { mean: vec![mean / 2.0], variance: vec![0.5] })),
            distance: Some(mean),
            tests: None,
        };
        let condition = ConditionId(1);
        let groups = ContextGroups {
            all: vec![ContextGroup { condition, context: vec![0], members: vec![0, 1] }],
            of_group: vec![0, 0],
        };
        let joined = groups.joined(vec![of(0, 2.0), of(1, 6.0)], |group| [3, 1][group]);
        let [one] = &joined[..] else { panic!("one group is left") };
        assert_eq!((one.group, &*one.condition, one.distance), (0, &[3.0][..], Some(3.0)));
        assert_eq!(one.variance, Some(vec![4.0]));
        assert_eq!(one.control.as_ref().map(|control| control.mean.clone()), Some(vec![1.5]));
        assert_eq!(groups.joined(vec![of(1, 6.0)], |_| 5), [ModelProfiles { group: 0, ..of(1, 6.0) }]);
    }
}
