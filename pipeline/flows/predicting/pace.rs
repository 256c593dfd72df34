//! What predictions will take: memory as a sum, time as a small part of the work tells it.

use std::time::{Duration, Instant};

use schemas::Result;
use stages::{predict::batch_size, query::Span};

use super::{Output, Prediction, decoders};
use crate::flows::completed;

/// Cells, each counted for every target, of the part that is tried.
const TRIED_CELLS: u64 = 1 << 13;
/// Dense tensors of a batch that live together, by measurement.
const DENSE_TENSORS: usize = 12;
/// Sums over cells that are kept of each target and gene: of what is averaged, of its square, of the noise.
const SUMS: usize = 3;

impl Prediction {
    /// Bytes that decoding takes at most, beside the edges: sums of the job with most targets, and the dense tensors of a batch.
    #[must_use]
    pub fn network_bytes(&self) -> usize {
        let targets = self.jobs.jobs.iter().map(|job| job.targets.len()).max().unwrap_or(0);
        let genes = self.model.card.genes.len();
        let sums = SUMS * size_of::<f64>() * targets * genes;
        let decoders = decoders(&self.model, &self.resources).get();
        sums + decoders * DENSE_TENSORS * size_of::<f32>() * batch_size(targets) * genes
    }

    /// How long predicting will take, writing left aside: two small parts of it are run, and what the larger takes longer is scaled up.
    ///
    /// # Errors
    /// Data that can't be read.
    pub fn expected_time(&self, output: Output) -> Result<Duration> {
        let largest = (0..self.jobs.jobs.len()).max_by_key(|job| self.jobs.jobs[*job].targets.len());
        let Some(job) = largest else { return Ok(Duration::ZERO) };
        let (whole, targets) = (self.jobs.whole(job), self.jobs.jobs[job].targets.len().max(1) as u64);
        let large = (TRIED_CELLS / targets).clamp(1, whole.cells.max(1)).min(whole.cells);
        let small = large / 4;
        // The first run brings code and data near, and is not counted.
        self.time(output, Span { cells: large, ..whole })?;
        let fixed = if 0 < small { self.time(output, Span { cells: small, ..whole })? } else { Duration::ZERO };
        let taken = self.time(output, Span { cells: large, ..whole })?;
        #[expect(clippy::cast_precision_loss, reason = "an estimate needs no more than 52 bits")]
        let share = self.jobs.predicted_cells() as f64 / ((large - small).max(1) * targets) as f64;
        Ok(taken + taken.saturating_sub(fixed).mul_f64(share))
    }

    /// How long predictions from some cells take.
    fn time(&self, output: Output, span: Span) -> Result<Duration> {
        let part = Self {
            atlas: self.atlas.clone(),
            model: self.model.again()?,
            jobs: self.jobs.only(vec![span]),
            terms: self.terms.clone(),
            resources: self.resources.clone(),
            asked: self.asked.clone(),
        };
        let started = Instant::now();
        for batch in part.pipeline(output)?.stream() {
            if let Err(error) = batch {
                return completed(Err(error), "run the same command again").map(|(taken, _)| taken);
            }
        }
        Ok(started.elapsed())
    }
}
