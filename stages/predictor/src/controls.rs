//! Real control cells, as rows of the table of predicted cells, for tools that compare predictions with
//! controls in the same file.

use std::{collections::BTreeSet, sync::Arc};

use arrow::{
    array::{ArrayRef, FixedSizeListArray, Float32Array, RecordBatch, StringArray},
    datatypes::{DataType, SchemaRef},
};
use reader::{atlas::Atlas, profiles::ExpressionRows};
use schemas::{Error, Result, arrow::SCALE_KEY, conditions::CONTROL, ids::CellIndex, numbers::checked};
use stage::{BoxError, Stage};

use crate::predict::NamesByJob;

/// The value of `extrapolation` for a real cell.
pub const OBSERVED: &str = "observed";

/// The control cells of an atlas with these covariate combinations, ascending.
pub fn control_cells(atlas: &Atlas, contexts: BTreeSet<Vec<u32>>) -> impl Iterator<Item = CellIndex> + Send + use<> {
    let atlas = atlas.clone();
    (0..atlas.cells())
        .map(CellIndex)
        .filter(move |cell| atlas.condition(*cell) == CONTROL && contexts.contains(atlas.covariates(*cell)))
}

/// Turns control cells into rows of the table of predicted cells, with their values from the atlas.
pub struct RealControls {
    atlas: Atlas,
    schema: SchemaRef,
    names: NamesByJob,
}

impl std::fmt::Debug for RealControls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RealControls").field("schema", &self.schema).finish_non_exhaustive()
    }
}

impl RealControls {
    /// Creates rows of `schema`, for ascending cells of this atlas.
    ///
    /// # Errors
    /// A table in which real cells can't be rows: on a scale other than the atlas's, with other genes, or not of
    /// cells.
    pub fn new(atlas: Atlas, schema: SchemaRef) -> Result<Self> {
        let scale = schema.metadata().get(SCALE_KEY).map_or("", String::as_str);
        if !["counts", "values"].contains(&scale) {
            return Err(Error::usage(
                format!("the atlas's values can't be combined with predictions on the scale {scale}"),
                "leave out --controls copy, or --output-scale",
            ));
        }
        let genes: i32 = checked(atlas.genes().len(), "genes")?;
        let known = ["cell", "source_condition", "condition", "dose", "extrapolation"];
        let covariates = &atlas.manifest().covariates;
        let is_known = |name: &str, kind: &DataType| match kind {
            DataType::FixedSizeList(_, length) => *length == genes,
            _ => known.contains(&name) || covariates.iter().any(|covariate| covariate.name == name),
        };
        if schema.column_with_name("cell").is_none()
            || !schema.fields().iter().all(|field| is_known(field.name(), field.data_type()))
        {
            return Err(Error::usage(
                "this output can't hold real cells",
                "--controls copy needs --output cells and all genes",
            ));
        }
        Ok(Self { names: NamesByJob::new(atlas.clone()), atlas, schema })
    }

    fn rows(&mut self, rows: &ExpressionRows) -> Result<RecordBatch, BoxError> {
        let cells = &rows.plan.cells;
        let names = self.names.for_cells(0, cells)?;
        let manifest = self.atlas.manifest();
        let repeated = |text: &str| StringArray::from_iter_values(std::iter::repeat_n(text, cells.len()));
        let columns = self.schema.fields().iter().map(|field| -> Result<ArrayRef, BoxError> {
            Ok(match (field.data_type(), field.name().as_str()) {
                (DataType::FixedSizeList(item, genes), _) => {
                    let genes_of_row = usize::try_from(*genes)?;
                    let mut values = vec![0.0; cells.len() * genes_of_row];
                    rows.expression.for_each(|row, gene, value| values[row * genes_of_row + gene] = value);
                    let values = Arc::new(Float32Array::from(values));
                    Arc::new(FixedSizeListArray::try_new(Arc::clone(item), *genes, values, None)?)
                }
                (_, "cell") => Arc::new(StringArray::from_iter_values(&names)),
                (_, "source_condition" | "condition") => Arc::new(repeated(manifest.conditions.name(CONTROL))),
                (_, "dose") => Arc::new(repeated(&manifest.conditions.dose_label(CONTROL))),
                (_, "extrapolation") => Arc::new(repeated(OBSERVED)),
                (_, name) => {
                    let at = manifest.covariates.iter().position(|covariate| covariate.name == name);
                    let (at, covariate) = at.map(|at| (at, &manifest.covariates[at])).ok_or("an unknown column")?;
                    let values = cells.iter().map(|cell| self.atlas.covariates(*cell)[at] as usize);
                    Arc::new(StringArray::from_iter_values(values.map(|code| &covariate.values[code])))
                }
            })
        });
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), columns)?)
    }
}

impl Stage for RealControls {
    type In = ExpressionRows;
    type Out = RecordBatch;

    fn push(&mut self, rows: ExpressionRows, emit: &mut dyn FnMut(RecordBatch)) -> Result<(), BoxError> {
        emit(self.rows(&rows)?);
        Ok(())
    }
}
