//! The command line: global arguments and a command.

use std::path::Path;

use clap::{ArgAction, Parser, Subcommand};

use super::{
    args::{
        CompletionsArgs, GlobalArgs, IngestArgs, InspectArgs, SettingsQueryArgs, SetupArgs, SimulateArgs, SplitArgs,
        VerifyArgs,
    },
    model_args::judge::JudgeArgs,
    models::ModelCommand,
};

/// Trains CPA on single-cell perturbation atlases out of core, and streams its predictions.
#[derive(Debug, Parser)]
#[command(name = "perturbine", version, disable_help_flag = true, disable_version_flag = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: GlobalArgs,
    /// Print the version
    #[arg(short = 'V', long, action = ArgAction::Version)]
    version: Option<bool>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Simulate a realistic atlas with known ground truth
    Simulate(SimulateArgs),
    /// Convert files to an atlas
    Ingest(Box<IngestArgs>),
    /// Choose the cells to train on, to validate on and to hold out
    Split(SplitArgs),
    /// Show what is in an atlas, a data file, a model or predictions
    Inspect(InspectArgs),
    /// Check every checksum
    Verify(VerifyArgs),
    /// Compare predictions of any model with real cells and with baselines
    Judge(Box<JudgeArgs>),
    /// List the presets of training, and what each is for
    Presets,
    /// List the settings of training, their defaults and meaning
    Settings(SettingsQueryArgs),
    /// Print a script that completes commands and options in a shell
    Completions(CompletionsArgs),
    /// Fetch libtorch into the user's cache, for commands about models
    Setup(SetupArgs),
    #[command(flatten)]
    Model(ModelCommand),
}

impl Command {
    /// The file to write a trace to, if one was requested.
    pub(crate) fn profile(&self) -> Option<&Path> {
        match self {
            Self::Model(command) => command.profile(),
            _ => None,
        }
    }

    /// Whether it reads standard input, and ends with it.
    pub(crate) fn reads_tables(&self) -> bool {
        matches!(self, Self::Model(command) if command.reads_tables())
    }

    /// Whether the result has a table.
    pub(crate) fn has_table(&self) -> bool {
        match self {
            Self::Inspect(_) | Self::Judge(_) | Self::Presets | Self::Settings(_) => true,
            Self::Model(command) => command.has_table(),
            Self::Simulate(_)
            | Self::Ingest(_)
            | Self::Split(_)
            | Self::Verify(_)
            | Self::Completions(_)
            | Self::Setup(_) => false,
        }
    }

    /// Whether memory by phase was requested.
    pub(crate) fn logs_memory(&self) -> bool {
        let memory_args = match self {
            Self::Ingest(args) => Some(args.memory),
            Self::Model(command) => command.memory(),
            _ => None,
        };
        memory_args.is_some_and(|args| args.log_memory)
    }
}
