//! Models as PyTorch modules (`examples/python/perturbine_torch.py`) predict what `predict` does.

use std::{env, path::Path, process::Command};

use crate::support::{Home, TINY, python, skipped};

/// Single perturbations at three doses, and pairs, in two types of cells.
const SIMULATE: &str = "simulate --cells 3000 --genes 80 --conditions 9 --combos 5 --cell-types 2 --doses 3 \
    --density 0.4 --batches 1 --out s.h5ad";

#[test]
fn models_as_pytorch_modules_predict_the_same() {
    let python = env::var("PERTURBINE_TORCH_PYTHON").unwrap_or_else(|_| "python3".into());
    let imports = "import torch, safetensors.torch, anndata, pyarrow";
    if !Command::new(&python).args(["-c", imports]).output().is_ok_and(|output| output.status.success()) {
        skipped(&format!(
            "{python} lacks torch, safetensors, anndata or pyarrow (PERTURBINE_TORCH_PYTHON names another)"
        ));
        return;
    }
    let home = Home::new();
    home.json(SIMULATE);
    home.json("ingest s.h5ad --out s.atlas --covariates cell_type --dose dose --perturbation condition --control ctrl");
    let result = home.json("inspect s.atlas");
    let names = || result["conditions"].as_array().unwrap().iter().map(|condition| condition["name"].as_str().unwrap());
    let pair = names().find(|name| name.contains('+')).unwrap();
    let single = names().find(|name| !name.contains('+') && *name != "ctrl").unwrap();
    let held = format!(
        "--hold-out condition={pair} --hold-out condition={single},dose=1 --hold-out condition={single},dose=1.0"
    );
    let tiny = TINY.replace("--preset cpa ", "");
    for (model, options) in [
        ("additive", "--preset residual --set model.offset=additive"),
        ("values", "--preset residual --set model.offset=additive --set model.recon_loss=gauss"),
        ("without", "--preset cpa --set model.doser_type=logsigm"),
    ] {
        home.json(&format!("train s.atlas --out {model} {held} {options} --epochs 2 {tiny}"));
        home.json(&format!("predict {model} s.atlas --to observed --out {model}.parquet"));
    }
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/python");
    let script = include_str!("../../python/compare_with_pytorch.py");
    let message = python::run(Path::new(&python), script, &[home.path("").as_path(), &example]);
    assert_eq!(message.lines().count(), 3, "{message}");
    for line in message.lines() {
        let worst: f64 = line.rsplit(' ').next().unwrap().parse().unwrap();
        assert!(worst < 1e-5, "{line}");
    }
}
