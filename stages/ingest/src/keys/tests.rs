use formats::memory::CellsInMemory;

use super::*;

#[test]
fn the_habits_of_the_field_are_guessed_and_reported() {
    let table = CellsInMemory::without_genes(&[
        ("cell_type", vec!["T", "B"]),
        ("dose", vec!["1", "1"]),
        ("condition", vec!["A", "ctrl"]),
    ]);
    let keys = resolve(&table, &RequestedKeys::default()).expect("a plain table");
    assert_eq!(keys.columns.perturbation.as_deref(), Some("condition"));
    assert_eq!((keys.columns.dose.as_deref(), keys.columns.covariates), (Some("dose"), vec!["cell_type".to_owned()]));
    assert_eq!(keys.rules.controls, ["ctrl"]);
    assert_eq!(keys.guessed, ["--perturbation condition", "--dose dose", "--covariates cell_type", "--control ctrl"]);
}

#[test]
fn columns_and_controls_of_published_screens_are_guessed_where_the_usual_ones_are_missing() {
    for (column, control) in [
        ("perturbation_name", "control"),
        ("product_name", "Vehicle"),
        ("drug", "DMSO_TF"),
        ("gene", "non-targeting"),
        ("treatment", "untreated"),
    ] {
        let table = CellsInMemory::without_genes(&[(column, vec!["A", control]), ("dose", vec!["1", "1"])]);
        let keys = resolve(&table, &RequestedKeys::default()).expect(column);
        assert_eq!(keys.columns.perturbation.as_deref(), Some(column));
        assert_eq!(keys.rules.controls, [control]);
        assert_eq!(keys.guessed.last(), Some(&format!("--control {control}")));
    }
    let two = CellsInMemory::without_genes(&[("drug", vec!["A", "DMSO", "untreated"])]);
    let error = resolve(&two, &RequestedKeys::default()).expect_err("two controls");
    assert!(error.to_string().contains("DMSO, untreated could each mean control"), "{error}");
    let both = CellsInMemory::without_genes(&[("condition", vec!["A", "ctrl"]), ("drug", vec!["B", "C"])]);
    let keys = resolve(&both, &RequestedKeys::default()).expect("the usual column comes first");
    assert_eq!(keys.columns.perturbation.as_deref(), Some("condition"));
    let none = CellsInMemory::without_genes(&[
        ("cell", vec!["1", "2", "3", "4", "5"]),
        ("label", vec!["B", "B", "C", "D", "E"]),
    ]);
    let error = resolve(&none, &RequestedKeys::default()).expect_err("no such column");
    assert!(error.to_string().contains("label (B, C, D, ...)"), "{error}");
}

#[test]
fn a_column_that_seems_to_hold_doses_is_read_or_named() {
    let decided = |columns: &[(&str, Vec<&str>)], dose: Option<&str>| {
        let table = CellsInMemory::without_genes(&[&[("drug", vec!["A", "DMSO"])][..], columns].concat());
        resolve(&table, &RequestedKeys { dose: dose.map(str::to_owned), ..RequestedKeys::default() })
            .expect("a table")
            .decided
    };
    let text = ("dose_text", vec!["0.05 uM", "0 uM"]);
    let numbers = ("conc", vec!["0.05", "0"]);
    let others = [("dose_unit", vec!["uM", "uM"]), ("concordance", vec!["1", "2"])];
    let found = decided(&[text.clone(), numbers.clone(), others[0].clone(), others[1].clone()], None);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].contains("`dose_text` seems to hold doses") && found[0].contains("not numbers"), "{found:?}");
    assert!(found[1].contains("--dose conc reads it"), "{found:?}");
    assert_eq!(decided(&[text.clone(), numbers.clone()], Some("conc")), Vec::<String>::new());
    assert_eq!(decided(std::slice::from_ref(&text), Some("")), Vec::<String>::new());
    assert_eq!(decided(&[text, ("dose_value", vec!["1", "0"])], None), Vec::<String>::new());
}

#[test]
fn doses_in_tuples_of_names_are_read_without_another_column() {
    let labels = vec!["[('A', 0.5, 'uM')]", "[('DMSO_TF', 0.0, 'uM')]"];
    let columns = [("drug", vec!["A", "DMSO_TF"]), ("drugname_drugconc", labels), ("dose", vec!["7", "7"])];
    let keys = resolve(&CellsInMemory::without_genes(&columns), &RequestedKeys::default()).expect("Tahoe's columns");
    assert_eq!(keys.guessed, ["--perturbation drugname_drugconc", "--control DMSO_TF"]);
    assert_eq!(keys.columns.dose, None);
    assert_eq!(keys.decided, ["doses are read from `drugname_drugconc`, in micromolar (1 for labels without one)"]);
}

#[test]
fn plain_labels_beside_tuples_leave_the_tuples_their_doses() {
    let labels = vec!["[('A', 0.5, 'uM')]", "DMSO_TF", "unassigned"];
    let columns = [("drugname_drugconc", labels), ("dose", vec!["7", "7", "7"])];
    let table = CellsInMemory::without_genes(&columns);
    let resolved = |dose: Option<&str>| {
        resolve(&table, &RequestedKeys { dose: dose.map(str::to_owned), ..RequestedKeys::default() })
    };
    assert_eq!(resolved(None).expect("Tahoe's columns").columns.dose, None);
    assert_eq!(resolved(Some("dose")).expect("as asked").columns.dose.as_deref(), Some("dose"));
    let error = resolved(Some("")).expect_err("there are doses");
    assert!(error.to_string().contains("labels hold them"), "{error}");
}

#[test]
fn numbered_controls_are_guessed_and_perturbations_beside_a_control_are_not() {
    let resolved = |labels: &[&str], delimiter: Option<&str>| {
        let table = CellsInMemory::without_genes(&[("condition", labels.to_vec())]);
        resolve(&table, &RequestedKeys { delimiter: delimiter.map(str::to_owned), ..RequestedKeys::default() })
    };
    let keys = resolved(&["NegCtrl1_NegCtrl10", "A_NegCtrl1", "A_B"], Some("_")).expect("numbered controls");
    assert_eq!(keys.rules.controls, ["NegCtrl1", "NegCtrl10"]);
    assert_eq!(keys.guessed, ["--perturbation condition", "--control NegCtrl1 --control NegCtrl10"]);
    let error = resolved(&["NegCtrl1_A", "B"], None).expect_err("a perturbed cell is no control");
    assert!(error.to_string().contains("no label is one of"), "{error}");
}

#[test]
fn identities_of_guides_are_pairs_that_are_written_twice() {
    let resolved = |labels: &[&'static str]| {
        resolve(&CellsInMemory::without_genes(&[("guide_identity", labels.to_vec())]), &RequestedKeys::default())
    };
    let keys =
        resolved(&["NegCtrl0_NegCtrl0__NegCtrl0_NegCtrl0", "A_NegCtrl0__A_NegCtrl0", "A_B__A_B"]).expect("pairs");
    assert_eq!(
        keys.guessed,
        ["--perturbation guide_identity", "--delimiter \"_\"", "--control NegCtrl0"],
        "{:?}",
        keys.decided
    );
    assert_eq!(keys.rules.parts("A_B__A_B"), ["A", "B"]);
    assert!(keys.rules.means_control("NegCtrl0_NegCtrl0__NegCtrl0_NegCtrl0"));
    // One that is not written twice shows that `_` may be a part of names.
    let keys = resolved(&["ctrl", "A_B__A_B", "A_C"]).expect("names");
    assert_eq!(keys.rules.delimiter, "+");
    assert_eq!(keys.rules.parts("A_B__A_B"), ["A_B__A_B"]);
}

#[test]
fn a_column_that_counts_perturbations_shows_the_delimiter() {
    let labels = vec!["control", "A_1", "A_1;B"];
    let with = |counts: Vec<&'static str>| {
        let table = CellsInMemory::without_genes(&[("perturbation", labels.clone()), ("nperts", counts)]);
        resolve(&table, &RequestedKeys::default()).expect("a table")
    };
    let keys = with(vec!["0", "1", "2.0"]);
    assert_eq!(keys.rules.delimiter, ";");
    assert!(keys.guessed.contains(&"--delimiter \";\"".to_owned()), "{:?}", keys.guessed);
    assert_eq!(with(vec!["0", "1", "1"]).rules.delimiter, "+");
    let keys = with(vec!["0", "1", "3"]);
    assert_eq!(keys.rules.delimiter, "+");
    assert!(
        keys.decided[0].contains("in labels such as `A_1;B`, which none of the usual delimiters divides so"),
        "{:?}",
        keys.decided
    );
    let unknown = CellsInMemory::without_genes(&[("perturbation", vec!["control", "A", "B", "A_B"])]);
    let keys = resolve(&unknown, &RequestedKeys::default()).expect("a table");
    let note = "1 label is read as one perturbation, but looks like a combination, such as `A_B`; --delimiter \"_\" reads combinations";
    assert_eq!(keys.decided, [note]);
}

#[test]
fn columns_that_differ_are_an_ambiguity_and_other_names_of_the_same_groups_are_not() {
    let resolved = |other: Vec<&'static str>| {
        let columns = [("condition", vec!["A", "ctrl", "C"]), ("perturbation", other)];
        resolve(&CellsInMemory::without_genes(&columns), &RequestedKeys::default())
    };
    let error = resolved(vec!["B", "ctrl", "B"]).expect_err("ambiguous").to_string();
    let expected =
        "these columns differ, and each could be --perturbation: condition (A, C, ctrl); perturbation (B, ctrl)";
    assert!(error.ends_with(expected), "{error}");
    assert_eq!(resolved(vec!["A", "ctrl", "C"]).expect("equal").decided, Vec::<String>::new());
    let note = "`perturbation` has other names for the same groups of cells as `condition`";
    assert_eq!(resolved(vec!["S1", "S0", "S2"]).expect("codes").decided, [note]);
}

#[test]
fn a_column_that_says_only_whether_a_cell_is_perturbed_is_not_that_of_perturbations() {
    let columns = [("perturbation", vec!["NT", "yes", "yes"]), ("gene_target", vec!["NT", "A", "B"])];
    let table = CellsInMemory::without_genes(&columns);
    let error = resolve(&table, &RequestedKeys::default()).expect_err("two columns");
    assert!(error.hint().is_some_and(|hint| hint.ends_with("--perturbation gene_target")), "{error}");
    let requested = RequestedKeys { perturbation: Some("perturbation".into()), ..RequestedKeys::default() };
    assert!(resolve(&table, &requested).is_ok(), "the user decides");
}

#[test]
fn every_label_that_fits_a_pattern_is_a_control() {
    let table = CellsInMemory::without_genes(&[("condition", vec!["non-targeting_2", "A", "non-targeting_1", "safe"])]);
    let requested =
        RequestedKeys { controls: vec!["safe".into(), "non-targeting*".into()], ..RequestedKeys::default() };
    let keys = resolve(&table, &requested).expect("known controls");
    assert_eq!(keys.rules.controls, ["safe", "non-targeting_1", "non-targeting_2"]);
}

#[test]
fn a_part_that_fits_is_control_and_a_label_of_controls_alone_too() {
    let labels = vec!["NegCtrl0_A", "NegCtrl1_NegCtrl0", "A_B"];
    let table = CellsInMemory::without_genes(&[("condition", labels)]);
    let delimiter = Some("_".into());
    let requested =
        RequestedKeys { controls: vec!["NegCtrl*".into()], delimiter: delimiter.clone(), ..RequestedKeys::default() };
    let keys = resolve(&table, &requested).expect("known controls");
    assert_eq!(keys.rules.controls, ["NegCtrl0", "NegCtrl1"]);
    assert_eq!(keys.decided, ["control is dropped as a part of 1 label: `NegCtrl0_A` becomes `A`"]);
    let requested = RequestedKeys { controls: vec!["NegCtrl*_NegCtrl*".into()], delimiter, ..RequestedKeys::default() };
    let keys = resolve(&table, &requested).expect("known controls");
    assert_eq!(keys.rules.controls, ["NegCtrl1_NegCtrl0", "NegCtrl0", "NegCtrl1"]);
    let table = CellsInMemory::without_genes(&[("condition", vec!["A+ctrl", "ctrl+ctrl"])]);
    let keys = resolve(&table, &RequestedKeys::default()).expect("the habit is a part");
    assert_eq!(keys.rules.controls, ["ctrl"]);
    let alone = CellsInMemory::without_genes(&[("condition", vec!["A+ctrl", "B"])]);
    let error = resolve(&alone, &RequestedKeys::default()).expect_err("no cell is control");
    assert!(error.to_string().contains("`ctrl` is only a part of labels such as `A+ctrl`"), "{error}");
}

#[test]
fn a_control_that_contains_the_delimiter_is_found_in_labels() {
    let keys_for = |labels: &[&str], control: Option<&str>, delimiter: &str| {
        let table = CellsInMemory::without_genes(&[("condition", labels.to_vec())]);
        let controls = control.into_iter().map(str::to_owned).collect();
        resolve(&table, &RequestedKeys { controls, delimiter: Some(delimiter.into()), ..RequestedKeys::default() })
    };
    let labels = ["non_targeting_non_targeting", "A_non_targeting", "non_targeting_B", "A_B"];
    let keys = keys_for(&labels, Some("non_targeting"), "_").expect("a part of labels");
    assert_eq!(keys.rules.controls, ["non_targeting"]);
    let dropped =
        "control is dropped as a part of 2 labels: `A_non_targeting` becomes `A`, `non_targeting_B` becomes `B`";
    assert_eq!(keys.decided, [dropped]);
    let keys =
        keys_for(&["A-non-targeting", "A-B", "non-targeting-non-targeting"], None, "-").expect("the habit is a part");
    assert_eq!(keys.guessed[1], "--control non-targeting");
    assert_eq!(keys.decided, ["control is dropped as a part of 1 label: `A-non-targeting` becomes `A`"]);
    let labels = ["non_targeting_1", "A_non_targeting_2", "non_targeting_2_non_targeting_1"];
    let keys = keys_for(&labels, Some("non_targeting_*"), "_").expect("a pattern");
    assert!(labels.iter().map(|label| keys.rules.means_control(label)).eq([true, false, true]), "{keys:?}");
    assert_eq!(keys.decided, ["control is dropped as a part of 1 label: `A_non_targeting_2` becomes `A`"]);
    let error = keys_for(&["A_non_targeting", "B"], Some("non_targeting"), "_").expect_err("no cell is control");
    assert!(
        error.to_string().contains("`non_targeting` is only a part of labels such as `A_non_targeting`"),
        "{error}"
    );
}

#[test]
fn labels_that_are_read_as_another_name_have_a_note() {
    let table = CellsInMemory::without_genes(&[("condition", vec!["A", " A", "A+A", "ctrl"])]);
    let keys = resolve(&table, &RequestedKeys::default()).expect("plain labels");
    assert_eq!(
        keys.decided,
        [
            "blanks around names are removed from 1 label: ` A` becomes `A`",
            "a perturbation that is named twice counts once in 1 label: `A+A` becomes `A`"
        ]
    );
}

#[test]
fn covariates_that_would_stand_twice_in_predictions_are_refused() {
    let table = CellsInMemory::without_genes(&[("condition", vec!["ctrl"]), ("mean", vec!["1"]), ("donor", vec!["d"])]);
    let keys_for = |names: &[&str]| {
        let covariates = Some(names.iter().map(|name| (*name).to_owned()).collect());
        resolve(&table, &RequestedKeys { covariates, ..RequestedKeys::default() })
    };
    assert!(keys_for(&["donor"]).is_ok());
    assert!(keys_for(&["donor", "donor"]).expect_err("twice").to_string().contains("given twice: donor"));
    let error = keys_for(&["donor", "mean", "condition"]).expect_err("taken").to_string();
    assert!(error.ends_with("prediction columns: mean, condition"), "{error}");
}

#[test]
fn what_is_said_of_labels_is_not_ignored_where_there_are_none() {
    let table = CellsInMemory::without_genes(&[("cell", vec!["c"]), ("guide", vec!["ctrl"])]);
    let requested = RequestedKeys { controls: vec!["ctrl".into()], no_perturbation: true, ..RequestedKeys::default() };
    let error = resolve(&table, &requested).expect_err("no column of perturbations");
    assert_eq!(error.exit_code(), schemas::error::ExitCode::Usage);
    let error = error.to_string();
    assert!(error.starts_with("--control") && error.ends_with("--no-perturbation says that there are none"), "{error}");
}

#[test]
fn without_a_column_of_perturbations_those_that_could_be_it_are_listed() {
    let columns = [("cell", vec!["c"]), ("donor", vec!["d1"]), ("guide", vec!["ctrl"])];
    let error =
        resolve(&CellsInMemory::without_genes(&columns), &RequestedKeys::default()).expect_err("no such column");
    assert_eq!(error.exit_code(), schemas::error::ExitCode::Data);
    let expected = "a.h5ad, obs: no column is named condition, perturbation, cond_harm, drugname_drugconc, perturbation_name, product_name, drug, treatment, gene, target_gene, gene_target, guide_identity; the columns of text, with their most frequent values, are donor (d1); guide (ctrl)";
    assert_eq!(error.to_string(), expected);
    assert!(
        error.hint().is_some_and(|hint| hint.contains("--perturbation COLUMN") && hint.contains("--no-perturbation"))
    );
}

#[test]
fn a_column_in_which_no_cell_has_a_label_is_refused_in_words() {
    let table = CellsInMemory::without_genes(&[("condition", Vec::new())]);
    let error = resolve(&table, &RequestedKeys::default()).expect_err("no control").to_string();
    assert!(error.ends_with("with a number; no cell has a label"), "{error}");
}

#[test]
fn a_control_that_no_cell_has_is_refused_with_the_nearest_labels() {
    let table = CellsInMemory::without_genes(&[("condition", vec!["control", "A"])]);
    let requested = RequestedKeys { controls: vec!["contrl".into()], ..RequestedKeys::default() };
    let error = resolve(&table, &requested).expect_err("unknown");
    assert!(error.to_string().starts_with("unknown control `contrl`; the nearest known: control"), "{error}");
}

#[test]
fn a_table_without_perturbations_makes_an_unlabelled_atlas_where_that_is_said() {
    let table = CellsInMemory::without_genes(&[("condition", vec!["d1"])]);
    let requested = RequestedKeys { no_perturbation: true, ..RequestedKeys::default() };
    let keys = resolve(&table, &requested).expect("fine");
    assert_eq!((keys.columns, keys.rules.controls), (LabelColumns::default(), Vec::new()));
}

#[test]
fn controls_are_recognised_in_any_spelling() {
    for control in
        ["Ctrl", "CTRL", "Control", "dmso", "vehicle", "Non-Targeting", "non_targeting", "nontargeting", "NegCtrl"]
    {
        let table = CellsInMemory::without_genes(&[("condition", vec!["A", control, "B"])]);
        let keys = resolve(&table, &RequestedKeys::default()).expect(control);
        assert_eq!(
            (keys.rules.controls, keys.guessed.last()),
            (vec![control.to_owned()], Some(&format!("--control {control}")))
        );
    }
    let two = CellsInMemory::without_genes(&[("condition", vec!["A", "ctrl", "Ctrl"])]);
    let error = resolve(&two, &RequestedKeys::default()).expect_err("two spellings").to_string();
    assert!(error.ends_with("Ctrl, ctrl could each mean control"), "{error}");
}

#[test]
fn many_numbered_controls_are_printed_as_a_pattern_that_reads_the_same() {
    let labels = vec!["A", "non-targeting_00001", "non-targeting_00002", "non-targeting_00003", "non-targeting_00004"];
    let table = CellsInMemory::without_genes(&[("condition", labels.clone())]);
    let keys = resolve(&table, &RequestedKeys::default()).expect("numbered controls");
    assert_eq!(keys.guessed.last().map(String::as_str), Some("--control 'non-targeting_*'"));
    let requested = RequestedKeys { controls: vec!["non-targeting_*".into()], ..RequestedKeys::default() };
    assert_eq!(keys.rules.controls, resolve(&table, &requested).expect("the same").rules.controls);
    assert_eq!(keys.rules.controls, labels[1..]);
}

#[test]
fn a_pattern_that_takes_perturbed_cells_for_control_is_noted() {
    let decided = |labels: &[&str], control: &str| {
        let table = CellsInMemory::without_genes(&[("condition", labels.to_vec())]);
        let requested = RequestedKeys { controls: vec![control.into()], ..RequestedKeys::default() };
        resolve(&table, &requested).expect("labels fit").decided
    };
    let pairs = ["NegCtrl0_NegCtrl1", "NegCtrl0_B", "A_NegCtrl0", "A_B"];
    let note = "1 label is read as control, but looks like a combination of control and a perturbation, such as `NegCtrl0_B`; \
                --delimiter \"_\" reads combinations";
    assert_eq!(decided(&pairs, "NegCtrl*"), [note]);
    assert_eq!(decided(&["NT_g1", "NT_g2", "A_g1", "B_g2"], "NT*"), Vec::<String>::new());
    assert_eq!(decided(&["non-targeting_1", "A_1", "A_2"], "non-targeting*"), Vec::<String>::new());
    let table = CellsInMemory::without_genes(&[("condition", pairs.to_vec())]);
    let error = resolve(&table, &RequestedKeys::default()).expect_err("no usual control");
    assert!(
        error
            .hint()
            .is_some_and(|hint| hint.starts_with("--delimiter \"_\" divides labels such as `NegCtrl0_NegCtrl1`")),
        "{error}"
    );
}

#[test]
fn doses_in_several_units_are_not_compared() {
    let columns =
        [("drug", vec!["DMSO", "A", "A"]), ("dose", vec!["0", "1", "1"]), ("dose_unit", vec!["%", "uM", "nM"])];
    let resolved = |columns: &[(&str, Vec<&str>)], dose: Option<&str>| {
        let requested = RequestedKeys { dose: dose.map(str::to_owned), ..RequestedKeys::default() };
        resolve(&CellsInMemory::without_genes(columns), &requested)
    };
    let error = resolved(&columns, None).expect_err("two units");
    assert!(
        error.to_string().ends_with("`dose_unit` has several units (nM, uM), but doses are compared as numbers"),
        "{error}"
    );
    assert!(
        resolved(&columns, Some("dose")).expect("as asked").decided[0]
            .ends_with("those of `dose` have to be in one unit")
    );
    let one_unit = [columns[0].clone(), columns[1].clone(), ("dose_unit", vec!["%", "uM", "uM"])];
    assert_eq!(resolved(&one_unit, None).expect("one unit, but for control").decided, Vec::<String>::new());
}

#[test]
fn of_many_columns_of_text_the_likely_ones_are_listed() {
    let names: Vec<String> = (0..20).map(|at| format!("note_{at}")).collect();
    let mut columns: Vec<(&str, Vec<&str>)> = vec![("cell", vec!["1", "2", "3"])];
    columns.extend(names.iter().map(|name| (name.as_str(), vec!["x", "x", "x"])));
    columns.extend([("clone", vec!["b", "b", "c"]), ("agent", vec!["A", "Mock", "DMSO"])]);
    let error = resolve(&CellsInMemory::without_genes(&columns), &RequestedKeys::default())
        .expect_err("no such column")
        .to_string();
    assert!(error.contains("are agent (A, DMSO, Mock); clone (b, c); note_0 (x); "), "{error}");
    assert!(error.ends_with("; note_9 (x); and 10 more, which `perturbine inspect` lists"), "{error}");
}
