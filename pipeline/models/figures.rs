//! Figures of a report: cells in latent space, dose responses, and how alike perturbations are.

mod doses;
mod similarity;

use std::{collections::HashMap, num::NonZeroU64};

use arrow::array::{Array, AsArray, RecordBatch};
use schemas::{
    Error, Result,
    ids::CellIndex,
    numbers::{bounded, to_usize},
};
use serde::{Deserialize, Serialize};
use stages::{
    model::saved::Model,
    reader::atlas::Atlas,
    report::{DoseResponse, LatentMap, Latents, PerturbationSimilarity},
    statistics::principal::plane,
};

use self::{doses::responses, similarity::similarity};
use super::embedding::embed_these;
use crate::flows::{Resources, completed};

/// Maximum number of cells in a map.
const MOST_CELLS: u64 = 2000;
/// Number of cells from which changes are predicted.
const CELLS_OF_A_CURVE: NonZeroU64 = NonZeroU64::new(64).unwrap();

/// Figures of a model on an atlas.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// Cells in latent space.
    pub latents: Latents,
    /// Dose responses; empty if no perturbation was trained at several doses.
    pub responses: Vec<DoseResponse>,
    /// How alike perturbations are; `None` for fewer than three.
    #[serde(default)]
    pub similarity: Option<PerturbationSimilarity>,
}

/// Computes the figures.
///
/// # Errors
/// An atlas that lacks a gene of the model or has other covariates, or data that can't be read.
pub fn figures(atlas: &Atlas, model: &Model, resources: &Resources) -> Result<Figures> {
    Ok(Figures {
        latents: latents(atlas, model, resources)?,
        responses: responses(atlas, model, resources)?,
        similarity: similarity(atlas, model, resources)?,
    })
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
    let some = (0..atlas.cells()).step_by(to_usize(step)).map(CellIndex);
    let (_, pipeline) = embed_these(atlas, model, some, resources)?;
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
    let width = to_usize(model.card.config.model.n_latent);
    for (name, numbers) in ["basal", "after"].into_iter().zip(numbers) {
        let (points, explained) = plane(&numbers, width);
        found.maps.push(LatentMap { name: name.to_owned(), explained, points });
    }
    Ok(found)
}

fn list(batch: &RecordBatch, column: &str, row: usize) -> Result<Vec<f32>> {
    let lists = batch.column_by_name(column).and_then(|column| column.as_fixed_size_list_opt());
    let lists = lists.ok_or_else(|| Error::Bug(format!("embedded cells have no `{column}`")))?;
    Ok(lists.value(row).as_primitive::<arrow::datatypes::Float32Type>().values().to_vec())
}
