//! Figures of a report: cells in latent space, and dose responses.

use std::{
    collections::{BTreeMap, HashMap},
    num::NonZeroU64,
};

use arrow::array::{Array, AsArray, RecordBatch};
use schemas::{Error, Result, config::GeneChoice, numbers::bounded};
use serde::{Deserialize, Serialize};
use stages::{
    model::saved::Model,
    reader::atlas::Atlas,
    report::{DosePoint, DoseResponse, LatentMap, Latents, ResponseCurve},
    trainer::principal::plane,
};
use tch::Tensor;

use super::{
    dose_response::{ResponseQuery, respond},
    embedding::embed_every,
};
use crate::flows::{Resources, completed};

/// Maximum number of cells in a map.
const MOST_CELLS: u64 = 2000;
/// Number of perturbations whose dose response is drawn, those with the most trained doses first.
const MOST_RESPONSES: usize = 4;
/// Maximum number of curves in a picture.
const MOST_CURVES: usize = 8;
/// Number of doses of a curve between 0 and the largest trained one, in addition to the trained ones.
const DOSES: u32 = 10;
/// Number of cells from which a curve is predicted.
const CELLS_OF_A_CURVE: NonZeroU64 = NonZeroU64::new(64).unwrap();

/// Figures of a model on an atlas.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// Cells in latent space.
    pub latents: Latents,
    /// Dose responses; empty if no perturbation was trained at several doses.
    pub responses: Vec<DoseResponse>,
}

/// Computes the figures.
///
/// # Errors
/// An atlas that lacks a gene of the model or has other covariates, or data that can't be read.
pub fn figures(atlas: &Atlas, model: &Model, resources: &Resources) -> Result<Figures> {
    Ok(Figures { latents: latents(atlas, model, resources)?, responses: responses(atlas, model, resources)? })
}

/// Numbers names in order of appearance.
#[derive(Default)]
struct NameCodes {
    names: Vec<String>,
    at: HashMap<String, u32>,
}

impl NameCodes {
    fn code_for(&mut self, name: String) -> u32 {
        let next = bounded(self.names.len());
        *self.at.entry(name).or_insert_with_key(|name| {
            self.names.push(name.clone());
            next
        })
    }
}

fn latents(atlas: &Atlas, model: &Model, resources: &Resources) -> Result<Latents> {
    let step = atlas.cells().div_ceil(MOST_CELLS).max(1);
    let (_, pipeline) = embed_every(atlas, model, step, resources)?;
    let (mut conditions, mut contexts) = (NameCodes::default(), NameCodes::default());
    let mut found = Latents::default();
    let mut numbers: [Vec<f32>; 2] = Default::default();
    for batch in pipeline.stream() {
        let batch = match batch {
            Ok(batch) => batch,
            Err(error) => return completed(Err(error), "run the same command again").map(|(found, _)| found),
        };
        let covariates = batch.num_columns() - 6;
        let after = batch.column(batch.num_columns() - 1);
        // Cells with labels unknown to the model are in neither map.
        for row in (0..batch.num_rows()).filter(|row| !after.is_null(*row)) {
            let text = |column: usize| batch.column(column).as_string::<i32>().value(row);
            found.condition_of.push(conditions.code_for(text(1).to_owned()));
            let values: Vec<&str> = (0..covariates).map(|at| text(3 + at)).collect();
            found.context_of.push(contexts.code_for(values.join(", ")));
            for (numbers, column) in numbers.iter_mut().zip(["basal", "after"]) {
                numbers.extend(list(&batch, column, row)?);
            }
        }
    }
    (found.conditions, found.contexts) = (conditions.names, contexts.names);
    let width = i64::from(model.card.config.model.n_latent);
    for (name, numbers) in ["basal", "after"].into_iter().zip(numbers) {
        let rows = Tensor::from_slice(&numbers).view([-1, width]);
        let (points, explained) = plane(&rows).map_err(|error| Error::Bug(error.to_string()))?;
        found.maps.push(LatentMap { name: name.to_owned(), explained, points });
    }
    Ok(found)
}

fn list(batch: &RecordBatch, column: &str, row: usize) -> Result<Vec<f32>> {
    let lists = batch.column_by_name(column).and_then(|column| column.as_fixed_size_list_opt());
    let lists = lists.ok_or_else(|| Error::Bug(format!("embedded cells have no `{column}`")))?;
    Ok(lists.value(row).as_primitive::<arrow::datatypes::Float32Type>().values().to_vec())
}

fn responses(atlas: &Atlas, model: &Model, resources: &Resources) -> Result<Vec<DoseResponse>> {
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
        let largest = trained.last().copied().unwrap_or(1.0);
        let mut doses: Vec<f64> = (0..=DOSES).map(|at| largest * f64::from(at) / f64::from(DOSES)).collect();
        doses.extend(&trained);
        doses.sort_by(f64::total_cmp);
        doses.dedup();
        let perturbation = model.card.vocabulary.name(code).to_owned();
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
                })
                .collect(),
        });
        responses.push(DoseResponse { perturbation, trained, curves: curves.collect() });
    }
    Ok(responses)
}
