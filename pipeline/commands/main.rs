//! The program `perturbine-torch`, which `perturbine` becomes for commands about models: each in a separate file.

mod arrow_stream;
mod commit;
mod crossval;
mod damage;
mod device;
mod embed;
mod evaluate;
mod explain;
mod explain_train;
mod predict;
mod predict_tables;
mod report;
mod response;
mod train;

use std::{
    io::{Write, stdout},
    path::Path,
    process::ExitCode,
};

use cli::{
    CommandContext,
    model_args::sharding::ShardedCommand,
    models::{ModelCommand, ModelCommands, Models},
};
use perturbine::{Error, Result, devices::DeviceChoice};
use schemas::numbers::saturating;
use stages::reader::atlas::Damage;

/// Commands about models, run in this process.
struct WithLibtorch;

impl ModelCommands for WithLibtorch {
    /// `threads` limits libtorch's threads like those of stages. The last bits of a training depend on their number, so a
    /// limit set in the environment (`OMP_NUM_THREADS`) is kept.
    fn run(&self, command: ModelCommand, context: &CommandContext) -> Result<()> {
        // Before any other use of libtorch, which looks for devices only once.
        if let Some(name) = command.device() {
            DeviceChoice::parse(name)?.prepare();
        }
        tch::set_num_threads(tch::get_num_threads().min(saturating(context.resources.threads.get())));
        match command {
            ModelCommand::Explain(args) => explain::explain(args, context),
            ModelCommand::Train(args) => train::train(*args, context),
            ModelCommand::Predict(ShardedCommand::Run(args)) => predict::predict(&args, context),
            ModelCommand::Predict(ShardedCommand::Commit { out, portable }) => {
                commit::commit_tables("predict", &out, &portable, context)
            }
            ModelCommand::Embed(ShardedCommand::Run(args)) => embed::embed(&args, context),
            ModelCommand::Embed(ShardedCommand::Commit { out, portable }) => {
                commit::commit_tables("embed", &out, &portable, context)
            }
            ModelCommand::Response(args) => response::response(&args, context),
            ModelCommand::Evaluate(args) => evaluate::evaluate(args, context),
            ModelCommand::Crossval(ShardedCommand::Run(args)) => crossval::crossval(&args, context),
            ModelCommand::Crossval(ShardedCommand::Commit { out, portable }) => {
                crossval::commit(&out, &portable, context)
            }
            ModelCommand::Report(args) => report::report(&args, context),
        }
    }

    fn verify(&self, folder: &Path) -> Result<Vec<Damage>> {
        damage::damage_of_model(folder)
    }

    fn exit_where_device_is_lost(&self, report: fn(&Error)) {
        stages::torch::exit_where_device_is_lost(report);
    }
}

fn main() -> ExitCode {
    let code = cli::main(Models::Here(&WithLibtorch));
    // Without a GPU, whose driver may still have something to do, nothing is left but libtorch's destructors, which take a tenth of a
    // second.
    if !tch::Cuda::is_available() && stdout().flush().is_ok() {
        signal_hook::low_level::exit(code.into());
    }
    ExitCode::from(code)
}
