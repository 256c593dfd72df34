//! The tables that go in and out, as Arrow schemas.

use std::{collections::HashMap, sync::Arc};

use ::arrow::datatypes::{DataType, Field, Schema, SchemaRef};

/// The key of the schema's metadata under which predictions name their genes, as a JSON list.
pub const GENES_KEY: &str = "genes";
/// The key that says on which scale the numbers are: `counts`, `values`, ...
pub const SCALE_KEY: &str = "scale";
/// The key that names the model: the checksum of its weights.
pub const MODEL_KEY: &str = "model";
/// The key that names the atlas the source cells came from: its checksum.
pub const ATLAS_KEY: &str = "atlas";

/// `conditions.parquet`: a row a condition.
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

/// `splits/NAME.parquet`: a row a cell, in the atlas's order.
#[must_use]
pub fn splits_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("cell", DataType::Utf8, false), Field::new("split", DataType::Utf8, false)]))
}

/// A list of one number a gene.
#[must_use]
pub fn per_gene(name: &str, genes: i32) -> Field {
    let item = Arc::new(Field::new("item", DataType::Float32, false));
    Field::new(name, DataType::FixedSizeList(item, genes), false)
}

fn labels(covariates: &[String]) -> Vec<Field> {
    let mut fields = vec![Field::new("condition", DataType::Utf8, false), Field::new("dose", DataType::Utf8, false)];
    fields.extend(covariates.iter().map(|name| Field::new(name, DataType::Utf8, false)));
    fields.push(Field::new("extrapolation", DataType::Utf8, false));
    fields
}

/// Predicted means, wide: a row a condition.
#[must_use]
pub fn means_schema(covariates: &[String], genes: i32, metadata: HashMap<String, String>) -> SchemaRef {
    let mut fields = labels(covariates);
    fields.push(Field::new("source_cells", DataType::UInt64, false));
    fields.extend(["mean", "variance", "control_mean", "delta"].map(|name| per_gene(name, genes)));
    Arc::new(Schema::new_with_metadata(fields, metadata))
}

/// Predicted means, long: a row a condition and gene.
#[must_use]
pub fn long_means_schema(covariates: &[String], metadata: HashMap<String, String>) -> SchemaRef {
    let mut fields = labels(covariates);
    fields.push(Field::new("source_cells", DataType::UInt64, false));
    fields.push(Field::new("gene", DataType::Utf8, false));
    fields.extend(["mean", "variance", "control_mean", "delta"].map(|name| Field::new(name, DataType::Float32, false)));
    Arc::new(Schema::new_with_metadata(fields, metadata))
}

/// Predicted cells: a row a source cell and condition.
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
