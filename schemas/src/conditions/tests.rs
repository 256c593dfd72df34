use super::*;

fn table() -> ConditionTable {
    ConditionTable::new(LabelRules { delimiter: "+".into(), controls: vec!["ctrl".into(), "non-targeting".into()] })
}

#[test]
fn the_order_of_a_label_changes_nothing_and_each_dose_keeps_its_perturbation() {
    let mut table = table();
    let first = table.intern("B+A", Some("0.5+1")).expect("a good label");
    assert_eq!(table.intern("A+B", Some("1+0.5")), Ok(first));
    assert_ne!(table.intern("A+B", Some("0.5+1")), Ok(first));
    assert_eq!((table.name(first), table.dose_label(first).as_str()), ("B+A", "0.5+1"));
}

#[test]
fn every_control_is_one_condition_whatever_its_dose() {
    let mut table = table();
    for (label, dose) in
        [("ctrl", None), ("non-targeting", Some("0")), ("ctrl+ctrl", Some("1+1")), ("ctrl", Some("nan"))]
    {
        assert_eq!(table.intern(label, dose), Ok(CONTROL));
    }
}

#[test]
fn control_within_a_combination_is_dropped_with_its_dose() {
    let mut table = table();
    let alone = table.intern("A", Some("0.3")).expect("a good label");
    assert_eq!(table.intern("A+ctrl", Some("0.3+1")), Ok(alone));
}

#[test]
fn a_control_that_contains_the_delimiter_is_one_part() {
    let rules = LabelRules { delimiter: "_".into(), controls: vec!["non_targeting".into(), "safe".into()] };
    let mut table = ConditionTable::new(rules);
    let alone = table.intern("A", None).expect("a good label");
    for label in ["A_non_targeting", "non_targeting_A", "A_ non_targeting", "non_targeting_A_non_targeting_safe"] {
        assert_eq!(table.intern(label, None), Ok(alone), "{label}");
    }
    for label in ["non_targeting", "non_targeting_non_targeting", "safe_non_targeting", "non_targeting_ safe"] {
        assert_eq!(table.intern(label, None), Ok(CONTROL), "{label}");
    }
    assert_eq!(table.intern("A_non_targeting", Some("0.5_1")), table.intern("A", Some("0.5")));
    assert_eq!(table.intern("non_targeting_A", Some("0.5")), table.intern("A", Some("0.5")));
    let pieces = table.intern("non_A_targeting", None).expect("a good label");
    assert_eq!(table.name(pieces), "non_A_targeting");
    assert!(matches!(table.intern("A__non_targeting", None), Err(BadLabel::EmptyPart { .. })));
}

#[test]
fn a_control_made_of_controls_is_as_many_parts_as_it_names() {
    let rules = LabelRules { delimiter: "+".into(), controls: vec!["ctrl+ctrl".into(), "ctrl".into()] };
    assert_eq!(rules.parts("A+ctrl+ctrl"), ["A", "ctrl", "ctrl"]);
    let mut table = ConditionTable::new(rules);
    assert_eq!(table.intern("A+ctrl+ctrl", Some("0.5+1+1")), table.intern("A", Some("0.5")));
}

#[test]
fn doses_that_do_not_match_their_perturbations_are_refused() {
    let mut table = table();
    let error = table.intern("A+B", Some("1")).expect_err("one dose for two");
    assert_eq!(error.to_string(), "`A+B` has 2 perturbations, but its dose `1` has 1 part");
    assert!(matches!(table.intern("A", Some("-1")), Err(BadLabel::Dose { .. })));
    assert!(matches!(table.intern("A", Some("high")), Err(BadLabel::Dose { .. })));
    assert!(matches!(table.intern("A++B", None), Err(BadLabel::EmptyPart { .. })));
    assert!(matches!(table.intern("", None), Err(BadLabel::Blank)));
    assert!(matches!(table.intern(" \t", None), Err(BadLabel::Blank)));
    assert!(matches!(table.intern("A+A", Some("1+2")), Err(BadLabel::Twice { .. })));
}

#[test]
fn tuples_hold_their_own_doses_in_micromolar() {
    let mut table = table();
    let named = |table: &ConditionTable, id| (table.name(id).to_owned(), table.dose_label(id));
    let one = table.intern("[('Drug A', 50.0, 'nM')]", None).expect("a tuple");
    assert_eq!(named(&table, one), ("Drug A".to_owned(), "0.05".to_owned()));
    let same = [
        ("[('N', 9.0, 'nM')]", None),
        ("[('N', 0.009, 'uM')]", None),
        ("[('N', 9e-6, 'mM')]", None),
        ("N", Some("0.009")),
    ];
    let ids = same.map(|(label, doses)| table.intern(label, doses).expect("a dose of 9 nM"));
    assert!(ids.iter().all(|id| *id == ids[0]), "one dose, however it is written");
    assert_eq!(table.intern("Drug A", Some("0.05")), Ok(one), "the same condition in two columns");
    let two = table.intern("[('Drug A', 0.5, 'uM'), ('B', 1, 'mM')]", None).expect("two tuples");
    assert_eq!(named(&table, two), ("Drug A+B".to_owned(), "0.5+1000".to_owned()));
    assert_eq!(table.intern("[('ctrl', 0.0, 'uM')]", None), Ok(CONTROL));
    for bad in ["[('A', 1, 'uM'),]", "[('A', 1, 'g')]", "[('A', x, 'uM')]", "[('A+B', 1, 'uM')]"] {
        assert!(table.intern(bad, None).is_err(), "{bad}");
    }
}

#[test]
fn a_table_survives_being_stored() {
    let mut table = table();
    let id = table.intern("B+A", Some("0.5+1000")).expect("a good label");
    let text = serde_json::to_string(&table).expect("a table is JSON");
    let back: ConditionTable = serde_json::from_str(&text).expect("it reads back");
    assert_eq!(back.find("A+B", Some("1000+0.5")), Ok(Some(id)));
}
