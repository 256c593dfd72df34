//! Launches the custom kernels in `stages/support/torch/cuda` (`platform.h` describes how they are written).
//!
//! A kernel takes one argument, a struct of addresses, 64-bit integers and doubles, which [`arguments!`] declares here exactly as the
//! kernel's source does. On a CUDA device, [`launch`] gives the kernel to this thread's current libtorch stream, also within a
//! graph capture; on the CPU, it runs the same source, compiled for the host, before it returns.
//!
//! Memory is accessed by address here: only the kernel itself checks what it reads and writes. The code that fills in a struct of
//! arguments is responsible for this: every tensor must be as large as the kernel assumes, be on the device that the kernel is
//! launched on, and have the type that it is launched for.
#![expect(unsafe_code, reason = "kernels are called with addresses; each call says why it is sound")]

#[cfg(test)]
mod tests;

use std::{
    cell::Cell,
    collections::BTreeMap,
    ffi::{CStr, CString, c_char, c_int, c_void},
    marker::PhantomData,
    mem::size_of,
    ptr,
    sync::{Mutex, OnceLock, PoisonError},
};

use schemas::{Error, Result};
use tch::{Device, Kind, Tensor};

use crate::{
    cuda_library::CudaFunctions,
    shim::{Opaque, int},
};

/// Compiled kernels, aligned as the driver requires.
#[repr(C, align(16))]
struct KernelImage<T: ?Sized>(T);

/// For compute capability 9.0 (H100, H200); empty if the program was built without NVRTC.
static CUBIN: &KernelImage<[u8]> = &KernelImage(*include_bytes!(concat!(env!("OUT_DIR"), "/kernels.cubin")));
/// For compute capability 8.0 and later: the driver compiles it.
static PTX: &KernelImage<[u8]> = &KernelImage(*include_bytes!(concat!(env!("OUT_DIR"), "/kernels.ptx")));
/// Multiprocessors of an H100.
pub const MULTIPROCESSORS: u32 = 132;
/// Size of a warp; the number of threads of a block is a multiple of it.
const WARP: u32 = 32;
const MOST_THREADS: u32 = 1024;
/// Dynamic shared memory that a block of any kernel can use without requesting it, in bytes: 48 KiB, minus
/// static use by kernels and the system.
const SHARED_BYTES: u32 = (48 << 10) - 2048;

/// The address of a tensor's numbers on its device.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub struct Address<'a>(*mut c_void, PhantomData<&'a Tensor>);

impl<'a> Address<'a> {
    /// The address of numbers that a kernel reads. The tensor must be contiguous; it may be a view of another
    /// one.
    pub fn from_tensor(tensor: &'a Tensor) -> Self {
        assert!(tensor.is_contiguous(), "kernels take contiguous tensors");
        Self(tensor.data_ptr(), PhantomData)
    }

    /// The address of numbers that a kernel writes; otherwise like [`Self::from_tensor`]. A shared reference is enough,
    /// because libtorch's tensors share their numbers freely.
    pub fn from_tensor_mut(tensor: &'a Tensor) -> Self {
        Self::from_tensor(tensor)
    }

    /// Like [`Self::from_tensor`], for an optional tensor.
    pub fn from_optional(tensor: Option<&'a Tensor>) -> Self {
        tensor.map_or_else(Self::none, Self::from_tensor)
    }

    /// A null address.
    pub fn none() -> Self {
        Self(ptr::null_mut(), PhantomData)
    }
}

/// The types allowed in a struct of arguments: eight bytes each, so that there is no padding.
pub trait Argument: Copy {}
impl Argument for Address<'_> {}
impl Argument for i64 {}
impl Argument for u64 {}
impl Argument for f64 {}
impl<T: Argument, const N: usize> Argument for [T; N] {}

/// The arguments of a kernel. Only [`arguments!`] implements it, for structs with C++ layout.
pub trait Arguments: Copy {
    /// The name of the kernel, without the suffix for its number type.
    const NAME: &'static str;
}

/// Declares a struct of arguments, with the fields of the kernel's own struct in the same order:
///
/// ```text
/// arguments! {
///     /// What the kernel does.
///     AddRow<'a>, "add_row" {
///         matrix: Address<'a>,
///         row: Address<'a>,
///         rows: i64,
///         width: i64,
///     }
/// }
/// ```
#[macro_export]
macro_rules! arguments {
    ($(#[$about:meta])* $name:ident<$tensors:lifetime>, $kernel:literal { $($(#[$of_field:meta])* $field:ident: $type:ty,)+ }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug)]
        #[repr(C)]
        struct $name<$tensors> {
            $($(#[$of_field])* $field: $type,)+
        }

        impl<$tensors> $crate::launch::Arguments for $name<$tensors>
        where
            $($type: $crate::launch::Argument,)+
        {
            const NAME: &'static str = $kernel;
        }
    };
}
pub use crate::arguments;

/// Runs a kernel's blocks, `grid` of them, each with this many threads (a multiple of 32) and this many bytes
/// of dynamic shared memory. If the kernel exists for several number types, the version for `kind` runs;
/// other kernels ignore `kind`. On a CUDA device, this returns at once, and tensors may be dropped: libtorch
/// reuses their memory in stream order. On the CPU, a block is one thread.
///
/// # Errors
/// A missing kernel, or one with arguments of a different size; the reason from [`lacks_kernels`]; a launch
/// that the device refuses.
pub fn launch<A: Arguments>(
    arguments: &A,
    kind: Kind,
    device: Device,
    grid: [u32; 2],
    threads: u32,
    shared_bytes: u32,
) -> Result<()> {
    assert!(
        (WARP..=MOST_THREADS).contains(&threads) && threads.is_multiple_of(WARP),
        "a block of {} has 32, 64, .. 1024 threads, not {threads}",
        A::NAME
    );
    let (name, kernel) = find::<A>(kind)?;
    match device {
        _ if grid.contains(&0) => Ok(()),
        Device::Cpu => {
            kernel.run(arguments, grid, HOST_THREADS.get(), shared_bytes);
            Ok(())
        }
        Device::Cuda(device) => {
            let module = Module::for_device(device).map_err(|why| Error::usage(why, "use --set train.engine=plain"))?;
            module.launch(name, arguments, grid, threads, shared_bytes)
        }
        Device::Mps | Device::Vulkan => Err(Error::Bug(format!("there are no kernels for {device:?}"))),
    }
}

thread_local! {
    /// Number of threads of a block on the host.
    static HOST_THREADS: Cell<u32> = const { Cell::new(1) };
}

/// Runs work, with its kernels on the host in blocks of this many real threads instead of one, so that tests
/// detect threads that read what another one has not written yet.
pub fn with_host_threads<T>(threads: u32, work: impl FnOnce() -> T) -> T {
    let before = HOST_THREADS.replace(threads);
    let done = work();
    HOST_THREADS.set(before);
    done
}

/// Why custom kernels can't be launched on a device, if they can't. The first call loads them.
pub fn lacks_kernels(device: Device) -> Option<String> {
    match device {
        Device::Cpu => None,
        Device::Cuda(device) => Module::for_device(device).err(),
        Device::Mps | Device::Vulkan => Some(format!("there are no kernels for {device:?}")),
    }
}

/// Minimum number of blocks that a device runs concurrently: its multiprocessors; elsewhere that of an H100.
pub fn multiprocessors(device: Device) -> u32 {
    let module = match device {
        Device::Cuda(device) => Module::for_device(device).ok(),
        Device::Cpu | Device::Mps | Device::Vulkan => None,
    };
    module.map_or(MULTIPROCESSORS, |module| module.multiprocessors)
}

/// The kernel for a number type: its full name, and its host version.
fn find<A: Arguments>(kind: Kind) -> Result<(&'static str, &'static HostKernel)> {
    let all = host_kernels();
    let ending = match kind {
        Kind::Float => "_f32",
        Kind::Double => "_f64",
        _ => "",
    };
    let found = all.get_key_value(A::NAME).or_else(|| all.get_key_value(format!("{}{ending}", A::NAME).as_str()));
    let (name, kernel) =
        found.ok_or_else(|| Error::Bug(format!("there is no kernel `{}` for numbers of {kind:?}", A::NAME)))?;
    if kernel.argument_bytes != size_of::<A>() {
        let (takes, given) = (kernel.argument_bytes, size_of::<A>());
        return Err(Error::Bug(format!("the kernel `{name}` takes {takes} bytes of arguments, not {given}")));
    }
    Ok((name, kernel))
}

// SAFETY: the kernel reads as many bytes as it declares; see `HostKernel::run`.
type HostKernelFunction = unsafe extern "C" fn(u32, u32, u32, u32, *const c_void);

/// A kernel compiled for the host, as listed by `platform_host.h`.
#[derive(Debug)]
#[repr(C)]
struct HostKernel {
    name: *const c_char,
    run: HostKernelFunction,
    argument_bytes: usize,
}

// SAFETY: the name is a constant, and kernels are never modified.
unsafe impl Sync for HostKernel {}

// SAFETY: this is a function of `platform_host.h`, as declared there.
unsafe extern "C" {
    fn perturbine_host_kernels(count: *mut usize) -> *const HostKernel;
}

impl HostKernel {
    /// Runs all blocks before it returns, each with this many threads.
    fn run<A: Arguments>(&self, arguments: &A, grid: [u32; 2], threads: u32, shared_bytes: u32) {
        let argument = ptr::from_ref(arguments).cast();
        // SAFETY: the struct is valid for the call, and as large as the kernel's; its addresses and counts belong to
        // tensors, for which the code that filled it in is responsible.
        unsafe { (self.run)(grid[0], grid[1], threads, shared_bytes, argument) }
    }
}

/// All kernels, by name.
fn host_kernels() -> &'static BTreeMap<&'static str, &'static HostKernel> {
    static KERNELS: OnceLock<BTreeMap<&'static str, &'static HostKernel>> = OnceLock::new();
    KERNELS.get_or_init(|| {
        let mut count = 0;
        // SAFETY: the list was built when the program started and is never changed; it has as many kernels as it says.
        let all = unsafe { std::slice::from_raw_parts(perturbine_host_kernels(&mut count), count) };
        // SAFETY: names are constants that end with a zero.
        let named = all.iter().map(|kernel| (unsafe { CStr::from_ptr(kernel.name) }, kernel));
        named.filter_map(|(name, kernel)| Some((name.to_str().ok()?, kernel))).collect()
    })
}

/// A kernel handle of CUDA.
#[derive(Debug)]
struct DeviceKernel(*mut Opaque);

// SAFETY: CUDA's kernels are not bound to a thread.
unsafe impl Send for DeviceKernel {}
// SAFETY: as above, and CUDA synchronises changes to them.
unsafe impl Sync for DeviceKernel {}

/// The kernels on a device.
#[derive(Debug)]
struct Module {
    device: usize,
    functions: &'static CudaFunctions,
    kernels: BTreeMap<&'static str, DeviceKernel>,
    multiprocessors: u32,
}

impl Module {
    /// The kernels of a device, loaded once; later calls return the result of the first.
    fn for_device(device: usize) -> Result<&'static Self, String> {
        type LoadedModule = &'static Result<Module, String>;
        static MODULES: Mutex<BTreeMap<usize, LoadedModule>> = Mutex::new(BTreeMap::new());
        let mut all = MODULES.lock().unwrap_or_else(PoisonError::into_inner);
        // They are kept until the program ends.
        let loaded: LoadedModule = all.entry(device).or_insert_with(|| Box::leak(Box::new(Self::load(device))));
        loaded.as_ref().map_err(Clone::clone)
    }

    fn load(device: usize) -> Result<Self, String> {
        let functions = CudaFunctions::get()?;
        let refused = |error: Error| error.to_string();
        let mut properties = [0; 3];
        // SAFETY: three numbers are written, and there is room for three.
        let status = unsafe { (functions.device_properties)(int(device), properties.as_mut_ptr()) };
        functions.done(status).map_err(refused)?;
        let [major, minor, multiprocessors] = properties;
        let code = code_for([major, minor])?;
        let mut library = ptr::null_mut();
        // SAFETY: the code is a complete cubin, or text that ends with a zero, and is never moved.
        let status = unsafe { (functions.load_kernels)(int(device), code.as_ptr().cast(), &mut library) };
        functions.done(status).map_err(refused)?;
        let mut kernels = BTreeMap::new();
        for name in host_kernels().keys() {
            let text = CString::new(*name).map_err(|error| error.to_string())?;
            let mut kernel = ptr::null_mut();
            // SAFETY: the library was loaded, and the text ends with a zero.
            let status = unsafe { (functions.kernel)(library, text.as_ptr(), &mut kernel) };
            functions.done(status).map_err(|error| format!("the kernel `{name}` is missing ({error})"))?;
            kernels.insert(*name, DeviceKernel(kernel));
        }
        let multiprocessors = u32::try_from(multiprocessors).map_err(|error| error.to_string())?;
        Ok(Self { device, functions, kernels, multiprocessors })
    }

    fn launch<A: Arguments>(
        &self,
        name: &str,
        arguments: &A,
        [x, y]: [u32; 2],
        threads: u32,
        shared_bytes: u32,
    ) -> Result<()> {
        let (device, CudaFunctions { share_memory, launch, .. }) = (int(self.device), self.functions);
        let kernel = self.kernels.get(name).ok_or_else(|| Error::Bug(format!("the kernel `{name}` was not loaded")))?;
        let refused = |error: Error| Error::Bug(format!("the kernel `{name}`: {error}"));
        if shared_bytes > SHARED_BYTES {
            let bytes = c_int::try_from(shared_bytes).unwrap_or(c_int::MAX);
            // SAFETY: the kernel was loaded permanently.
            self.functions.done(unsafe { share_memory(kernel.0, device, bytes) }).map_err(refused)?;
        }
        let argument = ptr::from_ref(arguments).cast();
        // SAFETY: the kernel was loaded permanently; the struct is as large as the kernel's, and copied by the call;
        // its addresses and counts belong to tensors, for which the code that filled it in is responsible.
        let status = unsafe { launch(kernel.0, device, x, y, threads, shared_bytes, argument) };
        self.functions.done(status).map_err(refused)
    }
}

/// The compiled kernels for a compute capability.
fn code_for(capability: [i32; 2]) -> Result<&'static [u8], String> {
    let [major, minor] = capability;
    if major < 8 {
        return Err(format!("kernels need a GPU of compute capability 8.0 or later, and this one has {major}.{minor}"));
    }
    let code = if major == 9 { &CUBIN.0 } else { &PTX.0 };
    if code.is_empty() { Err("this program was built without NVRTC, which compiles kernels".into()) } else { Ok(code) }
}
