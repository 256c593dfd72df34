//! The program with libtorch, `perturbine-torch`, which this process becomes for commands about models.
//!
//! libtorch takes a third of a second to load and 450 MB on disk, and code that is linked to one version of it loads no
//! other. So the program that users start does without, and becomes the other one where it has to: the same process, so
//! that signals, standard streams and exit codes are those of one program.

use std::{
    env,
    ffi::OsString,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::Command,
};

use schemas::{Error, Result};

use crate::{libtorch, signals::hold_back_signals};

/// The program's name; it lies beside the one that users start.
const PROGRAM: &str = "perturbine-torch";

/// How long idle OpenMP threads spin: about a tenth of a millisecond, which is how long they wait for each other on
/// otherwise idle cores. Without spinning, the speed there would be halved. By default they spin for three milliseconds,
/// which takes cores from other processes, and even from the threads that they wait for.
const SPINS: (&str, &str) = ("GOMP_SPINCOUNT", "10000");
/// Another variable with the same effect.
const POLICY: &str = "OMP_WAIT_POLICY";

/// The program with libtorch.
#[derive(Clone, Copy, Debug)]
pub struct LibtorchProgram {
    /// The folder with the libtorch that it was linked to, if it is known.
    pub linked: Option<&'static str>,
}

impl LibtorchProgram {
    /// Becomes the program with libtorch, which then does the same command; returns only if that is not possible.
    pub(crate) fn take_over(self) -> Error {
        let program = match beside_this() {
            Ok(program) => program,
            Err(error) => return error,
        };
        let mut command = Command::new(&program);
        command.args(env::args_os().skip(1));
        if let Some(name) = env::args_os().next() {
            command.arg0(name);
        }
        match libtorch::folder(self.linked) {
            Ok(Some(folder)) => drop(command.env(libtorch::SEARCH_PATH, searched_first(&folder))),
            Ok(None) => {}
            Err(error) => return error,
        }
        if ![SPINS.0, POLICY].iter().any(|name| env::var_os(name).is_some()) {
            command.env(SPINS.0, SPINS.1);
        }
        // Handlers are lost now, and the other program has none yet.
        hold_back_signals();
        Error::io("start", program)(command.exec())
    }
}

/// The program with libtorch beside this one.
fn beside_this() -> Result<PathBuf> {
    let this = env::current_exe().map_err(Error::io("find", "this program"))?;
    let program = this.with_file_name(PROGRAM);
    if program.exists() {
        return Ok(program);
    }
    let message = format!("{} is not there, and commands about models need it", program.display());
    Err(Error::usage(message, "build or install Perturbine with its feature `torch`"))
}

/// The search path for libraries with a folder in front.
fn searched_first(folder: &Path) -> OsString {
    let mut path = OsString::from(folder);
    if let Some(others) = env::var_os(libtorch::SEARCH_PATH).filter(|others| !others.is_empty()) {
        path.push(":");
        path.push(others);
    }
    path
}
