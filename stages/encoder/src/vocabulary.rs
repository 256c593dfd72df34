//! Builds a model's vocabulary from the labels of an atlas's training cells.

use std::collections::BTreeSet;

use reader::{
    atlas::{Atlas, some_of},
    groups::Groups,
    split::SplitPart,
};
use schemas::{
    Error, Result,
    conditions::{CONTROL, Covariate},
    config::Compat,
    vocabulary::{PADDING, TrainedGroup, Vocabulary},
};

/// The names that occur among an atlas's training cells. With [`Compat::CpaTools088`], the adversary's classes
/// and their weights come from all cells, including held-out ones.
///
/// # Errors
/// No perturbation column, no controls among the training cells, or nothing but controls.
pub fn from_training_cells(atlas: &Atlas, groups: &Groups, compat: Compat) -> Result<Vocabulary> {
    let manifest = atlas.manifest();
    let place = atlas.path().display().to_string();
    if manifest.keys.perturbation.is_none() {
        return Err(Error::data(
            place,
            "the atlas has no perturbation column",
            "ingest it again with --perturbation KEY",
        ));
    }
    let table = &manifest.conditions;
    let trained: Vec<_> = groups.all().iter().filter(|group| group.cells_for(SplitPart::Train) > 0).collect();
    if !trained.iter().any(|group| group.condition == CONTROL) {
        let names: Vec<String> =
            table.combinations().iter().skip(1).map(|combination| combination.name.clone()).collect();
        let labels = if names.is_empty() { String::new() } else { format!("; the labels are {}", some_of(&names)) };
        let message = format!("no training cell is a control (control is `{}`{labels})", table.name(CONTROL));
        return Err(Error::data(
            place,
            message,
            "name the control with --control when ingesting, and keep its cells in training",
        ));
    }
    if trained.iter().all(|group| group.condition == CONTROL) {
        return Err(Error::data(place, "every training cell is a control", "hold out less"));
    }
    let used: BTreeSet<&str> = trained
        .iter()
        .flat_map(|group| table.parts(group.condition))
        .map(|(perturbation, _)| table.perturbations()[perturbation.index()].as_str())
        .collect();
    let mut perturbations = vec![PADDING.to_owned(), table.name(CONTROL).to_owned()];
    perturbations.extend(used.into_iter().map(str::to_owned));
    let mut combinations: Vec<(String, u64)> = Vec::new();
    for group in groups.all() {
        let name = table.name(group.condition);
        let cells = if compat.is_original() { group.cells() } else { group.cells_for(SplitPart::Train) };
        match combinations.iter_mut().find(|(known, _)| known == name) {
            _ if cells == 0 => {}
            Some((_, known)) => *known += cells,
            None => combinations.push((name.to_owned(), cells)),
        }
    }
    combinations.sort();
    let covariates = manifest.covariates.iter().enumerate().map(|(at, covariate)| {
        let used: BTreeSet<&String> =
            trained.iter().map(|group| &covariate.values[group.covariates[at] as usize]).collect();
        Covariate { name: covariate.name.clone(), values: used.into_iter().cloned().collect() }
    });
    let mut vocabulary = Vocabulary {
        covariates: covariates.collect(),
        batch: manifest.keys.batch.clone(),
        combination_cells: combinations.iter().map(|(_, cells)| *cells).collect(),
        combinations: combinations.into_iter().map(|(name, _)| name).collect(),
        perturbations,
        doses_as_written: compat.is_original(),
        embedding_width: None,
        unseen: Vec::new(),
        trained: Vec::new(),
    };
    let groups = trained.iter().filter_map(|group| {
        let parts = vocabulary.parts(table, group.condition)?;
        let is_control = group.condition == CONTROL;
        Some(TrainedGroup {
            perturbations: if is_control { Vec::new() } else { parts.iter().map(|(code, _)| *code).collect() },
            doses: if is_control { Vec::new() } else { parts.iter().map(|(_, dose)| *dose).collect() },
            covariates: atlas.covariate_values(&group.covariates),
            cells: group.cells_for(SplitPart::Train),
        })
    });
    vocabulary.trained = groups.collect();
    Ok(vocabulary)
}
