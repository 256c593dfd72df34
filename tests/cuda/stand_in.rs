//! Builds the stand-in for CUDA: libraries named like NVIDIA's, so that torch's own `libtorch_cuda.so` runs on a machine without a GPU.
//!
//! Needed are a C compiler with binutils, CUDA's headers and torch's libraries, all of which `make setup` lays out. The C files in
//! `stand_in/` have what the program reaches; every other function that torch's libraries import becomes a stub that fails and is
//! noted. What was built lies in cargo's target folder under a name made of all that went into it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use xxhash_rust::xxh3::Xxh3;

/// Libraries with functions of the stand-in's own, and the sources of each. The runtime holds all state, so it comes first and the
/// others are linked against it.
const OWN: [(&str, &[&str]); 6] = [
    (
        "libcudart.so.13",
        &["capture.c", "device.c", "fills.c", "kernels.c", "log.c", "memory.c", "product.c", "streams.c"],
    ),
    ("libcublas.so.13", &["cublas.c"]),
    ("libcublasLt.so.13", &["cublas_lt.c"]),
    ("libcupti.so.13", &["cupti.c"]),
    ("libnvrtc.so.13", &["nvrtc.c"]),
    (DRIVER, &["driver.c"]),
];
const RUNTIME: &str = OWN[0].0;
const DRIVER: &str = "libcuda.so.1";
/// Libraries that the run-time compiler loads when it compiles; nothing imports them.
const BUILTINS: &str = "libnvrtc-builtins.so.13.0";
/// Libraries of torch's that import CUDA's, and the folders of `.libtorch` that they may lie in.
const TORCH: [&str; 3] = ["libtorch_cuda.so", "libc10_cuda.so", "libtorch_cpu.so"];
const TORCH_FOLDERS: [&str; 2] = ["cuda-tests/torch/lib", "torch/lib"];
/// Other libraries of torch's: the stand-in's tree has them all, since a library's run path is relative to where it was found.
const BESIDE_THEM: [&str; 2] = ["libc10.so", "libgomp.so.1"];
/// Every name that is imported from one of these is the system's.
const OF_THE_SYSTEM: [&str; 9] =
    ["libc.", "libm.", "libdl.", "librt.", "libpthread.", "libstdc++.", "libgcc_s.", "libgomp.", "ld-linux"];

/// The folder of the stand-in that `LD_LIBRARY_PATH` has to name, built by the first caller.
///
/// # Errors
/// Why it can't be had here: torch's libraries for CUDA are not there.
pub fn folder() -> Result<&'static Path, String> {
    static FOLDER: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    FOLDER.get_or_init(|| Ok(Sources::find()?.built().join("torch/lib"))).as_deref().map_err(Clone::clone)
}

/// The folder of the C files.
fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cuda/stand_in")
}

/// All that it is built from.
struct Sources {
    torch: Vec<PathBuf>,
    headers: PathBuf,
}

impl Sources {
    fn find() -> Result<Self, String> {
        let laid_out = Path::new(env!("CARGO_MANIFEST_DIR")).join(".libtorch");
        let headers = laid_out.join("nvidia/cu13/include");
        let find = |name: &&str| {
            let places = TORCH_FOLDERS.map(|folder| laid_out.join(folder).join(name));
            places.into_iter().find(|path| path.exists()).ok_or_else(|| format!("{name} is not in .libtorch"))
        };
        let torch = TORCH.iter().chain(&BESIDE_THEM).map(find).collect::<Result<_, _>>()?;
        match headers.join("cuda_runtime_api.h").exists() {
            true => Ok(Self { torch, headers }),
            false => Err("CUDA's headers are not in .libtorch".to_owned()),
        }
    }

    /// The tree of libraries. Another process may build it at the same time: whoever is done first gives it its name.
    fn built(&self) -> PathBuf {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let tree = target.join(format!("cuda-stand-in-{:016x}", self.hash()));
        if !tree.exists() {
            fs::create_dir_all(target).unwrap();
            let building = tempfile::tempdir_in(target).unwrap();
            self.build(building.path());
            let renamed = fs::rename(building.path(), &tree);
            assert!(tree.exists(), "{}: {renamed:?}", tree.display());
        }
        tree
    }

    /// A hash of the sources, of this file, and of when torch's libraries were laid out.
    fn hash(&self) -> u64 {
        let mut hash = Xxh3::new();
        let mut files: Vec<PathBuf> = fs::read_dir(sources()).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files.iter().for_each(|file| hash.update(&fs::read(file).unwrap()));
        hash.update(include_bytes!("stand_in.rs"));
        for path in &self.torch {
            let metadata = fs::metadata(path).unwrap();
            hash.update(format!("{} {} {:?}", path.display(), metadata.len(), metadata.modified().unwrap()).as_bytes());
        }
        hash.digest()
    }

    fn build(&self, tree: &Path) {
        let (lib, links) = (tree.join("nvidia/cu13/lib"), tree.join("torch/lib"));
        fs::create_dir_all(&lib).unwrap();
        fs::create_dir_all(&links).unwrap();
        let imports = Imports::read(&self.torch);
        let own = OWN.iter().map(|(name, _)| (*name).to_owned());
        let others: BTreeSet<String> = imports.libraries.iter().cloned().chain([BUILTINS.to_owned()]).collect();
        let others = others.into_iter().filter(|name| OWN.iter().all(|(own, _)| own != name));
        for library in own.chain(others) {
            self.compile(&library, &imports, &lib);
        }
        for path in &self.torch {
            symlink(path, links.join(path.file_name().unwrap())).unwrap();
        }
        symlink(Path::new("../../nvidia/cu13/lib").join(DRIVER), links.join(DRIVER)).unwrap();
    }

    /// One library: its own functions, and stubs for what else is imported from it.
    fn compile(&self, library: &str, imports: &Imports, lib: &Path) {
        let own: Vec<PathBuf> = OWN
            .iter()
            .filter(|(name, _)| *name == library)
            .flat_map(|(_, files)| files.iter().map(|file| sources().join(file)))
            .collect();
        let scratch = tempfile::tempdir().unwrap();
        let objects: Vec<PathBuf> = own
            .iter()
            .map(|source| {
                let object = scratch.path().join(source.file_stem().unwrap()).with_extension("o");
                let mut compiler = compiler();
                compiler.args([
                    "-std=gnu11",
                    "-O2",
                    "-g",
                    "-fPIC",
                    "-Wall",
                    "-Wextra",
                    "-Werror",
                    "-Wno-unused-parameter",
                ]);
                ran(compiler.arg("-I").arg(&self.headers).arg("-c").arg(source).arg("-o").arg(&object));
                object
            })
            .collect();
        let has: BTreeSet<String> =
            objects.iter().flat_map(|object| symbols(object, &["--defined-only"])).map(|symbol| symbol.name).collect();
        let stubs: Vec<String> = imports
            .from(library)
            .filter(|name| !has.contains(*name))
            .map(|name| format!("int {name}(void) {{ standin_missing(\"{library} {name}\"); return 801; }}\n"))
            .collect();
        let (stub_file, versions) = (scratch.path().join("stubs.c"), scratch.path().join("versions"));
        fs::write(&stub_file, format!("void standin_missing(const char *);\n{}", stubs.concat())).unwrap();
        // Among torch's imports, one version each is named after its library.
        fs::write(&versions, format!("{library} {{ global: *; }};\n")).unwrap();
        let mut linker = compiler();
        linker.args(["-shared", "-O1", "-fPIC", "-fno-builtin", "-o"]).arg(lib.join(library));
        linker.arg(format!("-Wl,-soname,{library}")).arg(&stub_file).args(&objects);
        if imports.versioned.contains_key(library) {
            linker.arg(format!("-Wl,--version-script={}", versions.display()));
        }
        if library != RUNTIME {
            // The driver is found by a link in the folder of torch's libraries. The compiler has no run path, as the real one has none.
            linker.arg("-L").arg(lib).arg(format!("-l:{RUNTIME}"));
        }
        if library == DRIVER {
            linker.arg("-Wl,-rpath,$ORIGIN/../../nvidia/cu13/lib");
        }
        ran(linker.args(["-ldl", "-lpthread"]));
    }
}

/// Imports of torch's libraries that are neither theirs nor the system's.
struct Imports {
    /// Libraries that they need.
    libraries: BTreeSet<String>,
    /// Names by the library that their version names.
    versioned: BTreeMap<String, BTreeSet<String>>,
    /// Names without a version, which any library may have.
    unversioned: BTreeSet<String>,
}

impl Imports {
    fn read(torch: &[PathBuf]) -> Self {
        let is_torch = |name: &str| torch.iter().any(|path| path.file_name().is_some_and(|own| own == name));
        let is_system = |name: &str| OF_THE_SYSTEM.iter().any(|prefix| name.starts_with(prefix));
        let libraries = torch.iter().flat_map(|path| needed(path));
        let libraries: BTreeSet<String> = libraries.filter(|name| !is_torch(name) && !is_system(name)).collect();
        let known: BTreeSet<String> =
            torch.iter().flat_map(|path| symbols(path, &["-D", "--defined-only"])).map(|symbol| symbol.name).collect();
        let mut versioned: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let mut unversioned = BTreeSet::new();
        for symbol in torch.iter().flat_map(|path| symbols(path, &["-D", "--undefined-only"])) {
            match symbol.version {
                Some(version) if libraries.contains(&version) => {
                    versioned.entry(version).or_default().insert(symbol.name);
                }
                // NVIDIA's functions are C's; those of C++ that have no version are of its library.
                None if symbol.is_strong && !known.contains(&symbol.name) && !symbol.name.starts_with("_Z") => {
                    unversioned.insert(symbol.name);
                }
                _ => {}
            }
        }
        Self { libraries, versioned, unversioned }
    }

    /// Names that a library has to have: the runtime also has those that are not said to be of any.
    fn from(&self, library: &str) -> impl Iterator<Item = &String> {
        let rest = (library == RUNTIME).then_some(&self.unversioned);
        self.versioned.get(library).into_iter().chain(rest).flatten()
    }
}

struct Symbol {
    name: String,
    version: Option<String>,
    is_strong: bool,
}

fn symbols(path: &Path, which: &[&str]) -> Vec<Symbol> {
    let lines = ran(Command::new("nm").args(which).arg(path));
    let symbols = lines.lines().filter_map(|line| {
        let mut words = line.split_whitespace().rev();
        let (name, kind) = (words.next()?, words.next()?);
        let (name, version) = name.split_once('@').map_or((name, None), |(name, version)| (name, Some(version)));
        let version = version.map(|version| version.trim_start_matches('@').to_owned());
        Some(Symbol { name: name.to_owned(), version, is_strong: kind == "U" })
    });
    symbols.collect()
}

/// Libraries that one asks for when it is loaded.
fn needed(path: &Path) -> Vec<String> {
    let lines = ran(Command::new("readelf").arg("-d").arg(path));
    let needed = lines.lines().filter(|line| line.contains("(NEEDED)"));
    needed.filter_map(|line| Some(line.split_once('[')?.1.split_once(']')?.0.to_owned())).collect()
}

pub fn compiler() -> Command {
    Command::new(std::env::var_os("CC").unwrap_or_else(|| "cc".into()))
}

/// The output of a command that has to succeed.
#[track_caller]
fn ran(command: &mut Command) -> String {
    let output = command.env("LC_ALL", "C").output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}\n{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
