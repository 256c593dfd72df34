//! The packages that `make setup` requests from pip.

#![allow(clippy::disallowed_methods, reason = "tests write files and start threads of their own")]
#![allow(clippy::unwrap_used, reason = "a test fails where it panics")]

use std::{path::Path, process::Command};

#[test]
fn every_library_that_torch_needs_with_cuda_is_found_for_the_platforms_that_are_named() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let scratch = tempfile::tempdir().unwrap();
    let output = Command::new("python3")
        .arg(root.join("tests/python/setup_resolves.py"))
        .arg(root.join("scripts/setup.py"))
        .arg(scratch.path())
        .output()
        .unwrap();
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{message}");
    let taken = String::from_utf8(output.stdout).unwrap();
    for library in ["torch-", "nvidia_cudnn_cu13-", "nvidia_nccl_cu13-", "nvidia_cublas-"] {
        assert!(taken.lines().any(|wheel| wheel.starts_with(library)), "{library} is not in\n{taken}");
    }
    assert_eq!(taken.lines().count(), 17, "{taken}");
}
