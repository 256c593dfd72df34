//! Compiles `cuda/kernels.cu` for the host, and with NVRTC for devices.
//!
//! `make setup` fetches NVRTC. Without it, the device code is empty, and programs use only libtorch's operations.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    process::Command,
};

/// NVRTC's targets, and the file that the program embeds for each: a cubin for the H100 and H200, and PTX that the driver
/// compiles for any other GPU since Ampere (compute capability 8.0).
const TARGETS: [(&str, &str); 2] = [("sm_90", "kernels.cubin"), ("compute_80", "kernels.ptx")];
const LIBRARY: &str = "libnvrtc.so.13";

pub(crate) fn compile(lib: &Path) -> io::Result<()> {
    println!("cargo:rerun-if-changed=cuda");
    println!("cargo:rerun-if-changed=build");
    // Fused multiply-add is off, because it would round differently on different processors.
    let mut host = cc::Build::new();
    host.cpp(true).std("c++17").opt_level(2).debug(false).flag("-ffp-contract=off").flag("-x").flag("c++");
    host.file("cuda/kernels.cu").compile("perturbine_kernels");
    for_devices(lib)
}

fn for_devices(lib: &Path) -> io::Result<()> {
    let out = PathBuf::from(env::var("OUT_DIR").map_err(io::Error::other)?);
    // What `make setup` unpacked is next to the folder given to the linker.
    let unpacked = lib.ancestors().nth(2).map(|folder| folder.join("nvidia/cu13/lib"));
    let toolkit = env::var_os("CUDA_HOME").map(|folder| Path::new(&folder).join("lib64"));
    let folders: Vec<PathBuf> = [unpacked, toolkit].into_iter().flatten().filter(|folder| folder.exists()).collect();
    // Installing the library later changes its folder.
    folders.iter().for_each(|folder| println!("cargo:rerun-if-changed={}", folder.display()));
    let found = folders.iter().find(|folder| folder.join(LIBRARY).exists());
    println!("cargo:rustc-env=PERTURBINE_NVRTC={}", found.map_or(String::new(), |folder| folder.display().to_string()));
    let nvrtc = compiler(&out)?;
    for (target, file) in TARGETS {
        let file = out.join(file);
        let Some(folder) = found else {
            fs::write(file, [])?;
            continue;
        };
        let ran = Command::new(&nvrtc).arg(folder).args(["cuda", target]).arg(file).output()?;
        let text = String::from_utf8_lossy(&ran.stderr);
        if !ran.status.success() {
            return Err(io::Error::other(format!("NVRTC does not compile cuda/kernels.cu for {target}:\n{text}")));
        }
        text.lines().for_each(|line| println!("cargo:warning={line}"));
    }
    if found.is_none() {
        println!("cargo:warning=building without GPU kernels: NVRTC ({LIBRARY}) is missing; `make setup` fetches it");
    }
    Ok(())
}

/// The program that calls NVRTC; tests also run it.
fn compiler(out: &Path) -> io::Result<PathBuf> {
    let program = out.join("nvrtc");
    let compiler = cc::Build::new().cpp(true).std("c++17").opt_level(1).debug(false).get_compiler();
    let status = Command::new(compiler.path())
        .args(compiler.args())
        .args(["build/nvrtc.cpp", "-ldl", "-o"])
        .arg(&program)
        .status()?;
    status.success().then_some(program).ok_or_else(|| io::Error::other("build/nvrtc.cpp does not compile"))
}
