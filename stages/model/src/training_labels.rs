//! Where the labels were read from with which a model was trained.

use std::path::Path;

use schemas::{
    Error, Result,
    atlas::{Keys, Manifest, Origin},
};
use serde::{Deserialize, Serialize};

use crate::saved::ModelCard;

/// The label columns and the data of a model's training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainingLabels {
    /// The label columns.
    pub keys: Keys,
    /// The files.
    pub sources: Vec<Origin>,
}

impl TrainingLabels {
    /// Those of an atlas.
    #[must_use]
    pub fn of(manifest: &Manifest) -> Self {
        Self { keys: manifest.keys.clone(), sources: manifest.sources.clone() }
    }
}

impl ModelCard {
    /// Refuses an atlas of the data that the model was trained on whose labels were read otherwise, such as one that was built
    /// again with other flags: the same names would stand for other cells.
    ///
    /// # Errors
    /// The first difference, with what to do about it.
    pub fn check_labels(&self, atlas: &Path, manifest: &Manifest) -> Result<()> {
        let Some(TrainingLabels { keys, sources }) = &self.labels else { return Ok(()) };
        if !sources.iter().any(|ours| manifest.sources.iter().any(|theirs| is_same(ours, theirs))) {
            return Ok(());
        }
        let column = |name: &Option<String>| name.as_ref().map_or("no column".to_owned(), |name| format!("`{name}`"));
        let rules = manifest.conditions.rules();
        let controls = |names: &[String]| names.join(", ");
        let differences = [
            ("perturbations", column(&manifest.keys.perturbation), column(&keys.perturbation)),
            ("doses", column(&manifest.keys.dose), column(&keys.dose)),
            (
                "combinations, by the delimiter,",
                format!("`{}`", rules.delimiter),
                format!("`{}`", self.rules.delimiter),
            ),
            ("controls", controls(&rules.controls), controls(&self.rules.controls)),
        ];
        match differences.into_iter().find(|(_, here, there)| here != there) {
            None => Ok(()),
            Some((what, here, there)) => Err(Error::data(
                atlas.display().to_string(),
                format!(
                    "its labels were not read as those of the model, from the same data: {what} are {here}, in the model {there}"
                ),
                "ingest the data with the model's flags into an atlas of its own, and use that, or train on this one",
            )),
        }
    }
}

/// Whether two sources are the same file or folder, as far as is known.
fn is_same(one: &Origin, other: &Origin) -> bool {
    match (&one.version, &other.version) {
        (Some(one), Some(other)) => one.checksum == other.checksum,
        _ => (&one.path, one.bytes) == (&other.path, other.bytes),
    }
}
