//! Files as they are: several at once, cells that are not wanted, labels and values that need a word.

use std::{fs, process::Command};

use serde_json::{Value, json};

use crate::support::{
    Home,
    h5ad::{h5ad, set_column, set_value},
    says,
};

fn cells_of(atlas: &Value, condition: &str) -> u64 {
    let conditions = atlas["conditions"].as_array().unwrap();
    let of_name = conditions.iter().filter(|known| known["name"] == condition);
    of_name.map(|known| known["cells"].as_u64().unwrap()).sum()
}

#[test]
fn several_files_become_one_atlas_that_knows_where_its_cells_are_from() {
    let home = Home::new();
    h5ad(&home, "a.h5ad", |_| {});
    h5ad(&home, "b.h5ad", |chunk| set_column(chunk, "batch", "plate", |_, _| "p1".into()));
    let one = home.json("ingest a.h5ad --out one.atlas");
    let two = home.json("ingest a.h5ad b.h5ad --out two.atlas --file-key file --covariates cell_type,file");
    assert_eq!(two["cells"], 200);
    assert_eq!(two["nonzeros"].as_u64().unwrap(), 2 * one["nonzeros"].as_u64().unwrap());
    assert_eq!(two["covariates"]["file"], json!({ "a": 100, "b": 100 }));
    assert_eq!(cells_of(&two, "ctrl"), 2 * cells_of(&one, "ctrl"));
    assert_eq!(two["sources"].as_array().unwrap().len(), 2);
    assert_eq!(home.json("verify two.atlas")["damaged"], json!([]));
    let message = home.run("ingest a.h5ad b.h5ad --out again.atlas").stderr;
    assert!(message.contains("100 cells have the name of another cell"), "{message}");
}

#[test]
fn an_error_in_one_of_several_files_names_that_file_and_its_row() {
    let home = Home::new();
    h5ad(&home, "a.h5ad", |_| {});
    h5ad(&home, "b.h5ad", |chunk| _ = set_value(chunk, 42, 0, f32::NAN));
    h5ad(&home, "c.h5ad", |chunk| {
        set_column(chunk, "dose", "dose", |row, dose| if row == 99 { "high".into() } else { dose.into() });
    });
    says(&home.refused(65, "ingest a.h5ad b.h5ad --out n.atlas"), &["b.h5ad, cell 42", "NaN"]);
    says(
        &home.refused(65, "ingest a.h5ad c.h5ad --out n.atlas"),
        &["c.h5ad, obs column `condition`, row 99", "`high`"],
    );
}

#[test]
fn cells_are_chosen_by_annotation_label_and_company() {
    let home = Home::new();
    h5ad(&home, "s.h5ad", |chunk| {
        set_column(chunk, "condition", "condition", |row, _| match row {
            0..30 => "ctrl".into(),
            30..60 => "A".into(),
            60..62 => "B".into(),
            62..80 => "A+B".into(),
            _ => "unassigned".into(),
        });
        set_column(chunk, "cell_type", "cell_type", |row, _| if row.is_multiple_of(2) { "T" } else { "NK" }.into());
    });
    let message = home.run("ingest s.h5ad --out all.atlas --dose=").stderr;
    assert!(
        message.contains("20 cells are labelled `unassigned`") && message.contains("--drop-label 'unassigned'"),
        "{message}"
    );
    let some = home.json(
        "ingest s.h5ad --out some.atlas --dose= --drop-label unassigned --filter cell_type=T --min-cells 2 --no-shuffle",
    );
    assert_eq!(some["cells"], 15 + 15 + 9);
    assert_eq!(["ctrl", "A", "B", "A+B"].map(|name| cells_of(&some, name)), [15, 15, 0, 9]);
    assert_eq!(some["covariates"]["cell_type"], json!({ "T": 39 }));
    says(&home.refused(65, "ingest s.h5ad --out n.atlas --dose= --filter cell_type=TT"), &["unknown value `TT`", "T"]);
    says(&home.refused(65, "ingest s.h5ad --out n.atlas --dose= --filter cel=T"), &["unknown obs column `cel`"]);
    says(&home.refused(65, "ingest s.h5ad --out n.atlas --dose= --drop-label *"), &["no cells", "filter"]);
    says(
        &home.refused(65, "ingest s.h5ad --out n.atlas --dose= --drop-label unasigned"),
        &["unknown label `unasigned`; the nearest known: unassigned"],
    );
}

#[test]
fn bad_values_are_clipped_or_their_cells_left_out_on_request() {
    let home = Home::new();
    h5ad(&home, "s.h5ad", |chunk| {
        set_value(chunk, 3, 0, f32::NAN);
        set_value(chunk, 3, 1, f32::INFINITY);
        set_value(chunk, 50, 0, -2.0);
    });
    says(&home.refused(65, "ingest s.h5ad --out n.atlas"), &["2 values are NaN or infinite", "cell 3", "clip"]);
    let plain = home.json("inspect s.h5ad");
    // Whether counts are said to be counts or not, they are.
    for (name, said) in [("said", "--values counts"), ("seen", ""), ("rows", "--no-shuffle")] {
        let clipped = home.json(&format!("ingest s.h5ad --out {name}.clipped.atlas --on-bad-values clip {said}"));
        assert_eq!((&clipped["cells"], &clipped["values"]), (&json!(100), &json!("counts")));
        assert_eq!(clipped["nonzeros"].as_u64().unwrap() + 3, plain["nonzeros"].as_u64().unwrap());
        let dropped = home.json(&format!("ingest s.h5ad --out {name}.dropped.atlas --on-bad-values drop {said}"));
        assert_eq!((&dropped["cells"], &dropped["values"]), (&json!(98), &json!("counts")));
        let verified = home.json(&format!("verify {name}.clipped.atlas {name}.dropped.atlas"));
        assert_eq!(verified["damaged"], json!([]));
    }
    let message = home.run("ingest s.h5ad --out told.atlas --on-bad-values clip").stderr;
    assert!(message.contains("the values are integers") && message.contains("3 bad values were clipped"), "{message}");
    // Values below zero are only bad among counts.
    h5ad(&home, "z.h5ad", |chunk| {
        set_value(chunk, 3, 0, -0.5);
        set_value(chunk, 4, 0, f32::NAN);
    });
    let scaled = home.json("ingest z.h5ad --out z.atlas --on-bad-values drop");
    assert_eq!((&scaled["cells"], &scaled["values"]), (&json!(99), &json!("continuous")));
}

#[test]
fn a_count_that_float32_can_not_hold_is_refused_with_its_value() {
    let home = Home::new();
    h5ad(&home, "large.h5ad", |chunk| _ = set_value(chunk, 3, 0, 16_777_218.0));
    let message = home.refused(65, "ingest large.h5ad --out n.atlas");
    says(&message, &["1 count is too large for a float32", "cell 3", "16777218"]);
    h5ad(&home, "most.h5ad", |chunk| _ = set_value(chunk, 3, 0, 16_777_216.0));
    assert_eq!(home.json("ingest most.h5ad --out most.atlas")["values"], "counts");
    let mtx = |value: &str| {
        let text = format!("%%MatrixMarket matrix coordinate real general\n1 2 2\n1 1 {value}\n1 2 1\n");
        fs::write(home.path("one.mtx"), text).unwrap();
    };
    for value in ["16777217", "16777217.0", "-16777217"] {
        mtx(value);
        let message = home.refused(65, "ingest one.mtx --out n.atlas --no-perturbation");
        says(&message, &[&format!("{value} is a whole number that float32 can't hold")]);
    }
    // Nor can two that add up to one.
    let text = "%%MatrixMarket matrix coordinate integer general\n2 2 3\n1 1 1\n2 1 16777216\n2 1 1\n";
    fs::write(home.path("one.mtx"), text).unwrap();
    says(
        &home.refused(65, "ingest one.mtx --out n.atlas --no-perturbation"),
        &["one.mtx: the entries of cell 1 and gene 0", "add up to 16777217"],
    );
}

#[test]
fn a_limit_of_file_sizes_is_an_error_of_the_write() {
    let home = Home::new();
    h5ad(&home, "s.h5ad", |_| {});
    let before = home.listing();
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -f 1; exec \"$0\" ingest s.h5ad --out n.atlas", env!("CARGO_BIN_EXE_perturbine")]);
    let ran = command.current_dir(home.path("")).output().unwrap();
    let message = String::from_utf8_lossy(&ran.stderr);
    assert_eq!(ran.status.code(), Some(74), "{message}");
    assert!(["can't write", "File too large", "ulimit -f"].iter().all(|part| message.contains(part)), "{message}");
    assert_eq!(home.listing(), before);
}

#[test]
fn a_part_of_a_label_that_is_control_vanishes() {
    let home = Home::new();
    // As GEARS writes them: control is a part of every single perturbation, and in one of the files its own partner.
    h5ad(&home, "gears.h5ad", |chunk| {
        set_column(chunk, "condition", "condition", |row, _| {
            match row {
                0..30 => "ctrl+ctrl",
                30..50 => "A+ctrl",
                50..60 => "ctrl+A",
                60..80 => "B+ctrl",
                _ => "A+B",
            }
            .into()
        });
    });
    let names = |atlas: &Value| {
        let conditions = atlas["conditions"].as_array().unwrap().clone();
        conditions
            .into_iter()
            .map(|known| (known["name"].as_str().unwrap().to_owned(), known["cells"].as_u64().unwrap()))
    };
    let expected: Vec<(String, u64)> =
        [("ctrl", 30), ("A", 30), ("A+B", 20), ("B", 20)].map(|(name, cells)| (name.to_owned(), cells)).into();
    let ran = home.run("ingest gears.h5ad --out gears.atlas --dose=");
    assert!(
        ran.stderr.contains("guessed: --perturbation condition --covariates cell_type --control ctrl"),
        "{}",
        ran.stderr
    );
    assert!(ran.stderr.contains("is dropped as a part of 3 labels: `A+ctrl` becomes `A`"), "{}", ran.stderr);
    assert_eq!(names(&home.json("inspect gears.atlas")).collect::<Vec<_>>(), expected);
    let whole = home.json("ingest gears.h5ad --out whole.atlas --dose= --control ctrl+ctrl");
    assert_eq!(names(&whole).skip(1).collect::<Vec<_>>(), expected[1..]);
    h5ad(&home, "guides.h5ad", |chunk| {
        set_column(chunk, "condition", "condition", |row, _| {
            match row {
                0..40 => "NegCtrl0_NegCtrl1",
                40..60 => "NegCtrl0_A",
                _ => "A_B",
            }
            .into()
        });
    });
    let mut command = home.command("--json ingest guides.h5ad --out guides.atlas --dose= --delimiter _ --control");
    let ran = command.arg("NegCtrl*").output().unwrap();
    let guides: Value = serde_json::from_slice(&ran.stdout).unwrap();
    let found: Vec<u64> = names(&guides).map(|(_, cells)| cells).collect();
    assert_eq!((found, &guides["conditions"][1]["name"]), (vec![40, 20, 40], &json!("A")));
    // Doses stand at every part, or at those that are perturbations.
    for dose in ["1+1", "1"] {
        h5ad(&home, &format!("dose.{dose}.h5ad"), |chunk| {
            set_column(chunk, "condition", "condition", |row, _| if row < 50 { "ctrl" } else { "A+ctrl" }.into());
            set_column(chunk, "dose", "dose", |_, _| dose.into());
        });
        let atlas = home.json(&format!("ingest dose.{dose}.h5ad --out dose.{dose}.atlas"));
        assert_eq!(atlas["conditions"][1]["doses"], json!([1.0]), "{dose}");
    }
}

#[test]
fn conditions_are_rare_however_their_labels_are_written_and_control_never_is() {
    let home = Home::new();
    h5ad(&home, "s.h5ad", |chunk| {
        set_column(chunk, "condition", "condition", |row, _| {
            match row {
                0..5 => "ctrl+ctrl",
                5..20 => "A+B",
                20..35 => "B+A",
                35..47 => "C+ctrl",
                47..59 => "ctrl+C",
                59..78 => "D",
                _ => "A",
            }
            .into()
        });
    });
    let atlas = home.json("ingest s.h5ad --out s.atlas --dose= --min-cells 20");
    assert_eq!(["ctrl", "A+B", "C", "D", "A"].map(|name| cells_of(&atlas, name)), [5, 30, 24, 0, 22]);
}

#[test]
fn conditions_are_rare_by_the_cells_that_stay() {
    let home = Home::new();
    h5ad(&home, "s.h5ad", |chunk| {
        set_column(chunk, "condition", "condition", |row, _| ["ctrl", "A", "B", "C"][row % 4].into());
        set_value(chunk, 1, 0, f32::NAN);
    });
    for order in ["", "--no-shuffle"] {
        let flags = format!("--dose= --on-bad-values drop --min-cells 25 {order}");
        let atlas = home.json(&format!("ingest s.h5ad --out s{}.atlas {flags}", order.len()));
        assert_eq!(["ctrl", "A", "B", "C"].map(|name| cells_of(&atlas, name)), [25, 0, 25, 25]);
    }
}

#[test]
fn files_of_one_name_are_told_apart_by_their_folders() {
    let home = Home::new();
    for sample in ["s1", "s2"] {
        fs::create_dir(home.path(sample)).unwrap();
        h5ad(&home, &format!("{sample}/cells.h5ad"), |_| {});
    }
    let line = "ingest s1/cells.h5ad s2/cells.h5ad --out s.atlas --file-key sample --batch sample";
    let message = home.run(line).stderr;
    assert!(message.contains("`sample` is s1/cells, s2/cells"), "{message}");
    assert_eq!(home.json("inspect s.atlas")["covariates"]["sample"], json!({ "s1/cells": 100, "s2/cells": 100 }));
    home.json("split s.atlas --name n --hold-out sample=s1/cells,condition=G00034");
    says(
        &home.refused(2, "ingest s1/cells.h5ad s2/../s1/cells.h5ad --out n.atlas --file-key sample"),
        &["s1/cells.h5ad and s2/../s1/cells.h5ad are the same file"],
    );
}

#[test]
fn flags_about_labels_are_not_ignored_where_no_column_has_any() {
    let home = Home::new();
    h5ad(&home, "s.h5ad", |chunk| set_column(chunk, "condition", "guide", |_, label| label.into()));
    for flag in ["--control ctrl", "--delimiter _", "--dose dose"] {
        says(&home.refused(65, &format!("ingest s.h5ad --out n.atlas {flag}")), &["--perturbation", "guide"]);
        let message = home.refused(2, &format!("ingest s.h5ad --out n.atlas --no-perturbation {flag}"));
        says(&message, &[flag.split(' ').next().unwrap(), "--no-perturbation"]);
    }
}

#[test]
fn covariates_that_predictions_could_not_hold_are_refused() {
    let home = Home::new();
    h5ad(&home, "s.h5ad", |chunk| set_column(chunk, "batch", "mean", |_, batch| batch.into()));
    let ingest = |covariates: &str| home.refused(2, &format!("ingest s.h5ad --out n.atlas --covariates {covariates}"));
    says(&ingest("cell_type,cell_type"), &["given twice: cell_type"]);
    says(&ingest("cell_type,mean,dose"), &["have the names of prediction columns: mean, dose"]);
    says(&home.refused(2, "ingest s.h5ad --out n.atlas --batch mean"), &["have the names of prediction columns: mean"]);
}

#[test]
fn a_value_with_commas_or_blanks_is_selected_in_quotes() {
    let home = Home::new();
    h5ad(&home, "s.h5ad", |chunk| {
        set_column(chunk, "cell_type", "cell_type", |row, _| if row < 60 { "CD4 T, naive" } else { " B " }.into());
    });
    home.json("ingest s.h5ad --out s.atlas --dose=");
    let split = |name: &str, hold_out: &str| {
        let ran =
            home.command(&format!("--json split s.atlas --name {name} --hold-out")).arg(hold_out).output().unwrap();
        (ran.status.code(), String::from_utf8(ran.stdout).unwrap(), String::from_utf8(ran.stderr).unwrap())
    };
    for (name, hold_out, cells) in [("t", r#"cell_type="CD4 T, naive""#, 60), ("b", r#"cell_type=" B ""#, 40)] {
        let (code, out, message) = split(name, hold_out);
        assert_eq!(code, Some(0), "{message}");
        assert_eq!(serde_json::from_str::<Value>(&out).unwrap()["cells"]["ood"], cells);
    }
    let (code, _, message) = split("n", "cell_type=CD4 T, naive");
    assert!(code == Some(2) && message.contains("double quotes"), "{message}");
    let (code, _, message) = split("n", "condition=G00034,condition=ctrl");
    assert!(code == Some(2) && message.contains("`condition` appears twice"), "{message}");
}

#[test]
fn labels_are_taken_as_they_are() {
    let home = Home::new();
    // Spaces around the parts, and numbers as names.
    h5ad(&home, "spaces.h5ad", |chunk| {
        set_column(chunk, "condition", "condition", |_, label| label.replace('+', " + "));
        set_column(chunk, "cell_type", "cell_type", |row, _| (row % 3).to_string());
    });
    let spaces = home.json("ingest spaces.h5ad --out spaces.atlas");
    let names = spaces["conditions"].as_array().unwrap();
    assert!(names.iter().flat_map(|known| known["perturbations"].as_array().unwrap()).all(|name| {
        let name = name.as_str().unwrap();
        name.trim() == name
    }));
    assert_eq!(spaces["covariates"]["cell_type"], json!({ "0": 34, "1": 33, "2": 33 }));
    // A plus sign within a name, and two names of control.
    h5ad(&home, "drugs.h5ad", |chunk| {
        set_column(chunk, "condition", "drug", |row, label| match label {
            "ctrl" if row.is_multiple_of(2) => "DMSO".into(),
            "ctrl" => "control".into(),
            _ => "(+)-JQ1".into(),
        });
    });
    let flags = "--perturbation drug --control DMSO --control control --dose= --delimiter=";
    let drugs = home.json(&format!("ingest drugs.h5ad --out drugs.atlas {flags}"));
    let names: Vec<&Value> = drugs["conditions"].as_array().unwrap().iter().map(|known| &known["name"]).collect();
    assert_eq!(names, ["DMSO", "(+)-JQ1"]);
    assert_eq!(drugs["conditions"][1]["perturbations"], json!(["(+)-JQ1"]));
    let plain = home.json("inspect drugs.h5ad");
    assert_eq!(plain["cells"], 100, "a file whose labels can't be guessed is shown all the same");
}

#[test]
fn an_atlas_has_as_many_conditions_as_it_needs() {
    let home = Home::new();
    h5ad(&home, "s.h5ad", |chunk| {
        set_column(chunk, "condition", "condition", |row, label| match label {
            "ctrl" => label.into(),
            _ => format!("guide {row}"),
        });
    });
    let atlas = home.json("ingest s.h5ad --out s.atlas --dose=");
    let conditions = atlas["conditions"].as_array().unwrap();
    let perturbed = conditions.iter().filter(|known| known["control"] == false);
    assert!(perturbed.clone().all(|known| known["cells"] == 1));
    assert_eq!(perturbed.count() as u64 + cells_of(&atlas, "ctrl"), 100);
}

#[test]
fn features_of_a_10x_folder_that_are_no_genes_are_counted() {
    let home = Home::new();
    let folder = home.path("counts");
    fs::create_dir(&folder).unwrap();
    let write = |name: &str, text: &str| fs::write(folder.join(name), text).unwrap();
    let matrix = "%%MatrixMarket matrix coordinate integer general\n4 3 4\n1 1 5\n2 2 1\n3 3 7\n4 1 2\n";
    write("matrix.mtx", matrix);
    write("barcodes.tsv", "AAA-1\nCCC-1\nGGG-1\n");
    let gene = "ENSG1\tTP53\tGene Expression\n";
    write("features.tsv", &[gene, "CD3\tCD3\tAntibody Capture\n", "g1\tg1\tCRISPR Guide Capture\n"].concat());
    let last = "CD4\tCD4\tAntibody Capture\n";
    write("features.tsv", &(fs::read_to_string(folder.join("features.tsv")).unwrap() + last));
    let output = home.run("inspect counts");
    assert_eq!(output.code, 0, "{}", output.stderr);
    let warning = "features.tsv: features that are not of the type Gene Expression are kept as genes: \
                   2 Antibody Capture, 1 CRISPR Guide Capture";
    assert!(output.stderr.contains(warning), "{}", output.stderr);
    write("features.tsv", &gene.repeat(4));
    let message = home.run("inspect counts").stderr;
    assert!(!message.contains("Gene Expression"), "{message}");
}

#[test]
fn a_matrix_with_as_many_cells_as_genes_is_read_with_a_warning() {
    let home = Home::new();
    let folder = home.path("counts");
    fs::create_dir(&folder).unwrap();
    let write = |name: &str, text: &str| fs::write(folder.join(name), text).unwrap();
    write("matrix.mtx", "%%MatrixMarket matrix coordinate integer general\n2 2 1\n1 2 5\n");
    write("barcodes.tsv", "AAA-1\nCCC-1\n");
    write("features.tsv", "G1\nG2\n");
    let warning = "counts/matrix.mtx: it has as many rows as columns (2), so the names next to it do not show which are genes; \
                   its rows are read as genes";
    let message = home.run("inspect counts").stderr;
    assert!(message.contains(warning) && message.contains("transpose"), "{message}");
    write("barcodes.tsv", "AAA-1\nCCC-1\nGGG-1\n");
    write("matrix.mtx", "%%MatrixMarket matrix coordinate integer general\n2 3 1\n1 2 5\n");
    let message = home.run("inspect counts").stderr;
    assert!(!message.contains("as many rows as columns"), "{message}");
}
