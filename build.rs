//! Tells the linker where programs find libtorch at run time.
//!
//! torch-sys announces the folder it linked against. Its path goes into the run-time search path (an `RUNPATH`, so that
//! `LD_LIBRARY_PATH` still wins) of this package's binaries, tests and examples, and is handed on to crates that depend
//! on this one: their build script reads it as `DEP_PERTURBINE_LIBTORCH_LIB` (docs/library.md). The program `perturbine`, which is
//! not linked to libtorch, knows it as well, since it starts the one that is.

fn main() {
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    if let Ok(lib) = std::env::var("DEP_TCH_LIBTORCH_LIB") {
        println!("cargo:rustc-link-arg=-Wl,-rpath,{lib}");
        println!("cargo:libtorch_lib={lib}");
        println!("cargo:rustc-env=PERTURBINE_LINKED_LIBTORCH={lib}");
    }
}
