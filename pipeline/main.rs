//! The command line: parses, draws and prints; everything it does is public in the library.

mod cli;

use std::{any::Any, panic, process::ExitCode};

use clap::Parser;
use perturbine::{Error, Stop, trace::Trace};
use stages::decoded::is_decoding;

use crate::cli::{args::Cli, show::say};

fn main() -> ExitCode {
    // Before anything else, so that a signal finds its handler.
    let stop = Stop::default();
    if let Err(error) = cli::signals::stop_on_signals(&stop) {
        say(format_args!("warning: signals are not handled: {error}"));
    }
    // What a decoder says of a damaged file, and libtorch of a GPU that fails, comes as an error.
    let usual = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        if !is_decoding() && !is_device_failure(panic.payload()) {
            usual(panic);
        }
    }));
    #[cfg(feature = "torch")]
    stages::libtorch::exit_where_device_is_lost(report);
    let cli = Cli::parse();
    let trace = cli.command.profile().is_some().then(Trace::start);
    cli::events::subscribe(cli.global.verbose, cli.global.quiet, trace.clone());
    match cli::run(cli, stop, trace) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report(&error);
            ExitCode::from(error.exit_code() as u8)
        }
    }
}

#[cfg(feature = "torch")]
fn is_device_failure(panic: &(dyn Any + Send)) -> bool {
    stages::libtorch::failures::of_panic(panic).is_some()
}

#[cfg(not(feature = "torch"))]
fn is_device_failure(_panic: &(dyn Any + Send)) -> bool {
    false
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
