//! The delimiter of perturbations in labels, where something shows which it is.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::AsArray;
use formats::source::{Source, obs_column};
use schemas::{
    Result,
    conditions::{LabelRules, repeated},
};

/// The column in which scPerturb counts the perturbations of a cell.
const COUNTS: &str = "nperts";
/// Delimiters that are tried.
const DELIMITERS: [&str; 6] = ["+", "_", ";", "|", ",", "&"];

/// The delimiter `_` if labels are identities of guides, written twice (`A_B__A_B`); otherwise the one that divides every label
/// into as many perturbations as the column `nperts` counts; `None` without such a column, without combinations, or if there is
/// no such delimiter, which `decided` then mentions.
///
/// # Errors
/// A column that can't be read.
pub(super) fn guess_delimiter(
    source: &dyn Source,
    labels: &str,
    guessed: &mut Vec<String>,
    decided: &mut Vec<String>,
) -> Result<Option<String>> {
    if are_guide_identities(source, labels)? {
        guessed.push("--delimiter \"_\"".to_owned());
        return Ok(Some("_".to_owned()));
    }
    if !source.obs_schema().fields().iter().any(|field| field.name() == COUNTS) {
        return Ok(None);
    }
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for (labels, numbers) in obs_column(source, labels)?.zip(obs_column(source, COUNTS)?) {
        let (labels, numbers) = (labels?, numbers?);
        for (label, number) in labels.as_string::<i32>().iter().zip(numbers.as_string::<i32>()) {
            let (Some(label), Some(number)) = (label, number.and_then(count)) else { continue };
            if number > 0 && counts.insert(label.to_owned(), number).is_some_and(|other| other != number) {
                return Ok(None);
            }
        }
    }
    let divides = |delimiter: &&str| {
        let rules = LabelRules { delimiter: (*delimiter).to_owned(), controls: Vec::new() };
        counts.iter().all(|(label, count)| rules.parts(label).len() == *count)
    };
    let Some((combination, _)) = counts.iter().find(|(_, count)| **count > 1) else { return Ok(None) };
    let found = DELIMITERS.into_iter().find(divides);
    if found.is_none() {
        decided.push(format!(
            "`{COUNTS}` counts several perturbations in labels such as `{combination}`, which none of the usual delimiters divides so; \
             name theirs with --delimiter"
        ));
    }
    guessed.extend(found.map(|delimiter| format!("--delimiter \"{delimiter}\"")));
    Ok(found.map(str::to_owned))
}

/// Whether there are labels that are written twice, and no others contain `_`.
fn are_guide_identities(source: &dyn Source, labels: &str) -> Result<bool> {
    let mut any = false;
    for values in obs_column(source, labels)? {
        for label in values?.as_string::<i32>().iter().flatten().filter(|label| label.contains('_')) {
            if repeated(label).is_none() {
                return Ok(false);
            }
            any = true;
        }
    }
    Ok(any)
}

/// A count in a column that may hold floats.
fn count(text: &str) -> Option<usize> {
    text.strip_suffix(".0").unwrap_or(text).parse().ok()
}

/// One sentence for each delimiter by which labels would be combinations of perturbations that are labels, too.
pub(super) fn likely_combinations<'a>(
    labels: impl Iterator<Item = &'a str> + Clone,
    rules: &LabelRules,
) -> Vec<String> {
    let known: BTreeSet<&str> = labels.clone().collect();
    let others = DELIMITERS.into_iter().filter(|delimiter| *delimiter != rules.delimiter);
    let sentence = |delimiter: &str| {
        let combines = |label: &&str| {
            let parts: Vec<&str> = label.split(delimiter).map(str::trim).collect();
            parts.len() > 1 && !rules.is_control(label) && parts.iter().all(|part| known.contains(part))
        };
        let found: Vec<&str> = labels.clone().filter(combines).collect();
        let first = found.first()?;
        let (count, plural) = (
            found.len(),
            if found.len() == 1 {
                " is read as one perturbation, but looks like a combination"
            } else {
                "s are read as one perturbation each, but look like combinations"
            },
        );
        Some(format!("{count} label{plural}, such as `{first}`; --delimiter \"{delimiter}\" reads combinations"))
    };
    others.filter_map(sentence).collect()
}
