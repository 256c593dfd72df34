//! For every fold and seed: `train`, then `evaluate` on the cells that the fold held out.

use std::{
    collections::BTreeMap,
    ops::Range,
    path::{Path, PathBuf},
    rc::Rc,
    sync::Arc,
};

use schemas::skipped::Skipped;
use schemas::{
    Error, Result,
    config::{GeneChoice, Settings},
    model_files as files,
};
use stages::{
    encoder::embedding_table,
    evaluate::{
        CrossEvaluation, Evaluation, FoldEvaluation,
        crossval_folder::{CrossFolder, CrossPlan, files as cross_files},
    },
    model::saved::Model,
    reader::{
        atlas::Atlas,
        split::{Folds, Scheme, Split},
    },
    sink::{Published, Shard, ShardPlan, resumable::ResumableShard},
    statistics::scale::{Anchor, Scale},
    storage::disk::{ScratchFolder, checksum_of, checksum_of_text},
    trainer::train::{EpochReport, depends_on_threads},
};
use tch::Device;

use super::{
    evaluation::{EvaluationOptions, evaluate, scale_for},
    training::{Training, split_shares},
};
use crate::flows::{ProgressCounter, Resources};

/// Settings of a cross-validation.
#[derive(Clone, Debug)]
pub struct CrossOptions {
    /// Seeds of order, weights and dropout: each fold is trained once with each seed.
    pub seeds: Range<u64>,
    /// Seed of the division into folds and of the validation cells, the same for all models.
    pub split_seed: u64,
    /// The scale of the scores; by default that of the atlas's values.
    pub scale: Option<Scale>,
    /// The readout of the models' output; anchored by default.
    pub readout: Option<Anchor>,
    /// The device of the networks.
    pub device: Device,
    /// A folder for all models and tables; without it, models are deleted after their evaluation.
    pub out: Option<PathBuf>,
}

/// A fold and a seed.
#[derive(Clone, Copy)]
struct CrossUnit {
    fold: usize,
    seed: u64,
}

/// One fold with one seed.
#[derive(Clone, Copy, Debug)]
pub struct FoldRun<'a> {
    /// The fold's name.
    pub name: &'a str,
    /// The fold, from 0.
    pub fold: usize,
    /// Number of folds.
    pub folds: usize,
    /// The seed.
    pub seed: u64,
}

/// Progress of a cross-validation.
#[derive(Clone, Copy, Debug)]
pub enum CrossvalidationEvent<'a> {
    /// Training of a model starts or continues.
    Training {
        /// Its fold and seed.
        run: FoldRun<'a>,
        /// Number of training cells.
        cells: u64,
        /// Maximum number of epochs.
        epochs: u32,
    },
    /// An epoch has ended.
    Epoch(&'a EpochReport),
    /// Training has finished; evaluation follows.
    Trained,
    /// A condition could not be evaluated.
    Skipped(&'a Skipped),
    /// A model was evaluated.
    Judged {
        /// Its fold and seed.
        run: FoldRun<'a>,
        /// Its results.
        evaluation: &'a Evaluation,
    },
    /// A fold and seed were already complete, and are reused.
    Kept {
        /// The fold and seed.
        run: FoldRun<'a>,
        /// Its results.
        evaluation: &'a Evaluation,
    },
}

/// A callback for every event.
pub type OnEvent = Rc<dyn Fn(CrossvalidationEvent<'_>)>;

/// A callback for the number of cells that the current model was trained on so far, those of every epoch added up; it is called
/// from threads of the run.
pub type OnTrainedCells = Arc<dyn Fn(u64) + Send + Sync>;

/// A cross-validation that is ready to start.
pub struct CrossValidation {
    atlas: Atlas,
    folds: Folds,
    plan: CrossPlan,
    folder: Option<CrossFolder>,
    seeds: Range<u64>,
    evaluation_options: EvaluationOptions,
    scale: Scale,
    device: Device,
    resources: Resources,
    on_cells: Option<OnTrainedCells>,
}

impl std::fmt::Debug for CrossValidation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CrossValidation").field("plan", &self.plan).finish_non_exhaustive()
    }
}

impl CrossValidation {
    /// Divides the atlas into folds, and checks that the folder has no other content; writes nothing yet.
    ///
    /// # Errors
    /// A scheme with fewer than two folds, no seeds, a scale that does not match the atlas, or a folder with
    /// other content.
    pub fn prepare(
        atlas: &Atlas,
        scheme: &Scheme,
        settings: Settings,
        options: CrossOptions,
        resources: Resources,
    ) -> Result<Self> {
        if options.seeds.is_empty() {
            return Err(Error::usage("there are no seeds to train with", "give at least one seed"));
        }
        let evaluation_options =
            EvaluationOptions { scale: options.scale, anchor: options.readout, ..EvaluationOptions::default() };
        let scale = scale_for(atlas, &evaluation_options)?;
        let folds = Folds::new(atlas, scheme, options.split_seed)?;
        if matches!(scheme, Scheme::Perturbations(_)) && settings.model.perturbation_embeddings.is_none() {
            tracing::warn!(
                "a model without model.perturbation_embeddings can't predict perturbations that it was not trained on: \
                 they will be skipped"
            );
        }
        let mut plan = CrossPlan {
            scheme: scheme.to_string(),
            split_seed: options.split_seed,
            folds: folds.names().to_vec(),
            atlas: atlas.manifest().checksum.clone(),
            inputs: inputs_of(&settings)?,
            settings: Settings { seed: 0, ..settings },
        };
        let folder = options.out.as_deref().map(CrossFolder::at).transpose()?;
        if let Some(folder) = &folder {
            // A batch size chosen earlier is reused, whatever memory is free now.
            if let (0, Some(before)) = (plan.settings.train.batch_size, folder.plan()?) {
                plan.settings.train.batch_size = before.settings.train.batch_size;
            }
            folder.check(&plan)?;
        }
        let (seeds, device) = (options.seeds, options.device);
        let atlas = atlas.clone();
        Ok(Self { atlas, folds, plan, folder, seeds, evaluation_options, scale, device, resources, on_cells: None })
    }

    /// Reports progress within epochs.
    #[must_use]
    pub fn telling(mut self, on_cells: OnTrainedCells) -> Self {
        self.on_cells = Some(on_cells);
        self
    }

    /// The folds.
    #[must_use]
    pub fn folds(&self) -> &Folds {
        &self.folds
    }

    /// Trains and evaluates every fold with every seed, one after another; complete ones in the folder are not trained again.
    ///
    /// # Errors
    /// As for [`Training::run`] and [`evaluate`]; a stopped run can be resumed if there is a folder.
    pub fn run(mut self, on_event: &OnEvent) -> Result<CrossEvaluation> {
        let crossed = CrossEvaluation::new(self.run_units(&self.units(), on_event)?);
        if let Some(folder) = &self.folder {
            folder.finish(&crossed)?;
        }
        Ok(crossed)
    }

    /// Trains and evaluates the folds and seeds of a shard, whose folder takes the place of that of the options. Those that an
    /// earlier try completed are not trained again.
    ///
    /// # Errors
    /// Those of [`CrossValidation::run`], or a folder that can't be written.
    pub fn run_shard(mut self, shard: Shard, place: ResumableShard, on_event: &OnEvent) -> Result<Published> {
        let folder = CrossFolder::at(&place.folder())?;
        folder.begin(&self.plan)?;
        self.folder = Some(folder);
        let units = self.units().into_iter().enumerate().filter(|(number, _)| shard.has(*number));
        let units: Vec<CrossUnit> = units.map(|(_, unit)| unit).collect();
        let done = self.run_units(&units, on_event)?;
        let names = done.iter().flat_map(|unit| CrossFolder::names(&unit.name, unit.seed));
        place.finish(&names.chain([PathBuf::from(cross_files::PLAN)]).collect::<Vec<_>>())
    }

    /// Whether a folder has the evaluations of all folds and seeds of a shard, as one that was published has.
    ///
    /// # Errors
    /// A folder with other content, or an evaluation that can't be read.
    pub fn is_published(&self, shard: Shard, out: &Path) -> Result<bool> {
        if !CrossFolder::is_at(out) {
            return Ok(false);
        }
        let folder = CrossFolder::at(out)?;
        folder.check(&self.plan)?;
        for (_, unit) in self.units().into_iter().enumerate().filter(|(number, _)| shard.has(*number)) {
            if self.kept_in(&folder, &self.folds.names()[unit.fold], unit.seed)?.is_none() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Number of folds and seeds: one unit for each.
    #[must_use]
    pub fn unit_count(&self) -> usize {
        self.units().len()
    }

    fn units(&self) -> Vec<CrossUnit> {
        let seeds = |fold: usize| self.seeds.clone().map(move |seed| CrossUnit { fold, seed });
        (0..self.folds.names().len()).flat_map(seeds).collect()
    }

    fn run_units(&mut self, units: &[CrossUnit], on_event: &OnEvent) -> Result<Vec<FoldEvaluation>> {
        let mut evaluations = Vec::new();
        for of_fold in units.chunk_by(|one, other| one.fold == other.fold) {
            let fold = of_fold[0].fold;
            let split = self.folds.split(fold, split_shares(&self.plan.settings))?;
            for unit in of_fold {
                let done = self.fold(fold, &split, unit.seed, on_event);
                evaluations.push(done.map_err(|error| self.with_way_to_resume(error))?);
            }
        }
        Ok(evaluations)
    }

    /// The plan, which is the same for all shards.
    ///
    /// # Errors
    /// A batch size that depends on the memory of a machine.
    pub fn shard_plan(&self) -> Result<ShardPlan> {
        if self.plan.settings.train.batch_size == 0 {
            let message =
                "--batch-size auto depends on a machine's memory, and shards on several would not train alike";
            return Err(Error::usage(message, "give a number, such as that which `explain train` shows"));
        }
        let CrossPlan { scheme, split_seed, folds, atlas, settings, inputs } = &self.plan;
        let settings = serde_json::to_string(settings).map_err(|error| Error::Bug(error.to_string()))?;
        let anchor = self.evaluation_options.anchor.unwrap_or_default();
        let Range { start, end } = self.seeds;
        let mut made_from = BTreeMap::from([
            ("program version".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
            ("atlas".to_owned(), atlas.clone()),
            ("scheme".to_owned(), format!("{scheme} with the split seed {split_seed}")),
            ("range of seeds".to_owned(), format!("{start} to {}", end - 1)),
            ("checksum of the settings".to_owned(), checksum_of_text(&settings)),
            ("form of the scores".to_owned(), format!("{:?} and {anchor:?}", self.scale)),
        ]);
        made_from.extend(inputs.iter().map(|(input, checksum)| (format!("checksum of the {input}"), checksum.clone())));
        if depends_on_threads(&self.plan.settings.clone().check(self.atlas.manifest().values)?) {
            made_from.insert("number of libtorch's threads".to_owned(), tch::get_num_threads().to_string());
        }
        let about = format!("a cross-validation of the atlas {atlas} by {scheme}, seeds {start} to {}", end - 1);
        let plan = checksum_of_text(&format!("{made_from:?} {folds:?} {settings}"));
        Ok(ShardPlan { plan, command: "crossval".to_owned(), about, made_from })
    }

    fn fold(&mut self, fold: usize, split: &Split, seed: u64, on_event: &OnEvent) -> Result<FoldEvaluation> {
        let name = split.name().to_owned();
        let run = FoldRun { name: &name, fold, folds: self.folds.names().len(), seed };
        if let Some(kept) = self.kept(&name, seed)? {
            on_event(CrossvalidationEvent::Kept { run, evaluation: &kept.evaluation });
            return Ok(kept);
        }
        // It is dropped, with the model in it, after the evaluation.
        let scratch = if self.folder.is_none() { Some(ScratchFolder::create()?) } else { None };
        let path = match (&self.folder, &scratch) {
            (Some(folder), _) => folder.model(&name, seed),
            (None, Some(scratch)) => scratch.path().join("model"),
            (None, None) => return Err(Error::Bug("a model has no folder".into())),
        };
        if !path.join(files::CARD).exists() {
            self.train(run, split, path.clone(), on_event)?;
        }
        let model = Model::load(&path, self.device)?;
        let judged = evaluate(&self.atlas, &model, split.clone(), &self.evaluation_options, &self.resources)?;
        for skipped in &judged.skipped {
            on_event(CrossvalidationEvent::Skipped(skipped));
        }
        let evaluation = judged.judgement.evaluation;
        on_event(CrossvalidationEvent::Judged { run, evaluation: &evaluation });
        let evaluation = FoldEvaluation { name, seed, evaluation };
        match &self.folder {
            Some(folder) => folder.keep(evaluation),
            None => Ok(evaluation),
        }
    }

    /// The stored evaluation of a fold and seed, if it has the requested scale and readout.
    fn kept(&self, name: &str, seed: u64) -> Result<Option<FoldEvaluation>> {
        self.folder.as_ref().map_or(Ok(None), |folder| self.kept_in(folder, name, seed))
    }

    fn kept_in(&self, folder: &CrossFolder, name: &str, seed: u64) -> Result<Option<FoldEvaluation>> {
        let readout = self.evaluation_options.anchor.unwrap_or_default();
        let as_asked =
            |kept: &FoldEvaluation| kept.evaluation.scale == self.scale && kept.evaluation.readout == readout;
        // A fold whose model was removed is trained again.
        let has_model = folder.model(name, seed).exists();
        Ok(folder.evaluation(name, seed)?.filter(|kept| has_model && as_asked(kept)))
    }

    fn train(&mut self, run: FoldRun<'_>, split: &Split, path: PathBuf, on_event: &OnEvent) -> Result<()> {
        let settings = Settings { seed: run.seed, ..self.plan.settings.clone() };
        let resources = self.resources.clone();
        let training = Training::prepare(&self.atlas, split.clone(), &settings, &path, self.device, resources)?;
        // All folds use the same batch size: models with different batches could not be compared.
        self.plan.settings.train.batch_size = training.card().config.train.batch_size;
        if let Some(folder) = &self.folder {
            folder.begin(&self.plan)?;
        }
        on_event(CrossvalidationEvent::Training { run, cells: training.cells(), epochs: training.epochs() });
        let training = match &self.on_cells {
            Some(on_cells) => {
                let on_cells = Arc::clone(on_cells);
                training.telling(ProgressCounter::to(move |done| on_cells(done)))
            }
            None => training,
        };
        let on_epoch = Rc::clone(on_event);
        let trained =
            training.run(path.exists(), Box::new(move |report| on_epoch(CrossvalidationEvent::Epoch(report))));
        on_event(CrossvalidationEvent::Trained);
        trained.map(|_| ())
    }

    fn with_way_to_resume(&self, error: Error) -> Error {
        let resume = match self.folder {
            Some(_) => "run the same command again: complete folds are not trained again",
            None => "nothing was kept; with --out the same command resumes where it stopped",
        };
        match error {
            Error::Stopped { .. } => Error::Stopped { resume: resume.to_owned() },
            other => other,
        }
    }
}

/// Checksums of the files that settings name. Those that are missing are left out.
fn inputs_of(settings: &Settings) -> Result<BTreeMap<String, String>> {
    let listed = |path: &Path| match &settings.data.genes {
        GeneChoice::Listed(chosen) if chosen == path => "list of genes".to_owned(),
        _ => format!("list {}", path.display()),
    };
    let lists = settings.data.lists().map(|path| (listed(path), path.to_path_buf()));
    let table = settings.model.perturbation_embeddings.iter().flat_map(|table| embedding_table::files_of(table));
    let all = lists.chain(table.map(|path| (format!("table {}", path.display()), path)));
    let with_checksum = |(name, path): (String, PathBuf)| {
        let checksum = checksum_of(&path)?.checksum;
        Ok((name, checksum.ok_or_else(|| Error::Bug("a file has no checksum".into()))?))
    };
    all.filter(|(_, path)| path.exists()).map(with_checksum).collect()
}
