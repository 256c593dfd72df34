//! `verify` judges all that it is given, and shows what it found of each.

use std::fs;

use serde_json::Value;

use crate::support::{
    Home,
    h5ad::{h5ad, set_value},
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
