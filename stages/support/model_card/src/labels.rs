//! Where the labels were read from with which a model was trained.

use std::path::Path;

use schemas::{
    Error, Result,
    atlas::{Keys, Manifest, Origin},
};
use serde::{Deserialize, Serialize};

use crate::ModelCard;

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
    /// Refuses an atlas of the data that the model was trained on that was read otherwise, such as one that was built again with
    /// other flags: the same names would stand for other cells or values. Controls are compared by name, with the vocabulary.
    ///
    /// # Errors
    /// The first difference, with what to do about it.
    pub fn check_labels(&self, atlas: &Path, manifest: &Manifest) -> Result<()> {
        let Some(TrainingLabels { keys, sources }) = &self.labels else { return Ok(()) };
        let mut pairs = sources.iter().flat_map(|ours| manifest.sources.iter().map(move |theirs| (ours, theirs)));
        let Some((ours, theirs)) = pairs.find(|(ours, theirs)| is_same(ours, theirs)) else { return Ok(()) };
        // Any model predicts from cells without labels.
        let is_labelled = manifest.keys.perturbation.is_some();
        let column = |name: &Option<String>| name.as_ref().map_or("no column".to_owned(), |name| format!("`{name}`"));
        let rules = manifest.conditions.rules();
        let matrix = |source: &Origin| format!("`{}`", source.matrix);
        let differences = [
            ("values", matrix(theirs), matrix(ours)),
            ("perturbations", column(&manifest.keys.perturbation), column(&keys.perturbation)),
            ("doses", column(&manifest.keys.dose), column(&keys.dose)),
            (
                "combinations, by the delimiter,",
                format!("`{}`", rules.delimiter),
                format!("`{}`", self.rules.delimiter),
            ),
        ];
        let compared = if is_labelled { &differences[..] } else { &differences[..1] };
        match compared.iter().find(|(_, here, there)| here != there) {
            None => Ok(()),
            Some((what, here, there)) => Err(Error::data(
                atlas.display().to_string(),
                format!(
                    "it was not read as the data of the model, which is the same file: {what} are {here}, in the model {there}"
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
