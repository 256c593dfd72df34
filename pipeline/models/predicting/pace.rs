//! The cost of predictions: memory is computed, and time is estimated from a small part of the work.

use std::time::{Duration, Instant};

use schemas::Result;
use stages::predictor::{predict::batch_size, query::CellSpan};

use super::{Prediction, PredictionForm, decoders};
use crate::flows::completed;

/// Number of cells in the test run, counted once per target.
const TRIED_CELLS: u64 = 1 << 13;
/// Number of dense tensors of a batch that exist at the same time, as measured.
const DENSE_TENSORS: usize = 12;
/// Sums over cells per target and gene: of values, of squares, of the noise.
const SUMS: usize = 3;

impl Prediction {
    /// Maximum bytes of decoding, in addition to the edges: sums of the job with the most targets, and the dense tensors of a batch.
    #[must_use]
    pub fn network_bytes(&self) -> usize {
        let targets = self.jobs.jobs.iter().map(|job| job.targets.len()).max().unwrap_or(0);
        let genes = self.model.card.genes.len();
        let sums = SUMS * size_of::<f64>() * targets * genes;
        let decoders = decoders(&self.model, &self.resources).get();
        sums + decoders * DENSE_TENSORS * size_of::<f32>() * batch_size(targets) * genes
    }

    /// The time of predicting, without writing: two small parts are run, and the difference between their times
    /// is scaled up.
    ///
    /// # Errors
    /// Data that can't be read.
    pub fn expected_time(&self, output: PredictionForm) -> Result<Duration> {
        let largest = (0..self.jobs.jobs.len()).max_by_key(|job| self.jobs.jobs[*job].targets.len());
        let Some(job) = largest else { return Ok(Duration::ZERO) };
        let (whole, targets) = (self.jobs.whole(job), self.jobs.jobs[job].targets.len().max(1) as u64);
        let large = (TRIED_CELLS / targets).clamp(1, whole.cells.max(1)).min(whole.cells);
        let small = large / 4;
        // The first run warms up caches, and does not count.
        self.time(output, CellSpan { cells: large, ..whole })?;
        let fixed = if small > 0 { self.time(output, CellSpan { cells: small, ..whole })? } else { Duration::ZERO };
        let taken = self.time(output, CellSpan { cells: large, ..whole })?;
        #[expect(clippy::cast_precision_loss, reason = "an estimate needs no more than 52 bits")]
        let share = self.jobs.predicted_cells() as f64 / ((large - small).max(1) * targets) as f64;
        Ok(taken + taken.saturating_sub(fixed).mul_f64(share))
    }

    /// The time of predictions from some cells.
    fn time(&self, output: PredictionForm, span: CellSpan) -> Result<Duration> {
        let part = Self {
            atlas: self.atlas.clone(),
            model: self.model.again()?,
            jobs: self.jobs.only(vec![span]),
            terms: self.terms.clone(),
            resources: self.resources.clone(),
            request: self.request.clone(),
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
