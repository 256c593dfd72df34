//! The description of a trained model: the file `model.json` in its folder, readable without libtorch.
//!
//! ```no_run
//! let card = model_card::read(std::path::Path::new("kang.model"))?;
//! println!("{} genes, {} epochs", card.genes.len(), card.epochs);
//! # Ok::<(), schemas::Error>(())
//! ```
#![forbid(unsafe_code)]

mod labels;

use std::{
    fs,
    path::{Path, PathBuf},
};

use schemas::{
    Error, Result,
    atlas::ValueKind,
    conditions::LabelRules,
    config::{MonitoredScore, Settings},
    gene_selection::GeneSelection,
    model_files as files,
    vocabulary::Vocabulary,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use storage::{
    disk::{checksum_of, write_atomically},
    sealed::{sealed, unsealed},
};

pub use labels::TrainingLabels;

/// The layout that this version writes; readers refuse any other.
pub const FORMAT_VERSION: u32 = 1;

/// `model.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelCard {
    /// [`FORMAT_VERSION`] at the time of writing.
    pub format: u32,
    /// The program that wrote it.
    pub written_by: String,
    /// All settings; `recon_loss` is resolved.
    pub config: Settings,
    /// The names that the model knows.
    pub vocabulary: Vocabulary,
    /// The rules for reading labels.
    pub rules: LabelRules,
    /// Names of its genes, in the order of its outputs.
    pub genes: Vec<String>,
    /// How the genes were chosen.
    #[serde(default)]
    pub gene_selection: GeneSelection,
    /// The kind of the values.
    pub values: ValueKind,
    /// Whether the values are continuous and none is below 0, so that no prediction should be; not known of older models.
    #[serde(default)]
    pub non_negative: bool,
    /// Where its labels were read from; `None` in models of older versions and of other programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<TrainingLabels>,
    /// Checksum of the atlas it was trained on.
    pub atlas: String,
    /// Name of the split it was trained with.
    pub split: String,
    /// Number of trained epochs.
    pub epochs: u32,
    /// The epoch that these weights are from; `None` if there were no `valid` cells.
    pub best: Option<BestEpoch>,
    /// XXH3-64 of the weights file, by which predictions identify a model.
    pub weights: String,
    /// XXH3-64 of the split's file; `None` in models of older versions and of other programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split_checksum: Option<String>,
}

impl ModelCard {
    /// The file in a model's folder with the split of its training; `None` if the model came from another program.
    ///
    /// # Errors
    /// A file that is missing, or that differs from the one that was written.
    pub fn split_file(&self, folder: &Path) -> Result<Option<PathBuf>> {
        let path = folder.join(files::SPLIT);
        if !path.exists() {
            // Imported models were trained on no atlas of ours.
            if self.atlas.is_empty() && self.split_checksum.is_none() {
                return Ok(None);
            }
            let message = "it is missing: it holds the split that the model was trained with";
            let hint = "restore it from a copy of the model, or run the same train command with --resume, which writes it again";
            return Err(Error::data(path.display().to_string(), message, hint));
        }
        if self.split_checksum.is_some() && checksum_of(&path)?.checksum != self.split_checksum {
            return Err(Error::damaged(path, "its checksum does not match model.json"));
        }
        Ok(Some(path))
    }
}

/// The best epoch so far.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct BestEpoch {
    /// The epoch.
    pub epoch: u32,
    /// The kind of score by which it was chosen.
    pub monitor: MonitoredScore,
    /// The score on its `valid` cells.
    pub value: f64,
}

/// Reads the description of a model, without its weights.
///
/// # Errors
/// A folder that is not a model, has another format version, or an offset that is gone.
pub fn read(folder: &Path) -> Result<ModelCard> {
    if !folder.exists() {
        return Err(Error::Missing { path: folder.into(), kind: "model" });
    }
    let path = folder.join(files::CARD);
    let text = fs::read_to_string(&path).map_err(|_| without_card(folder))?;
    let mut card: Value = unsealed(&text, &path)?;
    refuse_ridge(&mut card, &path)?;
    let card: ModelCard = serde_json::from_value(card).map_err(|error| Error::damaged(&path, error.to_string()))?;
    if card.format != FORMAT_VERSION {
        let message = format!("the model has format {}; this version reads {FORMAT_VERSION}", card.format);
        return Err(Error::data(path.display().to_string(), message, "train it again with this version"));
    }
    Ok(card)
}

/// Refuses a model with the offset `ridge`, which is gone. Other cards of its time only have its penalty, which is removed.
fn refuse_ridge(card: &mut Value, path: &Path) -> Result<()> {
    let Some(model) = card.pointer_mut("/config/model").and_then(Value::as_object_mut) else { return Ok(()) };
    if model.get("offset").is_some_and(|offset| offset == "ridge") {
        let message = "the model was made with the offset `ridge`, which this version no longer has";
        return Err(Error::data(path.display().to_string(), message, "train it again with this version"));
    }
    model.remove("offset_ridge");
    Ok(())
}

/// The error about a folder whose card can't be read.
fn without_card(folder: &Path) -> Error {
    let path = folder.join(files::CARD);
    if path.exists() {
        return Error::damaged(path, "it can't be read as text");
    }
    if folder.join(files::WEIGHTS).exists() {
        return Error::data(
            path.display().to_string(),
            "it is missing, but the model's weights are there: it was removed, or the training has not finished",
            "restore it from a copy of the model, or run the same train command with --resume, which writes it again",
        );
    }
    if folder.join(files::CHECKPOINTS).exists() {
        return Error::data(
            folder.display().to_string(),
            "its training has not finished",
            "finish it: run the same train command with --resume",
        );
    }
    if folder.join(schemas::atlas::files::MANIFEST).exists() {
        let message = format!("{} is an atlas, not a model", folder.display());
        return Error::usage(
            message,
            "name the folder that `train --out` wrote; an atlas, where the command takes one, comes after it",
        );
    }
    let what = "it is not a model: model.json is missing";
    Error::data(folder.display().to_string(), what, "name the folder that `train --out` wrote")
}

/// Whether a folder holds a model whose training has ended, or what is left of one: its card or its weights.
#[must_use]
pub fn is_one(folder: &Path) -> bool {
    [files::CARD, files::WEIGHTS].iter().any(|name| folder.join(name).exists())
}

/// Refuses a model of which something has removed files while it was trained.
///
/// # Errors
/// Files that are missing, by name.
pub fn check_files(folder: &Path) -> Result<()> {
    let missing: Vec<&str> = files::OF_TRAINING.into_iter().filter(|name| !folder.join(name).exists()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let message = format!("removed while the model was trained: {}", missing.join(", "));
    let hint = "run the same train command with --resume, which writes them again, or train into another folder";
    Err(Error::data(folder.display().to_string(), message, hint))
}

/// Writes a card, with which a model is complete.
///
/// # Errors
/// A full or broken disk.
pub fn write(folder: &Path, card: &ModelCard) -> Result<()> {
    write_atomically(&folder.join(files::CARD), &sealed(card)?)
}
