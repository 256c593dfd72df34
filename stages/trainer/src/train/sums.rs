//! Sums of the measurements of steps, read from the device from time to time.

use std::{collections::BTreeMap, rc::Rc};

use device_kernels::losses::LossSums;
use model::{loss_term::LossTerm, step::StepLosses};
use schemas::{Error, Result, numbers::bounded};
use stage::cast::real;
use tch::{Device, Kind, Tensor};
use torch::memory::numbers;

/// Sums of the same measurements of several steps, on the device.
#[derive(Debug)]
struct UnreadSums {
    terms: Vec<LossTerm>,
    /// The sum of each term.
    sums: Tensor,
    steps: u64,
}

/// Sums of losses and the number of summands, by name.
#[derive(Debug, Default)]
pub(super) struct LossTotals {
    /// The sums that were read.
    pub(super) sums: BTreeMap<String, (f64, u64)>,
    /// Sums still on the device, for each set of measurements.
    unread: Vec<UnreadSums>,
    /// The first unread batch with a measurement that is not finite, or a number that is not a batch's. It is found
    /// on the device, since a sum over several batches does not show which one was bad.
    first_bad: Option<Tensor>,
    /// Sums to which steps themselves add, for each set of measurements.
    of_steps: Vec<(Vec<LossTerm>, Rc<LossSums>)>,
}

impl LossTotals {
    /// Continues from sums that were read before.
    pub(super) fn from(sums: BTreeMap<String, (f64, u64)>) -> Self {
        Self { sums, ..Self::default() }
    }

    /// Adds the measurements of the step on a batch; nothing is read.
    pub(super) fn add(&mut self, losses: StepLosses, batch: u64) {
        if let Some(sums) = losses.sums {
            if !self.of_steps.iter().any(|(_, known)| Rc::ptr_eq(known, &sums)) {
                self.of_steps.push((losses.values.into_iter().map(|(term, _)| term).collect(), sums));
            }
            return;
        }
        let batch: i64 = bounded(batch);
        let Some(kind) = losses.values.first().map(|(_, loss)| loss.kind()) else { return };
        let (terms, all): (Vec<LossTerm>, Vec<Tensor>) =
            losses.values.into_iter().map(|(term, loss)| (term, loss.to_kind(kind))).unzip();
        let all = Tensor::stack(&all, 0);
        let finite = all.isfinite().all().to_kind(Kind::Int64);
        let bad = finite * (i64::MAX - batch) + batch;
        self.first_bad = Some(self.first_bad.as_ref().map_or_else(|| bad.shallow_clone(), |first| first.minimum(&bad)));
        match self.unread.iter_mut().find(|known| known.terms == terms) {
            Some(known) => {
                known.sums += all;
                known.steps += 1;
            }
            None => self.unread.push(UnreadSums { terms, sums: all, steps: 1 }),
        }
    }

    /// Reads the sums that are on the device.
    ///
    /// # Errors
    /// A loss or a gradient norm that is not finite, with the first batch that had one.
    pub(super) fn read(&mut self, epoch: u32) -> Result<()> {
        let mut first_bad = f64::INFINITY;
        let mut read = Vec::new();
        for UnreadSums { terms, sums, steps } in std::mem::take(&mut self.unread) {
            let sums = sums.to_kind(Kind::Double).to_device(Device::Cpu);
            read.push((terms, numbers::<f64>(&sums).to_vec(), steps));
        }
        if let Some(batch) =
            self.first_bad.take().map(|batch| batch.int64_value(&[])).filter(|batch| *batch != i64::MAX)
        {
            first_bad = real(batch.unsigned_abs());
        }
        for (terms, sums) in &self.of_steps {
            let summed = sums.take(terms.len());
            first_bad = first_bad.min(summed.first_bad);
            read.push((terms.clone(), summed.sums, whole(summed.steps)));
        }
        let mut bad = Vec::new();
        for (terms, sums, count) in read.into_iter().filter(|(.., count)| *count > 0) {
            for (term, sum) in terms.into_iter().zip(sums) {
                if !sum.is_finite() {
                    bad.push(term);
                    continue;
                }
                let known = self.sums.entry(term.to_string()).or_default();
                known.0 += sum;
                known.1 += count;
            }
        }
        // A loss is more informative than the norm of a gradient that it caused.
        bad.sort_by_key(|term| matches!(term, LossTerm::Norm(_)));
        let Some(term) = bad.first() else { return Ok(()) };
        let what = match term {
            LossTerm::Norm(learned) => format!("the gradient of the {}", learned.name()),
            loss => format!("the loss `{loss}`"),
        };
        Err(Error::Diverged { what, epoch, batch: whole(first_bad) })
    }

    /// The mean of each measurement among those that were read.
    #[expect(clippy::cast_precision_loss, reason = "a mean needs no more than 52 bits of a count")]
    pub(super) fn means(&self) -> impl Iterator<Item = (&String, f64)> {
        self.sums.iter().map(|(name, (sum, count))| (name, sum / (*count).max(1) as f64))
    }
}

/// A count that was stored as a float64.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is whole, and not negative")]
fn whole(count: f64) -> u64 {
    count as u64
}

#[cfg(test)]
mod tests {
    use model::optimiser::LearnerPart;

    use super::*;

    fn losses(recon: f64, norm: f64) -> StepLosses {
        let values = [(LossTerm::Reconstruction, recon), (LossTerm::Norm(LearnerPart::Autoencoder), norm)];
        let mut losses = StepLosses::default();
        losses.values.extend(values.map(|(term, value)| (term, Tensor::from(value))));
        losses
    }

    #[test]
    fn the_first_batch_that_is_not_finite_is_named_however_late_it_is_looked_at() {
        let mut sums = LossTotals::default();
        for (batch, norm) in [(7, 1.0), (8, f64::INFINITY), (9, 2.0), (10, f64::NAN)] {
            sums.add(losses(3.0, norm), batch);
        }
        let error = sums.read(4).expect_err("a gradient is infinite").to_string();
        assert_eq!(error, "the gradient of the autoencoder is not finite at epoch 4, batch 8");
        sums.add(losses(f64::NAN, f64::NAN), 3);
        assert!(sums.read(4).expect_err("a loss is not a number").to_string().contains("the loss `recon`"));
    }

    #[test]
    fn means_are_over_the_batches_that_measured() {
        let mut sums = LossTotals::default();
        sums.add(losses(1.0, 4.0), 0);
        sums.read(0).expect("finite losses");
        sums.add(losses(3.0, 6.0), 1);
        sums.read(0).expect("finite losses");
        let means: Vec<(&str, f64)> = sums.means().map(|(name, mean)| (name.as_str(), mean)).collect();
        assert_eq!(means, [("norm_autoencoder", 5.0), ("recon", 2.0)]);
    }
}
