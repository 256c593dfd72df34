//! Groups tables of predictions into row groups of their files.

use std::{collections::BTreeMap, mem, sync::Arc};

use arrow::array::RecordBatch;
use schemas::{ByteSize, numbers::to_usize};
use stage::{BoxError, Stage};

use super::layout::{OutputLayout, PartRows};

/// Events in the writing of files, in order.
#[derive(Debug)]
pub enum RowGroupEvent {
    /// Rows of one file that are encoded together.
    Group(RowGroup),
    /// A part has no more rows: its files are complete.
    End(PartRows),
}

/// Rows that are encoded together.
#[derive(Debug, Default)]
pub struct RowGroup {
    /// The number of the part that they belong to.
    pub(super) part: usize,
    pub(super) folder: String,
    pub(super) rows: u64,
    pub(super) batches: Vec<RecordBatch>,
    bytes: usize,
}

impl ByteSize for RowGroupEvent {
    fn byte_size(&self) -> usize {
        match self {
            Self::Group(group) => group.bytes,
            Self::End(_) => 0,
        }
    }
}

/// Gathers rows into row groups. Where a row group ends depends only on the layout and the rows.
#[derive(Debug)]
pub struct GatherRowGroups {
    layout: Arc<OutputLayout>,
    /// The current part, and the number of its rows so far.
    part: usize,
    came: u64,
    waiting: BTreeMap<String, RowGroup>,
}

impl GatherRowGroups {
    /// Gathers the rows of a layout's parts, which arrive in its order.
    #[must_use]
    pub fn new(layout: Arc<OutputLayout>) -> Self {
        Self { layout, part: 0, came: 0, waiting: BTreeMap::new() }
    }

    /// The current part; emits events for those that are complete.
    fn current(&mut self, emit: &mut dyn FnMut(RowGroupEvent)) -> Option<PartRows> {
        while let Some(part) = self.layout.parts.get(self.part).copied() {
            if self.came < part.rows {
                return Some(part);
            }
            mem::take(&mut self.waiting).into_values().for_each(|group| emit(RowGroupEvent::Group(group)));
            emit(RowGroupEvent::End(part));
            self.part += 1;
            self.came = 0;
        }
        None
    }

    fn take(&mut self, part: usize, rows: &RecordBatch, emit: &mut dyn FnMut(RowGroupEvent)) -> Result<(), BoxError> {
        for (folder, rows) in self.layout.by_folder(rows)? {
            let mut group = self.waiting.remove(&folder).unwrap_or_default();
            group.rows += rows.num_rows() as u64;
            group.bytes = to_usize(self.layout.bytes(group.rows));
            group.batches.push(rows);
            if self.layout.fill_a_group(group.rows) {
                emit(RowGroupEvent::Group(RowGroup { part, folder, ..group }));
            } else {
                self.waiting.insert(folder.clone(), RowGroup { part, folder, ..group });
            }
        }
        Ok(())
    }
}

impl Stage for GatherRowGroups {
    type In = RecordBatch;
    type Out = RowGroupEvent;

    fn push(&mut self, batch: RecordBatch, emit: &mut dyn FnMut(RowGroupEvent)) -> Result<(), BoxError> {
        let mut rest = batch;
        while rest.num_rows() > 0 {
            let part = self.current(emit).ok_or("more rows came than the parts have")?;
            let taken = to_usize(part.rows - self.came).min(rest.num_rows());
            self.take(part.number, &rest.slice(0, taken), emit)?;
            self.came += taken as u64;
            rest = rest.slice(taken, rest.num_rows() - taken);
        }
        self.current(emit);
        Ok(())
    }

    fn finish(&mut self, emit: &mut dyn FnMut(RowGroupEvent)) -> Result<(), BoxError> {
        match self.current(emit) {
            None => Ok(()),
            Some(part) => Err(format!("part {} has {} rows, but {} came", part.number, part.rows, self.came).into()),
        }
    }
}
