//! How the predicted change grows with the dose of perturbations that were trained at several.

use std::collections::BTreeMap;

use schemas::{Result, config::GeneChoice};
use stages::{
    model::saved::Model,
    predictor::query::Extrapolation,
    reader::atlas::Atlas,
    report::{DosePoint, DoseResponse, ResponseCurve},
};

use super::CELLS_OF_A_CURVE;
use crate::{
    flows::Resources,
    models::{
        dose_grid::grid,
        dose_response::{ResponseQuery, respond},
    },
};

/// Number of perturbations whose dose response is drawn, those with the most trained doses first.
const MOST_RESPONSES: usize = 4;
/// Maximum number of curves in a picture.
const MOST_CURVES: usize = 8;

/// The curves; none if no perturbation was trained at several doses.
///
/// # Errors
/// An atlas that lacks a gene of the model or has other covariates, or data that can't be read.
pub(super) fn responses(atlas: &Atlas, model: &Model, resources: &Resources) -> Result<Vec<DoseResponse>> {
    let mut doses_of: BTreeMap<u32, Vec<f64>> = BTreeMap::new();
    for group in &model.card.vocabulary.trained {
        if let ([perturbation], [dose]) = (&group.perturbations[..], &group.doses[..]) {
            let known = doses_of.entry(*perturbation).or_default();
            if !known.contains(dose) {
                known.push(*dose);
            }
        }
    }
    let mut most: Vec<(u32, Vec<f64>)> = doses_of.into_iter().filter(|(_, doses)| doses.len() > 1).collect();
    most.sort_by_key(|(code, doses)| (std::cmp::Reverse(doses.len()), *code));
    most.truncate(MOST_RESPONSES);
    let mut responses = Vec::new();
    for (code, mut trained) in most {
        trained.sort_by(f64::total_cmp);
        let perturbation = model.card.vocabulary.name(code).to_owned();
        let doses = grid(&trained, &doses_of_atlas(atlas, &perturbation));
        let query = ResponseQuery {
            condition: perturbation.clone(),
            doses: vec![doses.clone()],
            from: None,
            cells_per_condition: CELLS_OF_A_CURVE,
            genes: GeneChoice::Variable(0),
        };
        let curves = respond(atlas, model, &query, resources)?.curves.into_iter().take(MOST_CURVES);
        let curves = curves.map(|curve| ResponseCurve {
            context: curve.covariates.into_values().collect::<Vec<_>>().join(", "),
            points: curve
                .points
                .iter()
                .zip(&doses)
                .map(|(point, dose)| DosePoint {
                    dose: *dose,
                    effect_size: point.effect_size,
                    distance: point.distance.map(f64::from),
                    trained: point.extrapolation == Extrapolation::Seen.name(),
                })
                .collect(),
        });
        responses.push(DoseResponse { perturbation, trained, curves: curves.collect() });
    }
    Ok(responses)
}

/// The doses at which an atlas has cells of a perturbation alone, held out or not.
fn doses_of_atlas(atlas: &Atlas, perturbation: &str) -> Vec<f64> {
    let table = &atlas.manifest().conditions;
    let doses = table.conditions().iter().filter(|condition| {
        let parts = &table.combinations()[condition.combination.index()].perturbations;
        matches!(&parts[..], [one] if table.perturbations()[one.index()] == perturbation)
    });
    doses.flat_map(|condition| condition.doses.iter().copied()).collect()
}
