//! The labels of the perturbation column, and which of them mean control.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::AsArray;
use formats::source::{Source, obs_column};
use schemas::{
    Error, Result,
    conditions::{self, LabelRules},
};

use super::{control_habits, delimiter::dividing, fits};

/// Maximum number of labels listed in an error.
const SHOWN_LABELS: usize = 8;

/// The distinct labels of the perturbation column, and their parts.
pub(super) struct PerturbationLabels {
    /// The name of the column in errors.
    place: String,
    /// Each label, with its parts.
    all: BTreeMap<String, Vec<String>>,
    delimiter: String,
}

impl PerturbationLabels {
    pub(super) fn read(source: &dyn Source, column: &str, rules: &LabelRules) -> Result<Self> {
        let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for values in obs_column(source, column)? {
            for label in values?.as_string::<i32>().iter().flatten() {
                if !all.contains_key(label) {
                    let parts = rules.parts(label).into_iter().map(|part| part.trim().to_owned());
                    all.insert(label.to_owned(), parts.collect());
                }
            }
        }
        let place = format!("{}, obs column `{column}`", source.origin().path);
        Ok(Self { place, all, delimiter: rules.delimiter.clone() })
    }

    /// The distinct labels.
    pub(super) fn all(&self) -> impl Iterator<Item = &str> + Clone {
        self.all.keys().map(String::as_str)
    }

    /// The distinct parts of all labels.
    fn parts(&self) -> BTreeSet<&str> {
        self.all.values().flatten().map(String::as_str).collect()
    }

    /// The names of control, starting with the one that is displayed.
    pub(super) fn controls(&self, requested: &[String], guessed: &mut Vec<String>) -> Result<Vec<String>> {
        let controls = match requested {
            [] => self.usual_controls(guessed)?,
            patterns => self.matching(patterns)?,
        };
        let rules = LabelRules { delimiter: self.delimiter.clone(), controls };
        if self.all.keys().any(|label| rules.means_control(label)) {
            return Ok(rules.controls);
        }
        let has_control = |label: &&String| rules.parts(label).into_iter().any(|part| rules.is_control(part.trim()));
        let with = self.all.keys().find(has_control);
        let message = format!(
            "no label is control by itself: `{}` is only a part of labels such as `{}`",
            rules.controls.join("`, `"),
            with.map_or("", String::as_str)
        );
        Err(Error::data(&self.place, message, "name the control label with --control"))
    }

    /// The only usual name of control that is there, or its numbered names.
    fn usual_controls(&self, guessed: &mut Vec<String>) -> Result<Vec<String>> {
        let rules = LabelRules { delimiter: self.delimiter.clone(), controls: Vec::new() };
        match control_habits::found(self.all(), &rules).as_slice() {
            [] => Err(self.no_usual_control()),
            [found] => {
                guessed.push(format!("--control {}", found.flag));
                Ok(found.names.clone())
            }
            several => {
                let names = some(several.iter().flat_map(|found| &found.names).map(String::as_str));
                let message = format!("{names} could each mean control");
                Err(Error::data(&self.place, message, "choose one with --control; give it several times if all do"))
            }
        }
    }

    fn no_usual_control(&self) -> Error {
        let labels = match self.all.is_empty() {
            true => "no cell has a label".to_owned(),
            false => format!("the labels are {}", some(self.all())),
        };
        let message = format!("no label is one of {}; {labels}", control_habits::listed());
        // A label that is control once another delimiter divides it shows that delimiter.
        let hint = match dividing(self.all(), control_habits::is_usual) {
            Some((delimiter, label)) => format!(
                "--delimiter \"{delimiter}\" divides labels such as `{label}`, whose parts are all control; otherwise name the control label with --control"
            ),
            None => "name the control label with --control".to_owned(),
        };
        Error::data(&self.place, message, hint)
    }

    /// The labels and parts that fit the patterns. A pattern without a delimiter is compared with the parts of labels; one with it, with
    /// whole labels, and with successive parts of labels, each with its own; if its parts are all the same (`ctrl+ctrl`), that part
    /// with single parts instead.
    fn matching(&self, patterns: &[String]) -> Result<Vec<String>> {
        let parts = self.parts();
        let rules = LabelRules { delimiter: self.delimiter.clone(), controls: Vec::new() };
        let mut controls: Vec<String> = Vec::new();
        for pattern in patterns {
            let pattern_parts: Vec<&str> = rules.parts(pattern).into_iter().map(str::trim).collect();
            let same = pattern_parts.iter().all(|part| *part == pattern_parts[0]).then_some(pattern_parts[0]);
            let is_whole = pattern_parts.len() > 1;
            let whole = self.all.keys().map(String::as_str).filter(|label| is_whole && fits(pattern, label));
            let of_parts = parts.iter().copied().filter(|part| same.is_some_and(|pattern| fits(pattern, part)));
            let fits_each = |run: &&str| {
                let run = rules.parts(run).into_iter().map(str::trim);
                pattern_parts.iter().zip(run).all(|(pattern, part)| fits(pattern, part))
            };
            let labels = self.all.keys().filter(|_| is_whole && same.is_none());
            let runs = labels.flat_map(|label| rules.runs(label, pattern_parts.len())).filter(fits_each);
            let matched: Vec<&str> = whole.chain(of_parts).chain(runs).collect();
            if matched.is_empty() {
                let known: BTreeSet<&str> = self.all.keys().map(String::as_str).chain(parts.iter().copied()).collect();
                return Err(Error::unknown("control", pattern, known));
            }
            for control in matched {
                if !controls.iter().any(|known| known == control) {
                    controls.push(control.to_owned());
                }
            }
        }
        Ok(controls)
    }
}

/// The first of these names, for an error.
fn some<'a>(mut names: impl Iterator<Item = &'a str>) -> String {
    let mut shown: Vec<&str> = names.by_ref().take(SHOWN_LABELS).collect();
    shown.extend(names.next().map(|_| "..."));
    shown.join(", ")
}

/// Whether labels of a column hold their own doses; others beside them may be control, or cells that are left out.
///
/// # Errors
/// A column that can't be read.
pub(super) fn hold_doses(source: &dyn Source, column: &str) -> Result<bool> {
    for values in obs_column(source, column)? {
        if values?.as_string::<i32>().iter().flatten().any(conditions::holds_doses) {
            return Ok(true);
        }
    }
    Ok(false)
}
