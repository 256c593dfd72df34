//! Streams of a CUDA device, and events that mark points in their work.
#![expect(unsafe_code, reason = "functions of C are called; each call says why it is sound")]

use schemas::Result;
use tch::Tensor;

use crate::shim::{
    Opaque, done, int, out_pointer, perturbine_await_event, perturbine_current_stream, perturbine_event,
    perturbine_event_free, perturbine_exchange_stream, perturbine_record_stream, perturbine_stream,
    perturbine_stream_free, perturbine_wait_for_event,
};

/// A queue of work of a CUDA device.
#[derive(Debug)]
pub struct CudaStream(*mut Opaque);

// SAFETY: a stream is a number that C++ passes by value; it belongs to no thread.
unsafe impl Send for CudaStream {}
// SAFETY: as above, and no function changes it.
unsafe impl Sync for CudaStream {}

impl CudaStream {
    /// A stream from libtorch's pool.
    ///
    /// # Errors
    /// No such device.
    pub fn of_pool(device: usize) -> Result<Self> {
        // SAFETY: a fresh stream is returned, which `Drop` frees; likewise below.
        out_pointer(|out| unsafe { perturbine_stream(int(device), out) }).map(Self)
    }

    /// This thread's current stream.
    ///
    /// # Errors
    /// No such device.
    pub fn current(device: usize) -> Result<Self> {
        // SAFETY: as above.
        out_pointer(|out| unsafe { perturbine_current_stream(int(device), out) }).map(Self)
    }

    /// Makes this the thread's current stream; returns the previous one.
    ///
    /// # Errors
    /// A lost device.
    pub fn enter(&self) -> Result<Self> {
        // SAFETY: the stream is valid for the call; as above.
        out_pointer(|before| unsafe { perturbine_exchange_stream(self.0, before) }).map(Self)
    }

    /// Records that this stream uses a tensor, whose memory is not reused until the stream is done with it.
    ///
    /// # Errors
    /// A tensor of another device.
    pub fn uses(&self, tensor: &mut Tensor) -> Result<()> {
        // SAFETY: both are valid for the call.
        done(unsafe { perturbine_record_stream(tensor.as_mut_ptr(), self.0) })
    }

    /// An event that marks the end of all work submitted so far.
    ///
    /// # Errors
    /// A lost device.
    pub fn event(&self) -> Result<CudaEvent> {
        // SAFETY: a fresh event is returned, which `Drop` frees.
        out_pointer(|out| unsafe { perturbine_event(self.0, out) }).map(CudaEvent)
    }

    /// Makes later work on this stream wait for an event; the caller does not wait.
    ///
    /// # Errors
    /// An event of another device.
    pub fn awaits(&self, event: &CudaEvent) -> Result<()> {
        // SAFETY: both are valid for the call.
        done(unsafe { perturbine_await_event(event.0, self.0) })
    }
}

impl Drop for CudaStream {
    fn drop(&mut self) {
        // SAFETY: C++ created it, and it is freed once.
        unsafe { perturbine_stream_free(self.0) }
    }
}

/// A point in the work of a stream.
#[derive(Debug)]
pub struct CudaEvent(*mut Opaque);

// SAFETY: events belong to no thread.
unsafe impl Send for CudaEvent {}

impl CudaEvent {
    /// Blocks this thread until the work is done.
    ///
    /// # Errors
    /// A failure of the device's work.
    pub fn wait(&self) -> Result<()> {
        // SAFETY: the event is valid for the call.
        done(unsafe { perturbine_wait_for_event(self.0) })
    }
}

impl Drop for CudaEvent {
    fn drop(&mut self) {
        // SAFETY: C++ created it, and it is freed once.
        unsafe { perturbine_event_free(self.0) }
    }
}
