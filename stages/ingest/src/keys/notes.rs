//! Notes about labels that are interpreted as another name, or as a name though they may be more. Ingest prints them, so that labels
//! are never merged silently.

use std::collections::BTreeSet;

use schemas::{
    conditions::{LabelRules, holds_doses, parse, repeated},
    counting::counted,
};

/// Maximum number of labels that a note lists.
const MOST_EXAMPLES: usize = 4;

/// One sentence for each reason why some of these distinct labels become other names: blanks around a name, a
/// perturbation that occurs twice, or control as a part. Invalid labels are left to the error that refuses
/// them.
pub(super) fn notes<'a>(labels: impl Iterator<Item = &'a str>, rules: &LabelRules) -> Vec<String> {
    let reasons: [(&str, Applies); 4] = [
        ("the half of a label that is written twice counts in", |label, rules| {
            rules.delimiter == "_" && repeated(label).is_some()
        }),
        ("blanks around names are removed from", has_blanks),
        ("a perturbation that is named twice counts once in", names_one_twice),
        ("control is dropped as a part of", has_control_part),
    ];
    let mut examples = reasons.map(|_| Vec::new());
    for label in labels {
        let Some(name) = name_of(label, rules) else { continue };
        for ((_, applies), examples) in reasons.iter().zip(&mut examples) {
            if applies(label, rules) {
                examples.push(format!("`{label}` becomes `{name}`"));
            }
        }
    }
    let found = reasons.iter().zip(&examples).filter(|(_, examples)| !examples.is_empty());
    let sentence = |(reason, _): &(&str, Applies), examples: &[String]| {
        let count = examples.len();
        let plural = if count == 1 { "" } else { "s" };
        let more = if count > MOST_EXAMPLES { ", ..." } else { "" };
        format!("{reason} {count} label{plural}: {}{more}", examples[..count.min(MOST_EXAMPLES)].join(", "))
    };
    found.map(|(reason, examples)| sentence(reason, examples)).collect()
}

/// A sentence about labels that look like tuples or lists of Python, but are read as names: only [some](holds_doses) are known.
pub(super) fn unread_tuples<'a>(labels: impl Iterator<Item = &'a str>) -> Option<String> {
    let is_unread = |label: &&str| {
        let is_within = |open, close| label.starts_with(open) && label.ends_with(close);
        (is_within('(', ')') || is_within('[', ']'))
            && label.contains(',')
            && label.contains(['\'', '"'])
            && !holds_doses(label)
    };
    let mut unread = labels.map(str::trim).filter(is_unread);
    let first = unread.next()?;
    Some(format!(
        "{} look like tuples or lists of Python, but are read as names, such as `{first}`; write combinations as `A+B`",
        counted(1 + unread.count() as u64, "label")
    ))
}

/// Whether a label is changed for a certain reason.
type Applies = fn(&str, &LabelRules) -> bool;

/// The name that a label becomes, without doses; `None` if the label is invalid.
fn name_of(label: &str, rules: &LabelRules) -> Option<String> {
    let parts = parse(label, None, rules).ok()?;
    let names: Vec<&str> = parts.iter().map(|(name, _)| name.as_ref()).collect();
    match (names.is_empty(), rules.controls.first()) {
        (true, Some(control)) => Some(control.clone()),
        _ => Some(names.join(&rules.delimiter)),
    }
}

fn has_blanks(label: &str, rules: &LabelRules) -> bool {
    rules.parts(label).into_iter().any(|part| part != part.trim())
}

fn names_one_twice(label: &str, rules: &LabelRules) -> bool {
    let mut seen = BTreeSet::new();
    rules.parts(label).into_iter().map(str::trim).any(|part| !rules.is_control(part) && !seen.insert(part))
}

fn has_control_part(label: &str, rules: &LabelRules) -> bool {
    !rules.means_control(label) && rules.parts(label).into_iter().any(|part| rules.is_control(part.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notes_of(labels: &[&str]) -> Vec<String> {
        let rules = LabelRules { delimiter: "+".into(), controls: vec!["ctrl".into()] };
        notes(labels.iter().copied(), &rules)
    }

    #[test]
    fn each_reason_has_a_note_with_the_count_and_the_labels() {
        let labels = ["A", " A", "A + B", "ctrl ", "B+A", "A+A", "A+ctrl", "B+ctrl +B", "ctrl", "ctrl+ctrl"];
        assert_eq!(
            notes_of(&labels),
            [
                "blanks around names are removed from 4 labels: ` A` becomes `A`, `A + B` becomes `A+B`, \
                 `ctrl ` becomes `ctrl`, `B+ctrl +B` becomes `B`",
                "a perturbation that is named twice counts once in 2 labels: `A+A` becomes `A`, `B+ctrl +B` becomes `B`",
                "control is dropped as a part of 2 labels: `A+ctrl` becomes `A`, `B+ctrl +B` becomes `B`",
            ]
        );
    }

    #[test]
    fn labels_that_are_read_as_they_are_have_no_note() {
        assert_eq!(notes_of(&["A", "A b", "A+B", "ctrl", "ctrl+ctrl", "A++B"]), Vec::<String>::new());
    }

    #[test]
    fn tuples_in_an_unknown_layout_are_named_as_unread() {
        let labels = ["ctrl", "('A', 'B')", "[\"A\", \"B\"]", "[('A', 0.5, 'uM')]", "(5'-A)", "(+)-A"];
        let note = unread_tuples(labels.into_iter()).expect("a note");
        assert!(note.starts_with("2 labels look like tuples") && note.contains("`('A', 'B')`"), "{note}");
        assert_eq!(unread_tuples(labels[..1].iter().copied()), None);
    }

    #[test]
    fn a_note_lists_a_few_labels() {
        let found = notes_of(&["A+A", "B+B", "C+C", "D+D", "E+E"]);
        assert!(found[0].contains(" 5 labels: `A+A`") && found[0].ends_with("`D+D` becomes `D`, ..."), "{found:?}");
    }
}
