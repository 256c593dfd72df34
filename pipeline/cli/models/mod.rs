//! Commands about models, each in a separate file; [`args`] defines their arguments.

pub(crate) mod args;
mod cache;
mod commit;
mod crossval;
mod device;
mod embed;
mod evaluate;
mod explain;
mod explain_train;
mod idle;
mod inspected;
mod judge;
mod layers;
mod predict;
mod report;
mod response;
mod train;
mod typed_command;

use std::{any::Any, path::Path};

use clap::Subcommand;
use schemas::numbers::saturating;
use stages::{
    model::{
        checkpoint,
        saved::{self, files},
    },
    reader::{atlas::Damage, split::Split},
    torch::failures,
};

use self::args::{
    EmbedArgs, EvaluateArgs, ExplainArgs, Explained, ReportArgs, ResponseArgs, TrainArgs, crossval::CrossvalArgs,
    judge::JudgeArgs, writing::PredictCommand,
};
use super::{CommandContext, args::memory::MemoryLogArgs, inspect::Inspected};
use crate::{Error, Result, devices::DeviceChoice};

#[derive(Debug, Subcommand)]
pub(crate) enum ModelCommand {
    /// Show the graph and its memory without running it
    Explain(ExplainArgs),
    /// Train a model
    Train(Box<TrainArgs>),
    /// Predict cells under other conditions
    Predict(PredictCommand),
    /// Write the latents of cells, or the embeddings of perturbations and covariates
    Embed(EmbedArgs),
    /// Predict how genes respond to doses of a perturbation or a pair
    Response(ResponseArgs),
    /// Compare predictions with held-out cells and with baselines
    Evaluate(EvaluateArgs),
    /// Compare predictions of any model with real cells and with baselines
    Judge(Box<JudgeArgs>),
    /// Cross-validate: train and evaluate every fold of the atlas
    Crossval(Box<CrossvalArgs>),
    /// Write an HTML report about a model
    Report(ReportArgs),
}

impl ModelCommand {
    /// The requested device, if the command computes.
    fn device(&self) -> Option<&str> {
        match self {
            Self::Train(args) => Some(&args.device),
            Self::Predict(PredictCommand::Run(args)) => Some(&args.device),
            Self::Embed(args) => Some(&args.device),
            Self::Response(args) => Some(&args.device),
            Self::Evaluate(args) => Some(&args.device),
            Self::Crossval(args) => Some(&args.device),
            Self::Explain(ExplainArgs { what: Explained::Train(args) }) => Some(&args.device),
            Self::Explain(ExplainArgs { what: Explained::Predict(args) }) => Some(&args.device),
            Self::Predict(_) | Self::Judge(_) | Self::Report(_) => None,
        }
    }

    /// The file to write a trace to, if one was requested.
    pub(crate) fn profile(&self) -> Option<&Path> {
        match self {
            Self::Train(args) => args.profile.as_deref(),
            _ => None,
        }
    }

    /// Whether and how to report memory.
    pub(super) fn memory(&self) -> Option<MemoryLogArgs> {
        match self {
            Self::Train(args) => Some(args.memory),
            Self::Predict(PredictCommand::Run(args)) => Some(args.memory),
            _ => None,
        }
    }

    /// Whether the result has a table.
    pub(super) fn has_table(&self) -> bool {
        matches!(self, Self::Evaluate(_) | Self::Judge(_) | Self::Crossval(_) | Self::Response(_))
    }

    /// Prepares the process, before it does anything else.
    pub(crate) fn prepare_process(&self) {
        if self.device().is_some() {
            idle::sleep_soon();
        }
    }

    /// Runs the command. `threads` limits libtorch's threads like those of stages. The last bits of a result
    /// depend on their number, so a limit set in the environment (`OMP_NUM_THREADS`) is kept.
    pub(super) fn run(self, context: &CommandContext) -> Result<()> {
        // Before any other use of libtorch, which looks for devices only once.
        if let Some(name) = self.device() {
            DeviceChoice::parse(name)?.prepare();
        }
        tch::set_num_threads(tch::get_num_threads().min(saturating(context.resources.threads.get())));
        match self {
            Self::Explain(args) => explain::explain(args, context),
            Self::Train(args) => train::train(*args, context),
            Self::Predict(PredictCommand::Run(args)) => predict::predict(&args, context),
            Self::Embed(args) => embed::embed(&args, context),
            Self::Response(args) => response::response(&args, context),
            Self::Evaluate(args) => evaluate::evaluate(args, context),
            Self::Predict(PredictCommand::Commit(path)) => commit::commit(&path, context),
            Self::Judge(args) => judge::judge(&args, context),
            Self::Crossval(args) => crossval::crossval(&args, context),
            Self::Report(args) => report::report(&args, context),
        }
    }
}

/// Ends the process with a report if a device is lost outside of a stage.
pub(super) fn exit_where_device_is_lost(report: fn(&Error)) {
    stages::torch::exit_where_device_is_lost(report);
}

/// Whether libtorch panicked because a GPU failed.
pub(super) fn is_device_failure(panic: &(dyn Any + Send)) -> bool {
    failures::of_panic(panic).is_some()
}

/// Runs work, and turns GPU failures, which are panics outside of a stage, into errors.
pub(super) fn caught(work: impl FnOnce() -> Result<()>) -> Result<()> {
    failures::caught(work)
}

/// Whether there is a model in a folder, or a run that has not finished yet.
pub(super) fn is_model(path: &Path) -> bool {
    saved::is_one(path) || path.join(files::CHECKPOINTS).exists()
}

/// The model in a folder, if there is one.
pub(super) fn inspected(path: &Path, context: &CommandContext) -> Option<Result<Inspected>> {
    saved::is_one(path).then(|| inspected::inspected(path, context))
}

/// The damage to the model in a folder, if there is one.
pub(super) fn verified(path: &Path) -> Option<Result<Vec<Damage>>> {
    is_model(path).then(|| damage_of_model(path))
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
