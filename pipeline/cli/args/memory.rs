//! Whether a command reports its memory by phase, or records a timeline.

use std::path::Path;

use clap::Args;

use super::Command;

/// Whether to report memory by phase
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct MemoryLogArgs {
    /// Report the peak memory of each phase, on the host and on devices, when the command ends
    #[arg(long)]
    log_memory: bool,
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
