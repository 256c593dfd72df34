//! A trained model on disk: a folder with the weights and everything needed to use them.
//!
//! `model.safetensors` (tensor names as in the original's state dict), `model.json` ([`ModelCard`], written last),
//! `config.toml`, `genes.txt`, `history.jsonl`, `split.parquet` (the split it was trained with) and
//! `checkpoint/`.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use model_card::ModelCard;
use schemas::{Error, Result, config::TrainingPlan, model_files as files, numbers::checked};
use storage::disk::{ScratchFolder, checksum_of, write_atomically};
use tch::{Device, Kind, Tensor};
use torch::parameters::{read_safetensors, write_safetensors};

use crate::network::Network;

/// A model that can predict.
#[derive(Debug)]
pub struct Model {
    /// The model's folder.
    pub path: PathBuf,
    /// Its description.
    pub card: ModelCard,
    /// The network, with its weights.
    pub network: Network,
    scratch: Option<Arc<ScratchFolder>>,
}

impl Model {
    /// Loads a model onto a device.
    ///
    /// # Errors
    /// A folder that is not a model, has another format version, or differs from what was written.
    pub fn load(path: impl AsRef<Path>, device: Device) -> Result<Self> {
        let path = path.as_ref().to_path_buf();
        let card = model_card::read(&path)?;
        let plan = card.config.clone().check(card.values)?;
        let weights_path = path.join(files::WEIGHTS);
        if checksum_of(&weights_path)?.checksum.as_deref() != Some(&card.weights) {
            return Err(Error::damaged(weights_path, "its checksum does not match model.json"));
        }
        let genes = checked(card.genes.len(), "genes")?;
        let mut network = Network::new(&plan, genes, &card.vocabulary, Kind::Float, device);
        network.parameters.restore(&read_safetensors(&weights_path)?, &weights_path)?;
        Ok(Self { path, card, network, scratch: None })
    }

    /// The same model, which now owns the temporary folder that it is in.
    #[must_use]
    pub fn keeping(self, scratch: ScratchFolder) -> Self {
        Self { scratch: Some(Arc::new(scratch)), ..self }
    }

    /// A second handle to the model, for another thread: tensors can't be shared between threads, but their
    /// memory is.
    ///
    /// # Errors
    /// This fails only through a bug.
    pub fn again(&self) -> Result<Self> {
        let plan = self.card.config.clone().check(self.card.values)?;
        let genes = checked(self.card.genes.len(), "genes")?;
        let mut network =
            Network::new(&plan, genes, &self.card.vocabulary, Kind::Float, self.network.parameters.device());
        network.share(&self.network);
        Ok(Self { path: self.path.clone(), card: self.card.clone(), network, scratch: self.scratch.clone() })
    }
}

/// Writes weights and settings, then the card.
///
/// # Errors
/// A full or broken disk.
pub fn write(
    folder: &Path,
    tensors: &BTreeMap<String, Tensor>,
    plan: &TrainingPlan,
    mut card: ModelCard,
) -> Result<ModelCard> {
    let weights = folder.join(files::WEIGHTS);
    write_safetensors(tensors, &weights)?;
    card.weights = checksum_of(&weights)?.checksum.unwrap_or_default();
    let split = folder.join(files::SPLIT);
    card.split_checksum = if split.exists() { checksum_of(&split)?.checksum } else { None };
    write_atomically(&folder.join(files::CONFIG), plan.to_toml().as_bytes())?;
    model_card::write(folder, &card)?;
    Ok(card)
}
