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
mod inspected;
mod judge;
mod layers;
mod predict;
mod report;
mod response;
mod train;

use std::path::Path;

use clap::Subcommand;
use schemas::numbers::saturating;
use stages::model::saved::{self, files};

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

    /// Whether the command uses libtorch.
    pub(super) fn needs_libtorch(&self) -> bool {
        !matches!(self, Self::Judge(_) | Self::Predict(PredictCommand::Commit(_)))
    }

    /// Runs a command that does not use libtorch.
    ///
    /// # Errors
    /// The command's own.
    pub(super) fn run_without_libtorch(self, context: &CommandContext) -> Result<()> {
        match self {
            Self::Judge(args) => judge::judge(&args, context),
            Self::Predict(PredictCommand::Commit(path)) => commit::commit(&path, context),
            _ => Err(Error::Bug("the command runs in the program that is linked with libtorch".into())),
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
            Self::Judge(_) | Self::Predict(PredictCommand::Commit(_)) => self.run_without_libtorch(context),
            Self::Crossval(args) => crossval::crossval(&args, context),
            Self::Report(args) => report::report(&args, context),
        }
    }
}

/// Whether there is a model in a folder, or a run that has not finished yet.
pub(super) fn is_model(path: &Path) -> bool {
    saved::is_one(path) || path.join(files::CHECKPOINTS).exists()
}

/// The model in a folder, if there is one.
pub(super) fn inspected(path: &Path, context: &CommandContext) -> Option<Result<Inspected>> {
    saved::is_one(path).then(|| inspected::inspected(path, context))
}
