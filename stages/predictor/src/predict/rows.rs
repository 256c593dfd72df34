//! Predictions as rows of tables.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, FixedSizeListArray, Float32Array, RecordBatch, StringArray, UInt64Array},
    buffer::NullBuffer,
    datatypes::SchemaRef,
};
use reader::atlas::Atlas;
use schemas::{Error, arrow::list_item, ids::CellIndex};
use stage::BoxError;

use super::TargetMeans;
use crate::query::Target;

/// Predicted means as rows of [`schemas::arrow::means_schema`].
///
/// # Errors
/// Means that are not finite.
pub fn means_rows(schema: &SchemaRef, target: &Target, means: &TargetMeans) -> Result<RecordBatch, BoxError> {
    check_finite(target, &means.mean)?;
    let mut columns = label_columns(target, 1);
    columns.push(Arc::new(UInt64Array::from(vec![means.source_cells])));
    columns.push(Arc::new(Float32Array::from(vec![means.distance])));
    let genes = means.mean.len();
    for values in [means.mean.clone(), means.variance.clone(), means.control_mean.clone(), delta(means)] {
        columns.push(list_column(values, genes, None)?);
    }
    Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
}

/// Predicted means as rows of [`schemas::arrow::long_means_schema`], one per gene: for all genes in their
/// order, or for this many of the genes that change most, in descending order.
///
/// # Errors
/// Means that are not finite.
pub fn long_means_rows(
    schema: &SchemaRef,
    genes: &[String],
    most: Option<usize>,
    target: &Target,
    means: &TargetMeans,
) -> Result<RecordBatch, BoxError> {
    check_finite(target, &means.mean)?;
    let delta = delta(means);
    let mut places: Vec<usize> = (0..genes.len()).collect();
    if let Some(most) = most {
        places.sort_by(|a, b| delta[*b].abs().total_cmp(&delta[*a].abs()).then(a.cmp(b)));
        places.truncate(most);
    }
    let rows = places.len();
    let mut columns = label_columns(target, rows);
    columns.push(Arc::new(UInt64Array::from(vec![means.source_cells; rows])));
    columns.push(Arc::new(Float32Array::from(vec![means.distance; rows])));
    columns.push(Arc::new(StringArray::from_iter_values(places.iter().map(|at| &genes[*at]))));
    for values in [&means.mean, &means.variance, &means.control_mean, &delta] {
        columns.push(Arc::new(Float32Array::from_iter_values(places.iter().map(|at| values[*at]))));
    }
    Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
}

fn delta(means: &TargetMeans) -> Vec<f32> {
    means.mean.iter().zip(&means.control_mean).map(|(mean, control)| mean - control).collect()
}

/// Rows for cells under a target, with columns of lists whose numbers are stored one after another.
pub(super) fn cell_rows(
    schema: &SchemaRef,
    atlas: &Atlas,
    cells: &[CellIndex],
    names: &[String],
    target: &Target,
    lists: Vec<Vec<f32>>,
) -> Result<RecordBatch, BoxError> {
    let (table, rows) = (&atlas.manifest().conditions, cells.len());
    let mut columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(names)),
        Arc::new(StringArray::from_iter_values(cells.iter().map(|cell| table.name(atlas.condition(*cell))))),
    ];
    columns.extend(label_columns(target, rows));
    for list in lists {
        check_finite(target, &list)?;
        let width = list.len() / rows.max(1);
        columns.push(list_column(list, width, None)?);
    }
    Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
}

/// Refuses predictions that overflow.
fn check_finite(target: &Target, values: &[f32]) -> Result<(), Error> {
    // All bits of the exponent are set; integers are compared several at a time.
    const NOT_FINITE: u32 = 0x7f80_0000;
    if values.iter().map(|value| value.to_bits() & NOT_FINITE).max() != Some(NOT_FINITE) {
        return Ok(());
    }
    let Target { condition, dose, .. } = target;
    let message = format!("the prediction for `{condition}` at the dose {dose} is not finite");
    Err(Error::usage(message, "ask for doses that are closer to the trained ones"))
}

pub(super) fn label_columns(target: &Target, rows: usize) -> Vec<ArrayRef> {
    let texts = [&target.condition, &target.dose].into_iter().chain(&target.covariates).map(String::as_str);
    let texts = texts.chain([target.extrapolation.name()]);
    texts.map(|text| Arc::new(StringArray::from_iter_values(std::iter::repeat_n(text, rows))) as ArrayRef).collect()
}

/// Lists of `width` numbers; those where `there` is false are null.
pub(super) fn list_column(values: Vec<f32>, width: usize, there: Option<Vec<bool>>) -> Result<ArrayRef, BoxError> {
    let nulls = there.map(NullBuffer::from);
    let values = Arc::new(Float32Array::from(values));
    Ok(Arc::new(FixedSizeListArray::try_new(Arc::new(list_item()), i32::try_from(width)?, values, nulls)?))
}
