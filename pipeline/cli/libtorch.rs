//! Where the commands run that need libtorch: in this process, or in the program next to this one that is linked with libtorch.
//!
//! Loading libtorch takes a third of a second or more, so the program that a user starts does without: only what a command
//! runs reaches libtorch's functions, and the linker drops a library of which nothing is reached.

#[cfg(feature = "torch")]
mod linked;

use std::{any::Any, env, ffi::OsString, os::unix::process::CommandExt, path::Path, process};

use stages::reader::atlas::Damage;

#[cfg(feature = "torch")]
pub(super) use self::linked::Linked;
use super::{
    CommandContext,
    command::Command,
    models::{ModelCommand, is_model},
};
use crate::{Error, Result};

/// How a program runs what needs libtorch.
pub(super) trait Libtorch {
    /// Called before any work; does not return if another program takes over.
    ///
    /// # Errors
    /// A program that can't be started.
    fn take_over(command: &Command) -> Result<()>;

    /// Runs a command about models.
    ///
    /// # Errors
    /// The command's own.
    fn run(command: ModelCommand, context: &CommandContext) -> Result<()>;

    /// The damage to the model in a folder, if there is one.
    fn verified(path: &Path) -> Option<Result<Vec<Damage>>>;

    /// Runs work, and turns GPU failures, which are panics outside of a stage, into errors.
    ///
    /// # Errors
    /// The work's own, and failures of a GPU.
    fn caught(work: impl FnOnce() -> Result<()>) -> Result<()>;

    /// Whether libtorch panicked because a GPU failed.
    fn is_device_failure(panic: &(dyn Any + Send)) -> bool;

    /// Ends the process with a report if a device is lost outside of a stage.
    fn exit_where_device_is_lost(report: fn(&Error));
}

/// Libtorch belongs to the program `perturbine-torch` next to this one, which replaces this process.
pub(super) struct Beside;

/// The program that is linked with libtorch.
const PROGRAM: &str = "perturbine-torch";

/// How long idle threads of libtorch spin before they sleep: about a tenth of a millisecond, which is how long they wait for
/// each other on otherwise idle cores. Without spinning, the speed there would be halved; by default they spin for three
/// milliseconds, which takes cores from other processes, and even from the threads that they wait for. The OpenMP library
/// reads this when it is loaded.
const SPINS: (&str, &str) = ("GOMP_SPINCOUNT", "10000");
/// Another variable with the same effect.
const POLICY: &str = "OMP_WAIT_POLICY";

impl Libtorch for Beside {
    fn take_over(command: &Command) -> Result<()> {
        let needs_libtorch = match command {
            Command::Model(command) => command.needs_libtorch(),
            Command::Verify(args) => args.paths.iter().any(|path| is_model(path)),
            _ => false,
        };
        if needs_libtorch { Err(become_program(PROGRAM)) } else { Ok(()) }
    }

    fn run(command: ModelCommand, context: &CommandContext) -> Result<()> {
        command.run_without_libtorch(context)
    }

    fn verified(_path: &Path) -> Option<Result<Vec<Damage>>> {
        None
    }

    fn caught(work: impl FnOnce() -> Result<()>) -> Result<()> {
        work()
    }

    fn is_device_failure(_panic: &(dyn Any + Send)) -> bool {
        false
    }

    fn exit_where_device_is_lost(_report: fn(&Error)) {}
}

/// Replaces this process by another program next to it, with the same arguments, streams and signals; returns only the failure.
fn become_program(name: &str) -> Error {
    let program = match env::current_exe() {
        Ok(this) => this.with_file_name(name),
        Err(error) => return Error::io("find", name)(error),
    };
    if !program.exists() {
        let message =
            format!("{} is missing: it is the part of Perturbine that trains and predicts", program.display());
        return Error::usage(message, "copy or link both programs into one folder");
    }
    let mut arguments = env::args_os();
    let mut other = process::Command::new(&program);
    // Messages about usage name the program that the user typed.
    other.arg0(arguments.next().unwrap_or_else(|| OsString::from(name))).args(arguments);
    if [SPINS.0, POLICY].iter().all(|name| env::var_os(name).is_none()) {
        other.env(SPINS.0, SPINS.1);
    }
    Error::io("start", &program)(other.exec())
}
