//! Long work whose caller notices Ctrl-C: it runs on a thread of the runtime, and the caller waits for it.

use std::{iter::once_with, task::Poll, time::Duration};

use pyo3::prelude::*;
use runtime::{Capacity, Pipeline, Stop};
use schemas::{ByteSize, Error, Result};

use crate::error::{exception, of_run};

/// How long to wait before looking for signals.
pub(crate) const LONGEST_WAIT: Duration = Duration::from_millis(100);

/// A result on its way to the caller.
struct Done<T>(T);

impl<T> ByteSize for Done<T> {
    fn byte_size(&self) -> usize {
        0
    }
}

/// Does some work. A signal's exception requests `stop`, and is raised once the work has ended.
pub(crate) fn interruptible<T: Send + 'static>(
    py: Python<'_>,
    stop: &Stop,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> PyResult<T> {
    let source = once_with(|| work().map(Done));
    let mut stream = Pipeline::from_source("work", Capacity { items: 1, bytes: 0 }, source).stream();
    loop {
        match py.detach(|| stream.next_within(LONGEST_WAIT)) {
            Poll::Ready(Some(Ok(Done(result)))) => return Ok(result),
            Poll::Ready(Some(Err(failure))) => return Err(exception(py, &of_run(failure))),
            Poll::Ready(None) => return Err(exception(py, &Error::Bug("work ended without a result".into()))),
            Poll::Pending => {
                if let Err(signal) = py.check_signals() {
                    stop.request();
                    py.detach(|| drop(stream));
                    return Err(signal);
                }
            }
        }
    }
}
