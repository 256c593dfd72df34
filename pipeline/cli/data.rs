//! Commands about data: simulate, ingest, verify.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use evaluate::{card::Card, crossval_folder::CrossFolder};
use formats::{
    file_names::{check_different, file_names},
    format::{open, read_every_value},
    join::{FileColumn, GeneJoin, JoinOptions, Joined, gene_id_place},
    source::Source,
};
use ingest::{
    census::{OnBadValues, ValuesAs},
    keys::RequestedKeys,
};
use reader::atlas::Damage;
use schemas::{
    atlas::{Codec, Manifest, Selection, files},
    counting::counted,
    error::ExitCode,
    quoting::listed,
};
use serde_json::json;
use simulate::{Interactions, SimulateSettings, Simulator};
use sink::layout::is_named;

use super::{
    CommandContext,
    args::{
        ChoiceArgs, IngestArgs, InteractionsArg, JoinArg, KeyArgs, OnBadValuesArg, SimulateArgs, StorageArg, ValuesArg,
        VerifyArgs,
    },
    models::{ModelCommands, is_model},
    output::{OutputKind, OutputPlace},
    show::{bytes, non_zero},
    try_lock,
};
use flows::ingesting::{self, IngestOptions, OnCells};
use schemas::{Error, Result};

pub(super) fn simulate(args: SimulateArgs, context: &CommandContext) -> Result<()> {
    OutputKind::Simulated.check("--out", &args.out)?;
    let settings = SimulateSettings {
        cells: args.cells,
        genes: args.genes,
        conditions: args.conditions,
        combos: args.combos.unwrap_or(args.conditions * 3 / 10),
        interactions: match args.interactions {
            InteractionsArg::Own => Interactions::Own,
            InteractionsArg::Pathways => Interactions::Pathways,
        },
        interaction: args.interaction,
        cell_types: args.cell_types,
        doses: args.doses,
        density: args.density,
        batches: args.batches,
        sorted: args.sorted,
        seed: args.seed,
    };
    let simulator = Simulator::new(settings)?;
    let truth = flows::simulate(&simulator, &args.out, args.gzip, &context.resources)?;
    let result = json!({ "cells": args.cells, "genes": args.genes, "file": args.out.display().to_string(), "truth": truth.display().to_string() });
    context.show.result(&result, || {
        format!(
            "{} × {} in {}, ground truth in {}",
            counted(args.cells, "cell"),
            counted(args.genes.into(), "gene"),
            args.out.display(),
            truth.display()
        )
    })
}

/// Refuses an atlas or a model as input: `ingest` takes data files.
fn refuse_own(input: &Path) -> Result<()> {
    let (what, hint) = if input.join(files::MANIFEST).exists() {
        ("an atlas already", "use it as it is, or name the data file that it was made of")
    } else if is_model(input) {
        ("a model, not a file of cells", "name the data file")
    } else {
        return Ok(());
    };
    Err(Error::usage(format!("{} is {what}", input.display()), hint))
}

pub(super) fn ingest(args: IngestArgs, context: &CommandContext) -> Result<()> {
    // A split that is written in the meantime would belong to the atlas that is replaced.
    let lock = || try_lock(&args.out)?.ok_or_else(|| Error::Busy { path: args.out.clone() });
    let _lock = args.force.force.then(lock).transpose()?;
    let place = OutputPlace::new("--out", &args.out, OutputKind::Atlas, args.force)?.afresh()?;
    place.check_free()?;
    check_different(&args.inputs)?;
    args.inputs.iter().try_for_each(|input| refuse_own(input))?;
    let mut sources: Vec<Arc<dyn Source>> = args
        .inputs
        .iter()
        .map(|input| open(input, &args.keys.choice.choice(&context.resources.stop)))
        .collect::<Result<_>>()?;
    if let Some(name) = &args.gene_id {
        sources.iter().try_for_each(|source| gene_id_place(&**source, name).map(drop))?;
    }
    let source = match (sources.pop(), &args.file_key) {
        (Some(only), None) if sources.is_empty() => only,
        (last, _) => {
            sources.extend(last);
            let genes = match args.join {
                JoinArg::Inner => GeneJoin::Inner,
                JoinArg::Outer => GeneJoin::Outer,
            };
            let file_column = match args.file_key {
                None => None,
                Some(name) => {
                    let files = file_names(&args.inputs)?;
                    context.show.note(&format!("`{name}` is {}", files.join(", ")));
                    Some(FileColumn { name, files })
                }
            };
            let options = JoinOptions { genes, gene_id: args.gene_id, file_column };
            Arc::new(Joined::new(sources, &options)?)
        }
    };
    let choice = args.keys.choice.choice(&context.resources.stop);
    let codec = if args.in_place { Codec::InPlace } else { args.keys.codec() };
    let keys = args.keys.options();
    let keys =
        IngestOptions { keys: RequestedKeys { no_perturbation: args.no_perturbation, ..keys.keys.clone() }, ..keys };
    let options = IngestOptions { codec, split: args.split, files: args.inputs, choice, ..keys };
    let manifest = ingest_source(source, place.path(), options, context)?;
    place.take_place()?;
    let result = super::inspect::atlas::atlas_value(&context.open(&args.out)?)?;
    context.show.result(&result, || {
        let size: u64 = manifest.files.values().map(|file| file.bytes).sum();
        format!(
            "{} × {}, {} in {} ({})",
            counted(manifest.cells, "cell"),
            counted(manifest.genes.into(), "gene"),
            non_zero(manifest.nonzeros, &manifest.values.to_string()),
            args.out.display(),
            bytes(size)
        )
    })
}

/// Ingests a source and reports the guesses.
pub(super) fn ingest_source(
    source: Arc<dyn Source>,
    out: &Path,
    options: IngestOptions,
    context: &CommandContext,
) -> Result<Manifest> {
    let steps = context.show.steps(source.cells(), "cells");
    let drawn = steps.clone();
    let on_cells = Some(OnCells(Arc::new(move |cells| drawn.reached(cells))));
    let ingested = ingesting::ingest(source, out, &IngestOptions { on_cells, ..options }, &context.resources)?;
    steps.end();
    if !ingested.guessed.is_empty() {
        context.show.note(&format!("guessed: {}", ingested.guessed.join(" ")));
    }
    for decided in &ingested.decided {
        context.show.note(decided);
    }
    context.show.note(&format!("the values are {}", ingested.manifest.values));
    if let Some((file, flag)) = ingested.manifest.sources.iter().find_map(|file| Some((file, file.counts.as_ref()?))) {
        context.show.note(&format!("{} also holds counts: {flag} reads them instead", file.path));
    }
    Ok(ingested.manifest)
}

impl KeyArgs {
    pub(super) fn options(&self) -> IngestOptions {
        IngestOptions {
            keys: RequestedKeys {
                perturbation: self.perturbation.clone(),
                no_perturbation: false,
                controls: self.control.clone(),
                dose: self.dose.clone(),
                covariates: self.covariates.as_deref().map(listed),
                batch: self.batch.clone(),
                delimiter: self.delimiter.clone(),
                rules_of_model: None,
            },
            selection: self.selection(),
            codec: self.codec(),
            values: match self.values {
                ValuesArg::Auto => ValuesAs::Auto,
                ValuesArg::Counts => ValuesAs::Counts,
                ValuesArg::Log1p => ValuesAs::Continuous,
            },
            on_bad_values: match self.on_bad_values {
                OnBadValuesArg::Error => OnBadValues::Error,
                OnBadValuesArg::Drop => OnBadValues::Drop,
                OnBadValuesArg::Clip => OnBadValues::Clip,
            },
            shuffle: (!self.no_shuffle).then_some(self.shuffle_seed),
            ..IngestOptions::default()
        }
    }

    /// How the matrix is stored, if it is.
    pub(super) fn codec(&self) -> Codec {
        match self.storage {
            _ if self.compress => Codec::Zstd,
            None | Some(StorageArg::Packed) => Codec::Packed,
            Some(StorageArg::Raw) => Codec::Raw,
            Some(StorageArg::Zstd) => Codec::Zstd,
        }
    }

    /// The selection of cells.
    pub(super) fn selection(&self) -> Selection {
        Selection { filters: self.filter.clone(), drop_labels: self.drop_label.clone(), min_cells: self.min_cells }
    }
}

pub(super) fn verify(args: &VerifyArgs, context: &CommandContext) -> Result<()> {
    if let Some(missing) = args.paths.iter().find(|path| !path.exists()) {
        return Err(Error::Missing { path: missing.clone(), kind: "atlas, model, cross-validation or prediction set" });
    }
    let holds_models = |path: &PathBuf| is_model(path) || CrossFolder::is_at(path);
    let models = args.paths.iter().any(holds_models).then(|| context.models()).transpose()?;
    let mut damages: Vec<serde_json::Value> = Vec::new();
    let (mut lines, mut damaged) = (Vec::new(), Vec::new());
    for path in &args.paths {
        let place = path.display().to_string();
        let found = match verify_one(path, models, context) {
            Ok(found) => found,
            // One path that can't be checked does not prevent checking the others. An atlas whose matrix in place is gone may be
            // whole.
            Err(error)
                if error.exit_code() != ExitCode::Bug && (args.paths.len() > 1 || !is_matrix_gone(&error, path)) =>
            {
                vec![Damage { file: place.clone(), block: None, what: error.to_string() }]
            }
            Err(error) => return Err(error),
        };
        lines.push(format!(
            "{place}: {}",
            if found.is_empty() { "whole".to_owned() } else { format!("{} damaged", found.len()) }
        ));
        if !found.is_empty() {
            damaged.push(place.clone());
        }
        for Damage { file, block, what } in found {
            let of_block = block.map(|block| format!(", block {block}")).unwrap_or_default();
            lines.push(format!("  {file}{of_block}: {what}"));
            damages.push(json!({ "path": place, "file": file, "block": block, "what": what }));
        }
    }
    context.show.result(&json!({ "damaged": damages }), || lines.join("\n"))?;
    if damages.is_empty() {
        return Ok(());
    }
    Err(Error::damaged(damaged.join(", "), format!("{}, listed above", counted(damages.len() as u64, "part"))))
}

fn is_matrix_gone(error: &Error, path: &Path) -> bool {
    error.exit_code() == ExitCode::MissingInput && path.join(files::MANIFEST).is_file()
}

fn verify_one(path: &Path, models: Option<&dyn ModelCommands>, context: &CommandContext) -> Result<Vec<Damage>> {
    let whole = |file: String, what: String| Damage { file, block: None, what };
    if path.join(sink::MANIFEST).exists() {
        return Ok(sink::verify(path)?.into_iter().map(|(file, what)| whole(file, what)).collect());
    }
    if let Some(models) = models.filter(|_| is_model(path)) {
        return models.verify(path);
    }
    if let Some(models) = models.filter(|_| CrossFolder::is_at(path)) {
        return verify_crossval(path, models);
    }
    if is_named(path, "parquet") {
        let what = sink::verify_file(path)?;
        return Ok(what.map(|what| whole(path.display().to_string(), what)).into_iter().collect());
    }
    if path.is_file() && is_named(path, "h5ad") {
        read_every_value(path, &ChoiceArgs::default().choice(&context.resources.stop))?;
        return Ok(Vec::new());
    }
    if path.is_file() && is_named(path, "json") {
        let changes = Card::read(path)?.changes(path)?;
        return Ok(changes.into_iter().map(|(file, what)| whole(file.display().to_string(), what)).collect());
    }
    match context.open(path) {
        Ok(atlas) => atlas.verify(),
        Err(Error::Damaged { path: file, what }) => Ok(vec![whole(file.display().to_string(), what)]),
        Err(error) => Err(error),
    }
}

/// Verifies the models of a cross-validation, the evaluation of each, and the tables of all.
fn verify_crossval(path: &Path, models: &dyn ModelCommands) -> Result<Vec<Damage>> {
    let folder = CrossFolder::at(path)?;
    let within = |file: &Path| file.strip_prefix(path).unwrap_or(file).display().to_string();
    let whole = |(file, what): (PathBuf, String)| Damage { file: within(&file), block: None, what };
    let mut found: Vec<Damage> = folder.damages()?.into_iter().map(whole).collect();
    for model in folder.models()? {
        if is_model(&model) {
            let damages = models.verify(&model)?.into_iter();
            found.extend(damages.map(|damage| Damage { file: within(&model.join(&damage.file)), ..damage }));
        } else if CrossFolder::evaluation_of(&model).exists() {
            found.push(whole((model, "it is missing".to_owned())));
        }
    }
    Ok(found)
}
