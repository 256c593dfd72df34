//! The command line: parses, draws and prints; everything it does is public in the library.

mod cli;

use std::{
    panic::{self, AssertUnwindSafe},
    process::ExitCode,
};

use clap::Parser;
use perturbine::{Error, Stop, runtime::panicked, trace::Trace};
use schemas::error::ExitCode as Code;
use stages::decoded::is_decoding;

use crate::cli::{args::Cli, show::say};

fn main() -> ExitCode {
    let cli = Cli::parse();
    #[cfg(feature = "torch")]
    if cli::computes(&cli) {
        cli::idle::sleep_soon();
    }
    // Before any work, so that a signal finds its handler.
    let stop = Stop::default();
    if let Err(error) = cli::signals::stop_on_signals(&stop) {
        say(format_args!("warning: signals are not handled: {error}"));
    }
    // What a decoder says of a damaged file comes as an error.
    let usual = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        if !is_decoding() {
            usual(panic);
        }
    }));
    let trace = cli.command.profile().is_some().then(Trace::start);
    cli::events::subscribe(cli.global.verbose, cli.global.quiet, trace.clone());
    let done = panic::catch_unwind(AssertUnwindSafe(|| cli::run(cli, stop, trace)));
    let code = match done {
        Ok(Ok(())) => None,
        Ok(Err(error)) => {
            report(&error);
            Some(error.exit_code())
        }
        // It has said what and where.
        Err(_) => Some(Code::Bug),
    };
    // A panic is a bug, on whichever thread, and whatever became of the rest.
    let code = if panicked() { Some(Code::Bug) } else { code };
    code.map_or(ExitCode::SUCCESS, |code| ExitCode::from(code as u8))
}

/// The error, what caused it, and what would mend it.
fn report(error: &Error) {
    say(format_args!("error: {error}"));
    let mut cause = std::error::Error::source(error);
    while let Some(deeper) = cause {
        say(format_args!("  because: {deeper}"));
        cause = deeper.source();
    }
    if let Some(hint) = error.hint() {
        say(format_args!("  hint: {hint}"));
    }
}
