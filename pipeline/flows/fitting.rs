//! Batches that fit into memory: the host's, and a GPU's.

use schemas::{
    Error, Result,
    config::{self, Settings},
};
use stages::{
    atlas::Atlas,
    model::ahead::AHEAD,
    train::footprint::{device_training_bytes, training_bytes},
    vocabulary::Vocabulary,
};
use tch::Device;

use super::Resources;
use crate::{devices::free_bytes, memory::anonymous_bytes};

/// Batches are not made larger than this without being told to.
const LARGEST_BATCH: u32 = 8192;
/// Edges of the road of training.
const EDGES: usize = 2;
/// The part of a GPU's free memory that is filled: what is said of it is a prediction.
const FILLED: [usize; 2] = [17, 20];

/// The plan with the largest batches, a power of two, with which all that is held stays within the memory: what waits on edges, unpacked
/// blocks, what the process holds already, and the network and its steps, which have to fit into a GPU's where they are computed there.
pub(super) fn with_largest_batches(
    plan: config::Plan,
    atlas: &Atlas,
    vocabulary: &Vocabulary,
    device: Device,
    resources: &Resources,
) -> Result<config::Plan> {
    let floor = usize::try_from(anonymous_bytes().unwrap_or(0)).unwrap_or(usize::MAX);
    let edges = EDGES * resources.edge_beside_blocks(atlas).bytes;
    let beside = edges + resources.held_bytes(atlas) + floor;
    let (beside, room, more) = match device {
        Device::Cpu => (beside, resources.memory, "give more with --memory, as in --memory 2GiB"),
        _ => {
            let free = free_bytes(device).ok_or_else(|| {
                Error::usage("how large batches may be depends on a GPU that is not here", "name a --batch-size")
            })?;
            let free = usize::try_from(free).unwrap_or(usize::MAX);
            (0, free / FILLED[1] * FILLED[0], "use a GPU with more memory free")
        }
    };
    let mut sizes = std::iter::successors(Some(LARGEST_BATCH), |size| (2 < *size).then_some(size / 2));
    let mut needed = 0;
    let found = sizes.find_map(|size| {
        let plan = plan.clone().with_batch_size(size);
        needed = beside + network_bytes(&plan, atlas, vocabulary, device, resources);
        (needed <= room).then_some(plan)
    });
    found.ok_or_else(|| {
        let mebibytes = |bytes: usize| bytes.div_ceil(1 << 20);
        let (room, needed) = (room >> 20, mebibytes(needed));
        Error::usage(
            format!("no batch fits into {room} MiB: the smallest takes {needed} MiB with everything beside it"),
            format!("{more}, or name a --batch-size"),
        )
    })
}

/// Bytes that network and steps take at most, on the device that computes them.
pub(super) fn network_bytes(
    settings: &Settings,
    atlas: &Atlas,
    vocabulary: &Vocabulary,
    device: Device,
    resources: &Resources,
) -> usize {
    let manifest = atlas.manifest();
    let nonzeros = usize::try_from(manifest.nonzeros / manifest.cells.max(1)).unwrap_or(usize::MAX);
    let genes = atlas.genes().len();
    match device {
        Device::Cpu => training_bytes(settings, genes, vocabulary, nonzeros),
        _ => {
            // A batch on an edge counts on the host and on the device.
            let batch = usize::try_from(settings.train.batch_size).unwrap_or(usize::MAX);
            let bytes = manifest.gene_width.bytes() + manifest.value_width.bytes();
            let parcel = batch.saturating_mul(nonzeros * bytes + nonzeros * bytes / 8);
            let edge = resources.edge_beside_blocks(atlas);
            let on_edges = edge.bytes.min(parcel.saturating_mul(edge.items + resources.threads.get()));
            let ahead = on_edges + parcel.saturating_mul(1 + AHEAD);
            device_training_bytes(settings, genes, vocabulary, nonzeros, ahead)
        }
    }
}
