//! The parts of libtorch that tch lacks: devices found at run time, pinned memory, streams, events and graphs.
//!
//! Programs are linked only against libtorch's CPU library. The CUDA library is loaded by name if present
//! ([`load_cuda`]), which has to happen before any other use of libtorch, because libtorch looks for devices only once.
//!
//! A file has one subject: [`load_cuda`] in `load`, streams and events in `stream`, [`pinned`](fn@pinned) memory, graphs, memory and names of
//! devices in `device`, the profiler. They call the C++ of this room (`shim`), of which `cuda_library` is loaded at run time.
//! [`launch`] launches custom kernels. Their types own what C++ returned, and each call says why it is sound.
//!
//! ```no_run
//! match torch::load_cuda() {
//!     Ok(()) => println!("{:?}", torch::device_name(0)),
//!     Err(why) => println!("no GPU: {why}"),
//! }
//! ```
#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests write files and start threads of their own"))]

mod cuda_library;
mod device;
mod graph;
pub mod host_copy;
pub mod launch;
mod load;
pub mod memory;
pub mod parameters;
mod pinned;
mod profiler;
mod shim;
mod stream;
mod terminate;
mod threads;

pub use self::{
    device::{DeviceMemory, allow_tf32, device_memory, device_name, empty_cache, initialise, reset_peak, synchronise},
    graph::{CudaGraph, lacks_graphs},
    load::{FOLDER_VARIABLE, load_cuda},
    pinned::{copy, pinned},
    profiler::{start_profiler, stop_profiler},
    stream::{CudaEvent, CudaStream},
    terminate::exit_where_device_is_lost,
    threads::OneThread,
};
