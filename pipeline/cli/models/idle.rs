//! Makes idle OpenMP threads sleep soon. By default, they first spin for three milliseconds, which takes
//! cores from other processes, and even from the threads that they wait for.
//!
//! The OpenMP library reads the environment when it is loaded, before `main`. Therefore the program restarts
//! itself with an environment that sets this; the user's own settings are kept.

use std::{env, os::unix::process::CommandExt, process::Command};

/// How long idle threads spin: about a tenth of a millisecond, which is how long they wait for each other on
/// otherwise idle cores. Without spinning, the speed there would be halved.
const SPINS: (&str, &str) = ("GOMP_SPINCOUNT", "10000");
/// Another variable with the same effect.
const POLICY: &str = "OMP_WAIT_POLICY";

/// Replaces this process by one whose idle threads sleep soon, unless the environment already sets this. If
/// that is not possible, they spin.
pub(crate) fn sleep_soon() {
    if [SPINS.0, POLICY].iter().any(|name| env::var_os(name).is_some()) {
        return;
    }
    // If the program was started through the loader, this would restart the loader instead.
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
