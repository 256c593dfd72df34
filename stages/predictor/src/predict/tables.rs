//! A model's learned embeddings of perturbations and covariate values, and their similarities.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, Float32Builder, ListBuilder, RecordBatch, StringArray},
    datatypes::{DataType, Field, SchemaRef},
};
use model::saved::Model;
use schemas::numbers::to_i64;
use stage::BoxError;
use tch::{Kind, Tensor};

use super::{rows::list_column, to_vec};

/// Rows per batch: the part of a table of similarities that is in memory at once.
const BATCH_ROWS: usize = 512;

/// The embeddings of all trained perturbations, control first, as rows of [`schemas::arrow::embeddings_schema`].
///
/// # Errors
/// This fails only through a bug.
pub fn perturbation_table(model: &Model, schema: &SchemaRef) -> Result<Vec<RecordBatch>, BoxError> {
    let names = &model.card.vocabulary.perturbations[1..];
    let table = tch::no_grad(|| model.network.perturbation_table());
    let rows = table.narrow(0, 1, table.size()[0] - 1);
    let mut batches = Vec::new();
    for first in (0..names.len()).step_by(BATCH_ROWS) {
        let part = first..names.len().min(first + BATCH_ROWS);
        let names = Arc::new(StringArray::from_iter_values(&names[part.clone()])) as ArrayRef;
        batches.push(batch(schema, vec![names], &rows, part)?);
    }
    Ok(batches)
}

/// The embeddings of all trained covariate values, covariate by covariate, as rows of the same schema.
///
/// # Errors
/// This fails only through a bug.
pub fn covariate_table(model: &Model, schema: &SchemaRef) -> Result<Vec<RecordBatch>, BoxError> {
    let mut batches = Vec::new();
    for (at, covariate) in model.card.vocabulary.covariates.iter().enumerate() {
        let rows = tch::no_grad(|| model.network.covariate_table(at).detach());
        let names = std::iter::repeat_n(&covariate.name, covariate.values.len());
        let labels: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from_iter_values(names)),
            Arc::new(StringArray::from_iter_values(&covariate.values)),
        ];
        batches.push(batch(schema, labels, &rows, 0..covariate.values.len())?);
    }
    Ok(batches)
}

/// Some rows of a table, with their similarities to all of its rows.
fn batch(
    schema: &SchemaRef,
    mut columns: Vec<ArrayRef>,
    table: &Tensor,
    part: std::ops::Range<usize>,
) -> Result<RecordBatch, BoxError> {
    let count = to_i64(part.len());
    let own = table.narrow(0, to_i64(part.start), count);
    let norm = |rows: &Tensor| rows.square().sum_dim_intlist([1_i64].as_slice(), true, Kind::Float).sqrt();
    // NaN where a row is zero.
    let cosines = to_vec(&((&own / norm(&own)).matmul(&(table / norm(table)).tr())))?;
    columns.push(list_column(to_vec(&own)?, usize::try_from(table.size()[1])?, None)?);
    let item = Arc::new(Field::new("item", DataType::Float32, true));
    let mut similarity = ListBuilder::new(Float32Builder::new()).with_field(item);
    for row in cosines.chunks(usize::try_from(table.size()[0])?.max(1)) {
        similarity.values().extend(row.iter().map(|cosine| cosine.is_finite().then_some(cosine.clamp(-1.0, 1.0))));
        similarity.append(true);
    }
    columns.push(Arc::new(similarity.finish()));
    Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
}
