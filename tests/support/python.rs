//! Programs of others, installed where this build keeps what it makes.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Mutex,
};

use super::skipped;

/// One installation at a time: two tests may want the same.
static INSTALLING: Mutex<()> = Mutex::new(());

/// A Python with these packages, installed once for each list; none, with a message, if that is not possible.
pub fn python_with(name: &str, packages: &[&str]) -> Option<PathBuf> {
    let _one = INSTALLING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("python-{name}"));
    let (python, marker, requirements) = (home.join("bin/python"), home.join("complete"), packages.join("\n"));
    if fs::read_to_string(&marker).is_ok_and(|found| found == requirements) {
        return Some(python);
    }
    let ran = |command: &mut Command| command.output().is_ok_and(|output| output.status.success());
    if !ran(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&home)) {
        skipped("python3 with venv is not there");
        return None;
    }
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--only-binary=:all:", "--timeout=15"];
    if !ran(Command::new(&python).args(pip).arg("--retries=1").args(packages)) {
        skipped(&format!("pip can't install {}", packages.join(", ")));
        return None;
    }
    fs::write(marker, requirements).unwrap();
    Some(python)
}

/// Runs a script that is to succeed, and returns what it prints.
#[track_caller]
pub fn run(python: &Path, script: &str, arguments: &[&Path]) -> String {
    let output = Command::new(python).arg("-c").arg(script).args(arguments).output().unwrap();
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{message}");
    String::from_utf8(output.stdout).unwrap()
}
