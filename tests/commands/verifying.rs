//! `verify` judges all that it is given, and shows what it found of each.

use std::{fs, path::Path};

use serde_json::Value;

use crate::support::{
    Home, TINY,
    h5ad::{h5ad, set_value},
    says,
};

fn verified(home: &Home, line: &str) -> (i32, Vec<Value>) {
    let ran = home.run(&format!("--json verify {line}"));
    let value: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {}", ran.stderr));
    (ran.code, value["damaged"].as_array().unwrap().clone())
}

#[test]
fn a_split_that_is_spoilt_is_damage_of_its_atlas() {
    let home = Home::with_atlas();
    home.json("split s.atlas --name good --scheme random:0.5");
    home.json("split s.atlas --name bad --scheme random:0.5 --seed 2");
    assert_eq!(verified(&home, "s.atlas"), (0, Vec::new()));
    let path = home.path("s.atlas/splits/bad.parquet");
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    let (code, damages) = verified(&home, "s.atlas");
    assert_eq!((code, damages.len()), (65, 1), "{damages:?}");
    assert_eq!(damages[0]["file"], "splits/bad.parquet");
}

#[test]
fn every_bit_of_a_split_and_of_the_list_of_splits_is_covered() {
    let home = Home::with_atlas();
    home.json("split s.atlas --name s --scheme random:0.5");
    let atlas = stages::reader::atlas::Atlas::open(home.path("s.atlas")).unwrap();
    for file in ["splits/s.parquet", "splits.json"] {
        let path = home.path("s.atlas").join(file);
        let whole = fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[at] ^= 1 << (at % 8);
            fs::write(&path, flipped).unwrap();
            let files: Vec<String> = atlas.verify().unwrap().into_iter().map(|damage| damage.file).collect();
            assert_eq!(files, [file], "byte {at}");
        }
        fs::write(&path, whole).unwrap();
    }
    assert_eq!(atlas.verify().unwrap(), []);
}

#[test]
fn a_split_that_is_lost_is_damage_unless_it_was_removed() {
    let home = Home::with_atlas();
    for name in ["a", "b"] {
        home.json(&format!("split s.atlas --name {name} --scheme random:0.5"));
    }
    // An atlas of an older version, which has no list, starts one with the splits that it has.
    fs::remove_file(home.path("s.atlas/splits.json")).unwrap();
    assert_eq!(verified(&home, "s.atlas"), (0, Vec::new()));
    home.json("split s.atlas --name c --scheme random:0.5");
    fs::remove_file(home.path("s.atlas/splits/a.parquet")).unwrap();
    let (code, damages) = verified(&home, "s.atlas");
    assert_eq!((code, damages.len()), (65, 1), "{damages:?}");
    assert_eq!(damages[0]["file"], "splits/a.parquet");
    assert!(damages[0]["what"].as_str().unwrap().contains("split s.atlas --remove a"), "{damages:?}");
    home.json("split s.atlas --remove a");
    home.json("split s.atlas --remove b");
    assert_eq!(verified(&home, "s.atlas"), (0, Vec::new()));
    assert_eq!(home.json("inspect s.atlas")["splits"].as_object().unwrap().keys().collect::<Vec<_>>(), ["c"]);
    says(&home.refused(65, "split s.atlas --remove a"), &["unknown split `a`", "c"]);
    fs::remove_dir_all(home.path("s.atlas/splits")).unwrap();
    assert_eq!(verified(&home, "s.atlas").1.len(), 1, "a folder of splits that is lost");
}

#[test]
fn files_that_changed_under_an_atlas_are_no_reason_not_to_judge_the_rest() {
    let home = Home::new();
    h5ad(&home, "a.h5ad", |_| {});
    h5ad(&home, "b.h5ad", |_| {});
    home.json("ingest a.h5ad --out a.atlas --in-place");
    home.json("ingest b.h5ad --out b.atlas --in-place");
    // With the same length, and another one.
    h5ad(&home, "other.h5ad", |chunk| {
        set_value(chunk, 3, 1, 123.0);
        set_value(chunk, 99, 1, 123.0);
    });
    fs::rename(home.path("other.h5ad"), home.path("a.h5ad")).unwrap();
    let file = fs::File::options().append(true).open(home.path("b.h5ad")).unwrap();
    std::io::Write::write_all(&mut { file }, b"more").unwrap();
    h5ad(&home, "whole.h5ad", |_| {});
    home.json("ingest whole.h5ad --out whole.atlas");
    let matrix = home.path("whole.atlas/labels.bin");
    fs::write(&matrix, vec![9; fs::read(&matrix).unwrap().len()]).unwrap();
    let (code, damages) = verified(&home, "a.atlas b.atlas whole.atlas");
    let damages_of = |path: &str| damages.iter().filter(|damage| damage["path"] == path).collect::<Vec<_>>();
    assert_eq!(code, 65);
    assert_eq!(damages_of("a.atlas").iter().map(|damage| &damage["block"]).collect::<Vec<_>>(), [0, 3], "{damages:?}");
    assert_eq!((damages_of("b.atlas").len(), damages_of("whole.atlas").len()), (1, 1), "{damages:?}");
}

#[test]
fn an_atlas_that_one_stands_in_finds_the_file_beside_it() {
    let home = Home::new();
    h5ad(&home, "s.h5ad", |_| {});
    home.json("ingest s.h5ad --out s.atlas --in-place");
    for line in ["inspect .", "verify .", "verify ../s.atlas"] {
        let ran = home.command(line).current_dir(home.path("s.atlas")).output().unwrap();
        assert_eq!(ran.status.code(), Some(0), "{line}: {}", String::from_utf8_lossy(&ran.stderr));
    }
}

/// Replaces a model's card by that of a version that recorded no checksum of the split.
fn forget_the_checksum_of_the_split(card: &Path) {
    let mut value: Value = serde_json::from_slice(&fs::read(card).unwrap()).unwrap();
    let fields = value.as_object_mut().unwrap();
    assert!(fields.remove("split_checksum").is_some() && fields.remove("checksum").is_some());
    fs::write(card, value.to_string()).unwrap();
}

#[test]
fn the_split_of_a_model_is_verified_with_it() {
    let home = Home::with_model("condition=G00034,dose=0.5");
    assert_eq!(verified(&home, "m"), (0, Vec::new()));
    let whole = fs::read(home.path("m/split.parquet")).unwrap();
    let mut flipped = whole.clone();
    flipped[300] ^= 1;
    for (name, bytes) in
        [("flipped", flipped), ("cut", whole[..whole.len() / 2].to_vec()), ("more", [&whole[..], b"x"].concat())]
    {
        fs::write(home.copy(&home.path("m"), name).join("split.parquet"), bytes).unwrap();
    }
    fs::remove_file(home.copy(&home.path("m"), "gone").join("split.parquet")).unwrap();
    // Another split of the same cells is whole, but is not the model's.
    home.json("split s.atlas --name other --scheme random:0.5");
    fs::copy(home.path("s.atlas/splits/other.parquet"), home.copy(&home.path("m"), "other").join("split.parquet"))
        .unwrap();
    for model in ["flipped", "cut", "more", "gone", "other"] {
        let (code, damages) = verified(&home, model);
        assert_eq!((code, damages.len()), (65, 1), "{model}: {damages:?}");
        assert_eq!(damages[0]["file"], "split.parquet");
        let says_why = |line: &str| {
            let why = if model == "gone" { "it is missing" } else { "its checksum" };
            says(&home.refused(65, line), &[&format!("{model}/split.parquet"), why]);
        };
        says_why(&format!("evaluate {model} s.atlas"));
        says_why(&format!("predict {model} s.atlas --to ood --out p"));
        says_why(&format!("predict {model} s.atlas --out p"));
    }
    home.json(&format!("train s.atlas --out gone --hold-out condition=G00034,dose=0.5 --epochs 2 {TINY} --resume"));
    assert_eq!(verified(&home, "gone"), (0, Vec::new()));
}

#[test]
fn a_file_that_is_missing_from_a_model_is_named() {
    let home = Home::with_model("condition=G00034,dose=0.5");
    for file in ["config.toml", "genes.txt", "history.jsonl"] {
        fs::remove_file(home.copy(&home.path("m"), "gone").join(file)).unwrap();
        let (code, damages) = verified(&home, "gone");
        assert_eq!((code, damages.len()), (65, 1), "{damages:?}");
        assert_eq!((&damages[0]["file"], &damages[0]["what"]), (&file.into(), &"it is missing".into()));
        fs::remove_dir_all(home.path("gone")).unwrap();
    }
}

#[test]
fn the_split_of_an_older_model_has_to_be_there_and_to_be_readable() {
    let home = Home::with_model("condition=G00034,dose=0.5");
    forget_the_checksum_of_the_split(&home.path("m/model.json"));
    assert_eq!(verified(&home, "m"), (0, Vec::new()));
    home.json("evaluate m s.atlas");
    let split = home.path("m/split.parquet");
    let whole = fs::read(&split).unwrap();
    fs::write(&split, &whole[..whole.len() / 2]).unwrap();
    assert_eq!(verified(&home, "m").1[0]["file"], "split.parquet");
    fs::remove_file(&split).unwrap();
    assert_eq!(verified(&home, "m").1[0]["file"], "split.parquet");
    says(&home.refused(65, "evaluate m s.atlas"), &["m/split.parquet", "it is missing"]);
}

#[test]
fn weights_without_their_card_are_no_whole_model() {
    let home = Home::with_model("condition=G00034,dose=0.5");
    fs::remove_file(home.path("m/model.json")).unwrap();
    let (code, damages) = verified(&home, "m");
    assert_eq!((code, damages.len()), (65, 1), "{damages:?}");
    assert_eq!(damages[0]["file"], "model.json");
    says(&home.refused(65, "inspect m"), &["m/model.json: it is missing", "--resume"]);
    home.json(&format!("train s.atlas --out m --hold-out condition=G00034,dose=0.5 --epochs 2 {TINY} --resume"));
    assert_eq!(verified(&home, "m"), (0, Vec::new()));
    home.json("inspect m");
}

#[test]
fn a_cross_validation_is_verified_with_its_models_evaluations_and_tables() {
    let home = Home::with_atlas();
    home.json(&format!("crossval s.atlas --scheme leave-out:cell_type --seeds 1 --out cv --epochs 1 {TINY}"));
    assert_eq!(verified(&home, "cv"), (0, Vec::new()));
    for file in ["fold-type_0/seed-1.json", "crossval.parquet", "fold-type_0/seed-1/model.safetensors"] {
        let path = home.path("cv").join(file);
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    }
    fs::remove_dir_all(home.path("cv/fold-type_1/seed-1")).unwrap();
    let files = |(code, damages): (i32, Vec<Value>)| -> Vec<String> {
        assert_eq!(code, 65, "{damages:?}");
        damages.iter().map(|damage| damage["file"].as_str().unwrap().to_owned()).collect()
    };
    let found = files(verified(&home, "cv"));
    let expected =
        ["fold-type_0/seed-1.json", "crossval.parquet", "fold-type_0/seed-1/model.json", "fold-type_1/seed-1"];
    assert_eq!(found, expected);
    fs::remove_file(home.path("cv/fold-type_1/seed-1.json")).unwrap();
    assert!(files(verified(&home, "cv")).contains(&"fold-type_1/seed-1.json".to_owned()));
    // Until it is complete, a cross-validation has neither tables nor all models.
    for file in ["crossval.json", "crossval.parquet", "fold-type_0"] {
        let _ = fs::remove_file(home.path("cv").join(file)).or_else(|_| fs::remove_dir_all(home.path("cv").join(file)));
    }
    assert_eq!(verified(&home, "cv"), (0, Vec::new()));
}
