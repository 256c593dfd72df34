//! Reads one HDF5 file for another process, which survives whatever the file does to libhdf5: see
//! [`formats::worker`].
#![expect(clippy::print_stderr, reason = "the other process passes on what is said here")]

use std::process::ExitCode;

fn main() -> ExitCode {
    // A file that exceeds a size limit causes a write error, instead of ending this process.
    if let Err(error) = signal_hook::flag::register(signal_hook::consts::SIGXFSZ, std::sync::Arc::default()) {
        eprintln!("warning: signals are not handled: {error}");
    }
    match formats::worker::serve::serve(std::io::stdin(), std::io::stdout()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(error.exit_code() as u8)
        }
    }
}
