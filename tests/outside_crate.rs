//! A crate outside the workspace that depends on `perturbine` by path builds, finds libtorch, and runs.
//!
//! Beside the dependency, it needs what docs/library.md shows: two variables in `.cargo/config.toml`, and a build script of
//! three lines. It takes over this build's lock file, profiles and target folder, so that what is compiled here is used there.

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

const BUILD: &str = r#"
fn main() {
    println!("cargo:rustc-link-arg=-Wl,-rpath,{}", std::env::var("DEP_PERTURBINE_LIBTORCH_LIB").unwrap());
}
"#;

const MAIN: &str = r#"
use perturbine::{Atlas, Query, Request, Settings};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let atlas = Atlas::open(std::env::args().nth(1).ok_or("which atlas?")?)?;
    let mut settings = Settings::default();
    settings.train.epochs = 1;
    settings.train.batch_size = 64;
    settings.model.n_latent = 8;
    let model = perturbine::train(&atlas, &settings)?;
    let query = Query { to: Request::parse("observed")?, ..Query::default() };
    let mut rows = 0;
    for batch in perturbine::predict(&atlas, &model, &query)?.stream() {
        rows += batch?.num_rows();
    }
    println!("{rows} predictions");
    Ok(())
}
"#;

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
    write("build.rs", BUILD);
    write("src/main.rs", MAIN);
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
    let (atlas, _) = atlas(&home, "a.atlas", 300, true, Codec::Raw);
    let mut program = Command::new(target.join("debug/outside"));
    let ran = program.arg(atlas.path()).env_remove("LD_LIBRARY_PATH").env("OMP_NUM_THREADS", "1").output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let groups = 2 * (4 * 2 + 2 * 2);
    assert_eq!(String::from_utf8(ran.stdout).unwrap(), format!("{groups} predictions\n"));
    if message.contains("Compiling polars ") {
        skipped("nothing, but dependencies were compiled again: features or profiles of this build differ");
    }
}
