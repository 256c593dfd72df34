//! Flags of `train FILE` against an atlas that is there already.

use std::collections::BTreeSet;

use formats::source::Source;
use ingest::keys::fits;
use schemas::{
    atlas::{Codec, Manifest, Origin, Selection, ValueKind},
    quoting::listed,
};

use crate::args::{ChoiceArgs, KeyArgs, OnBadValuesArg, ValuesArg};

impl KeyArgs {
    /// How atlases of data files are stored if an atlas was expected: in place if possible.
    pub(super) fn codec_beside(&self, source: &dyn Source) -> Codec {
        let takes_all = self.selection() == Selection::default() && matches!(self.on_bad_values, OnBadValuesArg::Error);
        let is_plain = || {
            source.in_place().is_some_and(|found| found.matrix.form.is_plain() && found.matrix.path.to_str().is_some())
        };
        let is_free = self.storage.is_none() && !self.compress;
        if is_free && takes_all && is_plain() { Codec::InPlace } else { self.codec() }
    }

    /// The first flag that is given and contradicts how an atlas was built; one that is not given stands for nothing.
    pub(super) fn given_otherwise(&self, manifest: &Manifest) -> Option<&'static str> {
        let mut read = manifest.clone();
        if self.selection() == Selection::default() {
            read.selection = Selection::default();
        }
        let ChoiceArgs { layer, raw, genome, .. } = &self.choice;
        if layer.is_none() && !raw && genome.is_none() {
            read.sources.clear();
        }
        self.disagrees_with(&read)
    }

    /// The first flag that contradicts how an atlas was built.
    pub(super) fn disagrees_with(&self, manifest: &Manifest) -> Option<&'static str> {
        let keys = &manifest.keys;
        let differs = |requested: &Option<String>, recorded: &Option<String>| match requested.as_deref() {
            None => false,
            Some("") => recorded.is_some(),
            requested => requested != recorded.as_deref(),
        };
        let ChoiceArgs { layer, raw, genome, .. } = &self.choice;
        let layer = layer.as_ref().map(|layer| format!("layers/{layer}"));
        let matrix = layer.or(raw.then(|| "raw/X".into())).or(genome.clone());
        let other_matrix = |source: &Origin| match &matrix {
            Some(matrix) => source.matrix != *matrix,
            // By default, the matrix at the top level of its file is read.
            None => source.matrix.contains('/'),
        };
        let delimiter = Some(manifest.conditions.rules().delimiter.clone());
        let names = manifest.covariates.iter().map(|covariate| covariate.name.as_str());
        let covariates: BTreeSet<&str> = names.filter(|name| Some(*name) != keys.batch.as_deref()).collect();
        let other_covariates = |list: &String| {
            let requested = listed(list);
            let requested = requested.iter().map(String::as_str).filter(|name| Some(*name) != keys.batch.as_deref());
            requested.collect::<BTreeSet<_>>() != covariates
        };
        let other_values = match self.values {
            ValuesArg::Auto => false,
            ValuesArg::Counts => manifest.values != ValueKind::Counts,
            ValuesArg::Log1p => manifest.values != ValueKind::Continuous,
        };
        [
            (differs(&self.perturbation, &keys.perturbation), "--perturbation"),
            (differs(&self.dose, &keys.dose), "--dose"),
            (differs(&self.batch, &keys.batch), "--batch"),
            (differs(&self.delimiter, &delimiter), "--delimiter"),
            (self.covariates.as_ref().is_some_and(other_covariates), "--covariates"),
            (other_values, "--values"),
            // An atlas does not store how bad values were treated.
            (!matches!(self.on_bad_values, OnBadValuesArg::Error), "--on-bad-values"),
            (!self.control.is_empty() && other_controls(&self.control, manifest), "--control"),
            // Nor how the columns and lists of a table were read.
            (self.choice.is_of_tables(), "--obs-columns, --genes-table or --list-start"),
            (manifest.sources.iter().any(other_matrix), "--layer, --raw or --genome"),
            (self.selection() != manifest.selection, "--filter, --drop-label or --min-cells"),
        ]
        .into_iter()
        .find_map(|(differs, flag)| differs.then_some(flag))
    }
}

/// Whether an atlas has other controls than those that are requested by name or pattern.
fn other_controls(requested: &[String], manifest: &Manifest) -> bool {
    let recorded = &manifest.conditions.rules().controls;
    let is_requested = |name: &String| requested.iter().any(|pattern| fits(pattern, name));
    let is_recorded = |pattern: &String| recorded.iter().any(|name| fits(pattern, name));
    let mut perturbations = manifest.conditions.perturbations().iter().filter(|name| !recorded.contains(name));
    !recorded.iter().all(is_requested) || !requested.iter().all(is_recorded) || perturbations.any(is_requested)
}
