//! A cross-validation on disk: a folder with the models, the evaluation of each, and the tables of all.
//!
//! ```text
//! FOLDER/crossval-plan.json           atlas, folds, settings
//! FOLDER/fold-NAME/seed-N/            the model
//! FOLDER/fold-NAME/seed-N.json        its evaluation, which completes this fold and seed
//! FOLDER/crossval.json                everything, as `crossval --json` gives it
//! FOLDER/crossval.parquet             one row per fold, seed, prediction and score
//! ```

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use arrow::array::{Array, Float64Array, RecordBatch, StringArray, UInt64Array};
use schemas::{Error, Result, arrow::crossval_schema, config::Settings};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sink::hive::escaped;
use storage::{
    disk::{StagedFile, create_folders, write_atomically},
    parquet_file::ParquetFile,
};

use crate::{CrossEvaluation, FoldEvaluation, PredictionScores};

/// File names in the folder.
pub mod files {
    /// The plan.
    pub const PLAN: &str = "crossval-plan.json";
    /// All results.
    pub const RESULT: &str = "crossval.json";
    /// The scores.
    pub const TABLE: &str = "crossval.parquet";
}

/// The plan of a cross-validation, without its seeds: all models of a folder share it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CrossPlan {
    /// The scheme of the folds.
    pub scheme: String,
    /// The seed of the folds and of the validation cells.
    pub split_seed: u64,
    /// The folds' names.
    pub folds: Vec<String>,
    /// Checksum of the atlas.
    pub atlas: String,
    /// The settings; their seed is ignored.
    pub settings: Settings,
}

/// The folder of a cross-validation.
#[derive(Clone, Debug)]
pub struct CrossFolder(PathBuf);

impl CrossFolder {
    /// The folder at a path, whether it exists or not.
    ///
    /// # Errors
    /// A file, or a folder with other content.
    pub fn at(path: &Path) -> Result<Self> {
        if path.is_file() {
            return Err(Error::usage(format!("{} is a file", path.display()), "give --out the name of a folder"));
        }
        let is_ours = path.join(files::PLAN).exists();
        if !is_ours && path.exists() && path.read_dir().map_err(Error::io("read", path))?.next().is_some() {
            let message = format!("{} already exists and is not a cross-validation", path.display());
            return Err(Error::usage(message, "remove the folder first, or choose another name"));
        }
        Ok(Self(path.to_path_buf()))
    }

    /// The stored plan; `None` if there is none yet.
    ///
    /// # Errors
    /// A plan that can't be read.
    pub fn plan(&self) -> Result<Option<CrossPlan>> {
        read(&self.0.join(files::PLAN))
    }

    /// Refuses to continue with a plan that differs from the folder's.
    ///
    /// # Errors
    /// A different plan; the message describes the difference.
    pub fn check(&self, plan: &CrossPlan) -> Result<()> {
        let Some(kept) = self.plan()? else { return Ok(()) };
        // Numbers may lose their last bit in JSON, so both plans are converted.
        let plan: CrossPlan = serde_json::to_value(plan)
            .and_then(|value| serde_json::from_str(&value.to_string()))
            .map_err(|error| Error::Bug(error.to_string()))?;
        let differs = [
            (kept.atlas != plan.atlas, "a different atlas"),
            (kept.scheme != plan.scheme, "a different --scheme"),
            (kept.split_seed != plan.split_seed, "a different --split-seed"),
            (kept.folds != plan.folds, "different folds"),
            (kept.settings != plan.settings, "different settings"),
        ];
        match differs.into_iter().find_map(|(differs, what)| differs.then_some(what)) {
            None => Ok(()),
            Some(what) => Err(Error::usage(
                format!("the models in {} were trained with {what}", self.0.display()),
                "continue with the same command, or choose another folder with --out",
            )),
        }
    }

    /// Writes the plan, before any training.
    ///
    /// # Errors
    /// A different plan that already exists, or a full or broken disk.
    pub fn begin(&self, plan: &CrossPlan) -> Result<()> {
        self.check(plan)?;
        if self.plan()?.is_none() {
            write(&self.0, &self.0.join(files::PLAN), plan)?;
        }
        Ok(())
    }

    /// The folder of the model of a fold and seed.
    #[must_use]
    pub fn model(&self, fold: &str, seed: u64) -> PathBuf {
        self.fold(fold).join(format!("seed-{seed}"))
    }

    /// The evaluation of a fold and seed; `None` if it is not complete.
    ///
    /// # Errors
    /// An evaluation that can't be read.
    pub fn evaluation(&self, fold: &str, seed: u64) -> Result<Option<FoldEvaluation>> {
        read(&self.evaluation_path(fold, seed))
    }

    /// Stores the evaluation of a fold and seed, and returns it as it will be read from now on.
    ///
    /// # Errors
    /// A full or broken disk.
    pub fn keep(&self, evaluation: FoldEvaluation) -> Result<FoldEvaluation> {
        let FoldEvaluation { name, seed, .. } = &evaluation;
        write(&self.fold(name), &self.evaluation_path(name, *seed), &evaluation)?;
        Ok(self.evaluation(name, *seed)?.unwrap_or(evaluation))
    }

    /// Writes all results; older tables are replaced.
    ///
    /// # Errors
    /// A full or broken disk.
    pub fn finish(&self, crossed: &CrossEvaluation) -> Result<()> {
        write_table(crossed, &self.0.join(files::TABLE))?;
        write(&self.0, &self.0.join(files::RESULT), crossed)
    }

    fn fold(&self, name: &str) -> PathBuf {
        self.0.join(format!("fold-{}", escaped(name)))
    }

    fn evaluation_path(&self, fold: &str, seed: u64) -> PathBuf {
        self.fold(fold).join(format!("seed-{seed}.json"))
    }
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    if !path.exists() {
        return Ok(None);
    }
    let text = fs::read_to_string(path).map_err(Error::io("read", path))?;
    serde_json::from_str(&text).map(Some).map_err(|error| Error::damaged(path, error.to_string()))
}

fn write(folder: &Path, path: &Path, value: &impl Serialize) -> Result<()> {
    create_folders(folder)?;
    let text = serde_json::to_vec(value).map_err(|error| Error::Bug(error.to_string()))?;
    write_atomically(path, &text)
}

/// One row per fold, seed, prediction and score.
fn write_table(crossed: &CrossEvaluation, path: &Path) -> Result<()> {
    let mut rows = Vec::new();
    for fold in &crossed.folds {
        for (prediction, scores) in fold.predictions() {
            let scores = PredictionScores::NAMES.into_iter().zip(scores.values());
            rows.extend(scores.map(|(score, value)| (fold.name.as_str(), fold.seed, prediction, score, value)));
        }
    }
    let columns: Vec<Arc<dyn Array>> = vec![
        Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.0))),
        Arc::new(UInt64Array::from_iter_values(rows.iter().map(|row| row.1))),
        Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.2))),
        Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.3))),
        Arc::new(Float64Array::from_iter(rows.iter().map(|row| row.4))),
    ];
    let table = RecordBatch::try_new(crossval_schema(), columns).map_err(|error| Error::Bug(error.to_string()))?;
    let staged = StagedFile::beside(path)?;
    let mut file = ParquetFile::create(staged.path(), crossval_schema())?;
    file.write(&table)?;
    file.finish()?;
    staged.commit()
}
