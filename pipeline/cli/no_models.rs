//! Replaces the commands about models if the program is built without libtorch.

use std::path::Path;

use clap::Subcommand;

use super::{CommandContext, args::memory::MemoryLogArgs, inspect::Inspected};
use crate::Result;

#[derive(Debug, Subcommand)]
pub(crate) enum ModelCommand {}

impl ModelCommand {
    pub(crate) fn profile(&self) -> Option<&Path> {
        match *self {}
    }

    pub(super) fn memory(&self) -> Option<MemoryLogArgs> {
        match *self {}
    }

    pub(super) fn has_table(&self) -> bool {
        match *self {}
    }

    pub(super) fn needs_libtorch(&self) -> bool {
        match *self {}
    }

    pub(super) fn run_without_libtorch(self, _context: &CommandContext) -> Result<()> {
        match self {}
    }
}

pub(super) fn is_model(_path: &Path) -> bool {
    false
}

pub(super) fn inspected(_path: &Path, _context: &CommandContext) -> Option<Result<Inspected>> {
    None
}
