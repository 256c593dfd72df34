//! The functions of `shim/cuda.cpp`, a library that is loaded once libtorch's part for CUDA is.
#![expect(unsafe_code, reason = "functions of C are called; each call says why it is sound")]

use std::{
    ffi::{CStr, c_char, c_int, c_void},
    fs,
    io::Write,
    os::fd::AsRawFd,
    sync::OnceLock,
};

use libloading::os::unix::{Library, RTLD_NOW};
use schemas::Result;

use crate::{
    load::load_cuda,
    shim::{Opaque, refused},
};

/// The library of `shim/cuda.cpp`; empty if it was built without CUDA's headers.
static GRAPH_LIBRARY: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/cuda.so"));

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
// SAFETY: as above.
type LoadModuleFunction = unsafe extern "C" fn(c_int, *const c_void, *mut *mut Opaque) -> c_int;
// SAFETY: as above.
type FindKernelFunction = unsafe extern "C" fn(*mut Opaque, *const c_char, *mut *mut Opaque) -> c_int;
// SAFETY: as above.
type SharedMemoryFunction = unsafe extern "C" fn(*mut Opaque, c_int, c_int) -> c_int;
// SAFETY: as above.
type LaunchFunction = unsafe extern "C" fn(*mut Opaque, c_int, u32, u32, u32, u32, *const c_void) -> c_int;
// SAFETY: as above.
type DescribeDeviceFunction = unsafe extern "C" fn(c_int, *mut c_int) -> c_int;

/// The functions of `shim/cuda.cpp`.
#[derive(Debug)]
pub(crate) struct CudaFunctions {
    error: MessageFunction,
    pub(crate) device_name: DeviceNameFunction,
    pub(crate) new: NewGraphFunction,
    pub(crate) begin: BeginCaptureFunction,
    pub(crate) end: GraphFunction,
    pub(crate) replay: GraphFunction,
    pub(crate) free: FreeGraphFunction,
    pub(crate) device_properties: DescribeDeviceFunction,
    pub(crate) load_kernels: LoadModuleFunction,
    pub(crate) kernel: FindKernelFunction,
    pub(crate) share_memory: SharedMemoryFunction,
    pub(crate) launch: LaunchFunction,
    /// The library of these functions, which keeps it loaded.
    _library: Library,
}

impl CudaFunctions {
    /// The functions, once libtorch's CUDA library is loaded.
    pub(crate) fn get() -> Result<&'static Self, String> {
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
                device_properties: *library.get(b"perturbine_device_properties\0")?,
                load_kernels: *library.get(b"perturbine_kernels\0")?,
                kernel: *library.get(b"perturbine_kernel\0")?,
                share_memory: *library.get(b"perturbine_kernel_shared\0")?,
                launch: *library.get(b"perturbine_kernel_launch\0")?,
                _library: library,
            })
        }
    }

    pub(crate) fn done(&self, status: c_int) -> Result<()> {
        match status {
            0 => Ok(()),
            // SAFETY: the text is this thread's, ends with a zero, and lasts until the next function fails.
            _ => Err(refused(unsafe { CStr::from_ptr((self.error)()) })),
        }
    }
}
