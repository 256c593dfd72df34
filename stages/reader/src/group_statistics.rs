//! An atlas's statistics, read group by group.

use std::collections::BTreeMap;

use arrow::{
    array::{Array, AsArray, RecordBatch},
    datatypes::{DataType, Float32Type, Float64Type, UInt64Type},
};
use parquet::arrow::ProjectionMask;
use schemas::{Error, Result, atlas::files};
use serde::Serialize;
use storage::parquet_read::{self, Batches};

use crate::atlas::Atlas;

/// Statistics of the cells that share condition, dose and covariates, except for the numbers per gene.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GroupSummary {
    /// Their condition.
    pub condition: String,
    /// Its dose.
    pub dose: String,
    /// Their covariates; empty if there are too many groups to split by covariates.
    pub covariates: BTreeMap<String, String>,
    /// Number of cells.
    pub cells: u64,
    /// Mean of the cells' libraries.
    pub library_mean: f64,
    /// Population deviation of the cells' libraries.
    pub library_sd: f64,
    /// The smallest library.
    pub library_min: f64,
    /// The largest library.
    pub library_max: f64,
    /// Mean number of genes with a value.
    pub detected_genes: f64,
    /// The genes that differ most from the controls, the most significant first.
    pub differential: Vec<DifferentialGene>,
}

/// A gene that differs between a group and its controls.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DifferentialGene {
    /// The gene's name.
    pub gene: String,
    /// How significantly the mean differs.
    pub score: f32,
    /// By how much the mean differs.
    pub change: f32,
}

/// The average controls of a covariate combination.
#[derive(Clone, Debug, PartialEq)]
pub struct ControlMeans {
    /// Their covariates.
    pub covariates: BTreeMap<String, String>,
    /// Number of cells.
    pub cells: u64,
    /// The mean of each gene of the atlas: of log(1 + count) for counts, otherwise of the values.
    pub mean: Vec<f32>,
}

/// The average controls of each covariate combination of an atlas.
///
/// # Errors
/// A file that can't be read, or an atlas that has no statistics or too many groups to split by covariates.
pub fn control_means(atlas: &Atlas) -> Result<Vec<ControlMeans>> {
    let none = |what: &str| {
        let place = atlas.path().display().to_string();
        Error::data(place, what, "ingest the cells again, with fewer covariates if needed")
    };
    if !atlas.manifest().files.contains_key(files::STATISTICS) {
        return Err(none("the atlas has no statistics"));
    }
    let path = atlas.path().join(files::STATISTICS);
    let bad = |what: String| Error::damaged(&path, what);
    let file = atlas.table(files::STATISTICS)?;
    let builder = parquet_read::parquet(file).map_err(|error| bad(error.to_string()))?;
    let covariates = &atlas.manifest().covariates;
    if builder.schema().fields().get(2).is_some_and(|field| field.data_type() == &DataType::Boolean)
        && !covariates.is_empty()
    {
        return Err(none("its statistics are not split by covariate: there are too many groups"));
    }
    // The columns are condition, dose, the covariates, whether it is control, the number of cells, five numbers
    // on libraries and genes, and the means.
    let (is_control, cells, mean) = (2 + covariates.len(), 3 + covariates.len(), 9 + covariates.len());
    let mask = ProjectionMask::roots(builder.parquet_schema(), (2..=cells).chain([mean]));
    let reader = Batches::new(builder.with_projection(mask).with_batch_size(256));
    let reader = reader.map_err(|error| bad(error.to_string()))?;
    let mut groups = Vec::new();
    for batch in reader {
        let batch = batch.map_err(|error| bad(error.to_string()))?;
        let read = |row: usize| {
            let text = |at: usize| Some(batch.columns().get(at)?.as_string_opt::<i32>()?.value(row).to_owned());
            let means = batch.columns().last()?.as_fixed_size_list_opt()?.value(row);
            Some(ControlMeans {
                covariates: covariates
                    .iter()
                    .enumerate()
                    .map(|(at, covariate)| Some((covariate.name.clone(), text(at)?)))
                    .collect::<Option<_>>()?,
                cells: batch.columns().get(cells - 2)?.as_primitive_opt::<UInt64Type>()?.value(row),
                mean: means.as_primitive_opt::<Float32Type>()?.values().to_vec(),
            })
        };
        let controls = batch.columns().get(is_control - 2).and_then(|column| column.as_boolean_opt());
        let controls = controls.ok_or_else(|| bad("a column is missing".into()))?;
        for row in (0..batch.num_rows()).filter(|row| controls.value(*row)) {
            groups.push(read(row).ok_or_else(|| bad("a column is missing".into()))?);
        }
    }
    Ok(groups)
}

/// The groups of an atlas, each with at most this many differential genes; `None` if the atlas has no
/// statistics.
///
/// # Errors
/// A file that can't be read.
pub fn summaries(atlas: &Atlas, most_genes: usize) -> Result<Option<Vec<GroupSummary>>> {
    if !atlas.manifest().files.contains_key(files::STATISTICS) {
        return Ok(None);
    }
    let path = atlas.path().join(files::STATISTICS);
    let bad = |what: String| Error::damaged(&path, what);
    let file = atlas.table(files::STATISTICS)?;
    let builder = parquet_read::parquet(file).map_err(|error| bad(error.to_string()))?;
    // If groups are split only by condition, there are no covariate columns.
    let by_condition = builder.schema().fields().get(2).is_some_and(|field| field.data_type() == &DataType::Boolean);
    let told_apart = if by_condition { &[] } else { atlas.manifest().covariates.as_slice() };
    let covariates: Vec<&str> = told_apart.iter().map(|covariate| covariate.name.as_str()).collect();
    // The per-gene columns, between the detected genes and the differential ones, are not read.
    let columns = builder.schema().fields().len();
    let numbers = 2 + covariates.len() + 7..columns.saturating_sub(3);
    let read_columns = (0..columns).filter(|at| !numbers.contains(at));
    let mask = ProjectionMask::roots(builder.parquet_schema(), read_columns);
    let reader = Batches::new(builder.with_projection(mask).with_batch_size(1024));
    let reader = reader.map_err(|error| bad(error.to_string()))?;
    let mut groups = Vec::new();
    for batch in reader {
        let batch = batch.map_err(|error| bad(error.to_string()))?;
        for row in 0..batch.num_rows() {
            groups
                .push(summary(&batch, row, &covariates, most_genes).ok_or_else(|| bad("a column is missing".into()))?);
        }
    }
    Ok(Some(groups))
}

fn summary(batch: &RecordBatch, row: usize, covariates: &[&str], most_genes: usize) -> Option<GroupSummary> {
    // Columns are found by index, because a covariate may have the name of another column.
    let text = |at: usize| Some(batch.columns().get(at)?.as_string_opt::<i32>()?.value(row).to_owned());
    let after = 2 + covariates.len();
    let number = |at: usize| Some(batch.columns().get(after + at)?.as_primitive_opt::<Float64Type>()?.value(row));
    let list = |at: usize| Some(batch.columns().get(after + at)?.as_list_opt::<i32>()?.value(row));
    let (names, scores, changes) = (list(7)?, list(8)?, list(9)?);
    let (scores, changes) = (scores.as_primitive_opt::<Float32Type>()?, changes.as_primitive_opt::<Float32Type>()?);
    let names = names.as_string_opt::<i32>()?;
    let differential = (0..names.len().min(most_genes)).map(|at| DifferentialGene {
        gene: names.value(at).to_owned(),
        score: scores.value(at),
        change: changes.value(at),
    });
    let values = covariates.iter().enumerate().map(|(at, name)| Some(((*name).to_owned(), text(2 + at)?)));
    Some(GroupSummary {
        condition: text(0)?,
        dose: text(1)?,
        covariates: values.collect::<Option<_>>()?,
        cells: batch.columns().get(after + 1)?.as_primitive_opt::<UInt64Type>()?.value(row),
        library_mean: number(2)?,
        library_sd: number(3)?,
        library_min: number(4)?,
        library_max: number(5)?,
        detected_genes: number(6)?,
        differential: differential.collect(),
    })
}
