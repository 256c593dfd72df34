//! `predict --commit` and `--plan-only`, and what is shown about predictions that were published.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use stages::sink::{Published, ShardPlan, portable::commit_portable};

use cli::{CommandContext, show::wrote};
use perturbine::{Result, schemas::counting::counted};

/// How the units of a plan are counted and divided.
const UNITS: &str = "files, numbered from 0 (with --partition-by, files of these numbers in each folder); shard i/n writes \
    each file whose number, divided by n, leaves i";

/// Publishes predictions that were written in shards.
pub(super) fn commit(out: &Path, portable: &[PathBuf], context: &CommandContext) -> Result<()> {
    let published = match portable {
        [] => stages::sink::commit(out)?,
        portable => commit_portable(out, portable, &context.resources.stop.interrupt())?,
    };
    // Each shard has already reported its skipped requests and its speed.
    let summary = json!({ "cells_per_second": null, "peak_memory_bytes": null, "skipped": [] });
    show_published(&published, out, summary, "", context)
}

/// Shows a plan that shards can be made of.
pub(super) fn show_plan(plan: &ShardPlan, units: usize, context: &CommandContext) -> Result<()> {
    let ShardPlan { plan, about, made_from } = plan;
    let result = json!({ "plan": plan, "about": about, "made_from": made_from, "units": units, "units_are": UNITS });
    context
        .show
        .result(&result, || format!("plan {plan}, {}: {about}; units are {UNITS}", counted(units as u64, "unit")))
}

/// Adds what was published to a command's result, and shows it; `rate` follows the size.
pub(super) fn show_published(
    published: &Published,
    out: &Path,
    mut result: Value,
    rate: &str,
    context: &CommandContext,
) -> Result<()> {
    result["rows"] = published.rows.into();
    result["files"] = published.files.len().into();
    result["bytes"] = published.bytes().into();
    context.show.result(&result, || format!("{}{rate}", wrote(published.rows, out, published.bytes())))
}
