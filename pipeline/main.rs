//! The program `perturbine`. It is not linked to libtorch: commands about models make it the program that is.

use std::process::ExitCode;

use cli::{engine::Engine, models::Models};

fn main() -> ExitCode {
    cli::main(Models::InEngine(Engine { linked: option_env!("PERTURBINE_LINKED_LIBTORCH") }))
}
