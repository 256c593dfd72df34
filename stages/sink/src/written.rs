//! The content of a set of predictions, from its files' schemas and labels.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::{Path, PathBuf},
};

use arrow::{array::AsArray, datatypes::DataType};
use parquet::arrow::ProjectionMask;
use schemas::{
    Error, Result,
    arrow::{GENES_KEY, MODEL_KEY},
};
use storage::{
    parquet_read::{self, Batches, Undecodable},
    sealed::read_sealed,
};

use super::{MANIFEST, Published, hive};

/// Columns that name what a row is about.
const LABELS: [&str; 2] = ["condition", "dose"];

/// The name of a condition, and its dose where rows have one.
type ConditionAndDose = (String, Option<String>);

/// Predictions on disk: a folder, or a single Parquet or CSV file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WrittenPredictions {
    /// Number of files.
    pub files: usize,
    /// Their size in bytes.
    pub bytes: u64,
    /// Number of rows.
    pub rows: u64,
    /// Names and types of the columns; those in folder names come last.
    pub columns: Vec<(String, DataType)>,
    /// The columns that are in folder names.
    pub partitions: Vec<String>,
    /// Names of the genes, if the schema lists them.
    pub genes: Option<Vec<String>>,
    /// The rest of the schema's metadata: model, atlas, scale, precision.
    pub metadata: BTreeMap<String, String>,
    /// Conditions and doses, with their number of rows, in the order in which they come.
    pub conditions: Vec<(String, Option<String>, u64)>,
}

/// Whether a path holds Parquet files that `predict` or `embed` wrote.
#[must_use]
pub fn is_written(path: &Path) -> bool {
    if path.is_dir() {
        return path.join(MANIFEST).exists();
    }
    let schema = File::open(path).ok().filter(|_| path.extension().is_some_and(|extension| extension == "parquet"));
    let schema = schema.and_then(|file| parquet_read::parquet(file).ok());
    schema.is_some_and(|builder| builder.schema().metadata().contains_key(MODEL_KEY))
}

impl WrittenPredictions {
    /// Reads the schema and the labels of a folder or file.
    ///
    /// # Errors
    /// A folder without a readable manifest, or a file that is missing or damaged.
    pub fn read(path: &Path) -> Result<Self> {
        let files: Vec<PathBuf> = match path.is_dir() {
            true => {
                let published: Published = read_sealed(&path.join(MANIFEST))?;
                let outside = published.files.iter().find(|file| !file.is_below());
                if let Some(file) = outside {
                    let message = format!("a file's name leads out of the folder: {}", file.name);
                    return Err(Error::damaged(path.join(MANIFEST), message));
                }
                published.files.iter().map(|file| path.join(&file.name)).collect()
            }
            false => vec![path.to_path_buf()],
        };
        let mut found = Self { files: files.len(), ..Self::default() };
        let mut places = BTreeMap::new();
        for file in files {
            found.add(path, &file, &mut places)?;
        }
        Ok(found)
    }

    /// Reads the columns and the labels of a CSV file, which has no other metadata. Columns in which every value is a number are
    /// numbers.
    ///
    /// # Errors
    /// A file that is missing or damaged.
    pub fn read_csv(path: &Path) -> Result<Self> {
        let damaged = |error: csv::Error| match error.into_kind() {
            csv::ErrorKind::Io(error) => Error::io("read", path)(error),
            other => Error::damaged(path, format!("{other:?}")),
        };
        let mut reader = csv::Reader::from_path(path).map_err(damaged)?;
        let names: Vec<String> = reader.headers().map_err(damaged)?.iter().map(str::to_owned).collect();
        let labels = LABELS.map(|label| names.iter().position(|name| name == label));
        let mut are_numbers = vec![true; names.len()];
        let mut found = Self { files: 1, ..Self::default() };
        found.bytes = fs::metadata(path).map_err(Error::io("read", path))?.len();
        let (mut places, mut record) = (BTreeMap::new(), csv::StringRecord::new());
        while reader.read_record(&mut record).map_err(damaged)? {
            found.rows += 1;
            for (is_number, value) in are_numbers.iter_mut().zip(&record) {
                *is_number &= value.is_empty() || value.parse::<f64>().is_ok();
            }
            let [condition, dose] = labels.map(|label| label.and_then(|at| record.get(at)).map(str::to_owned));
            if let Some(condition) = condition {
                found.count((condition, dose), &mut places);
            }
        }
        let types = are_numbers.into_iter().map(|are| if are { DataType::Float64 } else { DataType::Utf8 });
        found.columns = names.into_iter().zip(types).collect();
        Ok(found)
    }

    /// Counts a row about a condition and dose; `places` has the indices of those that were seen.
    fn count(&mut self, key: ConditionAndDose, places: &mut BTreeMap<ConditionAndDose, usize>) {
        let place = *places.entry(key.clone()).or_insert(self.conditions.len());
        match self.conditions.get_mut(place) {
            Some((.., rows)) => *rows += 1,
            None => self.conditions.push((key.0, key.1, 1)),
        }
    }

    /// Adds a file; `places` has the indices of conditions that were seen.
    fn add(&mut self, folder: &Path, path: &Path, places: &mut BTreeMap<ConditionAndDose, usize>) -> Result<()> {
        let damaged = |error: Undecodable| Error::damaged(path, error.to_string());
        let file = File::open(path).map_err(Error::io("read", path))?;
        self.bytes += fs::metadata(path).map_err(Error::io("read", path))?.len();
        let builder = parquet_read::parquet(file).map_err(damaged)?;
        let mut folder_values = hive::values(path.strip_prefix(folder).unwrap_or(Path::new("")));
        folder_values.retain(|(column, _)| builder.schema().field_with_name(column).is_err());
        if self.columns.is_empty() {
            let schema = builder.schema();
            self.columns =
                schema.fields().iter().map(|field| (field.name().clone(), field.data_type().clone())).collect();
            self.columns.extend(folder_values.iter().map(|(column, _)| (column.clone(), DataType::Utf8)));
            self.partitions = folder_values.iter().map(|(column, _)| column.clone()).collect();
            self.genes = schema.metadata().get(GENES_KEY).and_then(|text| serde_json::from_str(text).ok());
            let others = schema.metadata().iter().filter(|(key, _)| *key != GENES_KEY && !key.starts_with("ARROW"));
            self.metadata = others.map(|(key, text)| (key.clone(), text.clone())).collect();
        }
        let in_folder = |name: &str| folder_values.iter().find(|(column, _)| column == name).map(|(_, value)| value);
        let mask = ProjectionMask::columns(builder.parquet_schema(), LABELS);
        for batch in Batches::new(builder.with_projection(mask)).map_err(damaged)? {
            let batch = batch.map_err(damaged)?;
            self.rows += batch.num_rows() as u64;
            let texts = LABELS.map(|name| batch.column_by_name(name).and_then(|column| column.as_string_opt::<i32>()));
            for row in 0..batch.num_rows() {
                let value = |at: usize| match texts[at] {
                    Some(column) => Some(column.value(row).to_owned()),
                    None => in_folder(LABELS[at]).cloned(),
                };
                let Some(condition) = value(0) else { break };
                let key = (condition, value(1));
                self.count(key, places);
            }
        }
        Ok(())
    }
}
