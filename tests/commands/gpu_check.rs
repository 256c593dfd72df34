//! `scripts/gpu-check` plans its time, keeps every figure that it has, and reads traces: its own tests hold that, without a GPU.

use std::{path::Path, process::Command};

#[test]
fn the_scripts_own_tests_pass() {
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts");
    let ran = Command::new("python3")
        .args([
            "-B",
            "-m",
            "unittest",
            "discover",
            "--start-directory",
            "gpu_check/tests",
            "--top-level-directory",
            ".",
        ])
        .current_dir(&scripts)
        .output()
        .unwrap_or_else(|error| panic!("python3 is needed, as it is for `make setup`: {error}"));
    let told = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success() && told.contains("Ran "), "{told}");
    assert!(!told.contains("Ran 0 tests"), "no test was found: {told}");
}
