//! Hashes of the labels that cells had when a split was made, so that it is not carried over to cells that mean something else.

use std::collections::BTreeMap;

use schemas::ids::{CellIndex, ConditionId};
use storage::disk::hex;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use crate::atlas::Atlas;

/// The key of the condition; no covariate may have this name.
const CONDITION: &str = "condition";

/// The hash of the condition and dose of every cell, and of every cell's value of each covariate, by the covariates' names.
pub(super) fn label_hashes(atlas: &Atlas) -> BTreeMap<String, String> {
    let manifest = atlas.manifest();
    let table = &manifest.conditions;
    let conditions = (0..table.conditions().len()).map(ConditionId::at);
    let conditions: Vec<u64> = conditions.map(|id| hash_of(&[table.name(id), &table.dose_label(id)])).collect();
    let covariates: Vec<Vec<u64>> = manifest
        .covariates
        .iter()
        .map(|covariate| covariate.values.iter().map(|value| hash_of(&[value])).collect())
        .collect();
    let mut of_condition = Xxh3::new();
    let mut of_covariates: Vec<Xxh3> = covariates.iter().map(|_| Xxh3::new()).collect();
    for cell in (0..atlas.cells()).map(CellIndex) {
        of_condition.update(&conditions[atlas.condition(cell).index()].to_le_bytes());
        for ((hash, values), code) in of_covariates.iter_mut().zip(&covariates).zip(atlas.covariates(cell)) {
            hash.update(&values[schemas::numbers::to_usize(u64::from(*code))].to_le_bytes());
        }
    }
    let names = manifest.covariates.iter().map(|covariate| covariate.name.clone());
    let hashes = names.zip(of_covariates.iter().map(|hash| hex(hash.digest())));
    hashes.chain([(CONDITION.to_owned(), hex(of_condition.digest()))]).collect()
}

fn hash_of(parts: &[&str]) -> u64 {
    let mut bytes = Vec::new();
    for part in parts {
        bytes.extend_from_slice(part.as_bytes());
        bytes.push(0);
    }
    xxh3_64(&bytes)
}

/// The first label that cells of both have, and that differs.
pub(super) fn changed_label<'a>(then: &'a BTreeMap<String, String>, now: &BTreeMap<String, String>) -> Option<&'a str> {
    then.iter().find(|(label, hash)| now.get(*label).is_some_and(|now| now != *hash)).map(|(label, _)| label.as_str())
}
