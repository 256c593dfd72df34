//! Commands, with one file per kind; [`args`] defines the arguments.

mod allocator;
pub(crate) mod args;
pub(crate) mod command;
mod data;
pub(crate) mod events;
mod inspect;
#[cfg_attr(not(feature = "torch"), path = "no_models.rs")]
pub(crate) mod models;
pub(crate) mod show;
pub(crate) mod signals;
mod splits;

use std::{path::Path, thread, time::Duration};

use perturbine::{Atlas, Error, Resources, Result, Stop, memory::MemoryLog, trace::Trace};
use stages::{reader::atlas::Access, storage::disk::PathLock};

use self::{
    command::{Cli, Command},
    models::caught,
    show::{OutputStyle, say},
};

/// Polling interval while another process works.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// Runs a command, and reports its memory if requested, even after a failure.
pub(crate) fn run(cli: Cli, stop: Stop, trace: Option<Trace>) -> Result<()> {
    allow_many_files();
    let mut resources = cli.global.resources(stop)?;
    let log = cli.command.logs_memory().then(MemoryLog::watch);
    if let Some(log) = &log {
        resources.phases = log.phases();
    }
    let json = cli.global.json;
    let done = caught(|| run_with(cli, resources, trace));
    for phase in log.map(MemoryLog::end).unwrap_or_default() {
        match json {
            true => say(serde_json::json!({ "memory": phase })),
            false => say(format_args!("memory  {phase}")),
        }
    }
    done
}

/// Raises the limit on open files to the system's maximum: a partitioned output has one file per folder.
fn allow_many_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        tracing::debug!("could not raise the limit on open files: {error}");
    }
}

fn run_with(cli: Cli, resources: Resources, trace: Option<Trace>) -> Result<()> {
    let show = OutputStyle { json: cli.global.json, quiet: cli.global.quiet };
    let access = cli.global.access();
    let context = CommandContext { resources, show, access, trace };
    match cli.command {
        Command::Simulate(args) => data::simulate(args, &context),
        Command::Ingest(args) => {
            allocator::give_back(allocator::FreedMemory::All);
            data::ingest(*args, &context)
        }
        Command::Split(args) => splits::split(args, &context),
        Command::Inspect(args) => inspect::inspect(&args, &context),
        Command::Verify(args) => data::verify(&args, &context),
        Command::Model(command) => command.run(&context),
    }
}

/// Context of every command.
struct CommandContext {
    resources: Resources,
    show: OutputStyle,
    access: Access,
    /// Records a timeline, if requested.
    #[cfg_attr(not(feature = "torch"), expect(dead_code, reason = "only training is traced"))]
    trace: Option<Trace>,
}

impl CommandContext {
    fn open(&self, path: &Path) -> Result<Atlas> {
        Atlas::open_with(path, self.access)
    }

    /// Waits until no other process creates or looks for an atlas, or writes a split into it.
    fn lock(&self, atlas: &Path) -> Result<PathLock> {
        let mut is_noted = false;
        loop {
            if let Some(lock) = PathLock::try_take(atlas)? {
                return Ok(lock);
            }
            if !is_noted {
                self.show.note(&format!("waiting for another process that is building {}", atlas.display()));
                is_noted = true;
            }
            if self.resources.stop.requested() {
                return Err(Error::Stopped { resume: "run the same command again".into() });
            }
            thread::sleep(LOOK_AGAIN);
        }
    }
}
