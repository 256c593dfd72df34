//! The steps of training: the batches that each step learns from, and the engine that computes it.

use model::{
    accumulate::BatchShare,
    average::Average,
    draws::StepDraws,
    fused::Fused,
    graph_replay::GraphReplay,
    input::Input,
    loss_term::LossTerm,
    network::Network,
    optimiser::LearnerPart,
    packed_batch::PackedBatch,
    plain::Plain,
    schedule::{Clock, Schedule},
    step::{Engine, Learner},
    transfer::StepExtras,
};
use schemas::{
    Error, Result,
    batch::{BatchPlan, Position, TrainingLength},
    config::{EngineChoice, MatrixPrecision, Norm, ReconLoss, TrainingPlan},
};
use stage::{batch::Batch, workers::Workers};
use tch::{Device, Kind, Tensor};
use torch::allow_tf32;

use super::{Trainer, TrainingBatch};

/// On a device, losses are copied to the host and checked once per this many batches.
const LOOK_EVERY: u64 = 64;

impl Trainer {
    /// Takes a step on the batches gathered for it.
    pub(super) fn step(&mut self) -> Result<()> {
        let batches = std::mem::take(&mut self.gathered);
        let (Some(first), Some(last)) = (batches.first(), batches.last()) else { return Ok(()) };
        let (first, last) = (&first.batch.plan, &last.batch.plan);
        let (epoch, every, ends) = (last.pass, self.batches_a_step(), last.last);
        let position = Position { epoch, batch: last.index + 1 };
        let index = first.index / every;
        let step = u64::from(epoch) * self.steps_an_epoch() + index;
        let all_steps = u64::from(self.length.epochs) * self.steps_an_epoch();
        let clock = Clock { epoch, batch: index, step, updates: self.progress.updates, of: all_steps };
        let schedule = Schedule::at(&self.settings.plan, clock);
        let classes: Vec<&[u32]> = batches.iter().map(|arrived| &*arrived.batch.labels.combinations).collect();
        let shares = BatchShare::for_batches(&self.learner.adversaries, &classes);
        let mut learned = false;
        for (batch, share) in batches.into_iter().zip(shares) {
            learned = self.learn(batch, share, schedule)?;
        }
        let steps_between = LOOK_EVERY.div_ceil(every);
        if self.settings.device == Device::Cpu || index.is_multiple_of(steps_between) || ends {
            self.sums.read(epoch)?;
        }
        if let Some(average) = self.average.as_mut().filter(|_| starts(&self.settings.plan, self.length, epoch)) {
            if learned {
                average.after_update(&self.learner.network);
            }
            if ends {
                average.after_epoch(&self.learner.network);
            }
        }
        self.progress.position = position;
        if self.times.checkpoint_is_due_within_an_epoch() && !ends {
            self.checkpoint()?;
        }
        Ok(())
    }

    /// Learns from one batch of a step; returns whether the autoencoder took a step with it.
    fn learn(&mut self, arrived: TrainingBatch, share: BatchShare, schedule: Schedule) -> Result<bool> {
        let TrainingBatch { batch, packed, sources } = arrived;
        // Dropout draws come from libtorch's generator: with a seed from the position, a resumed run draws the same
        // numbers.
        let seed = seed_of(self.settings.plan.seed, &batch.plan);
        tch::manual_seed(i64::from_ne_bytes(seed.to_ne_bytes()));
        let draws = StepDraws::from_seed(seed, schedule.mixup_alpha, batch.plan.cells.len());
        self.learner.takes(share);
        let losses = match packed {
            Some(mut packed) => {
                let offset = self.offsets.as_ref().map(|known| (known.table(), known.rows(&batch.labels.groups)));
                let extras = StepExtras { offset, sources };
                self.engine.step_on(&mut self.learner, &mut packed, &extras, &draws, schedule)?
            }
            None => {
                let mut input = self.input_of(&batch, None)?;
                input.sources = sources.map(|sources| Tensor::from_slice(&sources).to_device(self.settings.device));
                self.engine.step(&mut self.learner, &input, &draws, schedule)
            }
        };
        let learned = losses.get(&LossTerm::Norm(LearnerPart::Autoencoder)).is_some();
        self.progress.updates += losses.updates;
        self.sums.add(losses, batch.plan.index);
        self.epoch_cells += batch.plan.cells.len() as u64;
        Ok(learned)
    }

    fn input(&self, batch: &Batch) -> Input {
        Input::new(batch, self.learner.network.genes(), Kind::Float, self.settings.device)
    }

    /// The tensors of a batch for validation.
    pub(super) fn input_of(&self, batch: &Batch, packed: Option<&PackedBatch>) -> Result<Input> {
        let input = match packed {
            Some(packed) => packed.input(Kind::Float, self.settings.device)?,
            None => self.input(batch),
        };
        let offset = self.offsets.as_ref().map(|offsets| offsets.for_groups(&batch.labels.groups));
        Ok(Input { offset, ..input })
    }

    /// Number of batches that a step learns from.
    pub(super) fn batches_a_step(&self) -> u64 {
        u64::from(self.settings.plan.train.accumulate.max(1))
    }

    pub(super) fn steps_an_epoch(&self) -> u64 {
        steps_an_epoch(&self.settings.plan, self.length)
    }

    /// The network that is validated and saved.
    pub(super) fn network(&self) -> &Network {
        self.average.as_ref().and_then(Average::network).unwrap_or(&self.learner.network)
    }
}

/// The engine requested in the settings.
pub(super) fn engine(learner: &mut Learner, workers: &Workers) -> Result<Box<dyn Engine>> {
    let on_gpu = learner.network.parameters.device() != Device::Cpu;
    allow_tf32(learner.plan.train.precision == MatrixPrecision::Tf32);
    match (learner.plan.train.engine, GraphReplay::lacks(learner)) {
        (EngineChoice::Replayed, None) => return Ok(Box::new(GraphReplay::new(learner)?)),
        (EngineChoice::Auto, None) if on_gpu => return Ok(Box::new(GraphReplay::new(learner)?)),
        (EngineChoice::Replayed, Some(lacks)) => {
            return Err(Error::usage(format!("train.engine = replayed is not possible: {lacks}"), "use auto or plain"));
        }
        (EngineChoice::Auto, Some(lacks)) if on_gpu => {
            tracing::warn!("steps are computed by libtorch's operations, one by one: {lacks}");
        }
        _ => {}
    }
    let train = &learner.plan.train;
    let obstacles = [
        (train.checkpointing, "train.checkpointing recomputes what libtorch computed"),
        (train.precision == MatrixPrecision::Bf16, "its kernels compute in float32, and train.precision = bf16"),
    ];
    let obstacle = obstacles.into_iter().find_map(|(obstacle, why)| obstacle.then_some(why));
    let lacks = obstacle.or_else(|| Fused::lacks(&learner.network));
    if let (EngineChoice::Auto, Some(lacks)) = (train.engine, lacks) {
        tracing::info!("train.engine = plain: of the fused one, {lacks}");
    }
    Ok(match (train.engine, lacks) {
        (EngineChoice::Auto | EngineChoice::Fused, None) => Box::new(Fused::new(workers.clone())),
        (EngineChoice::Auto | EngineChoice::Plain | EngineChoice::Replayed, _) => Box::new(Plain),
        (EngineChoice::Fused, Some(lacks)) => {
            return Err(Error::usage(format!("train.engine = fused is not possible: {lacks}"), "use auto or plain"));
        }
    })
}

/// Whether steps on a CPU are libtorch's own, whose number of threads changes the last bits of a training; see [`Fused`].
#[must_use]
pub fn depends_on_threads(plan: &TrainingPlan) -> bool {
    let (model, train) = (&plan.model, &plan.train);
    let norms = [model.norm_encoder, model.norm_decoder];
    matches!(train.engine, EngineChoice::Plain | EngineChoice::Replayed)
        || model.recon_loss != ReconLoss::Nb
        || train.precision == MatrixPrecision::Bf16
        || train.checkpointing
        || norms.contains(&Norm::BatchThenLayer)
}

fn steps_an_epoch(plan: &TrainingPlan, length: TrainingLength) -> u64 {
    length.batches.div_ceil(u64::from(plan.train.accumulate.max(1)))
}

/// Whether weights are averaged in this epoch.
fn starts(plan: &TrainingPlan, length: TrainingLength, epoch: u32) -> bool {
    match plan.train.average_start {
        0 => Schedule::at_end_of(plan, epoch, steps_an_epoch(plan, length)).is_settled(plan),
        start => start <= epoch,
    }
}

/// The random seed of a batch: a function of its position in the run.
pub(super) fn seed_of(seed: u64, batch: &BatchPlan) -> u64 {
    seed ^ (u64::from(batch.pass) << 40) ^ batch.index.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}
