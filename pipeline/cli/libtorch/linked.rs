//! Libtorch is linked with this program.

use std::{any::Any, path::Path};

use stages::{
    model::{
        checkpoint,
        saved::{self, files},
    },
    reader::{atlas::Damage, split::Split},
    torch::failures,
};

use super::Libtorch;
use crate::{
    Error, Result,
    cli::{
        CommandContext,
        command::Command,
        models::{ModelCommand, is_model},
    },
};

/// Everything runs in this process.
pub(in crate::cli) struct Linked;

impl Libtorch for Linked {
    fn take_over(_command: &Command) -> Result<()> {
        Ok(())
    }

    fn run(command: ModelCommand, context: &CommandContext) -> Result<()> {
        command.run(context)
    }

    fn verified(path: &Path) -> Option<Result<Vec<Damage>>> {
        is_model(path).then(|| damage_of_model(path))
    }

    fn caught(work: impl FnOnce() -> Result<()>) -> Result<()> {
        failures::caught(work)
    }

    fn is_device_failure(panic: &(dyn Any + Send)) -> bool {
        failures::of_panic(panic).is_some()
    }

    fn exit_where_device_is_lost(report: fn(&Error)) {
        stages::torch::exit_where_device_is_lost(report);
    }
}

fn damage_of_model(path: &Path) -> Result<Vec<Damage>> {
    let found = |file: String, error: &Error| Damage { file, block: None, what: error.to_string() };
    // A stopped run has neither card nor weights yet.
    let model = saved::is_one(path).then(|| saved::Model::load(path, tch::Device::Cpu).err()).flatten();
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
    if saved::read_card(path).is_ok_and(|card| card.atlas.is_empty()) || !saved::is_one(path) {
        return Vec::new();
    }
    let missing = |file: &&str| !path.join(file).exists();
    let damage = |file: &str| Damage { file: file.into(), block: None, what: "it is missing".into() };
    [files::CONFIG, files::GENES, files::HISTORY].into_iter().filter(missing).map(damage).collect()
}

/// The damage to a model's split; none if the model's card has no checksum of it.
fn damage_of_split(path: &Path) -> Option<Error> {
    let card = saved::read_card(path).ok()?;
    match card.split_file(path) {
        Ok(Some(file)) if card.split_checksum.is_none() => Split::check_file(&file).err(),
        Ok(_) => None,
        Err(error) => Some(error),
    }
}
