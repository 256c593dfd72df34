//! The command line. What needs libtorch runs in the program `perturbine-torch` next to this one.

use std::process::ExitCode;

fn main() -> ExitCode {
    perturbine::cli::main_without_libtorch()
}
