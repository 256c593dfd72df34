//! The data of a model's training and evaluation, for its report: cells of each condition and context.

use schemas::conditions::CONTROL;
use stages::{
    evaluate::ContextGroups,
    reader::{
        atlas::Atlas,
        groups::Groups,
        split::{Split, SplitPart},
    },
    report::{CellsByPart, DataOverview},
};

/// Counts the cells of an atlas by condition, context and part of a split; control comes first.
#[must_use]
pub fn data_overview(atlas: &Atlas, split: &Split) -> DataOverview {
    let manifest = atlas.manifest();
    let batch_groups = Groups::from_atlas(atlas, Some(split));
    let contexts = ContextGroups::new(atlas, &batch_groups);
    let mut groups: Vec<_> = contexts.all().iter().collect();
    groups.sort_by(|one, other| {
        manifest.conditions.listing_order(one.condition, other.condition).then_with(|| one.context.cmp(&other.context))
    });
    let groups = groups.into_iter().map(|group| {
        let cells = |part: SplitPart| group.members.iter().map(|at| batch_groups.all()[*at].cells_for(part)).sum();
        let has_dose = manifest.keys.dose.is_some() && group.condition != CONTROL;
        CellsByPart {
            condition: manifest.conditions.name(group.condition).to_owned(),
            dose: if has_dose { manifest.conditions.dose_label(group.condition) } else { String::new() },
            context: atlas.covariate_values(&group.context).join(", "),
            is_control: group.condition == CONTROL,
            train: cells(SplitPart::Train),
            valid: cells(SplitPart::Valid),
            held_out: cells(SplitPart::Ood),
            reference: cells(SplitPart::Reference),
        }
    });
    let is_batch = |name: &String| Some(name) == manifest.keys.batch.as_ref();
    let names = manifest.covariates.iter().map(|covariate| covariate.name.clone());
    DataOverview {
        sources: manifest.sources.iter().map(ToString::to_string).collect(),
        cells: atlas.cells(),
        genes: u64::from(manifest.genes),
        values: match manifest.values {
            schemas::atlas::ValueKind::Counts => "counts".to_owned(),
            schemas::atlas::ValueKind::Continuous => "continuous values".to_owned(),
        },
        split: split.name().to_owned(),
        covariates: names.filter(|name| !is_batch(name)).collect(),
        groups: groups.collect(),
    }
}
