//! `crossval`.

use std::{
    path::{Path, PathBuf},
    rc::Rc,
    sync::{Arc, Mutex},
};

use serde_json::json;
use stages::{
    evaluate::{CrossEvaluation, Evaluation, crossval_folder::CrossFolder, frame},
    reader::split::Scheme,
    sink::{Publication, Published, Shard, resumable::ResumableShard, shards::refuse_shards},
    statistics::scale::{Anchor, Scale},
};

use crate::{
    commit::{EARLIER, complete, publish, show_plan},
    device::device,
    train::{epoch_line, settings, within_epoch},
};
use cli::model_args::crossval::CrossvalArgs;
use cli::{
    CommandContext,
    allocator::{self, FreedMemory},
    progress::Steps,
    show::{OutputStyle, bytes},
};
use perturbine::{
    CrossValidation, Error, Result,
    flows::crossvalidating::{CrossOptions, CrossvalidationEvent, FoldRun, OnEvent},
    schemas::counting::counted,
};

/// How the units of a plan are counted and divided.
const UNITS: &str = "folds with each seed, numbered from 0, the seeds of the first fold first; shard i/n trains and evaluates each \
    whose number, divided by n, leaves i";

pub(super) fn crossval(args: &CrossvalArgs, context: &CommandContext) -> Result<()> {
    let shard = args.shards.shard()?;
    let scheme = Scheme::parse(&args.scheme)?;
    let settings = settings(&args.settings, None)?;
    let seeds = args.seed..args.seed.saturating_add(u64::from(args.seeds.get()));
    let options = CrossOptions {
        seeds,
        split_seed: args.split_seed,
        scale: args.scale.map(Scale::from),
        readout: args.readout.map(Anchor::from),
        device: device(&args.device)?,
        // Shards are written beside the folder until all are complete.
        out: args.out.clone().filter(|_| shard.is_none()),
    };
    if let (Some(out), None) = (&args.out, shard) {
        refuse_shards(out)?;
    }
    let atlas = context.open_data(&args.atlas, Some(&args.keys))?;
    allocator::give_back(if settings.train.checkpointing { FreedMemory::All } else { FreedMemory::Large });
    let crossing = CrossValidation::prepare(&atlas, &scheme, settings, options, context.resources.clone())?;
    let folds = crossing.folds().names();
    let (fold_count, seed_count) = (counted(folds.len() as u64, "fold"), counted(args.seeds.get().into(), "seed"));
    let units = crossing.unit_count();
    if args.shards.plan_only {
        return show_plan(&crossing.shard_plan()?, units, UNITS, context);
    }
    if args.shards.dry_run {
        let result = json!({ "folds": folds, "seeds": args.seeds, "units": units });
        return context.show.result(&result, || {
            format!("{units} models would be trained: {fold_count} × {seed_count}: {}", folds.join(", "))
        });
    }
    context.show.note(&format!("{fold_count} × {seed_count}: {}", folds.join(", ")));
    let progress = FoldProgress { show: context.show, drawn: Arc::default() };
    let drawn = Arc::clone(&progress.drawn);
    let crossing = crossing.telling(Arc::new(move |done| {
        let drawn = drawn.lock().ok().and_then(|drawn| drawn.clone());
        if let Some(ModelProgress { steps, cells, epochs }) = drawn {
            steps.reached_with(done, |rate| within_epoch(done, cells, epochs, &rate));
        }
    }));
    let on_event: OnEvent = Rc::new(move |event: CrossvalidationEvent<'_>| progress.show_event(event));
    if let Some(shard) = shard {
        return run_shard(crossing, shard, &on_event, args, context);
    }
    show(&crossing.run(&on_event)?, context)
}

/// Trains and evaluates the units of a shard, unless it is complete.
fn run_shard(
    crossing: CrossValidation,
    shard: Shard,
    on_event: &OnEvent,
    args: &CrossvalArgs,
    context: &CommandContext,
) -> Result<()> {
    let (out, portable) = (args.shards.place(args.out.as_deref())?, args.shards.is_portable());
    let plan = crossing.shard_plan()?;
    let all = crossing.unit_count();
    let units = (0..all).filter(|unit| shard.has(*unit)).count();
    if units == 0 {
        context.show.note(&format!("shard {shard} is empty: there are {}", counted(all as u64, "unit")));
    }
    let (files, size, earlier) = if !portable && crossing.is_published(shard, out)? {
        (0, 0, EARLIER)
    } else if let Some(published) = complete(out, &plan, shard, portable)? {
        (published.files.len(), published.bytes(), EARLIER)
    } else {
        let place = ResumableShard::create(out, &plan, shard, portable)?;
        let published = crossing.run_shard(shard, place, on_event)?;
        (published.files.len(), published.bytes(), "")
    };
    let result = json!({ "units": units, "files": files, "bytes": size });
    context.show.result(&result, || {
        format!("wrote {} to {} ({}){earlier}", counted(units as u64, "model"), out.display(), bytes(size))
    })
}

/// Publishes a cross-validation whose models were trained in shards.
pub(super) fn commit(out: &Path, portable: &[PathBuf], context: &CommandContext) -> Result<()> {
    let finish = |folder: &Path, _: &Published| CrossFolder::at(folder)?.finish_all().map(drop);
    let publication = Publication { target: out, command: "crossval", complete: &finish };
    publish(&publication, portable, context)?;
    let crossed = CrossFolder::at(out)?.result()?;
    show(&crossed.ok_or_else(|| Error::Bug("a complete cross-validation has no results".into()))?, context)
}

fn show(crossed: &CrossEvaluation, context: &CommandContext) -> Result<()> {
    let not_a_table = |error: polars::error::PolarsError| Error::Bug(error.to_string());
    let folds = frame::crossval::folds(crossed).map_err(not_a_table)?;
    let means = frame::crossval::means(crossed).map_err(not_a_table)?;
    context.show.result_with_table(crossed, &folds, || {
        format!("{}\n{}\n{}", context.show.table(&folds), context.show.table(&means), crossed.summary)
    })
}

/// Shows the current fold and seed, with the progress of its model within and between epochs, and the results of each.
struct FoldProgress {
    show: OutputStyle,
    /// The progress of the model that is trained.
    drawn: Arc<Mutex<Option<ModelProgress>>>,
}

/// The progress of one model.
#[derive(Clone)]
struct ModelProgress {
    steps: Steps,
    /// Number of training cells.
    cells: u64,
    /// Maximum number of epochs.
    epochs: u32,
}

impl FoldProgress {
    fn show_event(&self, event: CrossvalidationEvent<'_>) {
        match event {
            CrossvalidationEvent::Training { run, cells, epochs } => {
                let (on, most) = (counted(cells, "cell"), counted(epochs.into(), "epoch"));
                self.show.note(&format!("{}: training on {on} for at most {most}", description(run)));
                self.draw(Some(ModelProgress {
                    steps: self.show.steps(u64::from(epochs) * cells, "cells"),
                    cells,
                    epochs,
                }));
            }
            CrossvalidationEvent::Epoch(report) => {
                if let Some(ModelProgress { steps, cells, epochs }) = self.drawn() {
                    steps.reached_with((u64::from(report.epoch) + 1) * cells, |_| epoch_line(report, epochs));
                }
            }
            CrossvalidationEvent::Trained => {
                if let Some(model) = self.drawn() {
                    model.steps.end();
                }
                self.draw(None);
            }
            CrossvalidationEvent::Skipped(skipped) => self.show.note(&skipped.to_string()),
            CrossvalidationEvent::Judged { run, evaluation } => {
                self.show.note(&format!("{}: {}", description(run), result(evaluation)))
            }
            CrossvalidationEvent::Kept { run, evaluation } => {
                self.show.note(&format!("{}: {}; already done", description(run), result(evaluation)));
            }
        }
    }
}

impl FoldProgress {
    fn drawn(&self) -> Option<ModelProgress> {
        self.drawn.lock().ok().and_then(|drawn| drawn.clone())
    }

    fn draw(&self, model: Option<ModelProgress>) {
        if let Ok(mut drawn) = self.drawn.lock() {
            *drawn = model;
        }
    }
}

fn description(run: FoldRun<'_>) -> String {
    format!("fold {} ({} of {}), seed {}", run.name, run.fold + 1, run.folds, run.seed)
}

fn result(evaluation: &Evaluation) -> String {
    let number = |value: Option<f64>| value.map_or("undefined".to_owned(), |value| format!("{value:.3}"));
    let (model, additive) = (&evaluation.mean, &evaluation.baselines.additive);
    format!(
        "pearson_delta {} (additive {}), r2_mean {} (additive {})",
        number(model.pearson_delta),
        number(additive.pearson_delta),
        number(model.r2_mean),
        number(additive.r2_mean)
    )
}
