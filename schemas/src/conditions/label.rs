//! Labels in `obs`: the rules for reading them, and the results.

use std::{borrow::Cow, collections::BTreeSet};

use serde::{Deserialize, Serialize};

use super::tuples::{DosedName, begins_with_tuple, tuples};
use crate::counting::counted;

/// The rules for reading labels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LabelRules {
    /// The delimiter between perturbations in a label, and between doses in a dose label: `+` by default; empty
    /// for no delimiter.
    pub delimiter: String,
    /// Names of control, as a whole label or as one part of it; the first one is the displayed name. One that contains the delimiter
    /// (`non_targeting` with `_`) is one part.
    pub controls: Vec<String>,
}

impl LabelRules {
    /// The parts of a label, separated by delimiters, or the names in a list of tuples; a control's name is never divided. Of a
    /// [repeated] identity of guides, the parts of one half.
    #[must_use]
    pub fn parts<'a>(&self, label: &'a str) -> Vec<&'a str> {
        let label = self.one_half(label);
        if let Some(tuples) = tuples(label) {
            return tuples.into_iter().map(|one| one.name).collect();
        }
        let pieces = self.pieces(label);
        let joined = self.joined_controls();
        if joined.is_empty() {
            return pieces;
        }
        let (mut parts, mut at) = (Vec::new(), 0);
        while at < pieces.len() {
            let is_here = |count: &usize| {
                run(label, &pieces, at..at + count, &self.delimiter).is_some_and(|text| joined.contains(&text.trim()))
            };
            let count = (2..=pieces.len() - at).rev().find(is_here).unwrap_or(1);
            parts.extend(run(label, &pieces, at..at + count, &self.delimiter));
            at += count;
        }
        parts
    }

    /// The doses of a dose label, as text.
    #[must_use]
    pub fn dose_parts<'a>(&self, doses: &'a str) -> Vec<&'a str> {
        self.pieces(doses)
    }

    /// Every run of this many consecutive pieces of a label, without surrounding blanks.
    pub fn runs<'a>(&self, label: &'a str, count: usize) -> impl Iterator<Item = &'a str> {
        let label = self.one_half(label);
        let pieces = self.pieces(label);
        let delimiter = self.delimiter.clone();
        (0..(pieces.len() + 1).saturating_sub(count))
            .filter_map(move |at| run(label, &pieces, at..at + count, &delimiter).map(str::trim))
    }

    /// One half of a repeated label, if `_` divides perturbations: otherwise the label is a name.
    fn one_half<'a>(&self, label: &'a str) -> &'a str {
        repeated(label).filter(|_| self.delimiter == "_").unwrap_or(label)
    }

    /// The pieces between delimiters, whatever they mean.
    fn pieces<'a>(&self, label: &'a str) -> Vec<&'a str> {
        // Splitting at the empty string would give single letters.
        if self.delimiter.is_empty() { vec![label] } else { label.split(&*self.delimiter).collect() }
    }

    /// The controls that contain the delimiter, unless each of their pieces is a control by itself.
    fn joined_controls(&self) -> Vec<&str> {
        let is_joined = |control: &&str| {
            let pieces = self.pieces(control);
            pieces.len() > 1 && !pieces.into_iter().all(|piece| self.is_control(piece.trim()))
        };
        self.controls.iter().map(String::as_str).filter(is_joined).collect()
    }

    /// Whether this is one of the names of control: as a whole label, or as one part.
    #[must_use]
    pub fn is_control(&self, name: &str) -> bool {
        self.controls.iter().any(|control| control == name)
    }

    /// Whether a label means control: as a whole, or because each of its parts does.
    #[must_use]
    pub fn means_control(&self, label: &str) -> bool {
        self.is_control(label) || self.parts(label).into_iter().all(|part| self.is_control(part.trim()))
    }

    /// Whether two labels combine the same perturbations, like `A+B` and `B+A`, or `A` and `A+ctrl`. Two names of
    /// control are one label only if they are equal.
    #[must_use]
    pub fn are_one_condition(&self, one: &str, other: &str) -> bool {
        let perturbations = |label| {
            let parts = self.parts(label).into_iter().map(str::trim).filter(|part| !self.is_control(part));
            parts.collect::<BTreeSet<&str>>()
        };
        one == other
            || !self.means_control(one) && !self.means_control(other) && perturbations(one) == perturbations(other)
    }
}

/// The half of a label that is written twice, as identities of guides are: `A_B` of `A_B__A_B`.
#[must_use]
pub fn repeated(label: &str) -> Option<&str> {
    let half = label.len().checked_sub(2)? / 2;
    let (first, rest) = label.split_at_checked(half)?;
    (!first.is_empty() && rest.strip_prefix("__") == Some(first)).then_some(first)
}

/// The text of a label from the first to the last of some consecutive pieces.
fn run<'a>(label: &'a str, pieces: &[&str], range: std::ops::Range<usize>, delimiter: &str) -> Option<&'a str> {
    let length = |pieces: &[&str]| pieces.iter().map(|piece| piece.len() + delimiter.len()).sum::<usize>();
    let first = length(pieces.get(..range.start)?);
    let last = first + length(pieces.get(range)?).checked_sub(delimiter.len())?;
    label.get(first..last)
}

/// Why a label or its doses are invalid.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum BadLabel {
    /// The label is empty, or has nothing but blanks.
    #[error("the label is blank")]
    Blank,
    /// `A++B`, or a label that ends in the delimiter.
    #[error("`{label}` has an empty part next to a `{delimiter}`")]
    EmptyPart {
        /// The label.
        label: String,
        /// The delimiter.
        delimiter: String,
    },
    /// The numbers of doses and perturbations differ.
    #[error(
        "`{label}` has {}, but its dose `{doses}` has {}",
        counted(*perturbations as u64, "perturbation"),
        counted(*found as u64, "part")
    )]
    DoseCount {
        /// The label.
        label: String,
        /// The dose label.
        doses: String,
        /// Number of perturbations.
        perturbations: usize,
        /// Number of doses.
        found: usize,
    },
    /// A dose that is not a number, or is negative or infinite.
    #[error("dose `{dose}` of `{label}` is not a number of at least 0")]
    Dose {
        /// The label.
        label: String,
        /// The dose.
        dose: String,
    },
    /// A label that begins like a list of tuples, and is none.
    #[error("`{label}` is not a list of tuples such as `[('A', 0.5, 'uM')]`")]
    Tuples {
        /// The label.
        label: String,
    },
    /// A dose in a label whose unit is not molar.
    #[error("the dose of `{perturbation}` in `{label}` has the unit `{unit}`, which is not one of pM, nM, uM, mM, M")]
    Unit {
        /// The label.
        label: String,
        /// The perturbation.
        perturbation: String,
        /// The unit.
        unit: String,
    },
    /// A name in a list of tuples that looks like a combination.
    #[error("the perturbation `{perturbation}` contains the delimiter `{delimiter}`")]
    DelimiterInName {
        /// The perturbation.
        perturbation: String,
        /// The delimiter.
        delimiter: String,
    },
    /// One perturbation occurs twice, at different doses.
    #[error("`{label}` names `{perturbation}` twice, at different doses (`{doses}`)")]
    Twice {
        /// The label.
        label: String,
        /// The perturbation.
        perturbation: String,
        /// The dose label.
        doses: String,
    },
}

/// Doses as a label: `1+0.5`; `1` for control.
#[must_use]
pub fn dose_label(doses: &[f64], delimiter: &str) -> String {
    match doses {
        [] => "1".into(),
        doses => doses.iter().map(f64::to_string).collect::<Vec<_>>().join(delimiter),
    }
}

/// Whether a label holds doses of its own, in a list of tuples.
#[must_use]
pub fn holds_doses(label: &str) -> bool {
    tuples(label).is_some()
}

/// Perturbation names and doses of a label, in the label's order; empty for control. Doses that the label holds itself become
/// micromolar, unless `doses` are given.
///
/// # Errors
/// Labels and doses that don't match.
pub fn parse<'a>(
    label: &'a str,
    doses: Option<&str>,
    rules: &LabelRules,
) -> Result<Vec<(Cow<'a, str>, f64)>, BadLabel> {
    if label.is_empty() {
        return Err(BadLabel::Blank);
    }
    if rules.means_control(label) {
        return Ok(Vec::new());
    }
    if label.trim().is_empty() {
        return Err(BadLabel::Blank);
    }
    if begins_with_tuple(label) && !holds_doses(label) {
        return Err(BadLabel::Tuples { label: label.into() });
    }
    let names: Vec<&str> = rules.parts(label).into_iter().map(str::trim).collect();
    if names.iter().any(|name| name.is_empty()) {
        return Err(BadLabel::EmptyPart { label: label.into(), delimiter: rules.delimiter.clone() });
    }
    let perturbations: Vec<&str> = names.iter().copied().filter(|name| !rules.is_control(name)).collect();
    let is_one_number = |text: &str| perturbations.len() == 1 && text.trim().parse::<f64>().is_ok();
    let doses_of_all = |text: &str| rules.dose_parts(text).len() == names.len() && !is_one_number(text);
    let tuples = tuples(label);
    let is_divided = |one: &&DosedName<'_>| !rules.delimiter.is_empty() && one.name.contains(&rules.delimiter);
    if let Some(one) = tuples.iter().flatten().filter(|one| !rules.is_control(one.name)).find(is_divided) {
        let delimiter = rules.delimiter.clone();
        return Err(BadLabel::DelimiterInName { perturbation: one.name.into(), delimiter });
    }
    let named: Vec<(&str, f64)> = match doses {
        None if tuples.is_some() => {
            let perturbed = tuples.iter().flatten().filter(|one| !rules.is_control(one.name));
            perturbed.map(|one| Ok((one.name, dose_of(label, one)?))).collect::<Result<_, _>>()?
        }
        None => perturbations.into_iter().map(|name| (name, 1.0)).collect(),
        // A control part may have a dose too, which is ignored.
        Some(text) if perturbations.len() < names.len() && doses_of_all(text) => {
            let doses = parse_doses(label, text, names.len(), rules)?;
            names.into_iter().zip(doses).filter(|(name, _)| !rules.is_control(name)).collect()
        }
        Some(text) => {
            let doses = parse_doses(label, text, perturbations.len(), rules)?;
            perturbations.into_iter().zip(doses).collect()
        }
    };
    let mut parts: Vec<(Cow<'a, str>, f64)> = Vec::with_capacity(named.len());
    for (name, dose) in named {
        match parts.iter().find(|(other, _)| other == name) {
            None => parts.push((name.into(), dose)),
            Some((_, same)) if *same == dose => {}
            Some(_) => {
                let doses = doses.unwrap_or("as the label says").into();
                return Err(BadLabel::Twice { label: label.into(), perturbation: name.into(), doses });
            }
        }
    }
    Ok(parts)
}

/// The dose of a tuple in micromolar.
fn dose_of(label: &str, one: &DosedName<'_>) -> Result<f64, BadLabel> {
    if !one.is_molar() {
        let (perturbation, unit) = (one.name.into(), one.unit.into());
        return Err(BadLabel::Unit { label: label.into(), perturbation, unit });
    }
    let bad = || BadLabel::Dose { label: label.into(), dose: one.dose.into() };
    check_dose(label, one.dose, one.micromolar().ok_or_else(bad)?)
}

fn parse_doses(label: &str, text: &str, perturbations: usize, rules: &LabelRules) -> Result<Vec<f64>, BadLabel> {
    // A plus sign also appears in exponents (`1e+3`), so the whole string is first tried as a single dose.
    if perturbations == 1
        && let Ok(dose) = text.trim().parse::<f64>()
    {
        return Ok(vec![check_dose(label, text, dose)?]);
    }
    let parts = rules.dose_parts(text);
    if parts.len() != perturbations {
        return Err(BadLabel::DoseCount { label: label.into(), doses: text.into(), perturbations, found: parts.len() });
    }
    let bad = |dose: &str| BadLabel::Dose { label: label.into(), dose: dose.into() };
    parts.into_iter().map(|part| check_dose(label, part, part.trim().parse().map_err(|_| bad(part))?)).collect()
}

fn check_dose(label: &str, text: &str, dose: f64) -> Result<f64, BadLabel> {
    // Adding zero turns -0 into 0, so that both are the same dose.
    let dose = dose + 0.0;
    if dose.is_finite() && dose >= 0.0 {
        Ok(dose)
    } else {
        Err(BadLabel::Dose { label: label.into(), dose: text.into() })
    }
}
