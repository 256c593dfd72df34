//! `explain`: shows the graph, its budgets and the memory, before anything runs.

use serde_json::{Value, json};
use tch::Device;

use crate::{
    explain_train::{training_text, training_value},
    predict::{output_of, prepare_prediction},
    train::prepare_training,
};
use cli::model_args::{ExplainArgs, Explained};
use cli::{CommandContext, output::OutputKind, show::bytes};
use perturbine::{Result, devices::DeviceChoice, schemas::numbers::to_usize};

pub(super) fn explain(args: ExplainArgs, context: &CommandContext) -> Result<()> {
    let (device, graph, held, network, run) = match &args.what {
        Explained::Train(args) => {
            OutputKind::Model.check("--out", &args.out)?;
            let device = device_named(&args.device)?;
            let training = prepare_training(args, &args.out, device, context)?;
            let run = training_value(&training)?;
            (device, training.graph()?, training.held_bytes(), training.network_bytes(), Some(run))
        }
        Explained::Predict(args) => {
            // The cost of a prediction depends only on the model, whatever the device.
            let prediction = prepare_prediction(args, Device::Cpu, context)?;
            let network = prediction.network_bytes();
            let (graph, held) = prediction.graph(output_of(args), &args.writing.options(args.out.as_deref())?)?;
            (device_named(&args.device)?, graph, held, network, None)
        }
    };
    let on_gpu = device != Device::Cpu;
    let edges = graph.bytes();
    let floor = to_usize(perturbine::memory::anonymous_bytes().unwrap_or(0));
    let here = if on_gpu { 0 } else { network };
    let total = edges + held + here + floor;
    let device = match device {
        Device::Cuda(index) => format!("cuda:{index}"),
        _ => "cpu".to_owned(),
    };
    let mut result = json!({ "graph": graph, "edges_bytes": edges, "blocks_bytes": held, "network_bytes": network, "floor_bytes": floor, "peak_memory_bytes": total, "device": device });
    if on_gpu {
        result["device_bytes"] = network.into();
    }
    let about = run.as_ref().map(|run| training_text(run, context)).transpose()?.unwrap_or_default();
    if let (Some(Value::Object(run)), Some(all)) = (run, result.as_object_mut()) {
        all.extend(run);
    }
    context.show.result(&result, || {
        let size = |count: usize| bytes(count as u64);
        let (floor, total) = (size(floor), size(total));
        let ends = match on_gpu {
            true => format!("libtorch and program {floor} = at most {total}\non {device}, not counting its driver: network and steps at most {}", size(network)),
            false => format!("network {} + libtorch and program {floor} = at most {total}", size(network)),
        };
        format!("{about}{graph}\nedges {} + unpacked blocks {} + {ends}", size(edges), size(held))
    })
}

/// The device of a command. A device given by name need not exist to be explained.
fn device_named(name: &str) -> Result<Device> {
    match DeviceChoice::parse(name)? {
        DeviceChoice::Cuda(index) => Ok(Device::Cuda(index)),
        other => other.find(),
    }
}
