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
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use arrow::array::{Array, Float64Array, RecordBatch, StringArray, UInt64Array};
use schemas::{
    Error, Result,
    arrow::crossval_schema,
    config::{GeneChoice, Settings},
};
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
    /// Checksums of the files that the settings name, by what these are; plans of older versions have none.
    #[serde(default)]
    pub inputs: BTreeMap<String, String>,
}

impl CrossPlan {
    /// Whether another plan has the same settings. Where lists of genes have checksums, their paths don't matter: Python writes a
    /// list to a temporary file, which has another name each time.
    fn has_settings_of(&self, other: &Self) -> bool {
        let mut settings = self.settings.clone();
        if let (GeneChoice::Listed(own), GeneChoice::Listed(path), false) =
            (&mut settings.data.genes, &other.settings.data.genes, self.inputs.is_empty())
        {
            own.clone_from(path);
        }
        settings == other.settings
    }
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
        // The plan comes first: another process that has just begun here has it as soon as there is anything else to see.
        if path.exists() && has_content(path)? && !Self::is_at(path) {
            let message = format!("{} already exists and is not a cross-validation", path.display());
            return Err(Error::usage(message, "remove the folder first, or choose another name"));
        }
        Ok(Self(path.to_path_buf()))
    }

    /// Whether a folder holds a cross-validation.
    #[must_use]
    pub fn is_at(path: &Path) -> bool {
        path.join(files::PLAN).exists()
    }

    /// The folders of models, also of those that are lost, but whose evaluations are there.
    ///
    /// # Errors
    /// A plan or folder that can't be read.
    pub fn models(&self) -> Result<BTreeSet<PathBuf>> {
        let folds = self.plan()?.map(|plan| plan.folds).unwrap_or_default();
        let mut models = BTreeSet::new();
        for fold in folds.iter().map(|fold| self.fold(fold)).filter(|fold| fold.exists()) {
            for entry in fs::read_dir(&fold).map_err(Error::io("read", &fold))? {
                let path = entry.map_err(Error::io("read", &fold))?.path();
                let is_hidden = path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
                models.extend((!is_hidden).then(|| path.with_extension("")));
            }
        }
        Ok(models)
    }

    /// The evaluation that completes a model of [`CrossFolder::models`].
    #[must_use]
    pub fn evaluation_of(model: &Path) -> PathBuf {
        model.with_extension("json")
    }

    /// The evaluations and tables that can't be read or are lost, with the reasons; they have no checksums.
    ///
    /// # Errors
    /// A plan or folder that can't be read.
    pub fn damages(&self) -> Result<Vec<(PathBuf, String)>> {
        let [result, table] = [files::RESULT, files::TABLE].map(|name| self.0.join(name));
        let crossed = read::<CrossEvaluation>(&result);
        // Before a cross-validation is complete, it lacks evaluations and tables, which are no damage.
        let evaluations = self.models()?.into_iter().map(|model| Self::evaluation_of(&model));
        let mut evaluations: BTreeSet<PathBuf> = evaluations.filter(|path| path.exists()).collect();
        if let Ok(Some(crossed)) = &crossed {
            evaluations.extend(crossed.folds.iter().map(|fold| self.evaluation_path(&fold.name, fold.seed)));
        }
        let evaluation = |path: PathBuf| (read::<FoldEvaluation>(&path).map(|read| read.is_some()), path);
        let mut all: Vec<(Result<bool>, PathBuf)> = evaluations.into_iter().map(evaluation).collect();
        if !matches!(crossed, Ok(None)) {
            let whole = match table.exists() {
                true => sink::verify_file(&table).and_then(|damage| match damage {
                    Some(what) => Err(Error::damaged(&table, what)),
                    None => Ok(true),
                }),
                false => Ok(false),
            };
            all.extend([(crossed.map(|_| true), result), (whole, table)]);
        }
        let damage = |(read, path): (Result<bool>, PathBuf)| match read {
            Ok(true) => None,
            Ok(false) => Some((path, "it is missing".to_owned())),
            Err(error) => Some((path, error.to_string())),
        };
        Ok(all.into_iter().filter_map(damage).collect())
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
            (!kept.has_settings_of(&plan), "different settings"),
        ];
        if let Some(what) = differs.into_iter().find_map(|(differs, what)| differs.then_some(what)) {
            let message = format!("the models in {} were trained with {what}", self.0.display());
            return Err(Error::usage(message, "continue with the same command, or choose another folder with --out"));
        }
        match kept.inputs.iter().find(|(input, checksum)| plan.inputs.get(*input) != Some(checksum)) {
            None => Ok(()),
            Some((input, _)) => Err(Error::usage(
                format!("the {input} is not as it was when the models in {} were trained with it", self.0.display()),
                "restore it, or choose another folder with --out",
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

    /// The names, below the folder, of what belongs to a fold and seed: the model, and its evaluation.
    #[must_use]
    pub fn names(fold: &str, seed: u64) -> [PathBuf; 2] {
        let folder = Self(PathBuf::new());
        [folder.model(fold, seed), folder.evaluation_path(fold, seed)]
    }

    /// Writes the results of every fold and seed that has an evaluation.
    ///
    /// # Errors
    /// A folder without a plan or evaluations, or that can't be read, or a full or broken disk.
    pub fn finish_all(&self) -> Result<CrossEvaluation> {
        let plan = self.plan()?.ok_or_else(|| Error::damaged(&self.0, "it has no plan"))?;
        let models = self.models()?;
        let mut evaluations = Vec::new();
        for fold in &plan.folds {
            let folder = self.fold(fold);
            let seed_of =
                |model: &PathBuf| model.strip_prefix(&folder).ok()?.to_str()?.strip_prefix("seed-")?.parse().ok();
            let seeds: BTreeSet<u64> = models.iter().filter_map(seed_of).collect();
            for seed in seeds {
                let evaluation = self.evaluation(fold, seed)?;
                evaluations.push(
                    evaluation
                        .ok_or_else(|| Error::Missing { path: self.evaluation_path(fold, seed), kind: "evaluation" })?,
                );
            }
        }
        if evaluations.is_empty() {
            return Err(Error::damaged(&self.0, "it has no evaluations"));
        }
        let crossed = CrossEvaluation::new(evaluations);
        self.finish(&crossed)?;
        Ok(crossed)
    }

    /// The results of a cross-validation that is complete; `None` if it is not.
    ///
    /// # Errors
    /// Results that can't be read.
    pub fn result(&self) -> Result<Option<CrossEvaluation>> {
        read(&self.0.join(files::RESULT))
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

/// Whether a folder has anything whose name does not begin with a dot, as those of files in the making do.
fn has_content(folder: &Path) -> Result<bool> {
    for entry in folder.read_dir().map_err(Error::io("read", folder))? {
        if !entry.map_err(Error::io("read", folder))?.file_name().as_encoded_bytes().starts_with(b".") {
            return Ok(true);
        }
    }
    Ok(false)
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    if !path.exists() {
        return Ok(None);
    }
    let bytes = fs::read(path).map_err(Error::io("read", path))?;
    serde_json::from_slice(&bytes).map(Some).map_err(|error| Error::damaged(path, error.to_string()))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_another_process_begins_is_no_reason_to_remove_it() {
        let home = tempfile::tempdir().expect("a folder");
        write_atomically(&home.path().join(".crossval-plan.json.tmp-1-0"), b"").expect("a file");
        assert!(CrossFolder::at(home.path()).is_ok());
        write_atomically(&home.path().join("notes.txt"), b"").expect("a file");
        assert!(CrossFolder::at(home.path()).is_err());
    }
}
