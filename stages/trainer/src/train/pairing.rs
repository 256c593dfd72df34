//! The cell of a batch from which each cell is decoded: the cell itself, or a control that shares its
//! covariates.

use std::collections::HashMap;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use schemas::{
    batch::{Labels, Role},
    config::{Objective, Settings},
    numbers::to_i64,
    vocabulary::Vocabulary,
};
use stage::batch::Batch;

use super::steps::seed_of;

/// The code of control.
const CONTROL: u32 = 1;

/// Pairs the cells of training batches, on the threads that prepare them.
#[derive(Clone, Copy, Debug)]
pub struct Pairing {
    seed: u64,
    objective: Objective,
    batch_at: Option<usize>,
}

impl Pairing {
    /// Pairing as requested in the settings, with the covariates of a vocabulary.
    #[must_use]
    pub fn new(settings: &Settings, vocabulary: &Vocabulary) -> Self {
        Self { seed: settings.seed, objective: settings.train.objective, batch_at: vocabulary.batch_at() }
    }

    /// For each cell, the index in the batch of the cell from whose basal latent it is decoded; `None` if each is
    /// decoded from its own, which is always so for batches that are not for training.
    #[must_use]
    pub fn sources(&self, batch: &Batch) -> Option<Vec<i64>> {
        let learns = batch.plan.role == Role::Train;
        learns.then(|| sources(&batch.labels, self.batch_at, self.objective, seed_of(self.seed, &batch.plan))).flatten()
    }
}

/// For each cell, the index in the batch of the cell from whose basal latent it is decoded; `None` if each is
/// decoded from its own.
///
/// A perturbed cell gets a control of the same batch (in the sense of the data) if there is one, otherwise
/// one that shares its other covariates; without such a control, it is decoded from itself, as controls are.
fn sources(labels: &Labels, batch_at: Option<usize>, objective: Objective, seed: u64) -> Option<Vec<i64>> {
    if objective == Objective::Reconstruction {
        return None;
    }
    let mut random = ChaCha8Rng::seed_from_u64(seed ^ 0x5041_4952);
    let cells = labels.combinations.len();
    let codes = |cell: usize, with_batch: bool| -> Vec<u32> {
        let covariates = labels.covariates.iter().enumerate();
        covariates.filter(|(at, _)| with_batch || batch_at != Some(*at)).map(|(_, codes)| codes[cell]).collect()
    };
    let is_control: Vec<bool> =
        labels.perturbations.outer_iterator().map(|row| row.iter().all(|(code, _)| code == CONTROL as usize)).collect();
    let mut controls: HashMap<(bool, Vec<u32>), Vec<usize>> = HashMap::new();
    for cell in (0..cells).filter(|cell| is_control[*cell]) {
        for with_batch in [true, false] {
            controls.entry((with_batch, codes(cell, with_batch))).or_default().push(cell);
        }
    }
    let mut source = |cell: usize| {
        let own = objective == Objective::Both && random.random::<bool>();
        if is_control[cell] || own {
            return cell;
        }
        let matching =
            [true, false].into_iter().find_map(|with_batch| controls.get(&(with_batch, codes(cell, with_batch))));
        matching.map_or(cell, |matching| matching[random.random_range(0..matching.len())])
    };
    Some((0..cells).map(|cell| to_i64(source(cell))).collect())
}

#[cfg(test)]
mod tests {
    use sprs::CsMatI;

    use super::*;

    /// Controls 0 and 1, one of each batch; perturbed cells of both batches, and one of another cell type.
    fn labels() -> Labels {
        let codes = vec![1, 1, 2, 2, 2];
        Labels {
            perturbations: CsMatI::new((5, 3), vec![0, 1, 2, 3, 4, 5], codes, vec![1.0; 5]),
            combinations: vec![0, 0, 1, 1, 1],
            covariates: vec![vec![0, 0, 0, 0, 1], vec![0, 1, 0, 1, 1]],
            groups: vec![0; 5],
        }
    }

    #[test]
    fn a_perturbed_cell_is_decoded_from_a_control_of_its_covariates_and_batch() {
        assert_eq!(sources(&labels(), Some(1), Objective::Paired, 3), Some(vec![0, 1, 0, 1, 4]));
        assert_eq!(sources(&labels(), Some(1), Objective::Reconstruction, 3), None);
    }

    #[test]
    fn with_both_each_perturbed_cell_is_decoded_from_itself_half_of_the_time() {
        let own =
            (0..400).filter(|seed| sources(&labels(), Some(1), Objective::Both, *seed).is_some_and(|at| at[2] == 2));
        assert!((150..250).contains(&own.count()));
    }
}
