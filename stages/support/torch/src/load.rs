//! Libraries loaded at run time: libtorch's part for CUDA, the driver, and CUDA's run-time compiler.
#![expect(unsafe_code, reason = "loading a library runs its code; the call says why it is sound")]

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};

/// A folder to search first for `libtorch_cuda.so`.
pub const FOLDER_VARIABLE: &str = "PERTURBINE_LIBTORCH";
const CUDA_LIBRARY: &str = "libtorch_cuda.so";
const DRIVER_LIBRARY: &str = "libcuda.so.1";
/// CUDA libraries that libtorch needs; the run-time compiler is next to one of them.
const BESIDE_COMPILER: [&str; 2] = ["libcudart.so.", "libcublas.so."];
/// The run-time compiler, preceded by the library that it loads itself.
const COMPILER_LIBRARIES: [&str; 2] = ["libnvrtc-builtins.so.", "libnvrtc.so."];

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_told_with_what_was_tried() {
        let error = load("libno_driver.so.1", &[]).expect_err("there is no such library");
        assert!(error.starts_with("there is no NVIDIA driver (libno_driver.so.1: "), "{error}");
        let places = ["libno_cuda.so", "elsewhere/libno_cuda.so"].map(PathBuf::from);
        let error = load("libc.so.6", &places).expect_err("there is no such library");
        assert!(error.contains("libno_cuda.so: ") && error.contains("elsewhere/libno_cuda.so: "), "{error}");
    }

    #[test]
    fn the_library_is_looked_for_beside_the_part_for_the_cpu_at_last() {
        tch::manual_seed(0);
        let places = places();
        assert!(places.contains(&PathBuf::from(CUDA_LIBRARY)));
        assert!(places.last().is_some_and(|last| last.is_absolute() && last.ends_with(CUDA_LIBRARY)), "{places:?}");
    }
}
