//! Lets this package's own tests find libtorch at run time (the root package's build script explains this
//! further), and compiles the parts of libtorch that tch lacks.
//!
//! `shim/torch.cpp` is linked in. `shim/cuda.cpp` needs CUDA's headers, which `make setup` fetches without
//! CUDA itself; it becomes a small library that is embedded in the program. Without the headers, the library
//! is empty, and steps are computed without graphs. `build/kernels.rs` compiles the custom CUDA kernels.
#![allow(clippy::disallowed_methods, reason = "a build script writes for cargo")]

#[path = "build/kernels.rs"]
mod kernels;

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    process::Command,
};

fn main() -> io::Result<()> {
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    println!("cargo:rerun-if-env-changed=CUDA_HOME");
    println!("cargo:rerun-if-changed=shim");
    let Ok(lib) = env::var("DEP_TCH_LIBTORCH_LIB") else { return Ok(()) };
    println!("cargo:rustc-link-arg=-Wl,-rpath,{lib}");
    let include = Path::new(&lib).with_file_name("include");
    let includes = [include.clone(), include.join("torch/csrc/api/include")];
    compiler(&includes).file("shim/torch.cpp").compile("perturbine_shim");
    cuda_library(&includes, Path::new(&lib))?;
    kernels::compile(Path::new(&lib))
}

fn compiler(includes: &[PathBuf]) -> cc::Build {
    let mut build = cc::Build::new();
    build.cpp(true).std("c++17").warnings(false).opt_level(2).debug(false).includes(includes);
    build
}

/// Compiles the library as a file to embed; the file is empty if CUDA's headers are missing.
fn cuda_library(includes: &[PathBuf], lib: &Path) -> io::Result<()> {
    let out = PathBuf::from(env::var("OUT_DIR").map_err(io::Error::other)?).join("cuda.so");
    // What `make setup` unpacked is next to the folder given to the linker.
    let unpacked = lib.ancestors().nth(2).map(|folder| folder.join("nvidia/cu13/include"));
    let toolkit = env::var_os("CUDA_HOME").map(|folder| Path::new(&folder).join("include"));
    let headers: Vec<PathBuf> =
        [unpacked, toolkit].into_iter().flatten().map(|folder| folder.join("cuda_runtime_api.h")).collect();
    // Headers that are installed later are found by the next build.
    headers.iter().for_each(|header| println!("cargo:rerun-if-changed={}", header.display()));
    let found = headers.iter().find(|header| header.exists()).and_then(|header| header.parent());
    let Some(headers) = found else {
        println!("cargo:warning=building without CUDA graphs: CUDA's headers are missing; `make setup` fetches them");
        return fs::write(&out, []);
    };
    let compiler = compiler(includes).include(headers).get_compiler();
    let status = Command::new(compiler.path())
        .args(compiler.args())
        .args(["-fPIC", "-shared", "shim/cuda.cpp", "-o"])
        .arg(&out)
        .status()?;
    status.success().then_some(()).ok_or_else(|| io::Error::other("shim/cuda.cpp does not compile"))
}
