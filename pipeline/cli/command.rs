//! The command line: global arguments and a command.

use std::path::Path;

use clap::{Parser, Subcommand};

use super::{
    args::{GlobalArgs, IngestArgs, InspectArgs, SimulateArgs, SplitArgs, VerifyArgs},
    models::ModelCommand,
};

/// Trains CPA on single-cell perturbation atlases out of core, and streams its predictions.
#[derive(Debug, Parser)]
#[command(name = "perturbine", version, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: GlobalArgs,
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
    /// Show what is in an atlas, a data file or a model
    Inspect(InspectArgs),
    /// Check every checksum
    Verify(VerifyArgs),
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

    /// Whether memory by phase was requested.
    pub(in crate::cli) fn logs_memory(&self) -> bool {
        let memory_args = match self {
            Self::Ingest(args) => Some(args.memory),
            Self::Model(command) => command.memory(),
            _ => None,
        };
        memory_args.is_some_and(|args| args.log_memory)
    }
}
