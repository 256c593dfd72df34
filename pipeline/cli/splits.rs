//! `split`: writes a split into an atlas, or removes one.

use reader::{
    groups::Groups,
    selector::{Selector, with_key_of},
    split::{Scheme, Split, SplitPart, SplitShares},
};
use schemas::counting::{counted, grouped};
use serde_json::json;

use super::{CommandContext, args::SplitArgs};
use reader::atlas::Atlas;
use schemas::{Error, Result};

pub(crate) fn split(args: SplitArgs, context: &CommandContext) -> Result<()> {
    if args.atlas.is_file() {
        let message = format!("{} is a file, but a split is part of an atlas", args.atlas.display());
        let beside = args.atlas.with_extension("atlas");
        let hint = match beside.exists() {
            true => format!("name the atlas: {}", beside.display()),
            false => format!("make one first: perturbine ingest {} --out {}", args.atlas.display(), beside.display()),
        };
        return Err(Error::usage(message, hint));
    }
    // A command that rebuilds the atlas next to a data file holds the same lock.
    let _lock = context.lock(&args.atlas)?;
    let atlas = context.open(&args.atlas)?;
    let Some(name) = &args.name else {
        return remove_split(&atlas, args.remove.as_deref().unwrap_or_default(), context);
    };
    Split::check_new_name(&atlas, name, args.force)?;
    let shares = SplitShares { valid: args.valid, reference: args.reference };
    let split = match (&args.from_obs, &args.scheme) {
        (Some(column), _) => {
            let (split, said_test) = Split::from_obs(&atlas, atlas.path(), name, &atlas.name_in_atlas(column)?)?;
            if said_test {
                context.show.note("cells labelled `test` become valid, as in the original");
            }
            split
        }
        (None, Some(scheme)) => Split::make(&atlas, name, &Scheme::parse(scheme)?, shares, args.seed)?,
        (None, None) => held_out(&atlas, name, &args.hold_out, shares, args.seed)?,
    };
    note_untrained(&atlas, &split, context);
    let path = split.write(&atlas)?;
    let result = json!({ "name": name, "file": path.display().to_string(), "cells": counts(&split) });
    context.show.result(&result, || {
        let counts = counts(&split);
        let count = |part: &str| counts[part].as_u64().unwrap_or(0);
        format!(
            "{name}: {} train, {} valid, {} ood, {}",
            grouped(count("train")),
            grouped(count("valid")),
            grouped(count("ood")),
            counted(count("reference"), "reference control")
        )
    })
}

fn remove_split(atlas: &Atlas, name: &str, context: &CommandContext) -> Result<()> {
    let path = Split::remove(atlas, name)?.display().to_string();
    context.show.result(&json!({ "removed": path }), || format!("{path}: removed"))
}

/// A split that holds out the cells of the selectors, or nothing.
pub fn held_out(atlas: &Atlas, name: &str, selectors: &[String], shares: SplitShares, seed: u64) -> Result<Split> {
    let scheme = match selectors {
        [] => Scheme::Nothing,
        selectors => {
            let parsed =
                selectors.iter().map(|text| Selector::parse(text).map_err(|error| with_key_of(text, atlas, error)));
            Scheme::HoldOut(parsed.collect::<Result<_>>()?)
        }
    };
    Split::make(atlas, name, &scheme, shares, seed)
}

/// Says which perturbations a model can't learn, because all of their cells are held out.
pub fn note_untrained(atlas: &Atlas, split: &Split, context: &CommandContext) {
    const SHOWN: usize = 5;
    let all = Groups::from_atlas(atlas, Some(split)).untrained_perturbations(atlas);
    let more = if all.len() > SHOWN { format!(" and {} more", all.len() - SHOWN) } else { String::new() };
    if !all.is_empty() {
        context.show.note(&format!(
            "all cells of {}{more} are held out: a model can't learn their effect, and predicts them only from a table of \
             embeddings (model.perturbation_embeddings)",
            all[..all.len().min(SHOWN)].join(", ")
        ));
    }
}

pub(crate) fn counts(split: &Split) -> serde_json::Value {
    let count = |part| split.counts()[&part];
    json!({
        "train": count(SplitPart::Train),
        "valid": count(SplitPart::Valid),
        "ood": count(SplitPart::Ood),
        "reference": count(SplitPart::Reference),
    })
}
