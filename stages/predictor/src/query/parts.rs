//! Divides a plan's work into parts, before anything runs. Each part becomes a file (or one in each folder of
//! a partition) that does not depend on who computes it, when, and together with how many others. Each part
//! starts a new batch, so that its numbers are bit-identical however the parts are distributed.

use std::collections::BTreeSet;

use reader::atlas::Atlas;

use super::{
    jobs::{CellSpan, Jobs},
    target::{Job, Target},
};
use crate::predict::batch_size;

/// Bytes of predictions after which a part ends even if its file is small: means over many cells are much
/// work but few rows.
const WORK_BYTES: u64 = 64 << 30;
/// Maximum number of files that a part has open at once, unless a single job has more.
const OPEN_FILES: usize = 512;
/// Minimum number of source cells in a part of a job: smaller batches are inefficient.
const FEWEST_CELLS: u64 = 32;

/// The content of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FilePart {
    /// The source cells from which it is predicted.
    pub spans: Vec<CellSpan>,
    /// Number of rows in the output.
    pub rows: u64,
}

/// How many rows a span produces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Yield {
    /// This many rows per target, whatever the number of source cells; a job is not divided.
    PerTarget(u64),
    /// The same, but none for the first target of a job, from which the others are measured.
    PerTargetButFirst(u64),
    /// This many rows per target and source cell.
    PerCell(u64),
}

impl Yield {
    /// Number of rows for this many targets and source cells.
    #[must_use]
    pub fn rows(self, targets: u64, cells: u64) -> u64 {
        match self {
            Self::PerTarget(rows) => rows * targets,
            Self::PerTargetButFirst(rows) => rows * targets.saturating_sub(1),
            Self::PerCell(rows) => rows * targets * cells,
        }
    }
}

/// How to divide a plan.
#[derive(Clone, Copy, Debug)]
pub struct FileDivision<F> {
    /// Approximate size of a file's values, in bytes.
    pub file_bytes: u64,
    /// How many rows a span produces.
    pub rows: Yield,
    /// Bytes of values per row.
    pub row_bytes: u64,
    /// Bytes of predicted values per source cell and target.
    pub prediction_bytes: u64,
    /// The folder of a target's rows; always the same without partitions.
    pub folder: F,
}

impl<F: Fn(&Target) -> String> FileDivision<F> {
    /// The parts of a plan: they depend only on the plan, the atlas and the output. There is at least one.
    #[must_use]
    pub fn parts(&self, jobs: &Jobs, atlas: &Atlas) -> Vec<FilePart> {
        let mut parts = vec![UnfinishedFilePart::default()];
        for (at, job) in jobs.jobs.iter().enumerate() {
            let folders: BTreeSet<String> = job.targets.iter().map(&self.folder).collect();
            let limit = self.file_bytes * folders.len().max(1) as u64;
            for span in self.spans(jobs, at, job, limit, atlas) {
                let targets = job.targets.len() as u64;
                let rows = self.rows.rows(targets, span.cells);
                let bytes = rows * self.row_bytes;
                let work = span.cells * targets * self.prediction_bytes;
                if parts.last().is_none_or(|part| part.is_full_for(bytes, work, limit, &folders)) {
                    parts.push(UnfinishedFilePart::default());
                }
                let Some(part) = parts.last_mut() else { continue };
                part.part.spans.push(span);
                part.part.rows += rows;
                part.bytes += bytes;
                part.work += work;
                part.folders.extend(folders.iter().cloned());
            }
        }
        parts.into_iter().map(|growing| growing.part).collect()
    }

    fn spans(&self, jobs: &Jobs, at: usize, job: &Job, limit: u64, atlas: &Atlas) -> Vec<CellSpan> {
        let Yield::PerCell(_) = self.rows else { return vec![jobs.whole(at)] };
        let targets = job.targets.len() as u64;
        let cell_bytes = self.rows.rows(targets, 1) * self.row_bytes;
        let batch = batch_size(job.targets.len()) as u64;
        let fitting = (limit / cell_bytes.max(1)).max(FEWEST_CELLS);
        // Spans consist of whole batches, if a batch fits.
        let cells = if batch < fitting { fitting - fitting % batch } else { fitting };
        jobs.divided(at, cells, atlas)
    }
}

#[derive(Default)]
struct UnfinishedFilePart {
    part: FilePart,
    bytes: u64,
    work: u64,
    folders: BTreeSet<String>,
}

impl UnfinishedFilePart {
    fn is_full_for(&self, bytes: u64, work: u64, limit: u64, folders: &BTreeSet<String>) -> bool {
        !self.part.spans.is_empty()
            && (limit < self.bytes + bytes
                || self.work + work > WORK_BYTES
                || self.folders.union(folders).count() > OPEN_FILES)
    }
}
