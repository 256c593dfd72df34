//! The end of training's road: batches go in, a model comes out.

mod sums;

use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    ops::ControlFlow,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use schemas::{
    Error, Result,
    batch::Role,
    config::{EngineChoice, Monitor, Plan},
};
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use self::sums::Sums;
use crate::{
    BoxError, Sink,
    atlas::Atlas,
    batch::Batch,
    checkpoint::{self, Best, Progress},
    embedding_table::EmbeddingTable,
    groups::Groups,
    model::{
        draws::Draws,
        fused::Fused,
        input::Input,
        schedule::{Clock, Schedule},
        step::{Engine, Learner, Plain},
    },
    order::{Position, TrainingOrder},
    saved::{self, Card, files},
    validation::{Scores, Validation},
};

/// Time between two checkpoints at ends of epochs.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(60);
/// An epoch that lasts longer is interrupted by one.
const CHECKPOINT_WITHIN: Duration = Duration::from_secs(300);
/// On a device, losses are brought to the host, and looked at, once in so many batches.
const LOOK_EVERY: u64 = 64;

/// What a training run is made of, beside its data.
#[derive(Debug)]
pub struct TrainerSettings {
    /// The checked settings.
    pub plan: Plan,
    /// What will be written to `model.json`; weights, epochs and best epoch are filled in.
    pub card: Card,
    /// The model's folder; it exists.
    pub folder: PathBuf,
    /// What is known of perturbations beforehand.
    pub embeddings: Option<EmbeddingTable>,
    /// Where the network computes.
    pub device: Device,
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

/// What came of a training run.
#[derive(Clone, Debug, PartialEq)]
pub struct Trained {
    /// The model's card.
    pub card: Card,
    /// Where the model lies.
    pub folder: PathBuf,
    /// Training cells a second, over all epochs; validation and waiting included.
    pub cells_per_second: f64,
    /// Share of the time in which no batch was there.
    pub waited_for_data: f64,
    /// Share of the time in which checkpoints and history were written.
    pub waited_for_disk: f64,
}

/// Is told of every epoch.
pub type OnEpoch = Box<dyn FnMut(&EpochReport)>;

/// Trains a model.
pub struct Trainer {
    settings: TrainerSettings,
    order: TrainingOrder,
    learner: Learner,
    engine: Box<dyn Engine>,
    validation: Validation,
    progress: Progress,
    best: BTreeMap<String, Tensor>,
    sums: Sums,
    on_epoch: OnEpoch,
    last_checkpoint: Instant,
    epoch_started: Instant,
    batch_ended: Instant,
    waited: Duration,
    epoch_waited: Duration,
    epoch_cells: u64,
    busy: Duration,
    writing: Duration,
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
    /// A trainer; with `resume` it takes up the newest checkpoint of the folder, if there is one.
    ///
    /// # Errors
    /// A checkpoint that does not fit, a folder that can't be written to.
    pub fn new(
        atlas: &Atlas,
        settings: TrainerSettings,
        order: TrainingOrder,
        groups: &Groups,
        resume: bool,
        on_epoch: OnEpoch,
    ) -> Result<Self> {
        let TrainerSettings { plan, card, folder, embeddings, device } = &settings;
        let genes = u32::try_from(card.genes.len())
            .map_err(|_| Error::usage("there are more than 2^32 genes", "choose fewer"))?;
        let mut learner = Learner::new(plan, genes, &card.vocabulary, Kind::Float, *device);
        if let Some(table) = embeddings {
            learner.network.fill_embeddings(table, &card.vocabulary);
        }
        let engine = engine(&learner)?;
        let validation = Validation::new(atlas, groups, &card.vocabulary, plan, i64::from(genes), *device);
        let mut progress = Progress {
            position: Position::default(),
            updates: 0,
            sums: BTreeMap::new(),
            best: None,
            stale: 0,
            history_lines: 0,
            trained: (0, 0.0),
            ended: false,
        };
        let mut best = BTreeMap::new();
        let checkpoint = if resume { checkpoint::newest(&folder.join(files::CHECKPOINTS))? } else { None };
        if let Some(checkpoint) = checkpoint {
            learner.restore(&checkpoint.state, &checkpoint.path)?;
            (progress, best) = (checkpoint.progress, checkpoint.best);
        }
        truncate_history(&folder.join(files::HISTORY), progress.history_lines)?;
        let now = Instant::now();
        Ok(Self {
            sums: Sums::from(progress.sums.clone()),
            settings,
            order,
            learner,
            engine,
            validation,
            progress,
            best,
            on_epoch,
            last_checkpoint: now,
            epoch_started: now,
            batch_ended: now,
            waited: Duration::ZERO,
            epoch_waited: Duration::ZERO,
            epoch_cells: 0,
            busy: Duration::ZERO,
            writing: Duration::ZERO,
        })
    }

    /// The next batch that it wants; none where the run it resumes had ended.
    #[must_use]
    pub fn position(&self) -> Option<Position> {
        (!self.progress.ended).then_some(self.progress.position)
    }

    fn train(&mut self, batch: &Batch, input: &Input) -> Result<()> {
        let (epoch, index) = (batch.plan.epoch, batch.plan.index);
        // Dropout draws from libtorch's generator: seeded by position, a resumed run draws the same.
        let seed = mixed_seed(self.settings.plan.seed, epoch, index);
        tch::manual_seed(i64::from_ne_bytes(seed.to_ne_bytes()));
        let step = u64::from(epoch) * self.order.train.batches() + index;
        let clock = Clock { epoch, batch: index, step, updates: self.progress.updates };
        let schedule = Schedule::at(&self.settings.plan, clock);
        let draws = Draws::of(seed, schedule.mixup_alpha, batch.plan.cells.len(), self.settings.device);
        let losses = self.engine.step(&mut self.learner, input, &draws, schedule);
        self.progress.updates += losses.updates;
        self.sums.add(losses, index);
        if self.settings.device == Device::Cpu || index.is_multiple_of(LOOK_EVERY) || batch.plan.last {
            self.sums.read(epoch)?;
        }
        self.epoch_cells += batch.plan.cells.len() as u64;
        self.progress.position = Position { epoch, batch: index + 1 };
        if CHECKPOINT_WITHIN <= self.last_checkpoint.elapsed() && !batch.plan.last {
            self.checkpoint()?;
        }
        Ok(())
    }

    fn end_epoch(&mut self, epoch: u32, scores: Option<Scores>) -> Result<ControlFlow<()>> {
        let mut values: BTreeMap<String, f64> =
            self.sums.means().map(|(name, mean)| (format!("train.{name}"), mean)).collect();
        if let Some(scores) = &scores {
            values.extend(scores.all().map(|(name, value)| (format!("valid.{name}"), value)));
        }
        let seconds = self.epoch_started.elapsed().as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "a rate needs no more than 52 bits")]
        let rate = self.epoch_cells as f64 / seconds.max(1e-9);
        values.insert("cells_per_second".into(), rate);
        values.insert("seconds".into(), seconds);
        values.insert("wait.data".into(), self.epoch_waited.as_secs_f64() / seconds.max(1e-9));
        let report = EpochReport { epoch, values };
        let started = Instant::now();
        append_line(&self.settings.folder.join(files::HISTORY), &report)?;
        self.writing += started.elapsed();
        (self.on_epoch)(&report);

        self.progress.history_lines += 1;
        self.progress.trained.0 += self.epoch_cells;
        self.progress.trained.1 += seconds;
        self.progress.position = Position { epoch: epoch + 1, batch: 0 };
        self.sums = Sums::default();
        (self.epoch_cells, self.epoch_waited, self.epoch_started) = (0, Duration::ZERO, Instant::now());
        let patience = self.settings.plan.train.early_stopping_patience;
        if let Some(scores) = scores {
            self.judge(epoch, &scores)?;
        }
        let ends = self.order.epochs <= epoch + 1 || (0 < patience && patience <= self.progress.stale);
        self.progress.ended = ends;
        // The first one early, so that there is something to go back to.
        if epoch == 0 || CHECKPOINT_EVERY <= self.last_checkpoint.elapsed() {
            self.checkpoint()?;
        }
        Ok(if ends { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    }

    /// Keeps the weights if they are the best so far. While the adversaries have not come to their full weight, the basal
    /// latent may still know what was done to a cell, so those epochs are not candidates. The original leaves out the first
    /// epoch alone.
    fn judge(&mut self, epoch: u32, scores: &Scores) -> Result<()> {
        let plan = &self.settings.plan;
        let last = epoch + 1 == self.order.epochs;
        let too_early = match plan.compat.is_original() {
            true => epoch == 0,
            false => !Schedule::at_end_of(plan, epoch, self.order.train.batches()).is_settled(plan),
        };
        if too_early && !last {
            return Ok(());
        }
        // Which scores there are depends on the cells alone, so all epochs of a run fall back alike.
        let wanted = plan.train.monitor;
        let chosen = [wanted, Monitor::Recon].into_iter().find_map(|monitor| Some((monitor, scores.get(monitor)?)));
        let (monitor, value) = chosen.ok_or_else(|| Error::Bug("a validated epoch has no loss".into()))?;
        if !value.is_finite() {
            return Err(Error::Diverged { what: format!("valid.{}", monitor.name()), epoch, batch: 0 });
        }
        if self.progress.best.is_none_or(|best| monitor.is_better(value, best.value)) {
            self.progress.best = Some(Best { epoch, monitor, value });
            self.progress.stale = 0;
            self.best = self.learner.network.parameters.snapshot();
        } else {
            self.progress.stale += 1;
        }
        Ok(())
    }

    fn checkpoint(&mut self) -> Result<()> {
        self.sums.read(self.progress.position.epoch)?;
        self.progress.sums = self.sums.sums.clone();
        let started = Instant::now();
        checkpoint::write(
            &self.settings.folder.join(files::CHECKPOINTS),
            &self.progress,
            self.learner.state(),
            &self.best,
        )?;
        self.last_checkpoint = Instant::now();
        self.writing += started.elapsed();
        Ok(())
    }
}

impl Sink for Trainer {
    type In = Batch;
    type Summary = Trained;

    fn push(&mut self, batch: Batch) -> Result<ControlFlow<()>, BoxError> {
        let started = Instant::now();
        let waited = started - self.batch_ended;
        self.waited += waited;
        self.epoch_waited += waited;
        let genes = self.learner.network.genes();
        let input = Input::new(&batch, genes, Kind::Float, self.settings.device);
        let epoch = batch.plan.epoch;
        let flow = match batch.plan.role {
            Role::Train => {
                self.train(&batch, &input)?;
                if batch.plan.last && !self.order.checks(epoch) {
                    self.end_epoch(epoch, None)?
                } else {
                    ControlFlow::Continue(())
                }
            }
            Role::Valid | Role::Source => {
                self.validation.add(&self.learner.network, &batch, &input);
                if batch.plan.last {
                    let scores = self.validation.take();
                    self.end_epoch(epoch, Some(scores))?
                } else {
                    ControlFlow::Continue(())
                }
            }
        };
        self.batch_ended = Instant::now();
        self.busy += self.batch_ended - started;
        Ok(flow)
    }

    fn finish(mut self) -> Result<Trained, BoxError> {
        self.progress.ended = true;
        self.checkpoint()?;
        let TrainerSettings { plan, card, folder, .. } = &self.settings;
        if !self.best.is_empty() {
            self.learner.network.parameters.restore(&self.best, &folder.join(files::CHECKPOINTS))?;
        }
        let card = Card { epochs: self.progress.position.epoch, best: self.progress.best, ..card.clone() };
        let card = saved::write(folder, &self.learner.network, plan, card)?;
        let (cells, seconds) = self.progress.trained;
        let all = (self.waited + self.busy).as_secs_f64();
        Ok(Trained {
            card,
            folder: folder.clone(),
            #[expect(clippy::cast_precision_loss, reason = "a rate needs no more than 52 bits")]
            cells_per_second: cells as f64 / seconds.max(1e-9),
            waited_for_data: self.waited.as_secs_f64() / all.max(1e-9),
            waited_for_disk: self.writing.as_secs_f64() / all.max(1e-9),
        })
    }

    fn suspend(mut self) -> Result<(), BoxError> {
        Ok(self.checkpoint()?)
    }
}

/// What the settings ask for to compute the steps.
fn engine(learner: &Learner) -> Result<Box<dyn Engine>> {
    Ok(match (learner.plan.train.engine, Fused::lacks(&learner.network)) {
        (EngineChoice::Auto | EngineChoice::Fused, None) => Box::new(Fused),
        (EngineChoice::Auto | EngineChoice::Plain, _) => Box::new(Plain),
        (EngineChoice::Fused, Some(lacks)) => {
            return Err(Error::usage(format!("train.engine = fused can't be: {lacks}"), "use auto or plain"));
        }
    })
}

fn mixed_seed(seed: u64, epoch: u32, batch: u64) -> u64 {
    seed ^ (u64::from(epoch) << 40) ^ batch.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

fn append_line(path: &Path, report: &EpochReport) -> Result<()> {
    let mut line = serde_json::to_vec(report).map_err(|error| Error::Bug(error.to_string()))?;
    line.push(b'\n');
    let mut file = fs::File::options().create(true).append(true).open(path).map_err(Error::io("create", path))?;
    file.write_all(&line).map_err(Error::io("write", path))
}

/// Lines after the checkpoint's were written by a run that did not get to its next one.
fn truncate_history(path: &Path, lines: u64) -> Result<()> {
    if !path.exists() {
        return Ok(());
    }
    let text = fs::read_to_string(path).map_err(Error::io("read", path))?;
    let kept: String =
        text.lines().take(usize::try_from(lines).unwrap_or(usize::MAX)).map(|line| format!("{line}\n")).collect();
    crate::disk::write_atomically(path, kept.as_bytes())
}
