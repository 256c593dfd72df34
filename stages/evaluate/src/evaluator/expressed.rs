//! Genes that are expressed enough for the logarithm of their mean to be meaningful.

use reader::profiles::GroupProfiles;
use statistics::moments::Moments;

/// Minimum mean over training cells, in counts per ten thousand; this is ten per million.
pub(super) const LEAST_EXPRESSION: f64 = 0.1;

/// Indices of the genes whose mean over all training cells (of controls, the half from which predictions
/// start) is at least [`LEAST_EXPRESSION`]: a choice that does not depend on evaluated cells. All of `genes`
/// if there are no training cells.
pub(super) fn expressed(profiles: &[GroupProfiles], genes: usize) -> Vec<usize> {
    let mut all: Option<Moments> = None;
    for training in profiles.iter().filter_map(|profiles| profiles.training.as_ref()) {
        match &mut all {
            Some(all) => all.merge(training),
            None => all = Some(training.clone()),
        }
    }
    match all {
        Some(all) => {
            let mean = all.mean();
            (0..genes).filter(|gene| mean[*gene] >= LEAST_EXPRESSION).collect()
        }
        None => (0..genes).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gene_is_expressed_by_its_mean_over_training_cells_alone() {
        let moments_of = |cells: &[[f32; 3]]| {
            let mut moments = Moments::new(3);
            cells.iter().for_each(|cell| moments.push_dense(cell));
            Some(moments)
        };
        let trained =
            GroupProfiles { training: moments_of(&[[0.0, 0.3, 0.0], [0.0, 0.0, 0.2]]), ..GroupProfiles::default() };
        let judged = GroupProfiles { halves: [moments_of(&[[9.0, 9.0, 9.0]]), None], ..GroupProfiles::default() };
        assert_eq!(expressed(&[trained.clone(), judged.clone(), trained], 3), [1, 2]);
        assert_eq!(expressed(&[judged], 3), [0, 1, 2]);
    }
}
