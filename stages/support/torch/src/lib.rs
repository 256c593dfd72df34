//! The parts of libtorch that tch lacks: devices found at run time, pinned memory, streams, events and graphs.
//!
//! Programs are linked only against libtorch's CPU library. The CUDA library is loaded by name if present
//! ([`load_cuda`]), which has to happen before any other use of libtorch, because libtorch looks for devices only once.
//!
//! This file is long because it has every unsafe call of libtorch: only six files of the whole program may
//! contain such code, and the functions, the types that own their results, and the reasons why each call is
//! sound belong together. [`launch`] launches custom kernels.
//!
//! ```no_run
//! match torch::load_cuda() {
//!     Ok(()) => println!("{:?}", torch::device_name(0)),
//!     Err(why) => println!("no GPU: {why}"),
//! }
//! ```
#![expect(unsafe_code, reason = "libraries are loaded, and functions of C called; each call says why it is sound")]
#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests write files and start threads of their own"))]

pub mod failures;
pub mod host_copy;
pub mod launch;
pub mod memory;
pub mod parameters;
#[cfg(test)]
mod tests;

use std::{
    ffi::{CStr, CString, OsString, c_char, c_int},
    fs,
    io::Write,
    os::fd::AsRawFd,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
use schemas::{Error, Result};
use tch::{Device, Kind, Tensor};
use torch_sys::C_tensor;

use self::failures::{device_failure, of_panic};

/// A folder to search first for `libtorch_cuda.so`.
pub const FOLDER_VARIABLE: &str = "PERTURBINE_LIBTORCH";
const CUDA_LIBRARY: &str = "libtorch_cuda.so";
const DRIVER_LIBRARY: &str = "libcuda.so.1";
/// CUDA libraries that libtorch needs; the run-time compiler is next to one of them.
const BESIDE_COMPILER: [&str; 2] = ["libcudart.so.", "libcublas.so."];
/// The run-time compiler, preceded by the library that it loads itself.
const COMPILER_LIBRARIES: [&str; 2] = ["libnvrtc-builtins.so.", "libnvrtc.so."];
/// The library of `shim/cuda.cpp`; empty if it was built without CUDA's headers.
static GRAPH_LIBRARY: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/cuda.so"));

/// An opaque C++ object.
#[repr(C)]
struct Opaque([u8; 0]);

// SAFETY: these are the functions of `shim/torch.cpp`, as it declares them.
unsafe extern "C" {
    fn perturbine_error() -> *const c_char;
    fn perturbine_on_terminate(on_message: extern "C" fn(*const c_char) -> c_int);
    fn perturbine_pinned(bytes: usize, out: *mut *mut C_tensor) -> c_int;
    fn perturbine_copy(to: *mut C_tensor, from: *const C_tensor) -> c_int;
    fn perturbine_stream(index: c_int, out: *mut *mut Opaque) -> c_int;
    fn perturbine_current_stream(index: c_int, out: *mut *mut Opaque) -> c_int;
    fn perturbine_exchange_stream(stream: *const Opaque, before: *mut *mut Opaque) -> c_int;
    fn perturbine_stream_free(stream: *mut Opaque);
    fn perturbine_record_stream(tensor: *mut C_tensor, stream: *const Opaque) -> c_int;
    fn perturbine_event(stream: *const Opaque, out: *mut *mut Opaque) -> c_int;
    fn perturbine_await_event(event: *mut Opaque, stream: *const Opaque) -> c_int;
    fn perturbine_wait_for_event(event: *mut Opaque) -> c_int;
    fn perturbine_event_free(event: *mut Opaque);
    fn perturbine_synchronise(index: c_int) -> c_int;
    fn perturbine_memory(index: c_int, out: *mut u64) -> c_int;
    fn perturbine_reset_peak(index: c_int) -> c_int;
    fn perturbine_empty_cache() -> c_int;
    fn perturbine_allow_tf32(allowed: bool);
    fn perturbine_profile_start(device: bool, memory: bool) -> c_int;
    fn perturbine_profile_stop(path: *const c_char) -> c_int;
}

/// Turns a function's status into a result; the error has the message of libtorch's exception.
fn done(status: c_int) -> Result<()> {
    match status {
        0 => Ok(()),
        // SAFETY: the text is this thread's, ends with a zero, and lasts until the next function fails.
        _ => Err(refused(unsafe { CStr::from_ptr(perturbine_error()) })),
    }
}

fn refused(text: &CStr) -> Error {
    error_of(&text.to_string_lossy())
}

/// Libtorch's message as an error: a device error if it is about the device, otherwise a bug.
fn error_of(text: &str) -> Error {
    device_failure(text).unwrap_or_else(|| Error::Bug(format!("libtorch: {}", text.lines().next().unwrap_or_default())))
}

fn int(index: usize) -> c_int {
    c_int::try_from(index).unwrap_or(c_int::MAX)
}

/// Calls a function that returns its result through a pointer.
fn out_pointer<T>(f: impl FnOnce(*mut *mut T) -> c_int) -> Result<*mut T> {
    let mut out = std::ptr::null_mut();
    done(f(&mut out))?;
    Ok(out)
}

/// Loads libtorch's CUDA library into the process, once; later calls return the result of the first.
///
/// # Errors
/// The places that were searched, and what is missing: the driver, or the library.
pub fn load_cuda() -> Result<(), String> {
    static LOADED: OnceLock<Result<(), String>> = OnceLock::new();
    LOADED.get_or_init(|| load(DRIVER_LIBRARY, &places())).clone()
}

/// The places to search, in this order: the folder in the environment variable, the loader's paths
/// (`LD_LIBRARY_PATH`, the program's run path), and the folder of libtorch's CPU library.
fn places() -> Vec<PathBuf> {
    let named = std::env::var_os(FOLDER_VARIABLE).map(|folder| Path::new(&folder).join(CUDA_LIBRARY));
    let beside = loaded("libtorch_cpu.so").map(|path| path.with_file_name(CUDA_LIBRARY));
    named.into_iter().chain([PathBuf::from(CUDA_LIBRARY)]).chain(beside).collect()
}

/// The path of a library loaded by the process, by the beginning of its name.
fn loaded(name: &str) -> Option<PathBuf> {
    let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
    maps.lines().find_map(|line| {
        let path = Path::new(&line[line.find('/')?..]);
        path.file_name()
            .is_some_and(|file| file.as_encoded_bytes().starts_with(name.as_bytes()))
            .then(|| path.to_owned())
    })
}

fn load(driver: &str, places: &[PathBuf]) -> Result<(), String> {
    open(Path::new(driver)).map_err(|error| format!("there is no NVIDIA driver ({error})"))?;
    let mut tried = Vec::new();
    for place in places {
        match open(place) {
            Ok(()) => {
                open_compiler();
                return Ok(());
            }
            Err(error) => tried.push(error),
        }
    }
    tried.dedup();
    Err(format!("libtorch's CUDA libraries were not found ({})", tried.join("; ")))
}

/// Loads CUDA's run-time compiler by its path, if it is next to CUDA's other libraries. libtorch loads the
/// compiler by name when it compiles its first kernel (`lgamma`, `digamma`), and the compiler loads its
/// builtins by name: in a wheel, neither is found unless it is already loaded.
fn open_compiler() {
    for folder in BESIDE_COMPILER.iter().filter_map(|name| loaded(name)?.parent().map(Path::to_path_buf)) {
        // In other places, for example a toolkit known to the system's loader, they are found by name.
        let names = fs::read_dir(&folder).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.file_name()));
        let mut names: Vec<_> = names.collect();
        names.sort();
        for library in COMPILER_LIBRARIES {
            let is_it = |name: &&OsString| name.as_encoded_bytes().starts_with(library.as_bytes());
            if let Some(Err(error)) = names.iter().find(is_it).map(|name| open(&folder.join(name))) {
                tracing::warn!("CUDA's run-time compiler (NVRTC) can't be loaded: {error}");
            }
        }
    }
}

/// Loads a library permanently, with globally visible symbols.
fn open(path: &Path) -> Result<(), String> {
    // SAFETY: the code that runs on loading belongs to NVIDIA's driver and libtorch, which are made to be loaded
    // this way; no part of them was in the process before, and nothing is unloaded.
    let library = unsafe { Library::open(Some(path), RTLD_NOW | RTLD_GLOBAL) };
    library.map(std::mem::forget).map_err(|error| match std::error::Error::source(&error) {
        Some(cause) => cause.to_string(),
        None => error.to_string(),
    })
}

/// Exits with an error and its exit code in a case where libtorch would abort the process: if a device is
/// lost, libtorch's destructors throw while freeing memory. `report` shows the error.
pub fn exit_where_device_is_lost(report: fn(&Error)) {
    static REPORT: OnceLock<fn(&Error)> = OnceLock::new();
    extern "C" fn on_message(text: *const c_char) -> c_int {
        // SAFETY: the text belongs to the exception, is valid for the call, and ends with a zero.
        let text = unsafe { CStr::from_ptr(text) }.to_string_lossy();
        match (device_failure(&text), REPORT.get()) {
            (Some(error), Some(report)) => {
                report(&error);
                error.exit_code() as c_int
            }
            _ => -1,
        }
    }
    if REPORT.set(report).is_ok() {
        // SAFETY: the function is valid as long as the process, and no panic leaves it: code that shows errors does not panic.
        unsafe { perturbine_on_terminate(on_message) }
    }
}

/// Writable pinned memory, which devices read directly; ordinary memory without CUDA. One byte per element.
///
/// # Errors
/// Out of memory.
pub fn pinned(bytes: usize) -> Result<Tensor> {
    // SAFETY: a fresh tensor is returned, which the wrapper frees.
    unsafe { out_pointer(|out| perturbine_pinned(bytes, out)).map(|tensor| Tensor::from_ptr(tensor)) }
}

/// Copies on this thread's stream, asynchronously if the source is [`pinned`].
///
/// # Errors
/// Tensors of different sizes.
pub fn copy(to: &mut Tensor, from: &Tensor) -> Result<()> {
    // SAFETY: both tensors are valid for the call; the allocator records that the device reads pinned memory.
    done(unsafe { perturbine_copy(to.as_mut_ptr(), from.as_ptr()) })
}

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

/// Initialises a device: before its first use, libtorch does not know its memory, and can't report that it is
/// exhausted.
///
/// # Errors
/// A device that can't be used.
pub fn initialise(device: usize) -> Result<()> {
    let tensor = Tensor::f_empty([1], (Kind::Uint8, Device::Cuda(device)));
    tensor.map(drop).map_err(|error| error_of(&error.to_string()))
}

/// Memory of a device, as reported by libtorch's allocator, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceMemory {
    /// Used by tensors now.
    pub tensors: u64,
    /// Used by tensors at most since the last reset.
    pub tensors_peak: u64,
    /// Reserved on the device now: used by tensors, or cached for later ones.
    pub kept: u64,
    /// Reserved on the device at most since the last reset.
    pub kept_peak: u64,
    /// Free memory of the device.
    pub free: u64,
    /// Total memory of the device.
    pub total: u64,
}

/// The memory use of a device that was [initialised](initialise).
///
/// # Errors
/// No such device.
pub fn device_memory(device: usize) -> Result<DeviceMemory> {
    let mut counts = [0_u64; 6];
    // SAFETY: six numbers are written, and there is room for six.
    done(unsafe { perturbine_memory(int(device), counts.as_mut_ptr()) })?;
    let [tensors, tensors_peak, kept, kept_peak, free, total] = counts;
    Ok(DeviceMemory { tensors, tensors_peak, kept, kept_peak, free, total })
}

/// Resets a device's peaks.
///
/// # Errors
/// No such device.
pub fn reset_peak(device: usize) -> Result<()> {
    // SAFETY: only a number is passed; likewise in the next two.
    done(unsafe { perturbine_reset_peak(int(device)) })
}

/// Frees memory cached for later tensors.
///
/// # Errors
/// There is no device.
pub fn empty_cache() -> Result<()> {
    // SAFETY: as above.
    done(unsafe { perturbine_empty_cache() })
}

/// Whether float32 matrix products on a GPU may round their operands to 10 bits of mantissa (TensorFloat-32), process-wide.
pub fn allow_tf32(allowed: bool) {
    // SAFETY: only a boolean is passed.
    unsafe { perturbine_allow_tf32(allowed) }
}

/// Waits until a device has finished all its work.
///
/// # Errors
/// A failure of the device's work.
pub fn synchronise(device: usize) -> Result<()> {
    // SAFETY: as above.
    done(unsafe { perturbine_synchronise(int(device)) })
}

/// Profiles libtorch's operations on this thread until [`stop_profiler`]; with `device`, also the device's
/// work; with `memory`, also the memory of tensors.
///
/// # Errors
/// The profiler is already running.
pub fn start_profiler(device: bool, memory: bool) -> Result<()> {
    // SAFETY: only booleans are passed.
    done(unsafe { perturbine_profile_start(device, memory) })
}

/// Stops profiling, and writes the events in Chrome's trace format.
///
/// # Errors
/// The profiler is not running.
pub fn stop_profiler(path: &Path) -> Result<()> {
    use std::os::unix::ffi::OsStrExt;
    let text = CString::new(path.as_os_str().as_bytes()).map_err(|error| Error::Bug(error.to_string()))?;
    // SAFETY: the text is valid for the call, and ends with a zero.
    done(unsafe { perturbine_profile_stop(text.as_ptr()) })
}

// SAFETY: each call of these explains why it is sound.
type MessageFunction = unsafe extern "C" fn() -> *const c_char;
// SAFETY: as above.
type DeviceNameFunction = unsafe extern "C" fn(c_int, *mut c_char, usize) -> c_int;
// SAFETY: as above.
type NewGraphFunction = unsafe extern "C" fn(*mut *mut Opaque) -> c_int;
// SAFETY: as above.
type BeginCaptureFunction = unsafe extern "C" fn(*mut Opaque, *mut Opaque) -> c_int;
// SAFETY: as above.
type GraphFunction = unsafe extern "C" fn(*mut Opaque) -> c_int;
// SAFETY: as above.
type FreeGraphFunction = unsafe extern "C" fn(*mut Opaque);

/// The functions of `shim/cuda.cpp`.
#[derive(Debug)]
struct CudaFunctions {
    error: MessageFunction,
    device_name: DeviceNameFunction,
    new: NewGraphFunction,
    begin: BeginCaptureFunction,
    end: GraphFunction,
    replay: GraphFunction,
    free: FreeGraphFunction,
    kernels: launch::KernelFunctions,
    /// The library of these functions, which keeps it loaded.
    _library: Library,
}

impl CudaFunctions {
    /// The functions, once libtorch's CUDA library is loaded.
    fn get() -> Result<&'static Self, String> {
        static GRAPHS: OnceLock<Result<CudaFunctions, String>> = OnceLock::new();
        let graphs = GRAPHS.get_or_init(|| {
            load_cuda()?;
            Self::load().map_err(|error| error.to_string())
        });
        graphs.as_ref().map_err(Clone::clone)
    }

    fn load() -> Result<Self, Box<dyn std::error::Error>> {
        if GRAPH_LIBRARY.is_empty() {
            return Err("this program was built without CUDA's headers".into());
        }
        let mut file = fs::File::from(rustix::fs::memfd_create("cuda.so", rustix::fs::MemfdFlags::CLOEXEC)?);
        file.write_all(GRAPH_LIBRARY)?;
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        // SAFETY: the library is the one that was built with this program, from a file that nobody else can write to;
        // the functions have the types that it declares, and it stays loaded as long as they are used.
        unsafe {
            let library = Library::open(Some(path), RTLD_NOW)?;
            Ok(Self {
                error: *library.get(b"perturbine_cuda_error\0")?,
                device_name: *library.get(b"perturbine_device_name\0")?,
                new: *library.get(b"perturbine_graph\0")?,
                begin: *library.get(b"perturbine_graph_begin\0")?,
                end: *library.get(b"perturbine_graph_end\0")?,
                replay: *library.get(b"perturbine_graph_replay\0")?,
                free: *library.get(b"perturbine_graph_free\0")?,
                kernels: launch::KernelFunctions::load(&library)?,
                _library: library,
            })
        }
    }

    fn done(&self, status: c_int) -> Result<()> {
        match status {
            0 => Ok(()),
            // SAFETY: the text is this thread's, ends with a zero, and lasts until the next function fails.
            _ => Err(refused(unsafe { CStr::from_ptr((self.error)()) })),
        }
    }
}

/// Why steps can't be captured as graphs, if they can't.
#[must_use]
pub fn lacks_graphs() -> Option<String> {
    CudaFunctions::get().err()
}

/// A device's name, if it is known.
#[must_use]
pub fn device_name(device: usize) -> Option<String> {
    let graphs = CudaFunctions::get().ok()?;
    let mut name = [0 as c_char; 256];
    // SAFETY: at most as many characters are written as there is room for, and the last one is a zero.
    graphs.done(unsafe { (graphs.device_name)(int(device), name.as_mut_ptr(), name.len()) }).ok()?;
    // SAFETY: as above.
    Some(unsafe { CStr::from_ptr(name.as_ptr()) }.to_string_lossy().into_owned())
}

/// Work of a CUDA device, captured once and replayed as a whole.
#[derive(Debug)]
pub struct CudaGraph {
    graph: *mut Opaque,
    functions: &'static CudaFunctions,
}

impl CudaGraph {
    /// Captures the work that `f` submits to this thread's stream, which must not be the default one; none of it
    /// runs. Each replay overwrites the tensors that the work creates. Graphs that are never in use at the same
    /// time may share memory: `like` is one of them.
    ///
    /// # Errors
    /// Work that can't be captured because it waits for the device, or reads from it.
    pub fn note<T>(like: Option<&Self>, f: impl FnOnce() -> Result<T>) -> Result<(Self, T)> {
        let functions = CudaFunctions::get().map_err(|why| Error::usage(why, "use --set train.engine=plain"))?;
        let mut graph = std::ptr::null_mut();
        // SAFETY: a fresh graph is returned, which `Drop` frees.
        functions.done(unsafe { (functions.new)(&mut graph) })?;
        let graph = Self { graph, functions };
        let like = like.map_or(std::ptr::null_mut(), |like| like.graph);
        // SAFETY: both graphs are valid for the call, or the second is null.
        functions.done(unsafe { (functions.begin)(graph.graph, like) })?;
        // A panic in `f` must not leave the stream capturing.
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(f));
        // SAFETY: the graph is valid, and capturing.
        let ended = functions.done(unsafe { (functions.end)(graph.graph) });
        let result = result.map_err(|panic| {
            let text = panic.downcast_ref::<String>().map_or("an operation failed", String::as_str);
            let text = text.lines().next().unwrap_or_default();
            of_panic(&*panic).unwrap_or_else(|| Error::Bug(format!("a step can't be captured as a graph: {text}")))
        })??;
        ended.map(|()| (graph, result))
    }

    /// Runs the work again on this thread's stream.
    ///
    /// # Errors
    /// A lost device.
    pub fn replay(&self) -> Result<()> {
        // SAFETY: the graph is valid, and complete.
        self.functions.done(unsafe { (self.functions.replay)(self.graph) })
    }
}

impl Drop for CudaGraph {
    fn drop(&mut self) {
        // SAFETY: C++ created it, and it is freed once.
        unsafe { (self.functions.free)(self.graph) }
    }
}
