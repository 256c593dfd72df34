//! A crate outside the workspace that depends on `perturbine` by path builds, finds libtorch, and runs.
//!
//! Its code and its build script are those that README and docs/library.md show. It takes over this build's lock
//! file, profiles and target folder, so that what is compiled here is used there.

#![allow(clippy::disallowed_methods, reason = "tests write files and start threads of their own")]
#![allow(clippy::unwrap_used, reason = "a test fails where it panics")]
#![allow(unreachable_pub, reason = "a test has no outside that its support could be private to")]

mod support;

use std::{
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    path::{Path, PathBuf},
    process::Command,
};

use schemas::atlas::Codec;

use self::support::{Home, atlas, skipped};

/// Runs what README and docs/library.md show, in the folder that is its argument.
const MAIN: &str = r#"
type Result = std::result::Result<(), Box<dyn std::error::Error>>;

fn main() -> Result {
    std::env::set_current_dir(std::env::args().nth(1).ok_or("which folder?")?)?;
    readme()?;
    library()
}

/// One epoch of a small network, where the pages train with the defaults, which take minutes.
fn quick() -> perturbine::Settings {
    let mut settings = perturbine::Settings::default();
    settings.train.epochs = 1;
    settings.model.n_latent = 8;
    settings
}
"#;

/// Pairs of the atlas's perturbations in each of its two cell types.
const PAIRS: u32 = 12;

/// The function `name` with a block of Rust of a page as its body, but for the settings.
fn function(name: &str, block: &str) -> String {
    let block = ["perturbine::Settings::default()", "Settings::default()"]
        .iter()
        .fold(block.to_owned(), |block, defaults| block.replace(defaults, "quick()"));
    format!("#[allow(unused)]\nfn {name}() -> Result {{\n{block}\nOk(())\n}}\n")
}

/// The blocks of a page in a language, in order.
fn blocks(repository: &Path, page: &str, language: &str) -> Vec<String> {
    let (text, fence) = (fs::read_to_string(repository.join(page)).unwrap(), format!("```{language}\n"));
    let pieces = text.split(&fence).skip(1);
    pieces.map(|piece| piece.split("```").next().unwrap().to_owned()).collect()
}

/// The outside crate's manifest. Dependencies that only tests have here are dependencies there: they switch on features of
/// what both share, and with other features it would be compiled again.
fn manifest(repository: &Path) -> String {
    let text = fs::read_to_string(repository.join("Cargo.toml")).unwrap();
    let ours: toml::Table = text.parse().unwrap();
    let mut dependencies = toml::Table::new();
    for (name, dependency) in ours["dev-dependencies"].as_table().unwrap() {
        let of_workspace = dependency.get("workspace").is_some();
        let dependency = if of_workspace { &ours["workspace"]["dependencies"][name] } else { dependency };
        let mut dependency = dependency.clone();
        // Paths are relative to the manifest that they stand in.
        if let Some(path) = dependency.get_mut("path") {
            *path = repository.join(path.as_str().unwrap()).to_str().unwrap().into();
        }
        dependencies.insert(name.clone(), dependency);
    }
    let path = repository.to_str().unwrap().to_owned();
    dependencies.insert("perturbine".into(), toml::Table::from_iter([("path".to_owned(), path.into())]).into());
    let mut manifest: toml::Table =
        "[package]\nname = \"outside\"\nversion = \"0.0.0\"\nedition = \"2024\"\n[workspace]".parse().unwrap();
    manifest.insert("dependencies".into(), dependencies.into());
    manifest.insert("profile".into(), ours["profile"].clone());
    toml::to_string(&manifest).unwrap()
}

/// The crate's folder, the same each time: cargo keeps what it built for a crate by the crate's path.
struct Outside(PathBuf);

impl Outside {
    fn new(repository: &Path) -> Self {
        let mut hash = DefaultHasher::new();
        repository.hash(&mut hash);
        Self(std::env::temp_dir().join(format!("perturbine-outside-{:016x}", hash.finish())))
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_crate_outside_the_workspace_builds_and_runs() {
    if !cfg!(all(feature = "torch", feature = "hdf5")) {
        return skipped("the crate outside takes all features, and they are not built here");
    }
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (Some(libtorch), Some(cmake)) = (std::env::var_os("LIBTORCH"), std::env::var_os("CMAKE")) else {
        return skipped("LIBTORCH and CMAKE are set by cargo; run this test by it");
    };
    let outside = Outside::new(repository);
    let write = |name: &str, text: &str| {
        let path = outside.0.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write("Cargo.toml", &manifest(repository));
    let [readme] = &blocks(repository, "README.md", "rust")[..] else { panic!("README shows one piece of Rust") };
    let [library, build] = &blocks(repository, "docs/library.md", "rust")[..] else { panic!("the page shows two") };
    write("build.rs", build);
    write("src/main.rs", &[MAIN, &function("readme", readme), &function("library", library)].concat());
    write(".cargo/config.toml", &format!("[env]\nLIBTORCH = {libtorch:?}\nCMAKE = {cmake:?}\n"));
    fs::copy(repository.join("Cargo.lock"), outside.0.join("Cargo.lock")).unwrap();

    let program = Path::new(env!("CARGO_BIN_EXE_perturbine"));
    let target = program.parent().unwrap().parent().unwrap();
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--offline"]).current_dir(&outside.0).env("CARGO_TARGET_DIR", target);
    for variable in ["LIBTORCH", "CMAKE", "LD_LIBRARY_PATH"] {
        cargo.env_remove(variable);
    }
    let built = cargo.output().unwrap();
    let message = String::from_utf8(built.stderr).unwrap();
    assert!(built.status.success(), "{message}");

    let home = Home::new();
    atlas(&home, "screen.atlas", 300, true, Codec::Raw);
    let mut program = Command::new(target.join("debug/outside"));
    let ran = program.arg(home.path(".")).env_remove("LD_LIBRARY_PATH").env("OMP_NUM_THREADS", "1").output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let printed = String::from_utf8(ran.stdout).unwrap();
    let rows = printed.lines().map(|line| line.strip_suffix(" predictions").unwrap().parse::<u32>().unwrap());
    assert_eq!(rows.sum::<u32>(), PAIRS, "{printed}");
    if message.contains("Compiling polars ") {
        skipped("nothing, but dependencies were compiled again: features or profiles of this build differ");
    }
}
