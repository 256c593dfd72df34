//! `explain`: the graph, its budgets and the memory, before anything runs.

use perturbine::Result;
use serde_json::json;

use super::{
    Context,
    args::model::{ExplainArgs, Explained},
    predict::{output_of, prepare_prediction},
    show::bytes,
    train::prepare_training,
};

pub(super) fn explain(args: ExplainArgs, context: &Context) -> Result<()> {
    let (graph, held, network) = match &args.what {
        Explained::Train(args) => {
            let training = prepare_training(args, context)?;
            (training.graph()?, training.held_bytes(), training.network_bytes())
        }
        Explained::Predict(args) => {
            let prediction = prepare_prediction(args, context)?;
            let network = prediction.network_bytes();
            let (graph, held) = prediction.graph(output_of(args), &args.writing.options(args.out.as_deref())?)?;
            (graph, held, network)
        }
    };
    let edges = graph.bytes();
    let floor = usize::try_from(perturbine::memory::anonymous_bytes().unwrap_or(0)).unwrap_or(0);
    let total = edges + held + network + floor;
    let result = json!({ "graph": graph, "edges_bytes": edges, "blocks_bytes": held, "network_bytes": network, "floor_bytes": floor, "peak_memory_bytes": total });
    context.show.result(&result, || {
        let size = |count: usize| bytes(count as u64);
        format!(
            "{graph}\nedges {} + unpacked blocks {} + network {} + libtorch and program {} = at most {}",
            size(edges),
            size(held),
            size(network),
            size(floor),
            size(total)
        )
    })
}
