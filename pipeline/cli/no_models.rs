//! Replaces the commands about models if the program is built without libtorch.

use std::{any::Any, path::Path};

use clap::Subcommand;
use stages::reader::atlas::Damage;

use super::{CommandContext, args::memory::MemoryLogArgs, inspect::Inspected};
use crate::{Error, Result};

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

    pub(super) fn prepare_process(&self) {
        match *self {}
    }

    pub(super) fn run(self, _context: &CommandContext) -> Result<()> {
        match self {}
    }
}

pub(super) fn exit_where_device_is_lost(_report: fn(&Error)) {}

pub(super) fn is_device_failure(_panic: &(dyn Any + Send)) -> bool {
    false
}

pub(super) fn caught(work: impl FnOnce() -> Result<()>) -> Result<()> {
    work()
}

pub(super) fn is_model(_path: &Path) -> bool {
    false
}

pub(super) fn inspected(_path: &Path, _context: &CommandContext) -> Option<Result<Inspected>> {
    None
}

pub(super) fn verified(_path: &Path) -> Option<Result<Vec<Damage>>> {
    None
}
