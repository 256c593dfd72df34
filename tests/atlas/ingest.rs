//! Files as they are: several at once, cells that are not wanted, labels and values that need a word.

use std::fs;

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
    let told = home.run("ingest a.h5ad b.h5ad --out again.atlas").stderr;
    assert!(told.contains("100 cells have the name of another cell"), "{told}");
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
    let told = home.run("ingest s.h5ad --out all.atlas --dose=").stderr;
    assert!(told.contains("20 cells are `unassigned`") && told.contains("--drop-label 'unassigned'"), "{told}");
    let some = home.json(
        "ingest s.h5ad --out some.atlas --dose= --drop-label unassigned --filter cell_type=T --min-cells 2 --no-shuffle",
    );
    assert_eq!(some["cells"], 15 + 15 + 9);
    assert_eq!(["ctrl", "A", "B", "A+B"].map(|name| cells_of(&some, name)), [15, 15, 0, 9]);
    assert_eq!(some["covariates"]["cell_type"], json!({ "T": 39 }));
    says(&home.refused(65, "ingest s.h5ad --out n.atlas --dose= --filter cell_type=TT"), &["unknown value `TT`", "T"]);
    says(&home.refused(65, "ingest s.h5ad --out n.atlas --dose= --filter cel=T"), &["unknown obs column `cel`"]);
    says(&home.refused(65, "ingest s.h5ad --out n.atlas --dose= --drop-label *"), &["no cells", "filter"]);
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
    let clipped = home.json("ingest s.h5ad --out clipped.atlas --on-bad-values clip --values counts");
    assert_eq!((&clipped["cells"], &clipped["values"]), (&json!(100), &json!("counts")));
    assert_eq!(clipped["nonzeros"].as_u64().unwrap() + 3, plain["nonzeros"].as_u64().unwrap());
    let dropped = home.json("ingest s.h5ad --out dropped.atlas --on-bad-values drop --values counts");
    assert_eq!((&dropped["cells"], &dropped["values"]), (&json!(98), &json!("counts")));
    let verified = home.json("verify clipped.atlas dropped.atlas");
    assert_eq!(verified["damaged"], json!([]));
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
    let told = home.run("inspect counts");
    assert_eq!(told.code, 0, "{}", told.stderr);
    let warning = "features.tsv: features that are not of the type Gene Expression are kept as genes: \
                   2 Antibody Capture, 1 CRISPR Guide Capture";
    assert!(told.stderr.contains(warning), "{}", told.stderr);
    write("features.tsv", &gene.repeat(4));
    let told = home.run("inspect counts").stderr;
    assert!(!told.contains("Gene Expression"), "{told}");
}
