//! The program `perturbine`: the library's command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    perturbine::cli::main()
}
