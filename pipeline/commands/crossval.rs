//! `crossval`.

use std::{cell::RefCell, rc::Rc};

use stages::{
    evaluate::{Evaluation, frame},
    reader::split::Scheme,
    statistics::scale::{Anchor, Scale},
};

use crate::{device::device, train::settings};
use cli::model_args::crossval::CrossvalArgs;
use cli::{
    CommandContext,
    allocator::{self, FreedMemory},
    progress::Steps,
    show::OutputStyle,
};
use perturbine::{
    CrossValidation, Error, Result,
    flows::crossvalidating::{CrossOptions, CrossvalidationEvent, FoldRun},
    schemas::counting::counted,
};

pub(super) fn crossval(args: &CrossvalArgs, context: &CommandContext) -> Result<()> {
    let scheme = Scheme::parse(&args.scheme)?;
    let settings = settings(&args.settings, None)?;
    let seeds = args.seed..args.seed.saturating_add(u64::from(args.seeds.get()));
    let options = CrossOptions {
        seeds,
        split_seed: args.split_seed,
        scale: args.scale.map(Scale::from),
        readout: args.readout.map(Anchor::from),
        device: device(&args.device)?,
        out: args.out.clone(),
    };
    let atlas = context.open_data(&args.atlas, Some(&args.keys))?;
    allocator::give_back(if settings.train.checkpointing { FreedMemory::All } else { FreedMemory::Large });
    let crossing = CrossValidation::prepare(&atlas, &scheme, settings, options, context.resources.clone())?;
    let folds = crossing.folds().names();
    let (fold_count, seed_count) = (counted(folds.len() as u64, "fold"), counted(args.seeds.get().into(), "seed"));
    context.show.note(&format!("{fold_count} × {seed_count}: {}", folds.join(", ")));
    let progress = FoldProgress { show: context.show, steps: RefCell::default() };
    let crossed = crossing.run(&(Rc::new(move |event: CrossvalidationEvent<'_>| progress.show_event(event)) as _))?;
    let not_a_table = |error: polars::error::PolarsError| Error::Bug(error.to_string());
    let folds = frame::crossval::folds(&crossed).map_err(not_a_table)?;
    let means = frame::crossval::means(&crossed).map_err(not_a_table)?;
    context.show.result_with_table(&crossed, &folds, || {
        format!("{}\n{}\n{}", context.show.table(&folds), context.show.table(&means), crossed.summary)
    })
}

/// Shows the current fold and seed, with a progress bar of its epochs on a terminal, and the results of each.
struct FoldProgress {
    show: OutputStyle,
    steps: RefCell<Option<Steps>>,
}

impl FoldProgress {
    fn show_event(&self, event: CrossvalidationEvent<'_>) {
        match event {
            CrossvalidationEvent::Training { run, cells, epochs } => {
                let (cells, most) = (counted(cells, "cell"), counted(epochs.into(), "epoch"));
                self.show.note(&format!("{}: training on {cells} for at most {most}", description(run)));
                *self.steps.borrow_mut() = Some(self.show.steps(u64::from(epochs), "epochs"));
            }
            CrossvalidationEvent::Epoch(report) => {
                if let Some(steps) = &*self.steps.borrow() {
                    steps.reached(u64::from(report.epoch) + 1);
                }
            }
            CrossvalidationEvent::Trained => {
                if let Some(steps) = self.steps.borrow_mut().take() {
                    steps.end();
                }
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
