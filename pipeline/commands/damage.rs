//! The damaged files of a model.

use std::path::Path;

use perturbine::{Error, Result};
use schemas::model_files as files;
use stages::{
    model::{checkpoint, saved::Model},
    model_card,
    reader::{atlas::Damage, split::Split},
};

/// The damage to the model in a folder.
pub(super) fn damage_of_model(path: &Path) -> Result<Vec<Damage>> {
    let found = |file: String, error: &Error| Damage { file, block: None, what: error.to_string() };
    // A stopped run has neither card nor weights yet.
    let model = model_card::is_one(path).then(|| Model::load(path, tch::Device::Cpu).err()).flatten();
    let mut all: Vec<Damage> = model.iter().map(|error| found(files::CARD.into(), error)).collect();
    all.extend(damage_of_split(path).map(|error| found(files::SPLIT.into(), &error)));
    all.extend(missing_files(path));
    for (checkpoint, error) in checkpoint::verify(&path.join(files::CHECKPOINTS))? {
        all.push(found(checkpoint.display().to_string(), &error));
    }
    Ok(all)
}

/// The files that a finished model of this program has, and that are not there.
fn missing_files(path: &Path) -> Vec<Damage> {
    // Imported models were trained on no atlas of ours, and have fewer files.
    if model_card::read(path).is_ok_and(|card| card.atlas.is_empty()) || !model_card::is_one(path) {
        return Vec::new();
    }
    let missing = |file: &&str| !path.join(file).exists();
    let damage = |file: &str| Damage { file: file.into(), block: None, what: "it is missing".into() };
    [files::CONFIG, files::GENES, files::HISTORY].into_iter().filter(missing).map(damage).collect()
}

/// The damage to a model's split; none if the model's card has no checksum of it.
fn damage_of_split(path: &Path) -> Option<Error> {
    let card = model_card::read(path).ok()?;
    match card.split_file(path) {
        Ok(Some(file)) if card.split_checksum.is_none() => Split::check_file(&file).err(),
        Ok(_) => None,
        Err(error) => Some(error),
    }
}
