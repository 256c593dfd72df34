//! Standard input for commands that wait for it, which a stop ends at once.
#![expect(unsafe_code, reason = "a wait for input with a time limit is a call of the C library")]

use std::io::{self, Read, stdin};

use runtime::Stop;
use rustix::fd::AsFd;

/// The longest time from a stop to the end of a read, in milliseconds. A signal that reaches this thread ends it sooner.
const SLOWEST_STOP: libc::c_int = 100;

/// Standard input; a read fails once a stop was requested.
#[derive(Debug)]
pub struct StoppableInput(Stop);

impl StoppableInput {
    /// Standard input until `stop` is requested.
    #[must_use]
    pub fn new(stop: Stop) -> Self {
        Self(stop)
    }
}

impl Read for StoppableInput {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if self.0.requested() {
                return Err(io::Error::other("stopped"));
            }
            let mut ready = libc::pollfd { fd: libc::STDIN_FILENO, events: libc::POLLIN, revents: 0 };
            // SAFETY: the call reads and changes one `pollfd`, which lives longer than the call.
            match unsafe { libc::poll(&raw mut ready, 1, SLOWEST_STOP) } {
                0 => {}
                // A stream that has ended or failed is ready, too. Without the buffer of `Stdin`, whose content is not waited for.
                1.. => return Ok(rustix::io::read(stdin().as_fd(), buffer)?),
                _ => match io::Error::last_os_error() {
                    error if error.kind() == io::ErrorKind::Interrupted => {}
                    error => return Err(error),
                },
            }
        }
    }
}
