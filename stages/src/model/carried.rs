//! Transfer of batches to a device: packed by the thread that gathers them, and copied while the previous step runs.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use schemas::{ByteSize, Result, numbers::to_i64};
use tch::{Device, Kind, Tensor};

use super::{
    input::Input,
    parcel::{Layout, Parcel, ordinary},
};
use crate::{
    batch::Batch,
    libtorch::{self, Event, Stream},
};

/// Transfers batches to a device, from any thread.
#[derive(Debug)]
pub struct Carrier {
    genes: i64,
    /// The device and the stream for copies; none: batches stay in ordinary memory.
    to: Option<(usize, Stream)>,
    /// The common layout of all batches with this number of cells so far, to keep the number of layouts small.
    layouts: Mutex<HashMap<i64, Layout>>,
}

/// A batch that is on a device, or will be once its copy is done.
#[derive(Debug)]
pub struct Carried {
    pub(super) layout: Layout,
    /// `[bytes]`, uint8, on the device.
    bytes: Tensor,
    /// The event after which they are there; none: they already are.
    copied: Option<(usize, Event)>,
}

impl Carrier {
    /// A carrier for batches of an atlas restricted to this many genes.
    ///
    /// # Errors
    /// No such device.
    pub fn new(genes: i64, device: Device) -> Result<Self> {
        let to = match device {
            Device::Cuda(index) => Some((index, Stream::of_pool(index)?)),
            _ => None,
        };
        Ok(Self { genes, to, layouts: Mutex::default() })
    }

    /// Packs a batch and starts its copy.
    ///
    /// # Errors
    /// Out of memory on the host or the device.
    pub fn carry(&self, batch: &Batch) -> Result<Carried> {
        let Some((device, stream)) = &self.to else {
            let Parcel { layout, bytes } = self.packed(batch, ordinary)?;
            return Ok(Carried { layout, bytes, copied: None });
        };
        // libtorch reuses pinned memory only after its copy is done.
        let parcel = self.packed(batch, libtorch::pinned)?;
        let before = stream.enter()?;
        let copied = self.copied(&parcel, *device, stream);
        before.enter()?;
        copied
    }

    fn packed(&self, batch: &Batch, memory: impl FnOnce(usize) -> Result<Tensor>) -> Result<Parcel> {
        let arranged = |layout: Layout| {
            let mut layouts = self.layouts.lock().unwrap_or_else(PoisonError::into_inner);
            let joined = layouts.get(&layout.cells()).map_or(layout.clone(), |known| layout.joined(known));
            layouts.insert(joined.cells(), joined.clone());
            joined
        };
        Parcel::of(&batch.expression, &batch.labels, self.genes, arranged, memory)
    }

    fn copied(&self, parcel: &Parcel, device: usize, stream: &Stream) -> Result<Carried> {
        let mut bytes = Tensor::empty([parcel.bytes.size()[0]], (Kind::Uint8, Device::Cuda(device)));
        libtorch::copy(&mut bytes, &parcel.bytes)?;
        Ok(Carried { layout: parcel.layout.clone(), bytes, copied: Some((device, stream.event()?)) })
    }
}

/// Inputs of a step other than the packed batch.
#[derive(Debug, Default)]
pub struct Beside<'a> {
    /// A table of offsets, `[rows, genes]` on the device, and the row of each cell.
    pub offset: Option<(&'a Tensor, Vec<i64>)>,
    /// The cell from whose basal latent each is decoded.
    pub sources: Option<Vec<i64>>,
}

impl Beside<'_> {
    /// Adds them to the tensors of their batch.
    pub(super) fn complete(&self, input: Input) -> Input {
        let device = input.combinations.device();
        let codes = |codes: &Vec<i64>| Tensor::from_slice(codes).to_device(device);
        let offset = self.offset.as_ref().map(|(table, rows)| table.index_select(0, &codes(rows)));
        Input { offset, sources: self.sources.as_ref().map(codes), ..input }
    }
}

impl Carried {
    /// The bytes, for use on this thread's stream, which waits for them; the thread does not.
    ///
    /// # Errors
    /// A lost device.
    pub(super) fn bytes(&mut self) -> Result<&Tensor> {
        if let Some((device, copied)) = self.copied.take() {
            let stream = Stream::current(device)?;
            stream.awaits(&copied)?;
            stream.uses(&mut self.bytes)?;
        }
        Ok(&self.bytes)
    }

    /// The tensors of the batch, for this thread's stream.
    ///
    /// # Errors
    /// A lost device.
    pub fn input(&mut self, kind: Kind) -> Result<Input> {
        self.bytes()?;
        Ok(self.layout.input(&self.bytes, kind))
    }

    /// Copies the bytes to a fixed buffer, where they stay until they are overwritten.
    ///
    /// # Errors
    /// A lost device.
    pub(super) fn put(&mut self, place: &mut Tensor) -> Result<()> {
        let bytes = self.bytes()?;
        debug_assert_eq!(bytes.size(), place.size(), "a place is of one layout");
        libtorch::copy(place, bytes)
    }

    /// Its device.
    pub(super) fn device(&self) -> Device {
        self.bytes.device()
    }

    /// An empty buffer for batches of this layout.
    pub(super) fn place(&self) -> Tensor {
        Tensor::empty([to_i64(self.layout.bytes())], (Kind::Uint8, self.bytes.device()))
    }
}

impl ByteSize for Carried {
    fn byte_size(&self) -> usize {
        self.layout.bytes()
    }
}
