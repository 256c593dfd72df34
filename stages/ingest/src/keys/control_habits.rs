//! The usual names of control, in any spelling.

use std::collections::BTreeSet;

use schemas::conditions::LabelRules;

use super::fits;

/// If several of them are there, the user decides: one may be a treatment of its own.
const NAMES: [&str; 12] = [
    "ctrl",
    "control",
    "DMSO",
    "non-targeting",
    "Vehicle",
    "DMSO_TF",
    "untreated",
    "unperturbed",
    "AAVS1",
    "NT",
    "NTC",
    "NegCtrl",
];
/// Names that controls have with a number behind them, such as `NegCtrl10` and `non-targeting_2`.
const NUMBERED: [&str; 2] = ["NegCtrl", "non-targeting"];
/// Numbered names from which on a pattern is printed instead.
const MOST_NUMBERED: usize = 3;

/// Names of control that are found among labels, and the flag that asks for them.
pub(super) struct FoundControls {
    pub flag: String,
    pub names: Vec<String>,
}

/// The usual names of control among labels and their parts, as they are spelled there: in order of the habits, then the numbered ones.
pub(super) fn found<'a>(labels: impl Iterator<Item = &'a str> + Clone, rules: &LabelRules) -> Vec<FoundControls> {
    let mut found = Vec::new();
    for habit in NAMES {
        let spelled = labels.clone().filter(|label| is_spelled(habit, label));
        let mut names: BTreeSet<String> = spelled.map(|label| label.trim().to_owned()).collect();
        // A name may contain the delimiter: `non-targeting`, divided by `-`, is a part of longer labels.
        let rules = LabelRules { controls: vec![habit.to_owned()], ..rules.clone() };
        let parts = labels.clone().flat_map(|label| rules.parts(label)).map(str::trim);
        names.extend(parts.filter(|part| is_spelled(habit, part)).map(str::to_owned));
        found.extend(names.into_iter().map(|name| FoundControls { flag: name.clone(), names: vec![name] }));
    }
    let parts: BTreeSet<&str> = labels.flat_map(|label| rules.parts(label)).map(str::trim).collect();
    for habit in NUMBERED {
        let numbered: Vec<&str> = parts.iter().copied().filter(|part| is_numbered(habit, part)).collect();
        if !numbered.is_empty() {
            let flag = pattern(&numbered, &parts, rules).unwrap_or_else(|| numbered.join(" --control "));
            found.push(FoundControls { flag, names: numbered.into_iter().map(str::to_owned).collect() });
        }
    }
    found
}

/// Whether a name is a usual one of control, with or without a number.
pub(super) fn is_usual(name: &str) -> bool {
    NAMES.iter().any(|habit| is_spelled(habit, name)) || NUMBERED.iter().any(|habit| is_numbered(habit, name))
}

/// The habits in words, for errors.
pub(super) fn listed() -> String {
    format!("{} in any spelling, or {} with a number", NAMES.join(", "), NUMBERED.join(" or "))
}

/// A pattern in quotes that fits these of the parts and no others; `None` if a few names say the same, or if there is none.
fn pattern(numbered: &[&str], parts: &BTreeSet<&str>, rules: &LabelRules) -> Option<String> {
    let first = numbered.first()?;
    let pattern = format!("{}*", first.trim_end_matches(|sign: char| sign.is_ascii_digit()));
    let is_divided = !rules.delimiter.is_empty() && pattern.contains(&rules.delimiter);
    let fitting = parts.iter().copied().filter(|part| fits(&pattern, part));
    (numbered.len() > MOST_NUMBERED && !is_divided && fitting.eq(numbered.iter().copied()))
        .then(|| format!("'{pattern}'"))
}

fn is_spelled(habit: &str, name: &str) -> bool {
    spelling(habit) == spelling(name)
}

/// Whether a name is that of a control with a number, such as `NegCtrl10` or `non-targeting_2`.
fn is_numbered(habit: &str, name: &str) -> bool {
    let name = spelling(name);
    let number = name.strip_prefix(&spelling(habit));
    number.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}

/// A name without what spellings differ in: case, blanks, `-` and `_`.
fn spelling(name: &str) -> String {
    name.chars().filter(|sign| !matches!(sign, '-' | '_' | ' ')).flat_map(char::to_lowercase).collect()
}
