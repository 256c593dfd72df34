//! The delimiter of perturbations in labels, where something shows which it is.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::AsArray;
use formats::source::{Source, obs_column};
use schemas::{
    Result,
    conditions::{LabelRules, repeated},
};

use super::fits;

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

/// A usual delimiter that divides a label into parts that all fit, and that label.
pub(super) fn dividing<'a>(
    labels: impl Iterator<Item = &'a str> + Clone,
    fits: impl Fn(&str) -> bool,
) -> Option<(&'static str, &'a str)> {
    DELIMITERS.into_iter().find_map(|delimiter| {
        let is_divided = |label: &&str| {
            let parts = parts(label, delimiter);
            parts.len() > 1 && parts.into_iter().all(&fits)
        };
        Some((delimiter, labels.clone().find(is_divided)?))
    })
}

/// One sentence for each delimiter by which labels would be combinations of perturbations that are labels, too, and one for each by
/// which labels of control, by the patterns given for it, would be combinations of control and a perturbation.
pub(super) fn likely_combinations<'a>(
    labels: impl Iterator<Item = &'a str> + Clone,
    rules: &LabelRules,
    patterns: &[String],
) -> Vec<String> {
    let others = DELIMITERS.into_iter().filter(|delimiter| *delimiter != rules.delimiter);
    let sentences = others.flat_map(|delimiter| {
        let (labels, ways) = (labels.clone(), format!("; --delimiter \"{delimiter}\" reads combinations"));
        let sentence = |(found, one, several): (Vec<&str>, &str, &str)| {
            let first = found.first()?;
            let (count, said) = (found.len(), if found.len() == 1 { one } else { several });
            Some(format!("{count} label{said}, such as `{first}`{ways}"))
        };
        let perturbed = (
            of_labels(labels.clone(), rules, delimiter),
            " is read as one perturbation, but looks like a combination",
            "s are read as one perturbation each, but look like combinations",
        );
        let control = (
            with_control(labels, rules, patterns, delimiter),
            " is read as control, but looks like a combination of control and a perturbation",
            "s are read as control, but look like combinations of control and a perturbation",
        );
        [perturbed, control].into_iter().filter_map(sentence).collect::<Vec<_>>()
    });
    sentences.collect()
}

/// Labels whose parts are labels, too.
fn of_labels<'a>(labels: impl Iterator<Item = &'a str> + Clone, rules: &LabelRules, delimiter: &str) -> Vec<&'a str> {
    let known: BTreeSet<&str> = labels.clone().collect();
    let combines = |label: &&str| {
        let parts = parts(label, delimiter);
        parts.len() > 1 && !rules.is_control(label) && parts.iter().all(|part| known.contains(part))
    };
    labels.filter(combines).collect()
}

/// Labels that are control by a pattern, although they have a part that fits none and is a part of a perturbed label, beside one that
/// fits: one that is a part of a perturbed label as well, or a label if it is written twice.
fn with_control<'a>(
    labels: impl Iterator<Item = &'a str> + Clone,
    rules: &LabelRules,
    patterns: &[String],
    delimiter: &str,
) -> Vec<&'a str> {
    let known: BTreeSet<&str> = labels.clone().collect();
    let perturbed = labels.clone().filter(|label| !rules.means_control(label));
    let of_perturbed: BTreeSet<&str> = perturbed.flat_map(|label| parts(label, delimiter)).collect();
    let is_control = |part: &str| patterns.iter().any(|pattern| fits(pattern, part));
    let stands_alone =
        |part: &str| of_perturbed.contains(part) || known.contains(format!("{part}{delimiter}{part}").as_str());
    let combines = |label: &&str| {
        let parts = parts(label, delimiter);
        rules.is_control(label)
            && parts.iter().any(|part| !is_control(part) && of_perturbed.contains(part))
            && parts.iter().any(|part| is_control(part) && stands_alone(part))
    };
    labels.filter(combines).collect()
}

fn parts<'a>(label: &'a str, delimiter: &str) -> Vec<&'a str> {
    label.split(delimiter).map(str::trim).collect()
}
