//! One file per kind of command; [`args`] defines the arguments.

mod allocator;
pub(crate) mod args;
#[cfg(feature = "torch")]
mod cache;
#[cfg(feature = "torch")]
mod crossval;
mod data;
#[cfg(feature = "torch")]
mod device;
#[cfg(feature = "torch")]
mod embed;
#[cfg(feature = "torch")]
mod evaluate;
pub(crate) mod events;
#[cfg(feature = "torch")]
mod explain;
#[cfg(feature = "torch")]
pub(crate) mod idle;
mod inspect;
#[cfg(feature = "torch")]
mod predict;
#[cfg(feature = "torch")]
mod report;
#[cfg(feature = "torch")]
mod response;
pub(crate) mod show;
pub(crate) mod signals;
#[cfg(feature = "torch")]
mod steps;
#[cfg(feature = "torch")]
mod train;

use perturbine::schemas::numbers::saturating;
use perturbine::{Resources, Result, Stop, memory::MemoryLog, trace::Trace};

use self::{
    args::{Cli, Command},
    show::{Show, say},
};

/// Whether a command computes with libtorch.
#[cfg(feature = "torch")]
pub(crate) fn computes(cli: &Cli) -> bool {
    cli.command.device().is_some()
}

/// Runs a command, and if requested reports its memory, even after a failure.
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

/// GPU failures outside a stage are panics.
#[cfg(feature = "torch")]
fn caught(work: impl FnOnce() -> Result<()>) -> Result<()> {
    stages::libtorch::failures::caught(work)
}

#[cfg(not(feature = "torch"))]
fn caught(work: impl FnOnce() -> Result<()>) -> Result<()> {
    work()
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
    let show = Show { json: cli.global.json, quiet: cli.global.quiet };
    let access = cli.global.access();
    // Before any other use of libtorch, which looks for devices only once.
    #[cfg(feature = "torch")]
    if let Some(name) = cli.command.device() {
        perturbine::devices::Wanted::parse(name)?.prepare();
    }
    // libtorch's threads are limited like those of stages. The last bits of a result depend on their number, so a limit
    // set in the environment (OMP_NUM_THREADS) is kept.
    #[cfg(feature = "torch")]
    tch::set_num_threads(tch::get_num_threads().min(saturating(resources.threads.get())));
    let context = Context { resources, show, access, trace };
    match cli.command {
        #[cfg(feature = "hdf5")]
        Command::Simulate(args) => data::simulate(args, &context),
        Command::Ingest(args) => {
            allocator::give_back(allocator::Freed::All);
            data::ingest(*args, &context)
        }
        Command::Split(args) => data::split(args, &context),
        Command::Inspect(args) => inspect::inspect(&args, &context),
        Command::Verify(args) => data::verify(&args, &context),
        #[cfg(feature = "torch")]
        Command::Explain(args) => explain::explain(args, &context),
        #[cfg(feature = "torch")]
        Command::Train(args) => train::train(*args, &context),
        #[cfg(feature = "torch")]
        Command::Predict(args) => predict::predict(args, &context),
        #[cfg(feature = "torch")]
        Command::Embed(args) => embed::embed(&args, &context),
        #[cfg(feature = "torch")]
        Command::Response(args) => response::response(&args, &context),
        #[cfg(feature = "torch")]
        Command::Evaluate(args) => evaluate::evaluate(args, &context),
        #[cfg(feature = "torch")]
        Command::Crossval(args) => crossval::crossval(&args, &context),
        #[cfg(feature = "torch")]
        Command::Report(args) => report::report(&args, &context),
    }
}

/// Context of every command.
struct Context {
    resources: Resources,
    show: Show,
    access: stages::atlas::Access,
    /// Records a timeline, if requested.
    #[cfg_attr(not(feature = "torch"), expect(dead_code, reason = "only training is traced"))]
    trace: Option<Trace>,
}

impl Context {
    fn open(&self, path: &std::path::Path) -> Result<perturbine::Atlas> {
        perturbine::Atlas::open_with(path, self.access)
    }
}
