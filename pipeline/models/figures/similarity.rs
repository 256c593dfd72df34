//! How alike the changes are that a model predicts for perturbations.

use std::{cmp::Reverse, collections::BTreeMap};

use schemas::{Error, Result, atlas::ValueKind};
use stages::{
    model::saved::Model,
    predictor::query::{OnNoControl, OnUnseen, Query, Request},
    reader::{atlas::Atlas, selector::Selector},
    report::PerturbationSimilarity,
};

use super::CELLS_OF_A_CURVE;
use crate::{
    flows::{Resources, completed},
    models::predicting::{Prediction, own_split},
};

/// Maximum number of perturbations, those with the most training cells.
const MOST_PERTURBATIONS: usize = 30;

/// The cosines of the changes that are predicted for single perturbations at their largest trained dose, in the context with the
/// most training controls; `None` for fewer than three perturbations.
///
/// # Errors
/// An atlas that lacks a gene of the model or has other covariates, or data that can't be read.
pub(super) fn similarity(
    atlas: &Atlas,
    model: &Model,
    resources: &Resources,
) -> Result<Option<PerturbationSimilarity>> {
    let vocabulary = &model.card.vocabulary;
    let controls = vocabulary.trained.iter().filter(|group| group.perturbations.is_empty());
    let Some(context) = controls.max_by_key(|group| group.cells).map(|group| &group.covariates) else {
        return Ok(None);
    };
    let mut singles: BTreeMap<u32, (u64, f64)> = BTreeMap::new();
    for group in &vocabulary.trained {
        if let ([perturbation], [dose]) = (&group.perturbations[..], &group.doses[..]) {
            let (cells, largest) = singles.entry(*perturbation).or_insert((0, *dose));
            (*cells, *largest) = (*cells + group.cells, largest.max(*dose));
        }
    }
    let mut most: Vec<(u32, (u64, f64))> = singles.into_iter().collect();
    most.sort_by_key(|(code, (cells, _))| (Reverse(*cells), *code));
    let left_out = most.len().saturating_sub(MOST_PERTURBATIONS);
    most.truncate(MOST_PERTURBATIONS);
    if most.len() < 3 {
        return Ok(None);
    }
    let named = |condition: &str, dose: Option<f64>| {
        let mut pairs = vec![("condition".to_owned(), condition.to_owned())];
        pairs.extend(dose.map(|dose| ("dose".to_owned(), dose.to_string())));
        let names = vocabulary.covariates.iter().map(|covariate| covariate.name.clone());
        pairs.extend(names.zip(context.iter().cloned()));
        Request::Named(Selector(pairs))
    };
    let control = &vocabulary.perturbations[1];
    let mut to = vec![named(control, None)];
    to.extend(most.iter().map(|(code, (_, dose))| named(vocabulary.name(*code), Some(*dose))));
    let query = Query {
        to,
        cells_per_condition: Some(CELLS_OF_A_CURVE),
        unseen: OnUnseen::Skip,
        no_control: OnNoControl::Skip,
        ..Query::default()
    };
    let split = own_split(model, atlas)?;
    let prediction = Prediction::prepare(atlas, model, &query, split.as_ref(), resources.clone())?;
    let (jobs, pipeline) = prediction.means();
    let mut means: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for found in pipeline.stream() {
        let found = match found {
            Ok(found) => found,
            Err(error) => return completed(Err(error), "run the same command again").map(|(found, _)| found),
        };
        let scaled = |mean: &f32| match model.card.values {
            ValueKind::Counts => f64::from(*mean).ln_1p(),
            ValueKind::Continuous => f64::from(*mean),
        };
        let name = jobs[found.job].targets[found.target].condition.clone();
        means.insert(name, found.mean.iter().map(scaled).collect());
    }
    let unchanged = means.remove(control).ok_or_else(|| Error::Bug("control was not predicted".into()))?;
    let in_order = most.iter().map(|(code, _)| vocabulary.name(*code).to_owned());
    let changes: Vec<(String, Vec<f64>)> = in_order
        .filter_map(|name| {
            let mean = means.get(&name)?;
            let change = mean.iter().zip(&unchanged).map(|(mean, start)| mean - start).collect();
            Some((name, change))
        })
        .collect();
    let cosines = changes.iter().flat_map(|(_, a)| changes.iter().map(move |(_, b)| cosine(a, b))).collect();
    let names = changes.into_iter().map(|(name, _)| name).collect();
    Ok(Some(PerturbationSimilarity { context: context.join(", "), names, cosines, left_out }))
}

/// The cosine of two changes; 0 where nothing changes.
#[expect(clippy::cast_possible_truncation, reason = "a picture needs no more than f32")]
fn cosine(a: &[f64], b: &[f64]) -> f32 {
    let product = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let lengths = (product(a, a) * product(b, b)).sqrt();
    if lengths > 0.0 { (product(a, b) / lengths) as f32 } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cosine_is_of_directions() {
        assert_eq!(cosine(&[1.0, 2.0], &[2.0, 4.0]), 1.0);
        assert_eq!(cosine(&[1.0, 0.0], &[0.0, 3.0]), 0.0);
        assert_eq!(cosine(&[0.0, 0.0], &[0.0, 3.0]), 0.0);
    }
}
