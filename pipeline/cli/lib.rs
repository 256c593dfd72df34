//! The command line: parses, draws and prints; everything it does is public in the library. A file for each kind of command;
//! `args` defines the arguments.

pub mod allocator;
pub mod args;
mod cache;
mod command;
mod data;
mod events;
mod failures;
#[cfg(feature = "hdf5")]
mod hdf5_worker;
mod help;
pub mod input;
pub mod inspect;
mod judge;
mod libtorch;
pub mod libtorch_program;
pub mod model_args;
pub mod models;
pub mod output;
pub mod progress;
mod screen;
mod settings;
mod setup;
pub mod show;
mod signals;
pub mod splits;
mod table;
pub mod typed_command;

use std::{
    panic::{self, AssertUnwindSafe},
    path::Path,
    thread,
    time::Duration,
};

use clap::FromArgMatches;
use reader::atlas::Access;
use schemas::error::ExitCode as Code;
use stage::device_failure::{caught, of_panic};
use storage::{disk::PathLock, parquet_read::is_decoding};

use self::{
    command::{Cli, Command},
    failures::{report, report_arguments, report_as_json},
    models::Models,
    show::{OutputStyle, say, say_as, say_events, says_events, write_line},
};
use flows::{Resources, memory::MemoryLog, trace::Trace};
use reader::atlas::Atlas;
use runtime::{Stop, panicked};
use schemas::{Error, Result};

/// Polling interval while another process works.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Runs the command line of this process, with commands about models here or in the program with libtorch. Returns the exit code.
#[must_use]
pub fn main(models: Models) -> u8 {
    #[cfg(feature = "hdf5")]
    if hdf5_worker::is_asked_for() {
        return hdf5_worker::run();
    }
    signals::hold_back_signals();
    let mut command = help::command();
    let matches = command.try_get_matches_from_mut(std::env::args_os());
    let parsed = matches.and_then(|matches| Cli::from_arg_matches(&matches));
    let cli = match parsed.map_err(|error| error.format(&mut command)) {
        Ok(cli) => cli,
        Err(error) => return report_arguments(&error),
    };
    if cli.global.sends_events() {
        say_events();
    }
    let report = if cli.global.json || says_events() { report_as_json } else { report };
    if let (Command::Model(_), Models::InLibtorchProgram(program)) = (&cli.command, models) {
        let error = program.take_over();
        report(&error);
        return error.exit_code() as u8;
    }
    // This comes before any work, so that signals are handled.
    let stop = Stop::default();
    if let Err(error) = signals::stop_on_signals(&stop) {
        say_as("warn", format_args!("signals are not handled: {error}"));
    }
    if cli.global.stop_on_eof
        && !cli.command.reads_tables()
        && let Err(error) = signals::stop_at_end_of_input(&stop)
    {
        say_as("warn", format_args!("the end of standard input is not noticed: {error}"));
    }
    // A decoder's panic about a damaged file, or libtorch's about a failing GPU, becomes an error.
    let usual = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        if !is_decoding() && of_panic(panic.payload()).is_none() {
            usual(panic);
        }
    }));
    if let Models::Here(models) = models {
        models.exit_where_device_is_lost(report);
    }
    let trace = cli.command.profile().is_some().then(Trace::start);
    events::subscribe(cli.global.verbose, cli.global.quiet, trace.clone());
    let done = panic::catch_unwind(AssertUnwindSafe(|| run(cli, models, stop, trace)));
    // libtorch panics when a GPU fails.
    let is_of_device = matches!(done, Ok(Err(Error::DeviceMemory { .. } | Error::Device { .. })));
    let code = match done {
        Ok(Ok(())) => None,
        Ok(Err(error)) => {
            report(&error);
            Some(error.exit_code())
        }
        // It has already printed its message.
        Err(_) => Some(Code::Bug),
    };
    // Any other panic is a bug, on any thread and whatever the result of the run.
    let code = if panicked() && !is_of_device { Some(Code::Bug) } else { code };
    code.map_or(0, |code| code as u8)
}

/// Runs a command, and reports its memory if requested, even after a failure.
fn run(cli: Cli, models: Models, stop: Stop, trace: Option<Trace>) -> Result<()> {
    allow_many_files();
    let mut resources = cli.global.resources(stop)?;
    let log = cli.command.logs_memory().then(MemoryLog::watch);
    if let Some(log) = &log {
        resources.phases = log.phases();
    }
    let json = cli.global.json;
    let done = caught(|| run_with(cli, models, resources, trace));
    for phase in log.map(MemoryLog::end).unwrap_or_default() {
        match json {
            _ if says_events() => write_line(serde_json::json!({ "event": "memory", "memory": phase })),
            true => write_line(serde_json::json!({ "memory": phase })),
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

fn run_with(cli: Cli, models: Models, resources: Resources, trace: Option<Trace>) -> Result<()> {
    if cli.global.csv && !cli.command.has_table() {
        let hint = "leave out --csv; --json prints the result in a form that programs read";
        return Err(Error::usage("this command has no table to print as CSV", hint));
    }
    let show = OutputStyle {
        json: cli.global.json,
        csv: cli.global.csv,
        quiet: cli.global.quiet,
        width: (!cli.global.wide).then(screen::width),
    };
    let access = cli.global.access();
    let context = CommandContext { models, resources, show, access, trace };
    match cli.command {
        Command::Simulate(args) => data::simulate(args, &context),
        Command::Ingest(args) => {
            allocator::give_back(allocator::FreedMemory::All);
            data::ingest(*args, &context)
        }
        Command::Split(args) => splits::split(args, &context),
        Command::Inspect(args) => inspect::inspect(&args, &context),
        Command::Verify(args) => data::verify(&args, &context),
        Command::Presets => settings::presets(&context),
        Command::Settings(args) => settings::settings(&args, &context),
        Command::Completions(args) => settings::completions(&args),
        Command::Setup(args) => setup::setup(&args, &context),
        Command::Judge(args) => judge::judge(&args, &context),
        Command::Model(command) => context.models()?.run(command, &context),
    }
}

/// Context of every command.
pub struct CommandContext {
    models: Models,
    /// Threads, memory, and how the run is stopped and followed.
    pub resources: Resources,
    /// How to show output.
    pub show: OutputStyle,
    access: Access,
    /// Records a timeline, if requested.
    pub trace: Option<Trace>,
}

impl CommandContext {
    /// Opens an atlas.
    ///
    /// # Errors
    /// A path without an atlas, or one that is damaged.
    pub fn open(&self, path: &Path) -> Result<Atlas> {
        if models::is_model(path) {
            let message = format!("{} is a model, not an atlas", path.display());
            return Err(Error::usage(
                message,
                "name the model first, then the atlas; `split` and `train` take an atlas alone",
            ));
        }
        Atlas::open_with(path, self.access)
    }

    /// Waits until no other process creates, replaces or looks for an atlas, or writes a split into it.
    fn lock(&self, atlas: &Path) -> Result<PathLock> {
        let mut is_noted = false;
        loop {
            if let Some(lock) = try_lock(atlas)? {
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

/// Tries to lock an atlas, by the same name through links too; `None` if another process holds the lock.
fn try_lock(atlas: &Path) -> Result<Option<PathLock>> {
    PathLock::try_take(&atlas.canonicalize().unwrap_or_else(|_| atlas.to_path_buf()))
}
