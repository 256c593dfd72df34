//! Ctrl-C, SIGTERM, and SIGUSR1, which Slurm sends before a job's time is over, stop the run; a second one ends the process. A file
//! that exceeds a size limit (`ulimit -f`) causes a write error.
#![expect(clippy::disallowed_methods, reason = "it waits for signals, whatever the pipeline does")]
#![expect(unsafe_code, reason = "signals can be held back through the C library alone")]

use std::sync::{Arc, atomic::AtomicBool};

use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1, SIGXFSZ};

use runtime::Stop;

/// The signals that stop a run.
const STOPPING: [libc::c_int; 3] = [SIGINT, SIGTERM, SIGUSR1];

/// Holds back the signals that stop a run until [`stop_on_signals`], also across a restart of the program: before, they would end it as if
/// they were not handled.
pub(crate) fn hold_back_signals() {
    change_mask(libc::SIG_BLOCK);
}

/// Adds to, or removes from, the signals that this thread holds back those that stop a run.
fn change_mask(how: libc::c_int) {
    let mut signals = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: `sigemptyset` initialises the set, and the others read or change nothing but the set and the mask of this thread.
    unsafe {
        libc::sigemptyset(signals.as_mut_ptr());
        for signal in STOPPING {
            libc::sigaddset(signals.as_mut_ptr(), signal);
        }
        libc::pthread_sigmask(how, signals.as_ptr(), std::ptr::null_mut());
    }
}

/// Requests `stop` at the first signal, even one that was held back, and turns the signal of a file-size limit into a write error.
pub(crate) fn stop_on_signals(stop: &Stop) -> std::io::Result<()> {
    let handled = handle_signals(stop);
    change_mask(libc::SIG_UNBLOCK);
    handled
}

/// Requests `stop` once standard input ends, as it does when the program that holds its other end is gone, however it ended.
pub(crate) fn stop_at_end_of_input(stop: &Stop) -> std::io::Result<()> {
    let stop = stop.clone();
    std::thread::Builder::new().name("input".into()).spawn(move || {
        // The content does not matter, and a stream that can't be read has ended.
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        stop.request();
    })?;
    Ok(())
}

fn handle_signals(stop: &Stop) -> std::io::Result<()> {
    signal_hook::flag::register(SIGXFSZ, Arc::default())?;
    let asked_before = Arc::new(AtomicBool::new(false));
    for signal in STOPPING {
        // The order matters: the first signal arms the second handler, which ends the process at the next one.
        signal_hook::flag::register_conditional_shutdown(signal, 75, Arc::clone(&asked_before))?;
        signal_hook::flag::register(signal, Arc::clone(&asked_before))?;
    }
    let mut signals = signal_hook::iterator::Signals::new(STOPPING)?;
    let stop = stop.clone();
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        if signals.forever().next().is_some() {
            stop.request();
        }
    })?;
    Ok(())
}
