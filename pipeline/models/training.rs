//! `read → batch → train`.

mod folder;
mod outline;

use std::{path::Path, sync::Arc};

use schemas::{
    Error, Result,
    batch::{Position, Role},
    config::{self, DispersionStart, Doser, EngineChoice, ReconLoss, Settings},
    model_files as files,
    numbers::{to_i64, to_usize},
    vocabulary::Vocabulary,
};
use stages::{
    batcher::{
        order::{Order, OrderSettings, TrainingOrder, default_window},
        sample::{CellPredicate, Sampling},
    },
    encoder::{embedding_table, label_encoder::LabelEncoder, vocabulary::from_training_cells},
    model::{checkpoint, saved::Model, transfer::BatchPacker},
    model_card::{self, ModelCard, TrainingLabels},
    offset::OffsetProfiles,
    reader::{
        atlas::Atlas,
        groups::Groups,
        split::{Scheme, Split, SplitPart, SplitShares},
    },
    stage::{device_failure::caught, phase::Phase, workers::Workers},
    storage::disk::{FolderLock, ScratchFolder, create_folders, remove_all, write_atomically},
    trainer::{
        mean_expression::SumExpression,
        train::{OnEpoch, Trainer, TrainerSettings, TrainingBatch, TrainingResult, pairing::Pairing},
        validation::VALIDATED_AT_ONCE,
    },
};
use tch::Device;

use super::{
    batch_sizes::{SmallerBatches, network_bytes, with_largest_batches},
    gene_choice::choose_genes,
};
use crate::{
    flows::{Resources, batches_as, completed, rows, stored_order::rows_as_stored},
    runtime::{Pipeline, PipelinePlan, Report, WorkerThreads},
};

/// A training run that is ready to start.
#[derive(Debug)]
pub struct Training {
    atlas: Atlas,
    split: Arc<Split>,
    groups: Groups,
    order: TrainingOrder,
    settings: TrainerSettings,
    resources: Resources,
}

impl Training {
    /// Checks settings and data against each other, and chooses the genes; writes nothing yet.
    ///
    /// # Errors
    /// Settings out of range, data without control or perturbations, or genes that can't be chosen.
    pub fn prepare(
        atlas: &Atlas,
        split: Split,
        settings: &Settings,
        folder: &Path,
        device: Device,
        resources: Resources,
    ) -> Result<Self> {
        let manifest = atlas.manifest();
        let split = Arc::new(split);
        let groups = Groups::from_atlas(atlas, Some(&split));
        let embeddings = settings.model.perturbation_embeddings.as_deref().map(embedding_table::read).transpose()?;
        let mut vocabulary = from_training_cells(atlas, &groups, settings.compat)?;
        if let Some(table) = &embeddings {
            vocabulary.embed(table)?;
        }
        let mut settings = settings.clone();
        if settings.model.doser_type == Doser::Auto {
            settings.model.doser_type = if vocabulary.has_doses() { Doser::LogSigm } else { Doser::Linear };
        }
        if settings.train.window == 0 {
            settings.train.window = default_window(manifest.order);
        }
        let mut plan = settings.check(manifest.values)?;
        let (atlas, gene_selection) = choose_genes(atlas, &split, &plan.data, &resources)?;
        if atlas.genes().is_empty() {
            let place = atlas.path().display().to_string();
            let hint = "ingest cells with genes, or choose some with --genes";
            return Err(Error::data(place, "there are no genes to train on", hint));
        }
        let atlas = &atlas;
        if plan.train.batch_size == 0 {
            plan = with_largest_batches(plan, atlas, &vocabulary, device, &resources)?;
        }
        let order = OrderSettings::new(plan.seed, to_usize(plan.train.batch_size), to_usize(plan.train.window));
        let sampling = match plan.train.sampling {
            config::SamplingChoice::Uniform => Sampling::Uniform,
            config::SamplingChoice::Balanced => Sampling::Balanced,
            config::SamplingChoice::Weighted => Sampling::Weighted(plan.train.condition_weights.clone()),
            config::SamplingChoice::Paired => Sampling::Paired(plan.train.match_keys.clone()),
        };
        let train = Arc::new(Order::sampled(atlas, Arc::clone(&split), order, &sampling)?);
        let valid = Arc::new(Order::of_cells(
            atlas,
            SplitPart::Valid,
            OrderSettings { batch_size: order.batch_size.min(VALIDATED_AT_ONCE), ..order },
            known_valid_cells(atlas, &split, &groups, &vocabulary),
        ));
        let unknown = split.counts()[&SplitPart::Valid] - valid.cell_count();
        if unknown > 0 {
            tracing::warn!(
                "{unknown} valid cells are left out: no training cell shares their perturbations and covariates"
            );
        }
        if train.batches() == 0 {
            return Err(Error::data(
                atlas.path().display().to_string(),
                "one training cell is too few for a batch",
                "hold out less",
            ));
        }
        let epochs = plan.epochs(train.cell_count());
        let plan = plan.fitted_to(epochs);
        let order = TrainingOrder { train, valid, check_every: plan.train.check_val_every_n_epoch, epochs };
        let card = ModelCard {
            format: model_card::FORMAT_VERSION,
            written_by: format!("perturbine {}", env!("CARGO_PKG_VERSION")),
            config: Settings::clone(&plan),
            vocabulary,
            rules: manifest.conditions.rules().clone(),
            genes: atlas.genes().to_vec(),
            gene_selection,
            values: manifest.values,
            non_negative: manifest.non_negative == Some(true),
            labels: Some(TrainingLabels::of(manifest)),
            atlas: manifest.checksum.clone(),
            split: split.name().to_owned(),
            epochs: 0,
            best: None,
            weights: String::new(),
            split_checksum: None,
        };
        let (folder, phases) = (folder.to_path_buf(), resources.phases.clone());
        let settings = TrainerSettings {
            plan,
            card,
            folder,
            embeddings,
            profiles: None,
            device,
            phases,
            workers: Workers::default(),
        };
        Ok(Self { atlas: atlas.clone(), split, groups, order, settings, resources })
    }

    /// Maximum number of epochs.
    #[must_use]
    pub fn epochs(&self) -> u32 {
        self.order.epochs
    }

    /// Number of training cells.
    #[must_use]
    pub fn cells(&self) -> u64 {
        self.order.train.cell_count()
    }

    /// The model's vocabulary and the validated settings.
    #[must_use]
    pub fn card(&self) -> &ModelCard {
        &self.settings.card
    }

    /// The device of the network.
    #[must_use]
    pub fn device(&self) -> Device {
        self.settings.device
    }

    /// Bytes of unpacked blocks, in addition to the edges.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.resources.held_bytes(&self.atlas)
    }

    /// Maximum bytes of network and steps, on the device that computes them.
    #[must_use]
    pub fn network_bytes(&self) -> usize {
        let TrainerSettings { plan, card, device, .. } = &self.settings;
        network_bytes(plan, &self.atlas, &card.vocabulary, *device)
    }

    /// The graph of the run.
    ///
    /// # Errors
    /// Only errors that [`Training::prepare`] would already have found.
    pub fn graph(&self) -> Result<PipelinePlan> {
        let (order, from) = (self.order.clone(), Position::default());
        let settings = &self.settings;
        Ok(batch_pipeline(
            &self.atlas,
            self.groups.clone(),
            &settings.card,
            settings.device,
            order,
            from,
            &self.resources,
        )?
        .plan("train"))
    }

    /// Refuses a folder with other content.
    ///
    /// # Errors
    /// A file, or a folder with files of another run, or into which another process is training.
    pub fn check_folder(&self, resume: bool) -> Result<()> {
        let folder = &self.settings.folder;
        if folder.is_file() {
            return Err(Error::usage(format!("{} is a file", folder.display()), "give --out the name of a folder"));
        }
        if !resume && folder.exists() && folder.read_dir().map_err(Error::io("read", folder))?.next().is_some() {
            // While another process trains there, a later attempt may find the model complete.
            FolderLock::take(folder)?;
            let hint = if folder.join(files::CARD).exists() {
                "choose another name, or add --force, which replaces the model"
            } else if folder.join(files::CHECKPOINTS).exists() {
                "resume it with --resume, remove the folder, or choose another name"
            } else {
                "remove the folder first, or choose another name"
            };
            return Err(Error::usage(format!("{} already exists", folder.display()), hint));
        }
        Ok(())
    }

    /// Trains; with `resume`, continues from the folder's newest checkpoint.
    ///
    /// # Errors
    /// A folder that already holds a model, or a run that failed or was stopped; a stopped one can be resumed.
    pub fn run(self, resume: bool, on_epoch: OnEpoch) -> Result<(TrainingResult, Report)> {
        let folder = self.settings.folder.clone();
        let begun_before = folder.exists();
        self.check_folder(resume)?;
        create_folders(&folder)?;
        let _lock = FolderLock::take(&folder)?;
        let TrainerSettings { plan, card, device, .. } = &self.settings;
        let smaller = SmallerBatches::from_plan(plan, &self.atlas, &card.vocabulary, *device);
        // Failures before the stages run are reported like those of stages.
        let trained = caught(|| self.run_in(&folder, resume, on_epoch));
        let trained = trained.map_err(|error| match &smaller {
            Some(smaller) => smaller.advise(error),
            None => error,
        });
        let nothing_kept = || checkpoint::newest(&folder.join(files::CHECKPOINTS)).is_ok_and(|newest| newest.is_none());
        if trained.is_err() && !begun_before && folder.exists() && nothing_kept() {
            remove_all(&folder)?;
        }
        trained
    }

    fn run_in(self, folder: &Path, resume: bool, on_epoch: OnEpoch) -> Result<(TrainingResult, Report)> {
        self.prepare_folder(folder, resume)?;
        let Self { atlas, split, groups, order, mut settings, resources } = self;
        let (card, device, phases) = (settings.card.clone(), settings.device, resources.phases.clone());
        settings.profiles = profiles(&atlas, &split, &groups, &settings, &resources)?;
        // The thread of the trainer computes as well.
        let besides = if device == Device::Cpu { resources.threads.get() - 1 } else { 0 };
        let threads = WorkerThreads::start(besides).map_err(Error::io("start threads for", folder))?;
        settings.workers = threads.workers();
        let trainer = Trainer::new(&atlas, settings, order.length(), &groups, resume, on_epoch)?;
        // A finished run only writes its model again: there are no plans after its last epoch.
        let from = trainer.position().unwrap_or(Position { epoch: order.epochs, batch: 0 });
        let run = batch_pipeline(&atlas, groups, &card, device, order, from, &resources)?.run("train", trainer);
        let (trained, report) = completed(run, "run the same train command with --resume")?;
        phases.enter(Phase::Saving);
        let text = serde_json::to_vec_pretty(&report).map_err(|error| Error::Bug(error.to_string()))?;
        write_atomically(&folder.join(files::PIPELINE), &text)?;
        model_card::check_files(folder)?;
        Ok((trained, report))
    }
}

/// Profiles for offsets and dispersions, from one pass over the training cells; `None` if neither is enabled.
fn profiles(
    atlas: &Atlas,
    split: &Arc<Split>,
    groups: &Groups,
    settings: &TrainerSettings,
    resources: &Resources,
) -> Result<Option<OffsetProfiles>> {
    let model = &settings.plan.model;
    let is_needed = model.offset != config::OffsetChoice::None || model.dispersion_start == DispersionStart::Moments;
    if !is_needed {
        return Ok(None);
    }
    let counts = model.recon_loss != ReconLoss::Gauss;
    let sink = SumExpression::new(atlas, Arc::clone(split), groups, &settings.card.vocabulary, counts, model.offset);
    let training = Arc::clone(split);
    let plans = rows_as_stored(atlas, move |cell| training.part(cell) == SplitPart::Train);
    let run = rows(atlas, plans, resources).run("expression", sink);
    Ok(Some(completed(run, "run the same train command with --resume")?.0))
}

/// `order → read → batch`: batches with coded labels, packed for their transfer if the device is not the
/// host.
fn batch_pipeline(
    atlas: &Atlas,
    groups: Groups,
    card: &ModelCard,
    device: Device,
    order: TrainingOrder,
    from: Position,
    resources: &Resources,
) -> Result<Pipeline<TrainingBatch>> {
    let encoder = LabelEncoder::new(atlas, groups, &card.vocabulary)?;
    let genes = to_i64(atlas.genes().len());
    // This is also done on a CPU, if GPU steps were requested.
    let is_packed = device != Device::Cpu || card.config.train.engine == EngineChoice::Replayed;
    let packer = is_packed.then(|| BatchPacker::new(genes));
    let pairing = Pairing::new(&card.config, &card.vocabulary);
    let progress = resources.progress.clone();
    progress.add(order.cells_before(from));
    Ok(batches_as(atlas, order.plans(from), encoder, resources, move |batch| {
        if batch.plan.role == Role::Train {
            progress.add(batch.plan.cells.len() as u64);
        }
        let packed = packer.as_ref().map(|packer| packer.pack(&batch)).transpose()?;
        Ok(TrainingBatch { packed, sources: pairing.sources(&batch), batch })
    }))
}

/// Valid cells whose perturbations and covariate values all occur in training cells.
fn known_valid_cells(atlas: &Atlas, split: &Arc<Split>, groups: &Groups, vocabulary: &Vocabulary) -> CellPredicate {
    let known: Vec<bool> = groups.all().iter().map(|group| group.codes(atlas, vocabulary).is_some()).collect();
    if known.iter().all(|known| *known) {
        let split = Arc::clone(split);
        return Arc::new(move |cell| split.part(cell) == SplitPart::Valid);
    }
    let (atlas, split, groups) = (atlas.clone(), Arc::clone(split), groups.clone());
    Arc::new(move |cell| {
        split.part(cell) == SplitPart::Valid && groups.find(atlas.codes(cell)).is_some_and(|group| known[group])
    })
}

/// The shares of cells for validation and of controls as references, if no split is given.
#[must_use]
pub fn split_shares(settings: &Settings) -> SplitShares {
    SplitShares { valid: settings.train.valid, reference: settings.train.reference }
}

/// Trains a model on an atlas with a random validation split: a shortcut for programs. The model's files are
/// temporary.
///
/// # Errors
/// As for [`Training::prepare`] and [`Training::run`].
pub fn train(atlas: &Atlas, settings: &Settings) -> Result<Model> {
    let split = Split::make(atlas, "random", &Scheme::Nothing, split_shares(settings), settings.seed)?;
    let scratch = ScratchFolder::create()?;
    let training = Training::prepare(atlas, split, settings, scratch.path(), Device::Cpu, Resources::default())?;
    let (trained, _) = training.run(false, Box::new(|_| {}))?;
    Ok(Model::load(&trained.folder, Device::Cpu)?.keeping(scratch))
}
