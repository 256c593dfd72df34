//! The command line, linked with libtorch; `perturbine` starts it for commands that train or predict.

use std::process::ExitCode;

fn main() -> ExitCode {
    perturbine::cli::main_with_libtorch()
}
