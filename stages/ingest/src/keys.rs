//! Which columns of `obs` are labels: as given by the user, or else by common conventions.
//!
//! Candidates are tried in order. Several columns that agree in every row are not ambiguous; several that
//! differ are an error that lists them.

mod candidates;
mod control_habits;
mod delimiter;
mod dose_units;
mod labels;
mod notes;
mod unread_doses;

use std::collections::BTreeSet;

use formats::source::{Source, name_in_atlas};
use schemas::{Error, Result, arrow::RESERVED_COLUMNS, conditions::LabelRules};

use self::{
    candidates::{check_names_perturbations, guess, text_columns},
    delimiter::{guess_delimiter, likely_combinations},
    dose_units::check_units,
    labels::PerturbationLabels,
    notes::{notes, unread_tuples},
    unread_doses::unread_doses,
};
use super::label::LabelColumns;

/// Names of perturbation columns; the first group of which there is one counts. After the field's habits come columns of published
/// screens: Tahoe (with doses), then scPerturb and Norman, sci-Plex, Tahoe (without doses), Replogle, ECCITE; Norman (pairs of guides).
const PERTURBATION_HABITS: [&[&str]; 4] = [
    &["condition", "perturbation", "cond_harm"],
    &["drugname_drugconc"],
    &["perturbation_name", "product_name", "drug", "treatment", "gene", "target_gene", "gene_target"],
    &["guide_identity"],
];
const DOSE_HABITS: [&str; 3] = ["dose_val", "dose", "dose_value"];
const COVARIATE_HABITS: [&str; 2] = ["cell_type", "cell_line"];

/// The user's choices; missing ones are guessed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RequestedKeys {
    /// The perturbation column.
    pub perturbation: Option<String>,
    /// Whether there is none: all cells are unlabelled.
    pub no_perturbation: bool,
    /// The names of control, as a whole label or as one part of it; `*` matches any text.
    pub controls: Vec<String>,
    /// The dose column; an empty name means that there is none.
    pub dose: Option<String>,
    /// Covariates; an empty list means that there are none.
    pub covariates: Option<Vec<String>>,
    /// The batch column, which is also a covariate.
    pub batch: Option<String>,
    /// The delimiter of perturbations; `+` by default.
    pub delimiter: Option<String>,
    /// How a model that will take cells without labels writes its conditions, control among them.
    pub rules_of_model: Option<LabelRules>,
}

impl RequestedKeys {
    /// The same keys, each column under its name in an atlas; a dose column without a name is none.
    fn named_as_in_atlas(&self, source: &dyn Source) -> Result<Self> {
        let name = |name: &String| name_in_atlas(source, name);
        let covariates = self.covariates.as_ref().map(|covariates| covariates.iter().map(name).collect());
        Ok(Self {
            perturbation: self.perturbation.as_ref().map(name).transpose()?,
            dose: self.dose.as_ref().filter(|dose| !dose.is_empty()).map(name).transpose()?,
            batch: self.batch.as_ref().map(name).transpose()?,
            covariates: covariates.transpose()?,
            ..self.clone()
        })
    }
}

/// The labels of a file.
#[derive(Clone, Debug, PartialEq)]
pub struct ResolvedKeys {
    /// The columns.
    pub columns: LabelColumns,
    /// The rules for reading them.
    pub rules: LabelRules,
    /// The guesses, as flags.
    pub guessed: Vec<String>,
    /// Other decisions, one sentence each.
    pub decided: Vec<String>,
}

/// Decides which columns are labels.
///
/// # Errors
/// Columns that do not exist or can't be covariates, candidates that differ, a control that no cell has, no column that is
/// recognised as that of perturbations, or flags that have no meaning without one.
pub fn resolve(source: &dyn Source, requested: &RequestedKeys) -> Result<ResolvedKeys> {
    let no_dose = requested.dose.as_deref() == Some("");
    let requested = &requested.named_as_in_atlas(source)?;
    let (mut guessed, mut decided) = (Vec::new(), Vec::new());
    let mut settle = |given: &Option<String>, flag: &str, habits: &[&str]| match given {
        Some(name) => Ok(Some(name.clone())),
        None => guess(source, flag, habits, &mut guessed, &mut decided),
    };
    let perturbation = match requested.no_perturbation {
        true => None,
        false => {
            let mut found = requested.perturbation.clone();
            for habits in PERTURBATION_HABITS {
                found = settle(&found, "--perturbation", habits)?;
            }
            if let (Some(guessed), None) = (&found, &requested.perturbation) {
                check_names_perturbations(source, guessed, &PERTURBATION_HABITS.concat())?;
            }
            found
        }
    };
    if perturbation.is_none() {
        check_is_unlabelled(requested, source)?;
    }
    let holds_doses = match &perturbation {
        Some(column) => labels::hold_doses(source, column)?,
        None => false,
    };
    if no_dose && holds_doses {
        let message = "--dose '' says that there are no doses, but labels hold them, as in `[('A', 0.5, 'uM')]`";
        return Err(Error::usage(message, "leave out --dose ''"));
    }
    let dose = if perturbation.is_some() && !no_dose && (!holds_doses || requested.dose.is_some()) {
        settle(&requested.dose, "--dose", &DOSE_HABITS)?
    } else {
        requested.dose.clone()
    };
    let mut covariates = match &requested.covariates {
        Some(covariates) => covariates.clone(),
        None => settle(&None, "--covariates", &COVARIATE_HABITS)?.into_iter().collect(),
    };
    // The batch comes last, as in the original.
    covariates.retain(|name| Some(name) != requested.batch.as_ref());
    covariates.extend(requested.batch.clone());
    check_covariates(&covariates)?;
    let delimiter = match (&requested.delimiter, &perturbation) {
        (None, Some(column)) => guess_delimiter(source, column, &mut guessed, &mut decided)?,
        (requested, _) => requested.clone(),
    };
    let usual = || LabelRules { delimiter: delimiter.clone().unwrap_or_else(|| "+".into()), controls: Vec::new() };
    let mut rules = requested.rules_of_model.clone().unwrap_or_else(usual);
    if let Some(column) = &perturbation {
        let labels = PerturbationLabels::read(source, column, &rules)?;
        rules.controls = labels.controls(&requested.controls, &mut guessed)?;
        match holds_doses {
            true if dose.is_none() => {
                decided.push(format!("doses are read from `{column}`, in micromolar (1 for labels without one)"))
            }
            false if dose.is_none() && !no_dose => decided.extend(unread_doses(source, &DOSE_HABITS)?),
            _ => {}
        }
        if let Some(dose) = &dose {
            decided.extend(check_units(source, column, dose, requested.dose.is_none(), &rules)?);
        }
        if delimiter.is_none() {
            decided.extend(likely_combinations(labels.all(), &rules, &requested.controls));
        }
        decided.extend(notes(labels.all(), &rules));
        decided.extend(unread_tuples(labels.all()));
    }
    Ok(ResolvedKeys { columns: LabelColumns { perturbation, dose, covariates }, rules, guessed, decided })
}

/// Refuses covariates that would appear twice among the columns of later output.
fn check_covariates(covariates: &[String]) -> Result<()> {
    let mut seen = BTreeSet::new();
    let twice: Vec<&str> = covariates.iter().filter(|name| !seen.insert(*name)).map(String::as_str).collect();
    if !twice.is_empty() {
        let message = format!("covariates are given twice: {}", twice.join(", "));
        return Err(Error::usage(
            message,
            "name each column once; the batch is a covariate without being named as one",
        ));
    }
    let taken: Vec<&str> =
        covariates.iter().map(String::as_str).filter(|name| RESERVED_COLUMNS.contains(name)).collect();
    if taken.is_empty() {
        return Ok(());
    }
    let message = format!("covariates have the names of prediction columns: {}", taken.join(", "));
    Err(Error::usage(message, "rename those columns of obs, or choose others with --covariates"))
}

/// Refuses a source without a perturbation column, unless the user says that there is none, and then flags for reading labels.
fn check_is_unlabelled(requested: &RequestedKeys, source: &dyn Source) -> Result<()> {
    if !requested.no_perturbation {
        return Err(no_perturbation_column(source)?);
    }
    let flags = [
        (requested.perturbation.is_some(), "--perturbation"),
        (!requested.controls.is_empty(), "--control"),
        (requested.delimiter.is_some(), "--delimiter"),
        (requested.dose.is_some(), "--dose"),
    ];
    let Some((_, flag)) = flags.into_iter().find(|(is_given, _)| *is_given) else { return Ok(()) };
    let message = format!("{flag} says how to read perturbations, but --no-perturbation says that there are none");
    Err(Error::usage(message, "leave out one of them"))
}

/// The error about a source in which no column has the name of one of perturbations, with those that could hold them.
fn no_perturbation_column(source: &dyn Source) -> Result<Error> {
    let candidates = match text_columns(source)? {
        found if found.is_empty() => "no column is text".to_owned(),
        found => format!("the columns of text, with their most frequent values, are {}", found.join("; ")),
    };
    let message = format!("no column is named {}; {candidates}", PERTURBATION_HABITS.concat().join(", "));
    let hint = "name the perturbation column with --perturbation COLUMN (of `ingest` or `train`); `ingest --no-perturbation` makes an atlas without \
                labels, on which no model can be trained";
    Ok(Error::data(format!("{}, obs", source.origin().path), message, hint))
}

/// Whether a label matches a pattern, in which `*` matches any text.
#[must_use]
pub fn fits(pattern: &str, label: &str) -> bool {
    let Some((before, after)) = pattern.split_once('*') else { return pattern == label };
    let Some(rest) = label.strip_prefix(before) else { return false };
    (0..=rest.len()).filter(|at| rest.is_char_boundary(*at)).any(|at| fits(after, &rest[at..]))
}

#[cfg(test)]
mod tests;
