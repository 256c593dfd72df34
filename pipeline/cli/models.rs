//! The commands about models: their names, and who runs them.
//!
//! They need libtorch, which the program that users start is not linked to. That program parses their arguments, and then becomes
//! the program that is ([`libtorch_program`](crate::libtorch_program)); there, [`ModelCommands`] runs them.

use std::path::Path;

use clap::Subcommand;
use flows::AGAIN;
use reader::atlas::Damage;
use schemas::{Error, Result, model_files as files};

use crate::{
    CommandContext,
    args::memory::MemoryLogArgs,
    libtorch_program::LibtorchProgram,
    model_args::{
        EmbedArgs, ExplainArgs, Explained, PredictArgs, ReportArgs, ResponseArgs, TrainArgs, crossval::CrossvalArgs,
        evaluation::EvaluateArgs, sharding::ShardedCommand,
    },
};

/// A command about a model.
#[derive(Debug, Subcommand)]
pub enum ModelCommand {
    /// Show the graph and its memory without running it
    Explain(ExplainArgs),
    /// Train a model
    Train(Box<TrainArgs>),
    /// Predict cells under other conditions
    Predict(ShardedCommand<PredictArgs>),
    /// Write the latents of cells, or the embeddings of perturbations and covariates
    Embed(ShardedCommand<EmbedArgs>),
    /// Predict how genes respond to doses of a perturbation or a pair
    Response(ResponseArgs),
    /// Compare predictions with held-out cells and with baselines
    Evaluate(EvaluateArgs),
    /// Cross-validate: train and evaluate every fold of the atlas
    Crossval(ShardedCommand<CrossvalArgs>),
    /// Write an HTML report about a model
    Report(ReportArgs),
}

impl ModelCommand {
    /// The requested device, if the command computes.
    #[must_use]
    pub fn device(&self) -> Option<&str> {
        match self {
            Self::Train(args) => Some(&args.device),
            Self::Predict(ShardedCommand::Run(args)) => Some(&args.device),
            Self::Embed(ShardedCommand::Run(args)) => Some(&args.device),
            Self::Response(args) => Some(&args.device),
            Self::Evaluate(args) => Some(&args.device),
            Self::Crossval(ShardedCommand::Run(args)) => Some(&args.device),
            Self::Explain(ExplainArgs { what: Explained::Train(args) }) => Some(&args.device),
            Self::Explain(ExplainArgs { what: Explained::Predict(args) }) => Some(&args.device),
            Self::Predict(_) | Self::Embed(_) | Self::Crossval(_) | Self::Report(_) => None,
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
    pub(crate) fn memory(&self) -> Option<MemoryLogArgs> {
        match self {
            Self::Train(args) => Some(args.memory),
            Self::Predict(ShardedCommand::Run(args)) => Some(args.memory),
            _ => None,
        }
    }

    /// Whether it reads standard input.
    pub(crate) fn reads_tables(&self) -> bool {
        matches!(self, Self::Predict(ShardedCommand::Run(args)) if args.reads_tables())
    }

    /// Whether the result has a table.
    pub(crate) fn has_table(&self) -> bool {
        matches!(self, Self::Evaluate(_) | Self::Crossval(_) | Self::Response(_))
    }
}

/// Where commands about models are run.
#[derive(Clone, Copy)]
pub enum Models {
    /// In this program.
    Here(&'static dyn ModelCommands),
    /// In the program with libtorch.
    InLibtorchProgram(LibtorchProgram),
}

/// Runs commands about models.
pub trait ModelCommands: Sync {
    /// Runs a command.
    ///
    /// # Errors
    /// Those of the command.
    fn run(&self, command: ModelCommand, context: &CommandContext) -> Result<()>;

    /// The damage to the model in a folder.
    ///
    /// # Errors
    /// A folder that can't be read.
    fn verify(&self, folder: &Path) -> Result<Vec<Damage>>;

    /// Ends the process with a report if a device is lost outside of a stage.
    fn exit_where_device_is_lost(&self, report: fn(&Error));
}

impl CommandContext {
    /// Who runs commands about models in this process; if that is another program, this process becomes it.
    pub(crate) fn models(&self) -> Result<&'static dyn ModelCommands> {
        match self.models {
            Models::Here(models) => Ok(models),
            Models::InLibtorchProgram(_) if self.resources.stop.requested() => {
                Err(Error::Stopped { resume: AGAIN.into() })
            }
            Models::InLibtorchProgram(program) => Err(program.take_over()),
        }
    }
}

/// Whether a folder holds a model, the remains of one, or a run that has not finished yet.
#[must_use]
pub fn is_model(path: &Path) -> bool {
    [files::CARD, files::WEIGHTS, files::CHECKPOINTS].iter().any(|name| path.join(name).exists())
}
