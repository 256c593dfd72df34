//! Which columns of `obs` are labels: as the user said, or else by the field's habits.
//!
//! Candidates are tried in order. Several columns that say the same in every row are no ambiguity; several that differ are
//! an error that lists them.

use std::collections::BTreeSet;

use arrow::array::AsArray;
use schemas::{Error, Result, conditions::LabelRules};

use super::{
    label::LabelColumns,
    source::{Source, obs_column},
};

const PERTURBATION_HABITS: [&str; 3] = ["condition", "perturbation", "cond_harm"];
const CONTROL_HABITS: [&str; 4] = ["ctrl", "control", "DMSO", "non-targeting"];
const DOSE_HABITS: [&str; 3] = ["dose_val", "dose", "dose_value"];
const COVARIATE_HABITS: [&str; 2] = ["cell_type", "cell_line"];

/// What the user said; what is left out is guessed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AskedKeys {
    /// The perturbation column.
    pub perturbation: Option<String>,
    /// Labels that mean control; `*` stands for any text.
    pub controls: Vec<String>,
    /// The dose column; an empty name says that there is none.
    pub dose: Option<String>,
    /// Covariates; an empty list says that there are none.
    pub covariates: Option<Vec<String>>,
    /// The batch column, a covariate too.
    pub batch: Option<String>,
    /// What joins perturbations; `+` where nothing is said.
    pub delimiter: Option<String>,
}

/// The labels of a file.
#[derive(Clone, Debug, PartialEq)]
pub struct ResolvedKeys {
    /// Which columns.
    pub columns: LabelColumns,
    /// How they are read.
    pub rules: LabelRules,
    /// What was guessed, to be told to the user.
    pub guessed: Vec<String>,
}

/// Settles which columns are labels.
///
/// # Errors
/// Columns that are not there, candidates that differ, a control that no cell has.
pub fn resolve(source: &dyn Source, asked: &AskedKeys) -> Result<ResolvedKeys> {
    let names = names(source);
    let no_dose = asked.dose.as_deref() == Some("");
    let asked = &AskedKeys { dose: asked.dose.clone().filter(|name| !name.is_empty()), ..asked.clone() };
    for name in
        [&asked.perturbation, &asked.dose, &asked.batch].into_iter().flatten().chain(asked.covariates.iter().flatten())
    {
        if !names.contains(name) {
            return Err(Error::unknown("obs column", name, names.iter().map(String::as_str)));
        }
    }
    let mut guessed = Vec::new();
    let mut settle = |said: &Option<String>, flag: &str, habits: &[&str]| match said {
        Some(name) => Ok(Some(name.clone())),
        None => guess(source, flag, habits, &mut guessed),
    };
    let perturbation = settle(&asked.perturbation, "--perturbation", &PERTURBATION_HABITS)?;
    let dose = if perturbation.is_some() && !no_dose {
        settle(&asked.dose, "--dose", &DOSE_HABITS)?
    } else {
        asked.dose.clone()
    };
    let mut covariates = match &asked.covariates {
        Some(covariates) => covariates.clone(),
        None => settle(&None, "--covariates", &COVARIATE_HABITS)?.into_iter().collect(),
    };
    // The batch comes last, as in the original.
    covariates.retain(|name| Some(name) != asked.batch.as_ref());
    covariates.extend(asked.batch.clone());
    let controls = match &perturbation {
        None => Vec::new(),
        Some(column) => controls(source, column, &asked.controls, &mut guessed)?,
    };
    Ok(ResolvedKeys {
        columns: LabelColumns { perturbation, dose, covariates },
        rules: LabelRules { delimiter: asked.delimiter.clone().unwrap_or_else(|| "+".into()), controls },
        guessed,
    })
}

fn names(source: &dyn Source) -> Vec<String> {
    source.obs_schema().fields().iter().map(|field| field.name().clone()).collect()
}

fn guess(source: &dyn Source, flag: &str, habits: &[&str], guessed: &mut Vec<String>) -> Result<Option<String>> {
    let names = names(source);
    let found: Vec<&str> = habits.iter().copied().filter(|habit| names.iter().any(|name| name == habit)).collect();
    let Some((first, others)) = found.split_first() else { return Ok(None) };
    for other in others {
        if !same(source, first, other)? {
            let message = format!("the columns {} differ, and each could be meant by {flag}", found.join(", "));
            return Err(Error::data(
                format!("{}, obs", source.origin().path),
                message,
                format!("say which one with {flag}"),
            ));
        }
    }
    guessed.push(format!("{flag} {first}"));
    Ok(Some((*first).to_owned()))
}

fn same(source: &dyn Source, a: &str, b: &str) -> Result<bool> {
    for (a, b) in obs_column(source, a)?.zip(obs_column(source, b)?) {
        if a?.as_string::<i32>() != b?.as_string::<i32>() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The labels that mean control, the one that names it first.
fn controls(source: &dyn Source, column: &str, asked: &[String], guessed: &mut Vec<String>) -> Result<Vec<String>> {
    let mut labels: BTreeSet<String> = BTreeSet::new();
    for values in obs_column(source, column)? {
        for label in values?.as_string::<i32>().iter().flatten() {
            if !labels.contains(label) {
                labels.insert(label.to_owned());
            }
        }
    }
    let place = format!("{}, obs column `{column}`", source.origin().path);
    if asked.is_empty() {
        let found: Vec<&str> = CONTROL_HABITS.iter().copied().filter(|habit| labels.contains(*habit)).collect();
        return match found.as_slice() {
            [] => {
                let some: Vec<&str> = labels.iter().take(8).map(String::as_str).collect();
                let message =
                    format!("no label is one of {}; there are {}, ...", CONTROL_HABITS.join(", "), some.join(", "));
                Err(Error::data(place, message, "say which label means control with --control"))
            }
            [only] => {
                guessed.push(format!("--control {only}"));
                Ok(vec![(*only).to_owned()])
            }
            several => {
                let message = format!("{} could each mean control", several.join(", "));
                Err(Error::data(place, message, "say which with --control; give it several times if all do"))
            }
        };
    }
    let mut controls: Vec<String> = Vec::new();
    for pattern in asked {
        let matched: Vec<&String> = labels.iter().filter(|label| fits(pattern, label)).collect();
        if matched.is_empty() {
            return Err(Error::unknown("control", pattern, labels.iter().map(String::as_str)));
        }
        let new: Vec<String> = matched.into_iter().filter(|label| !controls.contains(label)).cloned().collect();
        controls.extend(new);
    }
    Ok(controls)
}

/// Whether a label fits a pattern in which `*` stands for any text.
pub(super) fn fits(pattern: &str, label: &str) -> bool {
    let Some((before, after)) = pattern.split_once('*') else { return pattern == label };
    let Some(rest) = label.strip_prefix(before) else { return false };
    (0..=rest.len()).filter(|at| rest.is_char_boundary(*at)).any(|at| fits(after, &rest[at..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::memory::Table;

    #[test]
    fn the_habits_of_the_field_are_guessed_and_told() {
        let table =
            Table::of_obs(&[("cell_type", vec!["T", "B"]), ("dose", vec!["1", "1"]), ("condition", vec!["A", "ctrl"])]);
        let keys = resolve(&table, &AskedKeys::default()).expect("a plain table");
        assert_eq!(keys.columns.perturbation.as_deref(), Some("condition"));
        assert_eq!(
            (keys.columns.dose.as_deref(), keys.columns.covariates),
            (Some("dose"), vec!["cell_type".to_owned()])
        );
        assert_eq!(keys.rules.controls, ["ctrl"]);
        assert_eq!(
            keys.guessed,
            ["--perturbation condition", "--dose dose", "--covariates cell_type", "--control ctrl"]
        );
    }

    #[test]
    fn columns_that_differ_are_an_ambiguity_and_equal_ones_are_not() {
        let differ = Table::of_obs(&[("condition", vec!["A", "ctrl"]), ("perturbation", vec!["B", "ctrl"])]);
        let error = resolve(&differ, &AskedKeys::default()).expect_err("ambiguous");
        assert!(error.to_string().contains("the columns condition, perturbation differ"), "{error}");
        let equal = Table::of_obs(&[("condition", vec!["A", "ctrl"]), ("perturbation", vec!["A", "ctrl"])]);
        assert!(resolve(&equal, &AskedKeys::default()).is_ok());
    }

    #[test]
    fn every_label_that_fits_a_pattern_is_a_control() {
        let table = Table::of_obs(&[("condition", vec!["non-targeting_2", "A", "non-targeting_1", "safe"])]);
        let asked = AskedKeys { controls: vec!["safe".into(), "non-targeting*".into()], ..AskedKeys::default() };
        let keys = resolve(&table, &asked).expect("known controls");
        assert_eq!(keys.rules.controls, ["safe", "non-targeting_1", "non-targeting_2"]);
    }

    #[test]
    fn a_control_that_no_cell_has_is_refused_with_the_nearest_labels() {
        let table = Table::of_obs(&[("condition", vec!["control", "A"])]);
        let asked = AskedKeys { controls: vec!["contrl".into()], ..AskedKeys::default() };
        let error = resolve(&table, &asked).expect_err("unknown");
        assert!(error.to_string().starts_with("unknown control `contrl`; the nearest known: control"), "{error}");
    }

    #[test]
    fn a_table_without_perturbations_makes_an_unlabelled_atlas() {
        let keys = resolve(&Table::of_obs(&[("donor", vec!["d1"])]), &AskedKeys::default()).expect("fine");
        assert_eq!((keys.columns, keys.rules.controls), (LabelColumns::default(), Vec::new()));
    }
}
