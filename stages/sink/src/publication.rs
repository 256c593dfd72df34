//! The publication of shards: the command that wrote them, and the last step that completes its output.

use std::path::Path;

use schemas::{Error, Result};
use storage::disk::write_atomically;

use super::{MANIFEST, Published, shard_plan::ShardRecord};

/// How complete shards become an output.
#[derive(Clone, Copy)]
pub struct Publication<'a> {
    /// The folder to publish.
    pub target: &'a Path,
    /// The command that wrote the shards.
    pub command: &'static str,
    /// The last step of a single run, such as its manifest, for a folder with all files that is not visible yet.
    pub complete: &'a dyn Fn(&Path, &Published) -> Result<()>,
}

impl<'a> Publication<'a> {
    /// Tables, which a manifest completes.
    #[must_use]
    pub fn of_tables(target: &'a Path, command: &'static str) -> Self {
        Self { target, command, complete: &write_manifest }
    }

    /// Refuses shards of another command.
    pub(super) fn refuse_other_command(&self, records: &[ShardRecord]) -> Result<()> {
        let other = records.iter().map(|record| &record.plan.command).find(|command| **command != self.command);
        let Some(other) = other else { return Ok(()) };
        let message = format!("its shards are of `{other}`, not of `{}`", self.command);
        let hint = format!("run perturbine {other} --commit {}", self.target.display());
        Err(Error::data(self.target.display().to_string(), message, hint))
    }
}

impl std::fmt::Debug for Publication<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Publication")
            .field("target", &self.target)
            .field("command", &self.command)
            .finish_non_exhaustive()
    }
}

/// Writes the list of a folder's files.
pub(super) fn write_manifest(folder: &Path, published: &Published) -> Result<()> {
    write_atomically(&folder.join(MANIFEST), &published.to_json()?)
}
