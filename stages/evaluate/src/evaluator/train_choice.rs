//! Genes that are chosen without using evaluated cells.

use statistics::differential::largest;

use super::{ContextGroup, Evaluator, MeanProfile, on_scale};

impl Evaluator {
    /// The genes that change most, by the same score as for evaluated cells, between training cells with any of
    /// the condition's perturbations and the training controls with the same covariates, averaged over covariate
    /// combinations: a choice that does not depend on held-out cells.
    pub(super) fn top_train(&self, group: &ContextGroup, count: usize) -> Option<Vec<usize>> {
        let table = &self.atlas.manifest().conditions;
        let perturbations: Vec<_> = table.parts(group.condition).map(|(perturbation, _)| perturbation).collect();
        let genes = self.places.len();
        let (mut change, mut noise, mut pairs) = (vec![0.0; genes], vec![0.0; genes], 0);
        for (other, profile) in self.groups.all().iter().zip(&self.profiles) {
            let holds = table.parts(other.condition).any(|(perturbation, _)| perturbations.contains(&perturbation));
            let control = self.contexts[&other.context].source.as_ref();
            let (Some(perturbed), Some(control), true) = (&profile.training, control, holds) else { continue };
            let perturbed = on_scale(MeanProfile::from(perturbed), self.scale);
            let control = on_scale(control.matched(&profile.training_batches), self.scale);
            for gene in 0..genes {
                change[gene] += perturbed.mean[gene] - control.mean[gene];
                noise[gene] += of_mean(&perturbed, gene) + of_mean(&control, gene);
            }
            pairs += 1;
        }
        let pairs = f64::from(pairs);
        let score = |gene: usize| (change[gene] / pairs).abs() / (noise[gene] / (pairs * pairs) + 1e-9).sqrt();
        (pairs > 0.0).then(|| largest((0..genes).map(|gene| (score(gene), gene)).collect(), count))
    }
}

/// The squared standard error of a gene's mean.
#[expect(clippy::cast_precision_loss, reason = "a noise needs no more than 52 bits of a count")]
fn of_mean(profile: &MeanProfile, gene: usize) -> f64 {
    profile.variance[gene] / profile.cells as f64
}
