//! Reads predictions that were written earlier, by this or another program, for evaluation.
//!
//! Means in wide or long form and cells are supported, in a file or in all Parquet files of a folder. Rows
//! are identified by condition, dose and covariates, taken from columns or folder names, and genes by their
//! names.

mod rows;

use std::{
    collections::{HashMap, HashSet},
    fs::File,
    path::{Path, PathBuf},
    sync::Arc,
};

use arrow::{
    array::{ArrayRef, RecordBatch, StringArray},
    datatypes::{DataType, Field, Schema, SchemaRef},
    error::ArrowError,
};
use reader::{atlas::Atlas, groups::Groups};
use schemas::{
    Error, Result,
    arrow::{GENES_KEY, SCALE_KEY},
};
use sink::{MANIFEST, hive, layout::is_named, verify};
use statistics::scale::Scale;
use storage::parquet_read::{self, Batches, Undecodable};

use self::rows::{FileLayout, GatheredProfiles};
use crate::{ContextGroups, evaluator::ModelProfiles};

/// The predictions to read, and how to convert them.
#[derive(Clone, Copy, Debug)]
pub struct PredictionSelection<'a> {
    /// The atlas that the predictions are compared with.
    pub atlas: &'a Atlas,
    /// Names of the compared genes, in the order of the atlas.
    pub genes: &'a [String],
    /// Its groups, one per batch.
    pub batch_groups: &'a Groups,
    /// The same, joined over batches.
    pub groups: &'a ContextGroups,
    /// Indices of the joined groups to evaluate.
    pub judged: &'a [usize],
    /// The scale on which profiles are compared.
    pub scale: Scale,
}

/// Reads the predictions for all wanted groups: one for each batch, or for any batch if the file names none.
///
/// # Errors
/// A path without predictions; columns, genes or conditions that are missing or appear twice; numbers on a
/// scale that can't be converted to the wanted one.
pub fn read(path: &Path, selection: &PredictionSelection<'_>) -> Result<Vec<ModelProfiles>> {
    if path.join(MANIFEST).exists()
        && let Some((name, what)) = verify(path)?.into_iter().next()
    {
        return Err(Error::damaged(path.join(name), what));
    }
    let mut profiles = GatheredProfiles::new(selection);
    for file in files(path)? {
        let open = File::open(&file).map_err(Error::io("read", &file))?;
        let not_parquet = |error: Undecodable| Error::damaged(&file, error.to_string());
        let builder = parquet_read::parquet(open).map_err(not_parquet)?;
        let mut folder_values = hive::values(file.strip_prefix(path).unwrap_or(Path::new("")));
        folder_values.retain(|(column, _)| builder.schema().field_with_name(column).is_err());
        let schema = with_folders(builder.schema(), &folder_values);
        let layout = FileLayout::new(&file, &schema, selection)?;
        let reader = Batches::new(builder.with_batch_size(layout.rows_at_once())).map_err(not_parquet)?;
        for batch in reader {
            let whole = with_values(&batch.map_err(not_parquet)?, &schema, &folder_values);
            profiles.add(&layout, &whole.map_err(|error| Error::damaged(&file, error.to_string()))?)?;
        }
    }
    let mut found: HashMap<usize, ModelProfiles> = profiles.finish(path)?;
    let members = |group: &usize| selection.groups.all()[*group].members.clone();
    let lacks = |group: &usize| !members(group).iter().any(|member| found.contains_key(member));
    let missing: Vec<usize> = selection.judged.iter().copied().filter(lacks).collect();
    if !missing.is_empty() {
        let PredictionSelection { atlas, groups, judged, .. } = selection;
        return Err(lacks_conditions(&path.display().to_string(), atlas, groups, judged.len(), &missing));
    }
    Ok(selection.judged.iter().flat_map(members).filter_map(|group| found.remove(&group)).collect())
}

/// The columns of a file, followed by those from its folder names.
fn with_folders(schema: &SchemaRef, folder_values: &[(String, String)]) -> SchemaRef {
    let fields = schema.fields().iter().cloned();
    let more = folder_values.iter().map(|(column, _)| Arc::new(Field::new(column, DataType::Utf8, false)));
    Arc::new(Schema::new_with_metadata(fields.chain(more).collect::<Vec<_>>(), schema.metadata().clone()))
}

fn with_values(
    batch: &RecordBatch,
    schema: &SchemaRef,
    folder_values: &[(String, String)],
) -> Result<RecordBatch, ArrowError> {
    let rows = batch.num_rows();
    let repeated = |value| Arc::new(StringArray::from_iter_values(std::iter::repeat_n(value, rows))) as ArrayRef;
    let columns = batch.columns().iter().cloned().chain(folder_values.iter().map(|(_, value)| repeated(value)));
    RecordBatch::try_new(Arc::clone(schema), columns.collect())
}

/// The file, or the Parquet files of a folder and its subfolders, sorted by name.
fn files(path: &Path) -> Result<Vec<PathBuf>> {
    if !path.exists() {
        return Err(Error::Missing { path: path.into(), kind: "prediction set" });
    }
    if let Some(ending) = ["h5ad", "csv"].into_iter().find(|ending| is_named(path, ending)) {
        let hint = "predict to a folder, or to a file that ends in .parquet";
        let message = format!("only predictions in Parquet can be evaluated, not .{ending}");
        return Err(Error::data(path.display().to_string(), message, hint));
    }
    if !path.is_dir() {
        return Ok(vec![path.to_path_buf()]);
    }
    let mut found = Vec::new();
    let mut folders = vec![path.to_path_buf()];
    let mut seen = HashSet::new();
    while let Some(folder) = folders.pop() {
        // Links may lead in circles.
        if !seen.insert(folder.canonicalize().map_err(Error::io("read", &folder))?) {
            continue;
        }
        for entry in std::fs::read_dir(&folder).map_err(Error::io("read", &folder))? {
            let entry = entry.map_err(Error::io("read", &folder))?.path();
            let hidden = entry.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
            match entry.extension() {
                _ if hidden => {}
                _ if entry.is_dir() => folders.push(entry),
                Some(extension) if extension == "parquet" => found.push(entry),
                _ => {}
            }
        }
    }
    if found.is_empty() {
        let hint = "give the output of `perturbine predict`: a folder of Parquet files, or one of them";
        return Err(Error::data(path.display().to_string(), "it holds no Parquet files", hint));
    }
    found.sort();
    Ok(found)
}

/// The error for predictions that lack some of the `judged` conditions.
pub(crate) fn lacks_conditions(
    path: &str,
    atlas: &Atlas,
    groups: &ContextGroups,
    judged: usize,
    missing: &[usize],
) -> Error {
    const MOST_NAMED: usize = 5;
    let table = &atlas.manifest().conditions;
    let name = |at: &usize| {
        let group = &groups.all()[*at];
        let covariates = atlas.covariate_values(&group.context).join(", ");
        format!("{} at {} ({covariates})", table.name(group.condition), table.dose_label(group.condition))
    };
    let named: Vec<String> = missing.iter().take(MOST_NAMED).map(name).collect();
    let more = if missing.len() > MOST_NAMED { ", ..." } else { "" };
    let message =
        format!("it lacks {} of the {judged} conditions to evaluate: {}{more}", missing.len(), named.join("; "));
    Error::data(path, message, "predict them with `perturbine predict --to ood`, or evaluate others with --on")
}

/// Whether a path is a prediction set, rather than cells in another format: its Parquet files have a column `mean` or
/// `expression`, and name a scale.
///
/// # Errors
/// A path that does not exist, or a Parquet file that can't be read.
pub fn is_one(path: &Path) -> Result<bool> {
    if !path.exists() {
        return Err(Error::Missing { path: path.into(), kind: "prediction" });
    }
    if path.join(MANIFEST).exists() {
        return Ok(true);
    }
    let is_parquet = |path: &Path| path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("parquet"));
    if !path.is_dir() && !is_parquet(path) {
        return Ok(false);
    }
    let Ok(files) = files(path) else { return Ok(false) };
    let schema = schema_of(&files[0])?;
    let has = |name: &str| schema.field_with_name(name).is_ok();
    Ok(schema.metadata().contains_key(SCALE_KEY) && (has("mean") || has("expression")))
}

/// Names of the genes of a prediction set; `None` if they stand in its rows.
///
/// # Errors
/// As for [`is_one`].
pub fn genes_of(path: &Path) -> Result<Option<Vec<String>>> {
    let schema = schema_of(&files(path)?[0])?;
    Ok(schema.metadata().get(GENES_KEY).and_then(|text| serde_json::from_str(text).ok()))
}

/// Whether a prediction set holds means of counts, which can only be compared on the scale `pseudobulk`.
///
/// # Errors
/// As for [`is_one`].
pub fn holds_means_of_counts(path: &Path) -> Result<bool> {
    let schema = schema_of(&files(path)?[0])?;
    let is_of_counts = schema.metadata().get(SCALE_KEY).is_some_and(|scale| scale == "counts" || scale == "cp10k");
    Ok(is_of_counts && schema.field_with_name("mean").is_ok())
}

/// Whether a prediction set holds counts, so that sums of cells are sums over its genes.
///
/// # Errors
/// As for [`is_one`].
pub fn holds_counts(path: &Path) -> Result<bool> {
    let schema = schema_of(&files(path)?[0])?;
    Ok(schema.metadata().get(SCALE_KEY).is_some_and(|scale| scale == "counts"))
}

fn schema_of(file: &Path) -> Result<SchemaRef> {
    let open = File::open(file).map_err(Error::io("read", file))?;
    let builder = parquet_read::parquet(open).map_err(|error| Error::damaged(file, error.to_string()))?;
    Ok(Arc::clone(builder.schema()))
}
