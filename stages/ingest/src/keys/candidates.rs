//! Columns of `obs` that are recognised by their names.

use std::collections::{BTreeMap, HashMap};

use arrow::{array::AsArray, datatypes::DataType};
use formats::source::{Source, obs_column};
use schemas::{Error, Result};

use super::control_habits;

/// How two columns relate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ColumnRelation {
    Equal,
    /// Their values differ, but divide the cells into the same groups.
    Renamed,
    Different,
}

/// The first of the columns with usual names that is there; `flag` is the flag that names another one.
///
/// # Errors
/// Several of them that differ. Columns of perturbations may name the same groups differently, which `decided` then mentions.
pub(super) fn guess(
    source: &dyn Source,
    flag: &str,
    habits: &[&str],
    guessed: &mut Vec<String>,
    decided: &mut Vec<String>,
) -> Result<Option<String>> {
    let found = present(source, habits);
    let Some((first, others)) = found.split_first() else { return Ok(None) };
    for other in others {
        match relation(source, first, other)? {
            ColumnRelation::Equal => {}
            ColumnRelation::Renamed if flag == "--perturbation" => {
                decided.push(format!("`{other}` has other names for the same groups of cells as `{first}`"));
            }
            ColumnRelation::Renamed | ColumnRelation::Different => {
                let described = found.iter().map(|name| with_values(source, name)).collect::<Result<Vec<_>>>()?;
                let message = format!("these columns differ, and each could be {flag}: {}", described.join("; "));
                let place = format!("{}, obs", source.origin().path);
                return Err(Error::data(place, message, format!("choose one, as in {flag} {first}")));
            }
        }
    }
    guessed.push(format!("{flag} {first}"));
    Ok(Some((*first).to_owned()))
}

/// Refuses a guessed perturbation column that says only whether a cell is perturbed, if one of the other columns with usual names
/// has more values.
///
/// # Errors
/// That it is so.
pub(super) fn check_names_perturbations(source: &dyn Source, guessed: &str, habits: &[&str]) -> Result<()> {
    if frequencies(source, guessed)?.len() != 2 {
        return Ok(());
    }
    for other in present(source, habits).into_iter().filter(|other| *other != guessed) {
        if frequencies(source, other)?.len() > 2 {
            let (guessed, other_described) = (with_values(source, guessed)?, with_values(source, other)?);
            let message = format!("two columns could name the perturbations: {guessed}; {other_described}");
            let hint = format!("choose one, as in --perturbation {other}");
            return Err(Error::data(format!("{}, obs", source.origin().path), message, hint));
        }
    }
    Ok(())
}

/// A column with its most frequent values, as in `drug (DMSO, A, ...)`.
fn with_values(source: &dyn Source, column: &str) -> Result<String> {
    Ok(described(column, frequencies(source, column)?))
}

fn described(column: &str, counts: BTreeMap<String, u64>) -> String {
    const SHOWN: usize = 3;
    let mut by_count: Vec<(String, u64)> = counts.into_iter().collect();
    by_count.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let more = if by_count.len() > SHOWN { Some("...".to_owned()) } else { None };
    let values: Vec<String> = by_count.into_iter().take(SHOWN).map(|(value, _)| value).chain(more).collect();
    format!("{column} ({})", values.join(", "))
}

/// The columns of text with their most frequent values, of many the likeliest to name perturbations: first those that name a control,
/// then those that divide the cells.
pub(super) fn text_columns(source: &dyn Source) -> Result<Vec<String>> {
    const SHOWN: usize = 12;
    let schema = source.obs_schema();
    let mut found = Vec::new();
    for field in schema.fields().iter().skip(1).filter(|field| *field.data_type() == DataType::Utf8) {
        let counts = frequencies(source, field.name())?;
        let has_control = counts.keys().any(|value| control_habits::is_usual(value));
        let divides = counts.len() > 1 && counts.values().any(|count| *count > 1);
        found.push((!has_control, !divides, described(field.name(), counts)));
    }
    if found.len() > SHOWN {
        found.sort_by_key(|(has_no_control, divides_not, _)| (*has_no_control, *divides_not));
    }
    let more = found.len().saturating_sub(SHOWN);
    let mut columns: Vec<String> = found.into_iter().take(SHOWN).map(|(.., column)| column).collect();
    if more > 0 {
        columns.push(format!("and {more} more, which `perturbine inspect` lists"));
    }
    Ok(columns)
}

/// Those of the names that are columns.
fn present<'a>(source: &dyn Source, habits: &[&'a str]) -> Vec<&'a str> {
    let schema = source.obs_schema();
    habits.iter().copied().filter(|habit| schema.fields().iter().any(|field| field.name() == habit)).collect()
}

/// Number of cells for each value of a column.
fn frequencies(source: &dyn Source, column: &str) -> Result<BTreeMap<String, u64>> {
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    for values in obs_column(source, column)? {
        for value in values?.as_string::<i32>().iter().flatten() {
            match counts.get_mut(value) {
                Some(count) => *count += 1,
                None => _ = counts.insert(value.to_owned(), 1),
            }
        }
    }
    Ok(counts)
}

fn relation(source: &dyn Source, one: &str, other: &str) -> Result<ColumnRelation> {
    let (mut to_other, mut to_one) = (HashMap::new(), HashMap::new());
    let mut is_equal = true;
    for (one, other) in obs_column(source, one)?.zip(obs_column(source, other)?) {
        let (one, other) = (one?, other?);
        for (one, other) in one.as_string::<i32>().iter().zip(other.as_string::<i32>()) {
            is_equal &= one == other;
            let (one, other) = (one.unwrap_or_default(), other.unwrap_or_default());
            if !is_name_of(&mut to_other, one, other) || !is_name_of(&mut to_one, other, one) {
                return Ok(ColumnRelation::Different);
            }
        }
    }
    Ok(if is_equal { ColumnRelation::Equal } else { ColumnRelation::Renamed })
}

/// Whether a value has had no other name so far.
fn is_name_of(names: &mut HashMap<String, String>, value: &str, name: &str) -> bool {
    match names.get(value) {
        Some(known) => known == name,
        None => {
            names.insert(value.to_owned(), name.to_owned());
            true
        }
    }
}
