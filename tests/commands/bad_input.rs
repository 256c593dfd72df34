//! Bad input is refused with its place, the nearest names and the documented exit code, and leaves nothing behind.

use std::{fs, path::Path};

use schemas::{
    atlas::{BLOCK_ENTRY_BYTES, BLOCK_ROWS, files},
    ids::CellIndex,
};
use serde_json::Value;
use stages::reader::atlas::Atlas;

use crate::support::{
    Home, TINY,
    h5ad::{h5ad, set_column, set_value},
    says,
};

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 1;
    fs::write(path, bytes).unwrap();
}

fn truncate(path: &Path, bytes: u64) {
    fs::File::options().write(true).open(path).unwrap().set_len(bytes).unwrap();
}

#[test]
fn an_input_that_is_missing() {
    let home = Home::with_atlas();
    for line in [
        "ingest nowhere.h5ad --out a.atlas",
        "inspect nowhere",
        "verify nowhere.atlas",
        "split nowhere.atlas --name a --scheme random:0.1",
        "train nowhere.atlas --out m",
        "train s.atlas --out m --config nowhere.toml",
        "predict nowhere s.atlas --out p",
        "evaluate nowhere s.atlas",
        "report nowhere --out r.html",
    ] {
        says(&home.refused(66, line), &["nowhere"]);
    }
}

#[test]
fn a_file_that_is_no_hdf5_or_only_half_of_one() {
    let home = Home::new();
    fs::write(home.path("table.h5ad"), "cell,gene\n1,2\n").unwrap();
    says(&home.refused(65, "ingest table.h5ad --out a.atlas"), &["table.h5ad"]);
    says(&home.refused(65, "inspect table.h5ad"), &["table.h5ad"]);
    h5ad(&home, "half.h5ad", |_| {});
    let half = fs::metadata(home.path("half.h5ad")).unwrap().len() / 2;
    truncate(&home.path("half.h5ad"), half);
    says(&home.refused(65, "ingest half.h5ad --out a.atlas"), &["half.h5ad"]);
}

#[test]
fn a_table_of_text_or_a_file_in_the_place_of_an_atlas() {
    let home = Home::with_atlas();
    fs::write(home.path("cells.CSV"), "cell,gene\n1,2\n").unwrap();
    says(&home.refused(65, "ingest cells.CSV --out a.atlas"), &["cells.CSV: CSV is not supported", "Parquet"]);
    says(
        &home.refused(2, "split s.h5ad --name n --scheme random:0.1"),
        &["s.h5ad is a file", "name the atlas: s.atlas"],
    );
}

#[test]
fn a_column_or_control_that_is_not_there() {
    let home = Home::with_atlas();
    let ingest = |flag: &str| home.refused(65, &format!("ingest s.h5ad --out a.atlas {flag}"));
    says(&ingest("--perturbation conditon"), &["`conditon`", "nearest known: condition"]);
    says(&ingest("--covariates cell_type,cell_typ"), &["`cell_typ`", "cell_type"]);
    says(&ingest("--dose doze"), &["`doze`", "dose"]);
    says(&ingest("--batch bach"), &["`bach`", "batch"]);
    says(&ingest("--control ctl"), &["unknown control `ctl`", "ctrl"]);
    says(&ingest("--layer counts"), &["counts"]);
}

#[test]
fn labels_that_could_mean_two_things_or_nothing() {
    let home = Home::new();
    h5ad(&home, "two.h5ad", |chunk| set_column(chunk, "batch", "perturbation", |_, batch| batch.into()));
    let message = home.refused(65, "ingest two.h5ad --out a.atlas");
    says(&message, &["these columns differ", "condition (", "perturbation (", "--perturbation condition"]);
    h5ad(&home, "none.h5ad", |chunk| {
        set_column(chunk, "condition", "condition", |_, label| label.replace("ctrl", "wild"))
    });
    says(&home.refused(65, "ingest none.h5ad --out a.atlas"), &["obs column `condition`", "wild", "--control"]);
}

#[test]
fn values_that_are_no_numbers_are_named_by_cell_and_gene() {
    let home = Home::new();
    let mut gene = 0;
    h5ad(&home, "nan.h5ad", |chunk| gene = set_value(chunk, 42, 3, f32::NAN));
    let name = format!("gene `G{:05}`", gene + 1);
    says(&home.refused(65, "ingest nan.h5ad --out a.atlas"), &["nan.h5ad", "cell 42", &name, "NaN"]);
    h5ad(&home, "inf.h5ad", |chunk| gene = set_value(chunk, 99, 0, f32::INFINITY));
    says(&home.refused(65, "ingest inf.h5ad --out a.atlas --values log1p"), &["cell 99", "inf"]);
}

#[test]
fn counts_that_are_negative() {
    let home = Home::new();
    let mut gene = 0;
    h5ad(&home, "negative.h5ad", |chunk| gene = set_value(chunk, 7, 1, -3.0));
    let name = format!("gene `G{:05}`", gene + 1);
    says(&home.refused(65, "ingest negative.h5ad --out a.atlas"), &["negative", "cell 7", &name, "-3", "--layer"]);
    h5ad(&home, "half.h5ad", |chunk| gene = set_value(chunk, 7, 1, 0.5));
    says(
        &home.refused(65, "ingest half.h5ad --out a.atlas --values counts"),
        &["1 value is not an integer", "cell 7", "0.5"],
    );
}

#[test]
fn doses_that_do_not_match_the_perturbations() {
    let home = Home::new();
    let with_dose = |name: &str, dose: &'static str| {
        h5ad(&home, name, |chunk| {
            let last = chunk.obs.num_rows() - 1;
            set_column(chunk, "dose", "dose", |row, before| if row == last { dose.into() } else { before.into() });
        });
    };
    with_dose("few.h5ad", "1");
    says(&home.refused(65, "ingest few.h5ad --out a.atlas"), &["few.h5ad", "row 99", "2 perturbations", "`1`"]);
    with_dose("word.h5ad", "1+high");
    says(&home.refused(65, "ingest word.h5ad --out a.atlas"), &["row 99", "`high`", "not a number"]);
    with_dose("negative.h5ad", "1+-2");
    says(&home.refused(65, "ingest negative.h5ad --out a.atlas"), &["row 99", "`-2`"]);
}

#[test]
fn names_that_a_model_or_an_atlas_does_not_know() {
    let home = Home::with_model("condition=G00034,dose=0.5");
    let predict = |to: &str| home.refused(65, &format!("predict m s.atlas --out p --to {to}"));
    says(&predict("condition=G00035"), &["unknown perturbation `G00035`", "; the nearest known: ", "G00034"]);
    says(&predict("condition=G00034+G99999"), &["`G99999`"]);
    says(&predict("condition=G00034,cell_type=typ_1"), &["unknown covariate value `typ_1`", "type_1"]);
    says(&predict("condition=G00034,cell_tipe=type_1"), &["unknown key `cell_tipe`", "cell_type"]);
    says(&predict("condition=G00034 --from condition=G1"), &["`G1`"]);
    says(&predict("condition=G00034 --split helt"), &["unknown split `helt`"]);
    fs::write(home.path("to.csv"), "condition,tissue\nG00034,lung\n").unwrap();
    says(&predict("to.csv"), &["unknown key `tissue`"]);
    says(&home.refused(65, "train s.atlas --out n --split helt"), &["unknown split `helt`"]);
    says(&home.refused(65, "train s.atlas --out n --hold-out condition=G00035"), &["`G00035`", "G00034"]);
    says(&home.refused(65, "split s.atlas --name n --hold-out cell_type=typ_1"), &["`typ_1`", "type_1"]);
    says(&home.refused(65, "split s.atlas --name n --scheme leave-out:cell_tipe"), &["`cell_tipe`", "cell_type"]);
    says(&home.refused(65, "split s.atlas --name n --from-obs batch"), &["batch", "row 0"]);
    let message = home.refused(2, "predict m s.atlas --out p --to condition=G00034,dose=1+1");
    says(&message, &["1 perturbation,", "`1+1`"]);
}

#[test]
fn an_atlas_that_is_not_as_it_was_written() {
    let home = Home::with_atlas();
    let atlas = home.path("s.atlas");
    let matrix = fs::metadata(atlas.join(files::MATRIX)).unwrap().len();
    let everything = |name: &str, parts: &[&str]| {
        for line in ["inspect A", "split A --name n --scheme random:0.1", "train A --out m"] {
            says(&home.refused(65, &line.replace('A', name)), parts);
        }
        let verified = home.run(&format!("--json verify {name}"));
        assert_eq!(verified.code, 65, "{}", verified.stderr);
        assert!(parts.iter().all(|part| verified.stdout.contains(part)), "{} {parts:?}", verified.stdout);
    };
    truncate(&home.copy(&atlas, "cut.atlas").join(files::MATRIX), matrix / 2);
    everything("cut.atlas", &["matrix.bin", "bytes"]);
    fs::remove_file(home.copy(&atlas, "gone.atlas").join(files::LABELS)).unwrap();
    everything("gone.atlas", &["labels.bin"]);
    fs::remove_file(home.copy(&atlas, "none.atlas").join(files::MANIFEST)).unwrap();
    everything("none.atlas", &["manifest.json"]);
    flip(&home.copy(&atlas, "labels.atlas").join(files::LABELS), 0);
    everything("labels.atlas", &["labels.bin", "checksum"]);

    let changed = |name: &str, from: &str, to: &str| {
        let manifest = home.copy(&atlas, name).join(files::MANIFEST);
        let text = fs::read_to_string(&manifest).unwrap();
        assert!(text.contains(from));
        fs::write(manifest, text.replacen(from, to, 1)).unwrap();
    };
    changed("json.atlas", "{", "[");
    everything("json.atlas", &["manifest.json"]);
    changed("cells.atlas", "\"cells\": 600", "\"cells\": 599");
    everything("cells.atlas", &["manifest.json"]);
    changed("future.atlas", "\"format\": 2", "\"format\": 999");
    for line in ["inspect future.atlas", "train future.atlas --out m"] {
        says(&home.refused(65, line), &["format 999"]);
    }
}

/// A copy of an atlas with a flipped bit in the middle of block 5.
fn with_bad_block(home: &Home, atlas: &str) -> String {
    let name = format!("bad.{atlas}");
    let folder = home.copy(&home.path(atlas), &name);
    let entries = fs::read(folder.join(files::BLOCKS)).unwrap();
    let number = |at: usize| usize::try_from(u64::from_le_bytes(entries[at..at + 8].try_into().unwrap())).unwrap();
    let (offset, bytes) = (number(5 * BLOCK_ENTRY_BYTES), number(5 * BLOCK_ENTRY_BYTES + 8));
    flip(&folder.join(files::MATRIX), offset + bytes / 2);
    name
}

#[test]
fn a_damaged_block_is_named_by_whoever_reads_it() {
    let home = Home::with_model("condition=G00034,dose=0.5");
    home.json("ingest s.h5ad --out z.atlas --compress");
    let atlas = Atlas::open(home.path("s.atlas")).unwrap();
    let there = atlas.manifest().conditions.name(atlas.condition(CellIndex(5 * u64::from(BLOCK_ROWS))));
    for atlas in ["s.atlas", "z.atlas"].map(|atlas| with_bad_block(&home, atlas)) {
        for access in ["--access map", "--access read"] {
            let line = format!("{access} predict m {atlas} --out p --from condition={there} --to observed");
            says(&home.refused(65, &line), &["matrix.bin", "block 5", "checksum", "perturbine verify"]);
            let verified = home.run(&format!("{access} --json verify {atlas}"));
            assert_eq!(verified.code, 65);
            let found: serde_json::Value = serde_json::from_str(&verified.stdout).unwrap();
            assert_eq!(found["damaged"].as_array().unwrap().len(), 1, "{found}");
            assert_eq!(
                (&found["damaged"][0]["file"], &found["damaged"][0]["block"]),
                (&"matrix.bin".into(), &5.into())
            );
        }
    }
}

#[test]
fn a_damaged_block_ends_training_before_it_has_begun_a_model() {
    let home = Home::with_atlas();
    let atlas = with_bad_block(&home, "s.atlas");
    let message = home.refused(65, &format!("train {atlas} --out m --epochs 1 {TINY}"));
    says(&message, &["matrix.bin", "block 5", "checksum"]);
}

#[test]
fn a_model_that_is_not_as_it_was_written() {
    let home = Home::with_model("condition=G00034,dose=0.5");
    let bad = |name: &str, file: &str| home.copy(&home.path("m"), name).join(file);
    flip(&bad("weights", "model.safetensors"), 2000);
    truncate(&bad("short", "model.safetensors"), 100);
    fs::write(bad("card", "model.json"), "{}").unwrap();
    for (model, file) in [("weights", "model.safetensors"), ("short", "model.safetensors"), ("card", "model.json")] {
        says(&home.refused(65, &format!("predict {model} s.atlas --out p")), &[file]);
        says(&home.refused(65, &format!("evaluate {model} s.atlas")), &[file]);
        let verified = home.run(&format!("--json verify {model}"));
        assert!(verified.code == 65 && verified.stdout.contains(file), "{}", verified.stdout);
    }
    fs::remove_file(bad("open", "model.json")).unwrap();
    says(&home.refused(65, "predict open s.atlas --out p"), &["has not finished", "--resume"]);
    fs::create_dir(home.path("empty")).unwrap();
    says(&home.refused(65, "predict empty s.atlas --out p"), &["not a model"]);
    home.json("simulate --cells 200 --genes 59 --conditions 6 --out other.h5ad");
    home.json("ingest other.h5ad --out other.atlas");
    let message = home.refused(65, "predict m other.atlas --out p --to observed");
    says(&message, &["lacks 1 of the model's 60 genes", "G00060"]);
}

#[test]
fn a_model_with_an_offset_that_is_gone() {
    let home = Home::with_model("condition=G00034,dose=0.5");
    let path = home.path("m/model.json");
    let mut card: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    card.as_object_mut().unwrap().remove("checksum");
    card["config"]["model"]["offset_ridge"] = 0.0.into();
    fs::write(&path, card.to_string()).unwrap();
    home.json("predict m s.atlas --out p");
    card["config"]["model"]["offset"] = "ridge".into();
    fs::write(&path, card.to_string()).unwrap();
    let message = home.refused(65, "predict m s.atlas --out q");
    says(&message, &["m/model.json: the model was made with the offset `ridge`", "no longer has", "train it again"]);
    assert!(!message.contains("damaged"), "{message}");
}

#[test]
fn an_atlas_that_can_not_train() {
    let home = Home::with_atlas();
    says(&home.refused(65, "train s.atlas --out m --hold-out condition=ctrl"), &["control", "`ctrl`"]);
    h5ad(&home, "plain.h5ad", |chunk| set_column(chunk, "condition", "guide", |_, label| label.into()));
    let message = home.refused(65, "ingest plain.h5ad --out plain.atlas");
    let named = "plain.h5ad, obs: no column is named condition, perturbation, cond_harm, ";
    let candidates = "; the columns of text, with their most frequent values, are guide (";
    says(&message, &[named, candidates, "--perturbation COLUMN", "--no-perturbation"]);
    says(&home.refused(65, "train plain.h5ad --out m"), &[named, candidates]);
    home.json("ingest plain.h5ad --out plain.atlas --no-perturbation");
    says(&home.refused(65, "train plain.atlas --out m"), &["no perturbation column", "--perturbation"]);
    says(&home.refused(2, "split s.atlas --name n --scheme random:1"), &["no cell to train on"]);
}

#[test]
fn requests_that_make_no_sense() {
    let home = Home::with_atlas();
    for (line, part) in [
        ("frobnicate", "frobnicate"),
        ("train s.atlas", "--out"),
        ("train s.atlas --out m --frobnicate", "--frobnicate"),
        ("train s.atlas --out m --set model.n_latnet=3", "n_latnet"),
        ("train s.atlas --out m --set train.batch_size=1", "train.batch_size"),
        ("train s.atlas --out m --set train.lr=fast", "train.lr"),
        ("train s.atlas --out m --device tpu", "tpu"),
        ("train s.atlas --out m --split a --hold-out condition=ctrl", "--hold-out"),
        ("train s.atlas --out m --hold-out ctrl", "ctrl"),
        ("split s.atlas --name n --scheme half", "half"),
        ("split s.atlas --name n --scheme random:2", "2"),
        ("split s.atlas --name n --scheme random:0.1 --valid 1", "1"),
        ("split s.atlas --name ../n --scheme random:0.1", "../n"),
        ("--memory lots inspect s.atlas", "lots"),
        ("--memory 10 inspect s.atlas", "10"),
        ("--threads 0 inspect s.atlas", "--threads"),
        ("--access fast inspect s.atlas", "fast"),
        ("simulate --cells 0 --out n.h5ad", "cell"),
        ("simulate --conditions 3 --combos 4 --out n.h5ad", "4"),
    ] {
        let message = home.refused(2, line);
        says(&message, &[part]);
    }
}

#[test]
fn a_split_is_replaced_only_where_that_is_asked_for() {
    let home = Home::new();
    h5ad(&home, "s.h5ad", |chunk| {
        set_column(chunk, "batch", "part", |row, _| ["train", "ood"][usize::from(row % 4 == 0)].into());
    });
    home.json("ingest s.h5ad --out s.atlas --split part");
    home.json("split s.atlas --name s --scheme random:0.2");
    let before = fs::read(home.path("s.atlas/splits/s.parquet")).unwrap();
    for line in [
        "split s.atlas --name s --scheme random:0.4",
        "split s.atlas --name s --hold-out condition=G00034",
        "split s.atlas --name s --from-obs part",
    ] {
        says(&home.refused(2, line), &["the atlas has a split `s` already", "--force replaces"]);
        assert_eq!(fs::read(home.path("s.atlas/splits/s.parquet")).unwrap(), before, "{line}");
    }
    says(&home.refused(2, "split s.atlas --name part --scheme random:0.2"), &["a split `part` already"]);
    assert_eq!(home.json("split s.atlas --name s --from-obs part --force")["cells"]["ood"], 25);
    assert_eq!(home.json("inspect s.atlas")["splits"]["s"]["ood"], 25);
    home.json("split s.atlas --name new --scheme random:0.2 --force");
}

#[test]
fn references_of_a_split_are_controls() {
    let home = Home::new();
    h5ad(&home, "s.h5ad", |chunk| {
        set_column(chunk, "batch", "part", |row, _| ["train", "reference"][usize::from(row % 4 == 0)].into());
    });
    says(&home.refused(65, "ingest s.h5ad --out s.atlas --split part"), &["part", "is not a control"]);
    home.json("ingest s.h5ad --out s.atlas");
    says(&home.refused(65, "split s.atlas --name s --from-obs part"), &["part", "is not a control", "write ood"]);
}

#[test]
fn a_split_has_a_name_of_letters_digits_and_dashes() {
    let home = Home::with_atlas();
    let split = |name: &str| {
        let mut command = home.command("split s.atlas --scheme random:0.2 --name");
        let ran = command.arg(name).output().unwrap();
        (ran.status.code(), String::from_utf8(ran.stderr).unwrap())
    };
    for name in ["s p", "s.p", "", ".", "s\n", "a=b", "../s"] {
        let (code, message) = split(name);
        assert_eq!(code, Some(2), "`{name}`: {message}");
        says(&message, &["is not a valid split name", "use letters, digits, - and _"]);
    }
    assert!(!home.path("s.atlas/splits").exists());
    for name in ["s-p_2", "Änderung"] {
        assert_eq!(split(name).0, Some(0), "{name}");
    }
}

#[test]
fn a_label_that_is_blank() {
    let home = Home::new();
    for label in ["", "  "] {
        h5ad(&home, "s.h5ad", |chunk| {
            set_column(
                chunk,
                "condition",
                "condition",
                |row, before| if row == 7 { label.into() } else { before.into() },
            );
        });
        let message = home.refused(65, "ingest s.h5ad --out s.atlas");
        says(&message, &["s.h5ad, obs column `condition`, row 7: the label is blank", "--filter 'condition!='"]);
        assert!(!message.contains('+'), "{message}");
        assert_eq!(home.json("ingest s.h5ad --out s.atlas --filter condition!=")["cells"], 99);
        fs::remove_dir_all(home.path("s.atlas")).unwrap();
    }
}
