//! Arrow schemas of input and output tables.

use crate::numbers::bounded;
use std::{collections::HashMap, sync::Arc};

use ::arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use crate::atlas::ValueKind;

/// The metadata key for a prediction's gene names, a JSON list.
pub const GENES_KEY: &str = "genes";
/// The metadata key for the scale of the numbers: `counts`, `values`, ...
pub const SCALE_KEY: &str = "scale";
/// The dictionary in `uns` of an `.h5ad` file of predictions that holds such texts.
pub const PROVENANCE_KEY: &str = "perturbine";
/// The metadata key for the model: the checksum of its weights.
pub const MODEL_KEY: &str = "model";
/// The metadata key for the atlas of the source cells: its checksum.
pub const ATLAS_KEY: &str = "atlas";
/// The metadata key for the label of control.
pub const CONTROL_KEY: &str = "control";

/// The key in a field's metadata of the name that the column has in its file, where the atlas gives it another one: an own column
/// `cell` of `obs`, as an atlas calls the names of cells, or `gene` of `var`.
pub const NAME_IN_FILE: &str = "perturbine.name_in_file";

/// The file that lists those of a folder of predictions; written last.
pub const PREDICTIONS_MANIFEST: &str = "_manifest.json";

/// Column names of output tables that no covariate may have.
pub const RESERVED_COLUMNS: [&str; 31] = [
    "after",
    "basal",
    "cell",
    "cells",
    "change",
    "condition",
    "control",
    "control_mean",
    "corrected",
    "delta",
    "detected_genes",
    "differential_changes",
    "differential_genes",
    "differential_scores",
    "distance",
    "dose",
    "expression",
    "extrapolation",
    "gene",
    "library_max",
    "library_mean",
    "library_min",
    "library_sd",
    "log2_fold_change",
    "mean",
    "mean_count",
    "p",
    "source_cells",
    "source_condition",
    "standard_error",
    "variance",
];

/// The index of the column that is called `name` in a file. Where that is also what an atlas calls the index (`cell` or `gene`), it
/// is the file's own column.
#[must_use]
pub fn place_of_column(schema: &Schema, name: &str) -> Option<usize> {
    let is_renamed = |field: &Arc<Field>| field.metadata().get(NAME_IN_FILE).is_some_and(|own| own == name);
    schema.fields().iter().position(is_renamed).or_else(|| schema.index_of(name).ok())
}

/// `conditions.parquet`: one row per condition.
#[must_use]
pub fn conditions_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("condition", DataType::Utf8, false),
        Field::new("dose", DataType::Utf8, false),
        Field::new_list("perturbations", Field::new_list_field(DataType::Utf8, false), false),
        Field::new_list("doses", Field::new_list_field(DataType::Float64, false), false),
        Field::new("control", DataType::Boolean, false),
        Field::new("cells", DataType::UInt64, false),
    ]))
}

/// `splits/NAME.parquet`: one row per cell, in the atlas's order. `split` is `train`, `valid` or `ood`; `reference`
/// marks the held-out controls from which real changes are measured.
#[must_use]
pub fn splits_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("cell", DataType::Utf8, false),
        Field::new("split", DataType::Utf8, false),
        Field::new("reference", DataType::Boolean, false),
    ]))
}

/// `crossval.parquet`: one row per fold, seed, prediction (`model`, a baseline or `ceiling`) and score.
#[must_use]
pub fn crossval_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("fold", DataType::Utf8, false),
        Field::new("seed", DataType::UInt64, false),
        Field::new("prediction", DataType::Utf8, false),
        Field::new("score", DataType::Utf8, false),
        Field::new("value", DataType::Float64, true),
    ]))
}

/// `statistics.parquet`: one row per group of cells that share condition, dose and covariates; control is
/// first for each covariate combination.
///
/// | column | is |
/// |---|---|
/// | `condition`, `dose`, the covariates | what the cells share |
/// | `control`, `cells` | whether they are controls, and how many |
/// | `library_mean`, `library_sd`, `library_min`, `library_max` | of the sums of each cell's values (population deviation) |
/// | `detected_genes` | the mean number of genes with a value |
/// | `mean`, `variance` | of each gene: of log(1 + count) for counts, otherwise of the values (population variance) |
/// | `mean_count` | of each gene, for counts only |
/// | `differential_genes` | up to 100 names: the largest scores against the controls of the same covariates; none without controls |
/// | `differential_scores` | \|Δ mean\| / √(var_t/n_t + var_c/n_c + 1e-9) of each of them |
/// | `differential_changes` | Δ mean of each of them |
///
/// If the groups' lists would take more bytes than the matrix has non-zeros (and more than 16 MiB), a group
/// is all cells of a condition and dose, and there are no covariate columns.
///
/// As for predictions, the metadata holds the gene names, and the scale: `log1p` or `values`.
#[must_use]
pub fn statistics_schema(covariates: &[String], genes: &[String], values: ValueKind) -> SchemaRef {
    let width = bounded(genes.len());
    let scale = if values == ValueKind::Counts { "log1p" } else { "values" };
    let names = serde_json::Value::from(genes).to_string();
    let metadata = HashMap::from([(GENES_KEY.to_owned(), names), (SCALE_KEY.to_owned(), scale.to_owned())]);
    let text = |name: &str| Field::new(name, DataType::Utf8, false);
    let mut fields = vec![text("condition"), text("dose")];
    fields.extend(covariates.iter().map(|name| text(name)));
    fields.push(Field::new("control", DataType::Boolean, false));
    fields.push(Field::new("cells", DataType::UInt64, false));
    fields.extend(
        ["library_mean", "library_sd", "library_min", "library_max", "detected_genes"]
            .map(|name| Field::new(name, DataType::Float64, false)),
    );
    fields.extend(["mean", "variance"].map(|name| per_gene(name, width)));
    if values == ValueKind::Counts {
        fields.push(per_gene("mean_count", width));
    }
    fields.push(Field::new("differential_genes", DataType::List(Arc::new(name_item())), false));
    fields.extend(
        ["differential_scores", "differential_changes"]
            .map(|name| Field::new(name, DataType::List(Arc::new(list_item())), false)),
    );
    Arc::new(Schema::new_with_metadata(fields, metadata))
}

/// An entry of a list of numbers.
#[must_use]
pub fn list_item() -> Field {
    Field::new("item", DataType::Float32, false)
}

/// An entry of a list of names.
#[must_use]
pub fn name_item() -> Field {
    Field::new("item", DataType::Utf8, false)
}

/// A list of one number per gene.
#[must_use]
pub fn per_gene(name: &str, genes: i32) -> Field {
    Field::new(name, DataType::FixedSizeList(Arc::new(list_item()), genes), false)
}

fn labels(covariates: &[String]) -> Vec<Field> {
    let mut fields = vec![Field::new("condition", DataType::Utf8, false), Field::new("dose", DataType::Utf8, false)];
    fields.extend(covariates.iter().map(|name| Field::new(name, DataType::Utf8, false)));
    fields.push(Field::new("extrapolation", DataType::Utf8, false));
    fields
}

/// Predicted means, wide: one row per condition.
#[must_use]
pub fn means_schema(covariates: &[String], genes: i32, metadata: HashMap<String, String>) -> SchemaRef {
    let mut fields = labels(covariates);
    fields.push(Field::new("source_cells", DataType::UInt64, false));
    fields.push(Field::new("distance", DataType::Float32, true));
    fields.extend(["mean", "variance", "control_mean", "delta"].map(|name| per_gene(name, genes)));
    Arc::new(Schema::new_with_metadata(fields, metadata))
}

/// Predicted means, long: one row per condition and gene.
#[must_use]
pub fn long_means_schema(covariates: &[String], metadata: HashMap<String, String>) -> SchemaRef {
    let mut fields = labels(covariates);
    fields.push(Field::new("source_cells", DataType::UInt64, false));
    fields.push(Field::new("distance", DataType::Float32, true));
    fields.push(Field::new("gene", DataType::Utf8, false));
    fields.extend(["mean", "variance", "control_mean", "delta"].map(|name| Field::new(name, DataType::Float32, false)));
    Arc::new(Schema::new_with_metadata(fields, metadata))
}

/// Predicted changes, long: one row per condition and gene. Numbers that are not defined, or not known of a model, are null.
#[must_use]
pub fn changes_schema(covariates: &[String], metadata: HashMap<String, String>) -> SchemaRef {
    let mut fields = labels(covariates);
    fields.push(Field::new("source_cells", DataType::UInt64, false));
    fields.push(Field::new("distance", DataType::Float32, true));
    fields.push(Field::new("gene", DataType::Utf8, false));
    fields.extend(["control_mean", "mean", "delta"].map(|name| Field::new(name, DataType::Float32, false)));
    fields.extend(["log2_fold_change", "standard_error"].map(|name| Field::new(name, DataType::Float32, true)));
    fields.push(Field::new("p", DataType::Float64, true));
    Arc::new(Schema::new_with_metadata(fields, metadata))
}

/// Latents of predicted cells: one row per source cell and condition.
#[must_use]
pub fn latents_schema(covariates: &[String], latent: i32, metadata: HashMap<String, String>) -> SchemaRef {
    let mut fields =
        vec![Field::new("cell", DataType::Utf8, false), Field::new("source_condition", DataType::Utf8, false)];
    fields.extend(labels(covariates));
    fields.extend(["basal", "corrected", "after"].map(|name| per_gene(name, latent)));
    Arc::new(Schema::new_with_metadata(fields, metadata))
}

/// Latents of unchanged cells, one row per cell; null if undefined because the model does not know the
/// condition or a covariate value.
#[must_use]
pub fn embedded_cells_schema(covariates: &[String], latent: i32, metadata: HashMap<String, String>) -> SchemaRef {
    let text = |name: &str| Field::new(name, DataType::Utf8, false);
    let mut fields = vec![text("cell"), text("condition"), text("dose")];
    fields.extend(covariates.iter().map(|name| text(name)));
    fields.push(per_gene("basal", latent));
    fields.extend(["corrected", "after"].map(|name| per_gene(name, latent).with_nullable(true)));
    Arc::new(Schema::new_with_metadata(fields, metadata))
}

/// An embedding table: one row per perturbation or covariate value. `similarity` is the cosine of the angle
/// to every perturbation, or to every value of the same covariate, in row order; null if one of the two
/// vectors is zero.
#[must_use]
pub fn embeddings_schema(of_covariates: bool, latent: i32, metadata: HashMap<String, String>) -> SchemaRef {
    let text = |name: &str| Field::new(name, DataType::Utf8, false);
    let mut fields = if of_covariates { vec![text("covariate"), text("value")] } else { vec![text("perturbation")] };
    fields.push(per_gene("embedding", latent));
    let cosine = Field::new("item", DataType::Float32, true);
    fields.push(Field::new("similarity", DataType::List(Arc::new(cosine)), false));
    Arc::new(Schema::new_with_metadata(fields, metadata))
}

/// A dose response: one row per covariate combination, dose and gene. `change` is `mean` minus `control`,
/// both predicted; `dose_was` is `trained`, `interpolated` or `extrapolated`.
#[must_use]
pub fn response_schema(covariates: &[String]) -> SchemaRef {
    let mut fields = labels(covariates);
    fields.push(Field::new("dose_was", DataType::Utf8, false));
    fields.push(Field::new("distance", DataType::Float32, true));
    fields.push(Field::new("gene", DataType::Utf8, false));
    fields.extend(["mean", "control", "change"].map(|name| Field::new(name, DataType::Float32, false)));
    Arc::new(Schema::new(fields))
}

/// Predicted cells: one row per source cell and condition.
#[must_use]
pub fn cells_schema(covariates: &[String], genes: i32, metadata: HashMap<String, String>) -> SchemaRef {
    let mut fields =
        vec![Field::new("cell", DataType::Utf8, false), Field::new("source_condition", DataType::Utf8, false)];
    fields.extend(labels(covariates));
    fields.push(per_gene("expression", genes));
    Arc::new(Schema::new_with_metadata(fields, metadata))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(schema: &Schema) -> Vec<String> {
        schema.fields().iter().map(|field| format!("{}: {}", field.name(), field.data_type())).collect()
    }

    #[test]
    fn output_columns_are_what_readers_rely_on() {
        let covariates = ["cell_type".to_owned()];
        let list = "FixedSizeList(3 x non-null Float32)";
        assert_eq!(
            names(&means_schema(&covariates, 3, HashMap::new())),
            [
                "condition: Utf8".into(),
                "dose: Utf8".into(),
                "cell_type: Utf8".into(),
                "extrapolation: Utf8".into(),
                "source_cells: UInt64".into(),
                "distance: Float32".into(),
                format!("mean: {list}"),
                format!("variance: {list}"),
                format!("control_mean: {list}"),
                format!("delta: {list}"),
            ]
        );
        assert_eq!(
            names(&cells_schema(&covariates, 3, HashMap::new())),
            [
                "cell: Utf8".into(),
                "source_condition: Utf8".into(),
                "condition: Utf8".into(),
                "dose: Utf8".into(),
                "cell_type: Utf8".into(),
                "extrapolation: Utf8".into(),
                format!("expression: {list}"),
            ]
        );
    }
}
