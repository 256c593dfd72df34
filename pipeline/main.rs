//! The command line: parses, draws and prints; everything it does is public in the library.
#![expect(clippy::print_stderr, reason = "results go to stdout through `show`, everything else to stderr")]

mod cli;

use std::process::ExitCode;

use clap::Parser;
use perturbine::{Error, Stop};

use crate::cli::args::Cli;

fn main() -> ExitCode {
    // Before anything else, so that a signal finds its handler.
    let stop = Stop::default();
    if let Err(error) = cli::signals::stop_on_signals(&stop) {
        eprintln!("warning: signals are not handled: {error}");
    }
    let cli = Cli::parse();
    cli::events::subscribe(cli.global.verbose, cli.global.quiet);
    match cli::run(cli, stop) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report(&error);
            ExitCode::from(error.exit_code() as u8)
        }
    }
}

/// The error, what caused it, and what would mend it.
fn report(error: &Error) {
    eprintln!("error: {error}");
    let mut cause = std::error::Error::source(error);
    while let Some(deeper) = cause {
        eprintln!("  because: {deeper}");
        cause = deeper.source();
    }
    if let Some(hint) = error.hint() {
        eprintln!("  hint: {hint}");
    }
}
