//! A batch as one buffer: written once by the host, copied to a device as a whole, and unpacked there.
//!
//! The buffer begins with space for the other inputs of a step (`Controls`), which its engine fills in. The
//! batch's numbers keep their narrow storage types. There is space for slightly more non-zeros than there
//! are, so that batches of one size share a layout and a device can replay its work on the previous one. The
//! rest is padded with zeros for some genes of the last cell, which change no sum.

#[cfg(test)]
mod tests;

use std::ops::Range;

use device_kernels::unpack::{Narrow, Packed};
use schemas::{
    ByteSize, Result,
    batch::{Expression, Genes, Labels, Values},
    numbers::{bounded, to_i64},
};
use sprs::CsMatI;
use tch::{Device, Kind, Tensor};
use torch::{CudaEvent, memory::numbers_mut};

use super::{
    input::{Cells, Input, widened},
    step_numbers::{Controls, StepNumbers},
};

/// Alignment of the parts, enough for any number type.
const ALIGNMENT: usize = 64;
/// Granularity of the capacity for non-zeros.
const SMALLEST_STEP: usize = 1024;

/// The positions of a batch's parts; batches with equal layouts are processed alike.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PackedLayout {
    cells: usize,
    genes: i64,
    /// Capacity for non-zeros.
    entries: usize,
    gene_kind: Narrow,
    value_kind: Narrow,
    /// Capacity for the perturbations of a cell.
    parts: usize,
    covariates: usize,
}

/// The parts, in order.
#[derive(Clone, Copy)]
enum BatchPart {
    Controls,
    Pointers,
    Genes,
    Values,
    Library,
    Codes,
    Doses,
    Covariates,
    Combinations,
}

/// Where a part is in the bytes of a batch.
struct PartPlace {
    start: usize,
    /// Number of values.
    count: usize,
    kind: Narrow,
}

impl PartPlace {
    fn bytes(&self) -> Range<usize> {
        self.start..self.start + self.count * self.kind.bytes()
    }
}

impl PackedLayout {
    fn of_parts(expression: &Expression, labels: &Labels, genes: i64) -> Self {
        let longest = labels.perturbations.outer_iterator().map(|row| row.nnz()).max();
        Self {
            cells: expression.rows(),
            genes,
            entries: room(entries(expression)),
            gene_kind: match &expression.genes {
                Genes::U16(_) => Narrow::U16,
                Genes::U32(_) => Narrow::U32,
            },
            value_kind: match &expression.values {
                Values::U8(_) => Narrow::U8,
                Values::U16(_) => Narrow::U16,
                Values::U32(_) => Narrow::U32,
                Values::F32(_) => Narrow::F32,
            },
            parts: longest.unwrap_or(0).max(1).next_power_of_two(),
            covariates: labels.covariates.len(),
        }
    }

    /// The common layout of two layouts with the same number of cells and genes: the larger capacity and the
    /// wider types. If no type holds the numbers of both, the type of this one is kept.
    pub(super) fn joined(&self, other: &Self) -> Self {
        let wider = |own: Narrow, other: Narrow| match (own, other) {
            (Narrow::U8 | Narrow::U16 | Narrow::U32, Narrow::U8 | Narrow::U16 | Narrow::U32) => {
                if own.bytes() < other.bytes() { other } else { own }
            }
            _ => own,
        };
        Self {
            entries: self.entries.max(other.entries),
            gene_kind: wider(self.gene_kind, other.gene_kind),
            value_kind: wider(self.value_kind, other.value_kind),
            parts: self.parts.max(other.parts),
            ..self.clone()
        }
    }

    /// Number of cells.
    pub(super) fn cells(&self) -> i64 {
        to_i64(self.cells)
    }

    /// Total bytes of all parts, a multiple of their alignment.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.place(BatchPart::Combinations).bytes().end.next_multiple_of(ALIGNMENT)
    }

    fn place(&self, part: BatchPart) -> PartPlace {
        let cells = self.cells;
        let parts = [
            (Controls::numbers(cells), Narrow::I64),
            (cells + 2, Narrow::I32),
            (self.entries, self.gene_kind),
            (self.entries, self.value_kind),
            (cells, Narrow::F64),
            (cells * self.parts, Narrow::I32),
            (cells * self.parts, Narrow::F32),
            (cells * self.covariates, Narrow::I32),
            (cells, Narrow::I32),
        ];
        let at = part as usize;
        let before = parts[..at].iter().map(|(count, kind)| (count * kind.bytes()).next_multiple_of(ALIGNMENT));
        PartPlace { start: before.sum(), count: parts[at].0, kind: parts[at].1 }
    }

    /// Writes a batch in this layout into this buffer, without the other inputs of a step.
    fn write(&self, expression: &Expression, labels: &Labels, bytes: &mut [u8]) {
        self.part_mut::<i64>(BatchPart::Controls, bytes).fill(0);
        let entries = entries(expression);
        let pad = self.entries - entries;
        let (pointers, count) = self.part_mut::<u32>(BatchPart::Pointers, bytes).split_at_mut(self.cells + 1);
        pointers.copy_from_slice(&expression.row_pointers);
        // Their number follows the pointers.
        count.copy_from_slice(&expression.row_pointers[self.cells..]);
        // The padding belongs to the last cell.
        if let Some(end) = pointers.last_mut() {
            *end += bounded::<u32>(pad);
        }
        let genes = bounded::<u32>(self.genes).max(1);
        let rest = (0_u32..).map(|at| at % genes);
        match (&expression.genes, self.gene_kind) {
            (Genes::U16(ids), Narrow::U16) => {
                // With ids of 16 bits, there are at most 2^16 genes.
                let rest = rest.map(bounded);
                written(self.part_mut::<u16>(BatchPart::Genes, bytes), ids.iter().copied(), rest);
            }
            (Genes::U16(ids), _) => {
                written(self.part_mut(BatchPart::Genes, bytes), ids.iter().map(|id| u32::from(*id)), rest);
            }
            (Genes::U32(ids), _) => written(self.part_mut(BatchPart::Genes, bytes), ids.iter().copied(), rest),
        }
        match (&expression.values, self.value_kind) {
            (Values::U8(values), Narrow::U8) => filled(self.part_mut(BatchPart::Values, bytes), values, |value| value),
            (Values::U8(values), Narrow::U16) => filled(self.part_mut(BatchPart::Values, bytes), values, u16::from),
            (Values::U8(values), _) => filled(self.part_mut(BatchPart::Values, bytes), values, u32::from),
            (Values::U16(values), Narrow::U16) => {
                filled(self.part_mut(BatchPart::Values, bytes), values, |value| value)
            }
            (Values::U16(values), _) => filled(self.part_mut(BatchPart::Values, bytes), values, u32::from),
            (Values::U32(values), _) => filled(self.part_mut(BatchPart::Values, bytes), values, |value| value),
            (Values::F32(values), _) => filled(self.part_mut(BatchPart::Values, bytes), values, |value| value),
        }
        let library = self.part_mut::<f64>(BatchPart::Library, bytes);
        library.fill(0.0);
        expression.for_each(|row, _, value| library[row] += f64::from(value));
        self.part_mut::<i32>(BatchPart::Codes, bytes).fill(0);
        self.part_mut::<f32>(BatchPart::Doses, bytes).fill(0.0);
        for (row, parts) in labels.perturbations.outer_iterator().enumerate() {
            for (at, (code, dose)) in parts.iter().enumerate() {
                self.part_mut::<i32>(BatchPart::Codes, bytes)[row * self.parts + at] = bounded(code);
                self.part_mut::<f32>(BatchPart::Doses, bytes)[row * self.parts + at] = *dose;
            }
        }
        let covariates = self.part_mut::<u32>(BatchPart::Covariates, bytes).chunks_exact_mut(self.cells.max(1));
        covariates.zip(&labels.covariates).for_each(|(to, from)| to.copy_from_slice(from));
        self.part_mut::<u32>(BatchPart::Combinations, bytes).copy_from_slice(&labels.combinations);
    }

    fn part_mut<'a, T: bytemuck::Pod>(&self, part: BatchPart, bytes: &'a mut [u8]) -> &'a mut [T] {
        bytemuck::cast_slice_mut(&mut bytes[self.place(part).bytes()])
    }

    /// The bytes of a part.
    fn part(&self, part: BatchPart, bytes: &Tensor) -> Tensor {
        let place = self.place(part).bytes();
        bytes.narrow(0, to_i64(place.start), to_i64(place.len()))
    }

    /// The other inputs of a step whose bytes are on a device.
    pub(super) fn controls(&self, bytes: &Tensor) -> Controls {
        Controls::new(self.part(BatchPart::Controls, bytes).view_dtype(Kind::Int64), self.cells())
    }

    /// The parts of a batch whose bytes are on a device, in transfer types.
    pub(super) fn packed(&self, bytes: &Tensor) -> Packed {
        let part = |part: BatchPart| self.part(part, bytes);
        let (cells, parts) = (to_i64(self.cells), to_i64(self.parts));
        let pointers = part(BatchPart::Pointers).view_dtype(Kind::Int);
        Packed {
            pointers: pointers.narrow(0, 0, cells + 1),
            entries: pointers.narrow(0, cells + 1, 1),
            genes: part(BatchPart::Genes),
            values: part(BatchPart::Values),
            gene_type: self.gene_kind,
            value_type: self.value_kind,
            library: part(BatchPart::Library).view_dtype(Kind::Double),
            codes: part(BatchPart::Codes).view_dtype(Kind::Int).view([cells, parts]),
            doses: part(BatchPart::Doses).view_dtype(Kind::Float).view([cells, parts]),
            covariates: part(BatchPart::Covariates).view_dtype(Kind::Int).view([to_i64(self.covariates), cells]),
            combinations: part(BatchPart::Combinations).view_dtype(Kind::Int),
        }
    }

    /// Number of genes.
    pub(super) fn genes(&self) -> i64 {
        self.genes
    }

    /// The tensors of a batch whose bytes are on a device: a few asynchronous operations there.
    #[must_use]
    pub fn input(&self, bytes: &Tensor, kind: Kind) -> Input {
        let part = |part: BatchPart| {
            let narrow = self.place(part).kind;
            let bytes = self.part(part, bytes);
            match narrow {
                Narrow::U8 => bytes,
                Narrow::U16 => widened(&bytes.view_dtype(Kind::Int16), 0xffff, Kind::Int),
                Narrow::U32 => widened(&bytes.view_dtype(Kind::Int), 0xffff_ffff, Kind::Int64),
                Narrow::I32 => bytes.view_dtype(Kind::Int),
                Narrow::I64 => bytes.view_dtype(Kind::Int64),
                Narrow::F32 => bytes.view_dtype(Kind::Float),
                Narrow::F64 => bytes.view_dtype(Kind::Double),
            }
        };
        let codes = |which: BatchPart| part(which).to_kind(Kind::Int64);
        let (cells, parts) = (to_i64(self.cells), to_i64(self.parts));
        let covariates = codes(BatchPart::Covariates);
        Input {
            cells: Cells::padded(
                [cells, self.genes],
                codes(BatchPart::Pointers).narrow(0, 0, cells + 1),
                codes(BatchPart::Genes),
                part(BatchPart::Values).to_kind(kind),
                part(BatchPart::Library).to_kind(kind).unsqueeze(-1),
            ),
            perturbations: codes(BatchPart::Codes).view([cells, parts]),
            doses: part(BatchPart::Doses).to_kind(kind).view([cells, parts]),
            covariates: (0..to_i64(self.covariates)).map(|at| covariates.narrow(0, at * cells, cells)).collect(),
            combinations: codes(BatchPart::Combinations),
            offset: None,
            sources: None,
        }
    }
}

/// A batch in pinned host memory, which a GPU reads directly; in ordinary memory without a GPU.
#[derive(Debug)]
pub struct PackedBatch {
    pub(super) layout: PackedLayout,
    /// `[bytes]`, uint8.
    pub(super) bytes: Tensor,
    /// The end of the last copy of all bytes to a device; `None` if there was none.
    pub(super) copied: Option<CudaEvent>,
}

impl PackedBatch {
    /// Packs a batch, with the layout adjusted by `arranged`.
    ///
    /// # Errors
    /// Out of memory.
    pub(super) fn pack(
        expression: &Expression,
        labels: &Labels,
        genes: i64,
        arranged: impl FnOnce(PackedLayout) -> PackedLayout,
    ) -> Result<Self> {
        let layout = arranged(PackedLayout::of_parts(expression, labels, genes));
        // Libtorch reuses pinned memory only after its copies are done.
        let mut bytes = torch::pinned(layout.bytes())?;
        layout.write(expression, labels, numbers_mut::<u8>(&mut bytes));
        Ok(Self { layout, bytes, copied: None })
    }

    /// Packs only the expression of cells.
    ///
    /// # Errors
    /// Out of memory.
    pub(super) fn of_cells(expression: &Expression, genes: i64) -> Result<Self> {
        let cells = expression.rows();
        let labels = Labels {
            perturbations: CsMatI::zero((cells, 1)),
            combinations: vec![0; cells],
            covariates: Vec::new(),
            groups: vec![0; cells],
        };
        Self::pack(expression, &labels, genes, |layout| layout)
    }

    /// Writes the other inputs of a step, once an earlier copy of the bytes is done.
    ///
    /// # Errors
    /// A lost device.
    pub(super) fn write(&mut self, numbers: &StepNumbers<'_>) -> Result<()> {
        if let Some(copied) = self.copied.take() {
            copied.wait()?;
        }
        numbers.write(self.layout.part_mut(BatchPart::Controls, numbers_mut(&mut self.bytes)));
        Ok(())
    }

    /// The tensors of the batch on a device, with one copy on this thread's stream.
    ///
    /// # Errors
    /// Out of memory on the device.
    pub fn input(&self, kind: Kind, device: Device) -> Result<Input> {
        if device == Device::Cpu {
            return Ok(self.layout.input(&self.bytes, kind));
        }
        let bytes = Tensor::empty(self.bytes.size(), (Kind::Uint8, device));
        // This is everything but the other inputs of a step.
        let from = self.layout.place(BatchPart::Pointers).start;
        let batch = |bytes: &Tensor| bytes.narrow(0, to_i64(from), to_i64(self.layout.bytes() - from));
        torch::copy(&mut batch(&bytes), &batch(&self.bytes))?;
        Ok(self.layout.input(&bytes, kind))
    }
}

impl ByteSize for PackedBatch {
    fn byte_size(&self) -> usize {
        self.layout.bytes()
    }
}

fn entries(expression: &Expression) -> usize {
    expression.row_pointers.last().map_or(0, |end| *end as usize)
}

/// Capacity for this many entries: at most an eighth more, so that batches of one size have few different
/// capacities.
fn room(entries: usize) -> usize {
    let step = (entries.max(1).next_power_of_two() / 16).max(SMALLEST_STEP);
    entries.max(1).next_multiple_of(step)
}

/// Writes numbers, and pads with zeros.
fn filled<T: bytemuck::Pod, U: Copy>(to: &mut [T], from: &[U], widened: impl Fn(U) -> T) {
    written(to, from.iter().map(|value| widened(*value)), std::iter::repeat(T::zeroed()));
}

/// Writes numbers, and pads with others.
fn written<T>(to: &mut [T], numbers: impl Iterator<Item = T>, rest: impl Iterator<Item = T>) {
    to.iter_mut().zip(numbers.chain(rest)).for_each(|(place, number)| *place = number);
}
