//! Whether a command reports its memory by phase.

use clap::Args;

/// Whether to report memory by phase
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct MemoryLogArgs {
    /// Report the peak memory of each phase, on the host and on devices, when the command ends
    #[arg(long)]
    pub(in crate::cli) log_memory: bool,
}
