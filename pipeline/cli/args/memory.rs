//! Whether a command reports its memory by phase.

use clap::Args;

/// Whether to report memory by phase
#[derive(Args, Clone, Copy, Debug)]
pub struct MemoryLogArgs {
    /// Report the peak memory of each phase, on the host and on devices, when the command ends
    #[arg(long)]
    pub log_memory: bool,
}
