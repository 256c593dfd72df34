//! `predict --commit`, and what is shown about predictions that were published.

use std::path::Path;

use serde_json::{Value, json};
use stages::sink::Published;

use cli::{CommandContext, show::wrote};
use perturbine::Result;

/// Publishes predictions that were written in shards.
pub(super) fn commit(path: &Path, context: &CommandContext) -> Result<()> {
    let published = stages::sink::commit(path)?;
    // Each shard has already reported its skipped requests and its speed.
    let summary = json!({ "cells_per_second": null, "peak_memory_bytes": null, "skipped": [] });
    show_published(&published, path, summary, "", context)
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
