//! `--commit` and `--plan-only`, shards that are complete, and what is shown about tables that were published.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use stages::sink::{
    Publication, Published, Shard, ShardPlan,
    portable::{commit_portable, complete_shard},
    shards::complete_beside,
};

use cli::{CommandContext, show::wrote};
use perturbine::{Result, schemas::counting::counted};

/// How the units of a plan of tables are counted and divided.
pub(super) const FILES: &str = "files, numbered from 0 (with --partition-by, files of these numbers in each folder); shard i/n writes \
    each file whose number, divided by n, leaves i";
/// The words behind the size of a shard that is not written again.
pub(super) const EARLIER: &str = " earlier: it is complete";

/// Publishes tables that were written in shards.
pub(super) fn commit_tables(
    command: &'static str,
    out: &Path,
    portable: &[PathBuf],
    context: &CommandContext,
) -> Result<()> {
    let published = publish(&Publication::of_tables(out, command), portable, context)?;
    // Each shard has already reported its skipped requests and its speed.
    let summary = json!({ "cells_per_second": null, "peak_memory_bytes": null, "skipped": [] });
    show_published(&published, out, summary, "", context)
}

/// Publishes what was written in shards beside the output or, if there are any, in `portable` ones.
pub(super) fn publish(
    publication: &Publication<'_>,
    portable: &[PathBuf],
    context: &CommandContext,
) -> Result<Published> {
    if portable.is_empty() {
        return stages::sink::commit(publication);
    }
    let steps = std::cell::OnceCell::new();
    let copied = |done: u64, all: u64| steps.get_or_init(|| context.show.steps(all, "bytes")).reached(done);
    let published = commit_portable(publication, portable, &context.resources.stop.interrupt(), &copied)?;
    if let Some(steps) = steps.into_inner() {
        steps.end();
    }
    Ok(published)
}

/// The files of a shard that is complete already.
pub(super) fn complete(place: &Path, plan: &ShardPlan, shard: Shard, portable: bool) -> Result<Option<Published>> {
    match portable {
        true => complete_shard(place, plan, shard),
        false => complete_beside(place, plan, shard),
    }
}

/// Shows a plan that shards can be made of.
pub(super) fn show_plan(plan: &ShardPlan, units: usize, units_are: &str, context: &CommandContext) -> Result<()> {
    let ShardPlan { plan, about, made_from, .. } = plan;
    let result =
        json!({ "plan": plan, "about": about, "made_from": made_from, "units": units, "units_are": units_are });
    context
        .show
        .result(&result, || format!("plan {plan}, {}: {about}; units are {units_are}", counted(units as u64, "unit")))
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
