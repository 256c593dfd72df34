//! The end of the training pipeline: batches in, a model out.

pub mod footprint;
mod on_disk;
pub mod pairing;
mod steps;
mod sums;
mod times;

use std::{collections::BTreeMap, ops::ControlFlow, path::PathBuf, time::Instant};

use model::{
    average::Average,
    checkpoint::{self, TrainingProgress},
    packed_batch::PackedBatch,
    saved,
    schedule::Schedule,
    step::{Engine, Learner},
};
use model_card::{BestEpoch, ModelCard};
use offset::{GroupOffsets, OffsetProfiles};
use reader::{
    atlas::Atlas,
    groups::{Group, Groups},
    split::SplitPart,
};
use schemas::{
    ByteSize, Error, Result,
    batch::{Position, Role, TrainingLength},
    config::{MonitoredScore, TrainingPlan},
    embedding_table::EmbeddingTable,
    model_files as files,
    numbers::checked,
};
use serde::{Deserialize, Serialize};
use stage::{
    BoxError, Sink,
    batch::Batch,
    phase::{Phase, Phases},
    workers::Workers,
};
use storage::disk::{DiskFile, check_room};
use tch::{Device, Kind, Tensor};

pub use self::steps::depends_on_threads;
use self::{
    on_disk::{append_line, checkpoint_of, room_of, truncate_history},
    steps::engine,
    sums::LossTotals,
    times::RunClocks,
};
use crate::{
    counterfactual::SMALLEST_SHARE,
    validation::{Validation, ValidationScores},
};

/// The inputs of a training run besides its data.
#[derive(Debug)]
pub struct TrainerSettings {
    /// The validated settings.
    pub plan: TrainingPlan,
    /// The content of `model.json`, in which weights, epochs and best epoch are filled in later.
    pub card: ModelCard,
    /// The model's folder, which exists already.
    pub folder: PathBuf,
    /// Given embeddings of perturbations.
    pub embeddings: Option<EmbeddingTable>,
    /// Measurements on training cells, if offsets or dispersions need them.
    pub profiles: Option<OffsetProfiles>,
    /// The device on which the network computes.
    pub device: Device,
    /// Receives the phases of the run.
    pub phases: Phases,
    /// Threads that share the large operations of a step on a CPU.
    pub workers: Workers,
}

/// A finished epoch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpochReport {
    /// The epoch, from 0.
    pub epoch: u32,
    /// Everything that was measured, by name: `train.recon`, `valid.r2_mean`, `cells_per_second`, ...
    #[serde(flatten)]
    pub values: BTreeMap<String, f64>,
}

/// The result of a training run.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainingResult {
    /// The model's card.
    pub card: ModelCard,
    /// The model's folder.
    pub folder: PathBuf,
    /// Training cells per second over all epochs, including validation and waiting.
    pub cells_per_second: f64,
    /// Share of the time spent waiting for batches.
    pub waited_for_data: f64,
    /// Share of the time spent writing checkpoints and history.
    pub waited_for_disk: f64,
    /// The share of the perturbations' latent terms that the model keeps, if it was looked for; [`SMALLEST_SHARE`] where the network
    /// adds nothing measurable to the offset.
    pub share: Option<f64>,
}

/// A callback for every epoch.
pub type OnEpoch = Box<dyn FnMut(&EpochReport)>;

/// A batch as it arrives for training.
#[derive(Debug)]
pub struct TrainingBatch {
    /// The batch.
    pub batch: Batch,
    /// The batch as it is transferred to the device; `None` if it stays on the host.
    pub packed: Option<PackedBatch>,
    /// For each cell, the index in the batch of the cell from which it is decoded; `None`: the cell itself.
    pub sources: Option<Vec<i64>>,
}

impl ByteSize for TrainingBatch {
    fn byte_size(&self) -> usize {
        let sources = self.sources.as_ref().map_or(0, |sources| size_of_val(&**sources));
        self.batch.byte_size() + self.packed.as_ref().map_or(0, ByteSize::byte_size) + sources
    }
}

/// Trains a model.
pub struct Trainer {
    settings: TrainerSettings,
    length: TrainingLength,
    learner: Learner,
    engine: Box<dyn Engine>,
    average: Option<Average>,
    offsets: Option<GroupOffsets>,
    validation: Validation,
    /// Batches of a step that is not complete yet.
    gathered: Vec<TrainingBatch>,
    progress: TrainingProgress,
    best: BTreeMap<String, Tensor>,
    sums: LossTotals,
    on_epoch: OnEpoch,
    epoch_cells: u64,
    times: RunClocks,
}

impl std::fmt::Debug for Trainer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trainer")
            .field("settings", &self.settings)
            .field("progress", &self.progress)
            .finish_non_exhaustive()
    }
}

impl Trainer {
    /// Creates a trainer; with `resume`, it continues from the newest checkpoint of the folder, if there is one.
    ///
    /// # Errors
    /// A checkpoint that does not match, or a folder that is not writable.
    pub fn new(
        atlas: &Atlas,
        settings: TrainerSettings,
        length: TrainingLength,
        groups: &Groups,
        resume: bool,
        on_epoch: OnEpoch,
    ) -> Result<Self> {
        let TrainerSettings { plan, card, folder, embeddings, profiles, device, .. } = &settings;
        let genes = checked(card.genes.len(), "genes")?;
        let mut learner = Learner::new(plan, genes, &card.vocabulary, Kind::Float, *device);
        if let Some(table) = embeddings {
            learner.network.fill_embeddings(table, &card.vocabulary);
        }
        if let Some(profiles) = profiles {
            learner.network.fill_profiles(plan, profiles)?;
        }
        let engine = engine(&mut learner, &settings.workers)?;
        let mut average = Average::new(plan, &learner.network, &card.vocabulary);
        let mut progress = TrainingProgress {
            position: Position::default(),
            updates: 0,
            sums: BTreeMap::new(),
            best: None,
            share: None,
            stale: 0,
            history_lines: 0,
            trained: (0, 0.0),
            ended: false,
        };
        let mut best = BTreeMap::new();
        let checkpoint = if resume { checkpoint_of(folder, &learner)? } else { None };
        if let Some(checkpoint) = checkpoint {
            learner.restore(&checkpoint.state, &checkpoint.path)?;
            if let Some(average) = &mut average {
                average.restore(&checkpoint.state, &checkpoint.path)?;
            }
            (progress, best) = (checkpoint.progress, checkpoint.best);
        }
        let offsets = learner.network.offset().map(|offset| {
            let is_used = |group: &&Group| group.cells_for(SplitPart::Train) + group.cells_for(SplitPart::Valid) > 0;
            let codes = |group| Some(group).filter(is_used).and_then(|group| group.codes(atlas, &card.vocabulary));
            offset.of_groups(&groups.all().iter().map(codes).collect::<Vec<_>>(), card.vocabulary.batch_at())
        });
        let validation =
            Validation::new(atlas, groups, &card.vocabulary, plan, i64::from(genes), *device, offsets.as_ref());
        check_room(folder, room_of(&learner, resume))?;
        truncate_history(&folder.join(files::HISTORY), progress.history_lines)?;
        Ok(Self {
            sums: LossTotals::from(progress.sums.clone()),
            settings,
            length,
            learner,
            engine,
            average,
            offsets,
            validation,
            gathered: Vec::new(),
            progress,
            best,
            on_epoch,
            epoch_cells: 0,
            times: RunClocks::start(),
        })
    }

    /// The next batch to train on; `None` if the resumed run had finished.
    #[must_use]
    pub fn position(&self) -> Option<Position> {
        (!self.progress.ended).then_some(self.progress.position)
    }

    fn end_epoch(&mut self, epoch: u32, scores: Option<ValidationScores>) -> Result<ControlFlow<()>> {
        let mut values: BTreeMap<String, f64> =
            self.sums.means().map(|(name, mean)| (format!("train.{name}"), mean)).collect();
        if let Some(scores) = &scores {
            values.extend(scores.all().map(|(name, value)| (format!("valid.{name}"), value)));
        }
        let (seconds, waited) = self.times.of_epoch();
        #[expect(clippy::cast_precision_loss, reason = "a rate needs no more than 52 bits")]
        let rate = self.epoch_cells as f64 / seconds;
        values.insert("cells_per_second".into(), rate);
        values.insert("seconds".into(), seconds);
        values.insert("wait.data".into(), waited / seconds);
        let report = EpochReport { epoch, values };
        let started = Instant::now();
        append_line(&self.settings.folder.join(files::HISTORY), &report)?;
        self.times.wrote(started);
        (self.on_epoch)(&report);

        self.progress.history_lines += 1;
        self.progress.trained.0 += self.epoch_cells;
        self.progress.trained.1 += seconds;
        self.progress.position = Position { epoch: epoch + 1, batch: 0 };
        self.sums = LossTotals::default();
        self.epoch_cells = 0;
        self.times.next_epoch();
        let patience = self.settings.plan.train.early_stopping_patience;
        if let Some(scores) = scores {
            self.update_best(epoch, &scores)?;
        }
        let ends = self.length.epochs <= epoch + 1 || (0 < patience && patience <= self.progress.stale);
        self.progress.ended = ends;
        // The first checkpoint is early, so that there is one to resume from.
        if epoch == 0 || self.times.checkpoint_is_due() {
            self.checkpoint()?;
        }
        Ok(if ends { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    }

    /// Keeps the weights if they are the best so far. Until the adversaries have reached their full weight, the
    /// basal latent may still contain the condition, so those epochs are not candidates. The original excludes
    /// only the first epoch.
    fn update_best(&mut self, epoch: u32, scores: &ValidationScores) -> Result<()> {
        let plan = &self.settings.plan;
        let last = epoch + 1 == self.length.epochs;
        let too_early = match plan.compat.is_original() {
            true => epoch == 0,
            false => !Schedule::at_end_of(plan, epoch, self.steps_an_epoch()).is_settled(plan),
        };
        if too_early && !last {
            return Ok(());
        }
        // Which scores exist depends only on the cells, so all epochs of a run fall back to the same score.
        let monitors = [plan.train.monitor, MonitoredScore::Recon];
        let chosen = monitors.into_iter().find_map(|monitor| Some((monitor, scores.get(monitor)?)));
        let (monitor, value) = chosen.ok_or_else(|| Error::Bug("a validated epoch has no loss".into()))?;
        if !value.is_finite() {
            return Err(Error::Diverged { what: format!("valid.{}", monitor.name()), epoch, batch: 0 });
        }
        if self.progress.best.is_none_or(|best| monitor.is_better(value, best.value)) {
            self.progress.best = Some(BestEpoch { epoch, monitor, value });
            self.progress.stale = 0;
            let mut weights = self.network().parameters.snapshot()?;
            self.progress.share = scores.share;
            if let Some(share) = scores.share {
                self.learner.network.shrink_perturbations(&mut weights, share);
            }
            self.best = weights;
        } else {
            self.progress.stale += 1;
        }
        Ok(())
    }

    fn checkpoint(&mut self) -> Result<()> {
        self.sums.read(self.progress.position.epoch)?;
        self.progress.sums = self.sums.sums.clone();
        self.settings.phases.enter(Phase::Saving);
        let started = Instant::now();
        // The checkpoint relies on the lines written so far.
        let history = self.settings.folder.join(files::HISTORY);
        if history.exists() {
            DiskFile::append_to(&history)?.sync()?;
        }
        let mut state = self.learner.state()?;
        if let Some(average) = &self.average {
            state.extend(average.state()?);
        }
        checkpoint::write(&self.settings.folder.join(files::CHECKPOINTS), &self.progress, state, &self.best)?;
        self.times.wrote_checkpoint(started);
        Ok(())
    }
}

impl Sink for Trainer {
    type In = TrainingBatch;
    type Summary = TrainingResult;

    fn push(&mut self, arrived: TrainingBatch) -> Result<ControlFlow<()>, BoxError> {
        let came = self.times.batch_comes();
        // Validation too: scores choose the epoch that is kept.
        let _one_thread = self.engine.one_thread();
        let plan = &arrived.batch.plan;
        let (epoch, last) = (plan.pass, plan.last);
        let flow = match plan.role {
            Role::Train => {
                self.settings.phases.enter(Phase::Epoch);
                self.gathered.push(arrived);
                if last || self.batches_a_step() <= self.gathered.len() as u64 {
                    self.step()?;
                }
                if last && !self.length.validates(epoch) {
                    self.end_epoch(epoch, None)?
                } else {
                    ControlFlow::Continue(())
                }
            }
            Role::Valid | Role::Source => {
                self.settings.phases.enter(Phase::Validation);
                let TrainingBatch { batch, packed, .. } = arrived;
                let input = self.input_of(&batch, packed.as_ref())?;
                let averaged = self.average.as_ref().and_then(Average::network);
                self.validation.add(averaged.unwrap_or(&self.learner.network), &batch, &input);
                if last {
                    let scores = self.validation.take();
                    self.end_epoch(epoch, Some(scores))?
                } else {
                    ControlFlow::Continue(())
                }
            }
        };
        self.times.batch_ends(came);
        Ok(flow)
    }

    fn finish(mut self) -> Result<TrainingResult, BoxError> {
        self.progress.ended = true;
        self.checkpoint()?;
        let TrainerSettings { plan, card, folder, .. } = &self.settings;
        let mut weights =
            if self.best.is_empty() { self.network().parameters.snapshot()? } else { std::mem::take(&mut self.best) };
        let mut share = self.progress.share;
        if plan.train.shrink_perturbations && share.is_none() && self.network().offset().is_some() {
            // No `valid` cells bear out what the network adds.
            self.network().shrink_perturbations(&mut weights, SMALLEST_SHARE);
            share = Some(SMALLEST_SHARE);
        }
        let card = ModelCard { epochs: self.progress.position.epoch, best: self.progress.best, ..card.clone() };
        let card = saved::write(folder, &weights, plan, card)?;
        let (cells, seconds) = self.progress.trained;
        let (waited_for_data, waited_for_disk) = self.times.shares();
        Ok(TrainingResult {
            card,
            folder: folder.clone(),
            #[expect(clippy::cast_precision_loss, reason = "a rate needs no more than 52 bits")]
            cells_per_second: cells as f64 / seconds.max(1e-9),
            waited_for_data,
            waited_for_disk,
            share,
        })
    }

    fn suspend(mut self) -> Result<(), BoxError> {
        Ok(self.checkpoint()?)
    }
}
