//! One file a kind of command; [`args`] says what can be asked.

pub(crate) mod args;
mod data;
pub(crate) mod events;
mod inspect;
#[cfg(feature = "torch")]
mod model;
mod show;
pub(crate) mod signals;

use perturbine::{Resources, Result, Stop};

use self::{
    args::{Cli, Command},
    show::Show,
};

/// Runs a command.
pub(crate) fn run(cli: Cli, stop: Stop) -> Result<()> {
    let resources = cli.global.resources(stop)?;
    let show = Show { json: cli.global.json, quiet: cli.global.quiet };
    let access = cli.global.access();
    let context = Context { resources, show, access };
    match cli.command {
        #[cfg(feature = "hdf5")]
        Command::Simulate(args) => data::simulate(args, &context),
        #[cfg(feature = "hdf5")]
        Command::Ingest(args) => data::ingest(args, &context),
        Command::Split(args) => data::split(args, &context),
        Command::Inspect(args) => inspect::inspect(&args, &context),
        Command::Verify(args) => data::verify(&args, &context),
        #[cfg(feature = "torch")]
        Command::Explain(args) => model::explain(args, &context),
        #[cfg(feature = "torch")]
        Command::Train(args) => model::train(args, &context),
        #[cfg(feature = "torch")]
        Command::Predict(args) => model::predict(args, &context),
        #[cfg(feature = "torch")]
        Command::Evaluate(args) => model::evaluate(args, &context),
        #[cfg(feature = "torch")]
        Command::Report(args) => model::report(&args, &context),
    }
}

/// What every command is given.
struct Context {
    resources: Resources,
    show: Show,
    access: stages::atlas::Access,
}

impl Context {
    fn open(&self, path: &std::path::Path) -> Result<perturbine::Atlas> {
        perturbine::Atlas::open_with(path, self.access)
    }
}
