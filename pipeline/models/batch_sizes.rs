//! Batch sizes that fit into the memory of the host and a GPU.

use schemas::{
    Error, Result,
    config::{self, Settings},
    numbers::to_usize,
    vocabulary::Vocabulary,
};
use stages::{
    reader::atlas::Atlas,
    torch::device_memory,
    trainer::train::footprint::{device_training_bytes, training_bytes},
};
use tch::Device;

use crate::{
    devices::free_bytes,
    flows::{Resources, memory::anonymous_bytes},
};

/// Upper limit of automatic batch sizes.
const LARGEST_BATCH: u32 = 8192;
/// Number of edges of the training pipeline.
const EDGES: usize = 2;
/// The share of a GPU's free memory to use; not all of it, because memory use is an estimate.
const FILLED: [usize; 2] = [17, 20];

/// The plan with the largest batches, a power of two, whose total stays within the memory: edges, unpacked
/// blocks, the process's current memory, and the network and its steps. If these run on a GPU, they also have
/// to fit into its memory.
pub(super) fn with_largest_batches(
    plan: config::TrainingPlan,
    atlas: &Atlas,
    vocabulary: &Vocabulary,
    device: Device,
    resources: &Resources,
) -> Result<config::TrainingPlan> {
    let floor = to_usize(anonymous_bytes().unwrap_or(0));
    let edges = EDGES * resources.edge_beside_blocks(atlas).bytes;
    let beside = edges + resources.held_bytes(atlas) + floor;
    let (beside, room, more) = match device {
        Device::Cpu => (beside, resources.memory, "raise --memory, as in --memory 2GiB"),
        _ => {
            let free = free_bytes(device)?.ok_or_else(|| {
                Error::usage("the batch size depends on a GPU that this machine does not have", "give a --batch-size")
            })?;
            let free = to_usize(free);
            (0, filled(free), "use a GPU with more memory free")
        }
    };
    let mut sizes = std::iter::successors(Some(LARGEST_BATCH), |size| (*size > 2).then_some(size / 2));
    let mut needed = 0;
    let found = sizes.find_map(|size| {
        let plan = plan.clone().with_batch_size(size);
        needed = beside + network_bytes(&plan, atlas, vocabulary, device);
        (needed <= room).then_some(plan)
    });
    found.ok_or_else(|| {
        let mebibytes = |bytes: usize| bytes.div_ceil(1 << 20);
        let (room, needed) = (room >> 20, mebibytes(needed));
        Error::usage(
            format!("no batch fits into {room} MiB: the smallest needs {needed} MiB in all"),
            format!("{more}, or give a --batch-size"),
        )
    })
}

/// The bytes of a GPU to use, out of its free bytes.
fn filled(free: usize) -> usize {
    free / FILLED[1] * FILLED[0]
}

/// GPU memory needed for smaller batches, computed before a run, for the error message if it runs out of
/// memory.
pub(super) struct SmallerBatches {
    device: usize,
    batch_size: u32,
    /// Batch sizes, the largest first, each with the bytes of network and steps.
    needed: Vec<(u32, usize)>,
}

impl SmallerBatches {
    /// Computes them for a plan; `None` on the CPU.
    pub(super) fn from_plan(
        plan: &config::TrainingPlan,
        atlas: &Atlas,
        vocabulary: &Vocabulary,
        device: Device,
    ) -> Option<Self> {
        let Device::Cuda(index) = device else { return None };
        let batch_size = plan.train.batch_size;
        let largest = (batch_size / 2).checked_ilog2().map(|power| 1 << power);
        let sizes = std::iter::successors(largest, |size| (*size > 2).then_some(size / 2));
        let needed = sizes.map(|size| {
            let plan = plan.clone().with_batch_size(size);
            (size, network_bytes(&plan, atlas, vocabulary, device))
        });
        Some(Self { device: index, batch_size, needed: needed.collect() })
    }

    /// The error; if a GPU is out of memory, it also names the batch size that should fit.
    pub(super) fn advise(&self, error: Error) -> Error {
        let Error::DeviceMemory { message, .. } = error else { return error };
        // Libtorch's reserved memory belongs to this run, and will be free for the next one. If the memory can't be
        // queried any more, the advice is half the batch size.
        let room = device_memory(self.device).map_or(u64::MAX, |memory| memory.free + memory.kept);
        let room = filled(to_usize(room));
        let fits = self.needed.iter().find(|(_, needed)| *needed <= room);
        let hint = match fits {
            Some((size, _)) => format!("use --batch-size {size}, or a GPU with more memory free"),
            None => "use a GPU with more memory free, or --device cpu".to_owned(),
        };
        Error::DeviceMemory { message: format!("batches of {} cells do not fit ({message})", self.batch_size), hint }
    }
}

/// Maximum bytes of network and steps, on the device that computes them.
pub(super) fn network_bytes(settings: &Settings, atlas: &Atlas, vocabulary: &Vocabulary, device: Device) -> usize {
    let manifest = atlas.manifest();
    let nonzeros = to_usize(manifest.nonzeros / manifest.cells.max(1));
    let genes = atlas.genes().len();
    match device {
        Device::Cpu => training_bytes(settings, genes, vocabulary, nonzeros),
        _ => {
            let nonzero_bytes = manifest.gene_width.bytes() + manifest.value_width.bytes();
            device_training_bytes(settings, genes, vocabulary, nonzeros, nonzero_bytes)
        }
    }
}
