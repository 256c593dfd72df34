//! This program as the one that reads an HDF5 file for another process, which survives whatever the file does to libhdf5: see
//! [`formats::worker`].

use formats::worker::{ARGUMENT, serve::serve};

use super::show::write_line;

/// Whether this process was started to read a file for another one.
pub(crate) fn is_asked_for() -> bool {
    std::env::args_os().nth(1).is_some_and(|argument| argument == ARGUMENT)
}

/// Reads a file for the other process, which passes on what is said here. Returns the exit code.
pub(crate) fn run() -> u8 {
    // A file that exceeds a size limit causes a write error, instead of ending this process.
    if let Err(error) = signal_hook::flag::register(signal_hook::consts::SIGXFSZ, std::sync::Arc::default()) {
        write_line(format_args!("warning: signals are not handled: {error}"));
    }
    match serve(std::io::stdin(), std::io::stdout()) {
        Ok(()) => 0,
        Err(error) => {
            write_line(&error);
            error.exit_code() as u8
        }
    }
}
