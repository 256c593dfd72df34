//! Transfer of packed batches to the device where steps are replayed: one copy each, while the previous step runs.
//!
//! For each layout, there are two slots, which copies fill alternately on a separate stream, and a fixed
//! place that steps read. A step begins with a kernel that moves the batch from its slot to the place. The
//! device counts the batches itself to find the slot, so the same work, captured once, serves both slots.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use device_kernels::slots::take_batch;
use offset::CellOffsets;
use schemas::{Result, numbers::to_i64};
use stage::batch::Batch;
use tch::{Device, Kind, Tensor};
use torch::{CudaEvent, CudaStream, synchronise};

use super::{
    input::Input,
    packed_batch::{PackedBatch, PackedLayout},
    step_numbers::{Controls, StepNumbers},
};

/// Slots per layout: one is filled while the batch in the other is used.
const SLOTS: usize = 2;

/// Packs batches, on any thread.
#[derive(Debug)]
pub struct BatchPacker {
    genes: i64,
    /// The common layout of all batches with this number of cells so far, to keep the number of layouts small.
    layouts: Mutex<HashMap<i64, PackedLayout>>,
}

impl BatchPacker {
    /// Packs batches of an atlas restricted to this many genes.
    #[must_use]
    pub fn new(genes: i64) -> Self {
        Self { genes, layouts: Mutex::default() }
    }

    /// A batch in pinned memory.
    ///
    /// # Errors
    /// Out of memory.
    pub fn pack(&self, batch: &Batch) -> Result<PackedBatch> {
        let joined = |layout: PackedLayout| {
            let mut layouts = self.layouts.lock().unwrap_or_else(PoisonError::into_inner);
            let joined = layouts.get(&layout.cells()).map_or(layout.clone(), |known| layout.joined(known));
            layouts.insert(joined.cells(), joined.clone());
            joined
        };
        PackedBatch::pack(&batch.expression, &batch.labels, self.genes, joined)
    }
}

/// Inputs of a step other than the batch.
#[derive(Debug, Default)]
pub struct StepExtras<'a> {
    /// A table of offsets, `[rows, genes]` on the device, and the row of each cell.
    pub offset: Option<(&'a Tensor, Vec<i64>)>,
    /// The cell from whose basal latent each cell is decoded.
    pub sources: Option<Vec<i64>>,
}

impl StepExtras<'_> {
    /// Adds these inputs to the tensors of their batch.
    pub(super) fn complete(&self, input: Input) -> Input {
        let device = input.combinations.device();
        let codes = |codes: &Vec<i64>| Tensor::from_slice(codes).to_device(device);
        let offset = self.offset.as_ref().map(|(table, rows)| CellOffsets::new(table, codes(rows)));
        Input { offset, sources: self.sources.as_ref().map(codes), ..input }
    }
}

/// The streams of a GPU's steps, while this thread computes there.
#[derive(Debug)]
pub(super) struct Streams {
    /// Steps: this thread's current stream.
    pub(super) compute: CudaStream,
    /// Copies from the host.
    copies: CudaStream,
    /// This thread's stream before and after.
    previous: CudaStream,
}

impl Streams {
    /// Makes the stream of steps this thread's current one.
    ///
    /// # Errors
    /// No such device, or a lost one.
    pub(super) fn enter(device: usize) -> Result<Self> {
        // Earlier work was given to another stream.
        synchronise(device)?;
        let (compute, copies) = (CudaStream::of_pool(device)?, CudaStream::of_pool(device)?);
        let previous = compute.enter()?;
        Ok(Self { compute, copies, previous })
    }
}

impl Drop for Streams {
    fn drop(&mut self) {
        let Self { compute, previous, .. } = self;
        // The other stream waits for the work of steps, which follows all copies. A lost device does no harm here.
        let _ = compute.event().and_then(|event| previous.awaits(&event)).and_then(|()| previous.enter());
    }
}

/// Device memory for the batches of one layout.
#[derive(Debug)]
pub(super) struct BatchBuffers {
    layout: PackedLayout,
    /// The two slots, `[2, bytes]`, uint8.
    slots: Tensor,
    /// The batch of the current step, `[bytes]`, uint8.
    place: Tensor,
    /// `[2]`, int32: the number of batches that steps have taken from the slots, and a counter that is zero between steps.
    taken: Tensor,
    /// The number of batches that were sent to the slots. Each is followed by a step that takes it.
    sent: usize,
    /// On a GPU, for each slot, the end of the work that may use it.
    last_uses: Option<[CudaEvent; SLOTS]>,
}

impl BatchBuffers {
    /// # Errors
    /// A lost device.
    pub(super) fn new(layout: PackedLayout, device: Device, streams: Option<&Streams>) -> Result<Self> {
        let bytes = to_i64(layout.bytes());
        let slots = Tensor::empty([to_i64(SLOTS), bytes], (Kind::Uint8, device));
        let place = Tensor::empty([bytes], (Kind::Uint8, device));
        let taken = Tensor::zeros([2], (Kind::Int, device));
        // Their memory may still be in use by earlier work of the compute stream.
        let now = |streams: &Streams| Ok([streams.compute.event()?, streams.compute.event()?]);
        let last_uses = streams.map(now).transpose()?;
        Ok(Self { layout, slots, place, taken, sent: 0, last_uses })
    }

    /// Adds the step's numbers to a batch of this layout and copies it to the next slot. Work that is submitted
    /// to the compute stream from now on follows the copy; the host does not wait.
    ///
    /// # Errors
    /// A lost device.
    pub(super) fn send(
        &mut self,
        batch: &mut PackedBatch,
        numbers: &StepNumbers<'_>,
        streams: Option<&Streams>,
    ) -> Result<()> {
        debug_assert_eq!(batch.layout, self.layout, "slots are of one layout");
        batch.write(numbers)?;
        let at = self.sent % SLOTS;
        let mut slot = self.slots.get(to_i64(at));
        match (streams, &self.last_uses) {
            (Some(Streams { compute, copies, .. }), Some(last_uses)) => {
                copies.awaits(&last_uses[at])?;
                let before = copies.enter()?;
                let copied = torch::copy(&mut slot, &batch.bytes).and_then(|()| copies.event());
                before.enter()?;
                let copied = copied?;
                compute.awaits(&copied)?;
                batch.copied = Some(copied);
            }
            _ => torch::copy(&mut slot, &batch.bytes)?,
        }
        self.sent += 1;
        Ok(())
    }

    /// The first work of a step, on this thread's stream: moves the batch that was sent for it to the place.
    pub(super) fn take(&self) {
        take_batch(&self.slots, &self.place, &self.taken);
    }

    /// Records the end of the step that takes the batch sent last.
    ///
    /// # Errors
    /// A lost device.
    pub(super) fn step_given(&mut self, streams: &Streams) -> Result<()> {
        if let Some(last_uses) = &mut self.last_uses {
            last_uses[(self.sent - 1) % SLOTS] = streams.compute.event()?;
        }
        Ok(())
    }

    /// The packed batch of the current step, `[bytes]`, uint8.
    pub(super) fn place(&self) -> &Tensor {
        &self.place
    }

    /// The other inputs of the current step.
    pub(super) fn controls(&self) -> Controls {
        self.layout.controls(&self.place)
    }
}
