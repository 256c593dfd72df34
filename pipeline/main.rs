//! The command line: parses, draws and prints; everything it does is public in the library.

mod cli;

use std::{
    panic::{self, AssertUnwindSafe},
    process::ExitCode,
};

use clap::Parser;
use perturbine::{Error, Stop, runtime::panicked, trace::Trace};
use schemas::error::ExitCode as Code;
use stages::storage::parquet_read::is_decoding;

use crate::cli::{
    command::{Cli, Command},
    models::{exit_where_device_is_lost, is_device_failure},
    show::say,
};

fn main() -> ExitCode {
    cli::signals::hold_back_signals();
    let cli = Cli::parse();
    if let Command::Model(command) = &cli.command {
        command.prepare_process();
    }
    // This comes before any work, so that signals are handled.
    let stop = Stop::default();
    if let Err(error) = cli::signals::stop_on_signals(&stop) {
        say(format_args!("warning: signals are not handled: {error}"));
    }
    // A decoder's panic about a damaged file, or libtorch's about a failing GPU, becomes an error.
    let usual = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        if !is_decoding() && !is_device_failure(panic.payload()) {
            usual(panic);
        }
    }));
    exit_where_device_is_lost(report);
    let trace = cli.command.profile().is_some().then(Trace::start);
    cli::events::subscribe(cli.global.verbose, cli.global.quiet, trace.clone());
    let done = panic::catch_unwind(AssertUnwindSafe(|| cli::run(cli, stop, trace)));
    // libtorch panics when a GPU fails.
    let is_of_device = matches!(done, Ok(Err(Error::DeviceMemory { .. } | Error::Device { .. })));
    let code = match done {
        Ok(Ok(())) => None,
        Ok(Err(error)) => {
            report(&error);
            Some(error.exit_code())
        }
        // It has already printed its message.
        Err(_) => Some(Code::Bug),
    };
    // Any other panic is a bug, on any thread and whatever the result of the run.
    let code = if panicked() && !is_of_device { Some(Code::Bug) } else { code };
    code.map_or(ExitCode::SUCCESS, |code| ExitCode::from(code as u8))
}

/// Prints the error, its causes, and its hint.
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
