//! `setup`: fetches libtorch into the user's cache, for programs that were not built on this machine.

use std::{
    io,
    process::{Command, Stdio},
};

use schemas::{Error, Result};
use serde_json::json;

use super::{CommandContext, args::SetupArgs, libtorch};

/// The script that `make setup` runs as well.
const SCRIPT: &str = include_str!("../../scripts/setup.py");

pub(crate) fn setup(args: &SetupArgs, context: &CommandContext) -> Result<()> {
    let folder = libtorch::cache_folder().ok_or_else(|| {
        Error::usage("there is no folder for caches", "set HOME, or XDG_CACHE_HOME to an absolute path")
    })?;
    // Another process may be fetching the same.
    let _lock = context.lock(&folder)?;
    let mut python = Command::new("python3");
    python.args(["-c", SCRIPT, "--into"]).arg(&folder).args(args.cuda.then_some("--cuda")).stdin(Stdio::null());
    let ended = python.status().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Error::usage("python3 is missing", "install Python 3.9 or newer with pip"),
        _ => Error::io("start", "python3")(error),
    })?;
    if !ended.success() {
        return Err(Error::io("fetch", "libtorch")(io::Error::other("the message of pip is above")));
    }
    let libraries = folder.join("torch/lib");
    context.show.result(&json!({ "libtorch": libraries.display().to_string() }), || {
        format!("libtorch {} is in {}", libtorch::VERSION, libraries.display())
    })
}
