//! One file a kind of command; [`args`] says what can be asked.

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

/// Runs a command, and where that was asked for tells the memory it took: of one that fails, too.
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

/// Failures of a GPU come as panics where they are not those of a stage.
#[cfg(feature = "torch")]
fn caught(work: impl FnOnce() -> Result<()>) -> Result<()> {
    stages::libtorch::failures::caught(work)
}

#[cfg(not(feature = "torch"))]
fn caught(work: impl FnOnce() -> Result<()>) -> Result<()> {
    work()
}

/// Lets this process have as many files open as the system allows: a partition has one for each of its folders.
fn allow_many_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        tracing::debug!("the number of open files stays what it is: {error}");
    }
}

fn run_with(cli: Cli, resources: Resources, trace: Option<Trace>) -> Result<()> {
    let show = Show { json: cli.global.json, quiet: cli.global.quiet };
    let access = cli.global.access();
    // Before anything else is asked of libtorch, which looks for devices once.
    #[cfg(feature = "torch")]
    if let Some(name) = cli.command.device() {
        perturbine::devices::Wanted::parse(name)?.prepare();
    }
    // libtorch's threads are bounded as the stages' are. The last bits of a result depend on how many there are, so a bound
    // that the environment set (OMP_NUM_THREADS) stays.
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

/// What every command is given.
struct Context {
    resources: Resources,
    show: Show,
    access: stages::atlas::Access,
    /// Notes what happens when, if that was asked for.
    #[cfg_attr(not(feature = "torch"), expect(dead_code, reason = "training alone is traced"))]
    trace: Option<Trace>,
}

impl Context {
    fn open(&self, path: &std::path::Path) -> Result<perturbine::Atlas> {
        perturbine::Atlas::open_with(path, self.access)
    }
}
