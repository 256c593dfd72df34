//! The program `perturbine`. It is not linked to libtorch: commands about models make it the program that is.

use std::process::ExitCode;

use cli::{libtorch_program::LibtorchProgram, models::Models};

fn main() -> ExitCode {
    let program = LibtorchProgram { linked: option_env!("PERTURBINE_LINKED_LIBTORCH") };
    ExitCode::from(cli::main(Models::InLibtorchProgram(program)))
}
