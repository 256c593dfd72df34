//! `scripts/gpu-check` plans its time, keeps every figure that it has, reads traces, and trains the network that its aims are for.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use serde_json::Value;

use crate::support::Home;

fn python(arguments: &[&str]) -> Output {
    Command::new("python3")
        .arg("-B")
        .args(arguments)
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts"))
        .output()
        .unwrap_or_else(|error| panic!("python3 is needed, as it is for `make setup`: {error}"))
}

#[test]
fn the_scripts_own_tests_pass() {
    let folders = ["--start-directory", "gpu_check/tests", "--top-level-directory", "."];
    let ran = python(&[&["-m", "unittest", "discover"], folders.as_slice()].concat());
    let message = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success() && message.contains("Ran "), "{message}");
    assert!(!message.contains("Ran 0 tests"), "no test was found: {message}");
}

#[test]
fn it_trains_with_nb_and_adversaries_that_are_penalised() {
    let ran = python(&["-c", "from gpu_check.training import flags; print(*flags())"]);
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let flags = String::from_utf8(ran.stdout).unwrap();
    let narrow = "--set model.n_hidden_encoder=16 --set model.n_hidden_decoder=16 --set model.n_latent=8";
    let home = Home::with_atlas();
    home.json(&format!("train s.atlas --out m --epochs 1 --batch-size 64 --device cpu {} {narrow}", flags.trim()));

    let settings: toml::Table = fs::read_to_string(home.path("m/config.toml")).unwrap().parse().unwrap();
    assert_eq!(settings["preset"].as_str(), Some("cpa"));
    assert_eq!(settings["model"]["recon_loss"].as_str(), Some("nb"));
    assert_eq!(settings["adversary"]["adv_steps"].as_integer(), Some(3));
    let history = fs::read_to_string(home.path("m/history.jsonl")).unwrap();
    let epoch: Value = serde_json::from_str(history.lines().next().unwrap()).unwrap();
    for measured in ["train.recon", "train.adv_perts", "train.adv_cell_type", "train.penalty_perts"] {
        assert!(epoch[measured].is_f64(), "{measured} is not in {epoch}");
    }
}
