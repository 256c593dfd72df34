//! Threads of OpenMP that have nothing to do: they sleep soon. By default they spin for three milliseconds first, which takes the
//! cores from whoever else wants them, and from the very threads that they wait for.
//!
//! The library that has them reads the environment when it is loaded, before `main`. So the program starts itself once more, with
//! an environment that says so; what a user has set there stays.

use std::{env, os::unix::process::CommandExt, process::Command};

/// How long idle threads spin: about a tenth of a millisecond, which is as long as they wait for one another on cores that nobody
/// else wants. Not to spin at all would halve the speed there.
const SPINS: (&str, &str) = ("GOMP_SPINCOUNT", "10000");
/// Decides the same.
const POLICY: &str = "OMP_WAIT_POLICY";

/// Puts a process in place of this one whose idle threads sleep soon, unless the environment says how they wait. Where that
/// can't be done, they spin.
pub(crate) fn sleep_soon() {
    if [SPINS.0, POLICY].iter().any(|name| env::var_os(name).is_some()) {
        return;
    }
    // Of a program that a loader was told to start, the loader would be started.
    let program = env::current_exe().ok().filter(|program| {
        program.file_stem().is_some_and(|name| name.to_string_lossy().starts_with(env!("CARGO_PKG_NAME")))
    });
    let Some(program) = program else { return };
    let mut again = Command::new(program);
    again.args(env::args_os().skip(1)).env(SPINS.0, SPINS.1);
    if let Some(name) = env::args_os().next() {
        again.arg0(name);
    }
    let refused = again.exec();
    tracing::debug!("idle threads spin: {refused}");
}
