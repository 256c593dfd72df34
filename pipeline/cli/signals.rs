//! Ctrl-C and SIGTERM stop the run; a second one ends the process. A file that exceeds a size limit
//! (`ulimit -f`) causes a write error.
#![expect(clippy::disallowed_methods, reason = "it waits for signals, whatever the pipeline does")]

use std::sync::{Arc, atomic::AtomicBool};

use perturbine::Stop;
use signal_hook::consts::{SIGINT, SIGTERM, SIGXFSZ};

/// Requests `stop` at the first signal, and turns the signal of a file-size limit into a write error.
pub(crate) fn stop_on_signals(stop: &Stop) -> std::io::Result<()> {
    signal_hook::flag::register(SIGXFSZ, Arc::default())?;
    let asked_before = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        // The order matters: the first signal arms the second handler, which ends the process at the next one.
        signal_hook::flag::register_conditional_shutdown(signal, 75, Arc::clone(&asked_before))?;
        signal_hook::flag::register(signal, Arc::clone(&asked_before))?;
    }
    let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM])?;
    let stop = stop.clone();
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        if signals.forever().next().is_some() {
            stop.request();
        }
    })?;
    Ok(())
}
