#!/usr/bin/env python3
"""The original (cpa-tools) beside Perturbine on the same splits of Kang's cells, both judged by `perturbine judge`; a Markdown table on stdout.

    CPA_PYTHON=ENVIRONMENT/bin/python scripts/judge_original.py PERTURBINE kang_pbmc_counts.h5ad FOLDER [--seed N] [--preset NAME]

The stimulated cells of each cell type are held out in turn, by a split that `perturbine split` draws. Both programs train on its `train` cells and stop
by its `valid` cells; neither sees the held-out cells or the reference controls. Both predict from the training controls of the held-out cell type. The
original has the network and the plan of its published Kang example, with batches of 128, since there are a thousand cells in place of ten thousand.

cpa-tools predicts expected counts of cells, which `judge` takes as logarithms of counts per ten thousand (log1p_cp10k). They are read in three ways:

    expected   ln(1 + expected counts per ten thousand)
    drawn      counts drawn from its negative binomial, then the same
    moved      each training control's own logarithms plus the predicted change of their expectation, given counting noise: the readout `anchored` of `evaluate`

Ours is read as `expected` by `judge`, and as `moved` by `evaluate`.

FOLDER keeps atlas, splits, predictions and results, so that a stopped script goes on. It needs an environment with cpa-tools 0.8.8, which wants
Python 3.10 and pyarrow below 16; this script itself needs nothing else.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

SCORES = [("pearson_delta", "Pearson", 3), ("mse_delta", "MSE × 10³", 1), ("r2_mean", "R²", 3), ("e_distance", "E-distance", 2)]
READINGS = ("expected", "drawn", "moved")
SCALE = 1e4


def expected_logarithms(mean, scale):
    """The mean of ln(1 + scale × x) over Poisson counts x; where there are many counts, the logarithm of the mean."""
    import numpy as np

    probability, total = np.exp(-mean), np.zeros_like(mean)
    for count in range(1, 200):
        probability = probability * mean / count
        total += probability * np.log1p(scale * count)
    return np.where(mean > 100, np.log1p(scale * mean), total)


def original(arguments):
    """Trains cpa-tools on one split and writes its predictions. Runs in its environment."""
    import time
    import warnings

    import anndata
    import numpy as np
    import pandas as pd
    import torch

    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    import cpa

    data = anndata.read_h5ad(arguments.kang)
    data.obs = data.obs[["condition", "cell_type"]].astype(str)
    split = pd.read_parquet(arguments.split).set_index("cell")
    data.obs["split"] = split["split"].reindex(data.obs_names).values
    reference = split["reference"].reindex(data.obs_names).values
    data = data[data.obs["split"].isin(["train", "valid"]) & ~reference].copy()
    source = data[(data.obs["split"] == "train") & (data.obs["condition"] == "ctrl") & (data.obs["cell_type"] == arguments.fold)].copy()
    source.write_h5ad(arguments.out / "controls.h5ad")

    # cpa-tools wants to know the held-out condition from the start: the training controls, called stimulated, take the place of its cells.
    asked = source.copy()
    asked.obs["condition"], asked.obs["split"] = "stim", "ood"
    asked.obs_names = "asked-" + asked.obs_names
    both = anndata.concat([data, asked])
    both.obs["dose"] = "1.0"
    cpa.CPA.setup_anndata(both, perturbation_key="condition", control_group="ctrl", dosage_key="dose", categorical_covariate_keys=["cell_type"], max_comb_len=1)
    model = cpa.CPA(both, split_key="split", train_split="train", valid_split="valid", test_split="ood", n_latent=64, recon_loss="nb", doser_type="linear",
                    n_hidden_encoder=128, n_layers_encoder=2, n_hidden_decoder=512, n_layers_decoder=2, use_batch_norm_decoder=False,
                    use_layer_norm_decoder=True, dropout_rate_decoder=0.1, seed=arguments.seed)
    plan = dict(n_epochs_pretrain_ae=30, n_epochs_adv_warmup=50, n_epochs_mixup_warmup=0, mixup_alpha=0.0, adv_steps=None, n_hidden_adv=64, n_layers_adv=3,
                dropout_rate_adv=0.3, reg_adv=20.0, pen_adv=5.0, lr=3e-4, wd=4e-7, adv_lr=3e-4, adv_wd=4e-7, doser_lr=3e-4, doser_wd=4e-7,
                do_clip_grad=True, gradient_clip_value=1.0, step_size_lr=10, n_epochs_verbose=10**9)
    clock, processor = time.time(), time.process_time()
    model.train(max_epochs=arguments.epochs, use_gpu=False, batch_size=128, early_stopping_patience=5, check_val_every_n_epoch=5, save_path=False,
                enable_progress_bar=False, plan_kwargs=plan)
    told = {"seconds": time.time() - clock, "processor_seconds": time.process_time() - processor, "epochs": int(model.epoch_history["epoch"].max()) + 1}

    model.predict(both, batch_size=512)
    expected = pd.DataFrame(both.obsm["CPA_pred"], both.obs_names)
    stimulated, unchanged = expected.loc[asked.obs_names].values, expected.loc[source.obs_names].values
    theta = np.exp(model.module.px_r.detach().numpy())
    random = np.random.default_rng(arguments.seed)
    logarithms = lambda counts: np.log1p(SCALE * counts / counts.sum(axis=1, keepdims=True))
    dense = np.asarray(source.X.todense())
    scale = SCALE / dense.sum(axis=1, keepdims=True)
    read = {
        "expected": logarithms(stimulated),
        "drawn": logarithms(random.poisson(random.gamma(theta, stimulated / theta))),
        "moved": logarithms(dense) + expected_logarithms(stimulated, scale) - expected_logarithms(unchanged, scale),
    }
    for reading, values in read.items():
        anndata.AnnData(values.astype(np.float32), asked.obs[["condition", "cell_type"]], data.var[[]]).write_h5ad(arguments.out / f"{reading}.h5ad")
    (arguments.out / "original.json").write_text(json.dumps(told))


def run(*command):
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))}\n{done.stderr[-4000:]}")
    return done.stdout


def fold(arguments, cell_type, at, atlas):
    """Rows of one held-out cell type: name to scores, shares of the ranges, the verdict against the best baseline, and what the original's training took."""
    folder = arguments.folder / f"fold-{at}"
    kept = folder / f"rows-{arguments.preset}-{arguments.seed}.json"
    if kept.exists():
        return json.loads(kept.read_text())
    folder.mkdir(exist_ok=True)
    program, split = arguments.perturbine, f"fold-{at}"
    run(program, "split", atlas, "--name", split, "--force", "--hold-out", f'condition=stim,cell_type="{cell_type}"')
    if not (folder / "original.json").exists():
        run(arguments.python, __file__, arguments.perturbine, arguments.kang, arguments.folder, "--seed", arguments.seed, "--epochs", arguments.epochs,
            "--fold", cell_type, "--split", atlas / "splits" / f"{split}.parquet", "--out", folder)
    told = json.loads((folder / "original.json").read_text())

    model = folder / f"ours-{arguments.preset}.model"
    if not model.exists():
        run(program, "train", atlas, "--split", split, "--out", model, "--preset", arguments.preset, "--seed", arguments.seed, "--threads", 1)
    evaluated = json.loads(run(program, "--json", "evaluate", model, atlas, "--threads", 1))
    if not evaluated["strict"]:
        raise SystemExit(f"the evaluation of {cell_type} is not strict")
    controls, ours = folder / "controls.atlas", folder / f"ours-{arguments.preset}.h5ad"
    if not controls.exists():
        run(program, "ingest", folder / "controls.h5ad", "--out", controls, "--perturbation", "condition", "--control", "ctrl", "--covariates", "cell_type")
    if not ours.exists():
        run(program, "predict", model, controls, "--to", f'condition=stim,cell_type="{cell_type}"', "--output", "cells", "--output-scale", "log1p_cp10k",
            "--out", ours, "--threads", 1)
    files = [ours, *(folder / f"{reading}.h5ad" for reading in READINGS)]
    judged = json.loads(run(program, "--json", "judge", *files, "--truth", atlas, "--split", split, "--values", "log1p_cp10k", "--scores", "means,cells", "--threads", 1))
    shares = lambda ranges: {score: ranges[score]["share"] for score, _, _ in SCORES}
    verdict = lambda one: one["summary"].split()[0]
    rows = {"ours, moved": [evaluated["mean"], shares(evaluated["ranges"]), verdict(evaluated), None]}
    names = ["ours, expected", *(f"cpa-tools, {reading}" for reading in READINGS)]
    for name, one in zip(names, judged["predictions"], strict=True):
        rows[name] = [one["mean"], one["range"], verdict(one), told if name.startswith("cpa") else None]
    for name, scores in evaluated["baselines"].items():
        rows["ours, its offset alone" if name == "offset" else name] = [scores, {}, None, None]
    rows["ceiling"] = [evaluated["conditions"][0]["ceiling"], {}, None, None]
    kept.write_text(json.dumps(rows))
    return rows


def table(folds):
    head = [name for _, name, _ in SCORES] + [f"share: {name.split(' ×')[0]}" for _, name, _ in SCORES] + ["better, level, worse"]
    lines = ["| | " + " | ".join(head) + " |", "|---" * (len(head) + 1) + "|"]

    def mean(numbers, digits, times=1):
        numbers = [number for number in numbers if number is not None]
        return f"{times * sum(numbers) / len(numbers):.{digits}f}" if numbers else "–"

    for name in folds[0]:
        of = [rows[name] for rows in folds]
        cells = [mean([scores.get(key) for scores, *_ in of], digits, 1000 if key == "mse_delta" else 1) for key, _, digits in SCORES]
        cells += [mean([shares.get(key) for _, shares, *_ in of], 2) for key, _, _ in SCORES]
        verdicts = [verdict for _, _, verdict, _ in of if verdict]
        cells.append(", ".join(str(verdicts.count(word)) for word in ("better", "level", "worse")) if verdicts else "")
        lines.append("| " + " | ".join([name, *cells]) + " |")
    return lines


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("perturbine", type=Path)
    parser.add_argument("kang", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--python", default=os.environ.get("CPA_PYTHON"), help="Python of the environment with cpa-tools [default: $CPA_PYTHON]")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--preset", default="residual", help="preset of ours")
    parser.add_argument("--epochs", type=int, default=2000, help="maximum number of epochs of the original")
    # How this script calls itself in the environment with cpa-tools.
    parser.add_argument("--fold", help=argparse.SUPPRESS)
    parser.add_argument("--split", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.fold:
        original(arguments)
        return
    if not arguments.python:
        parser.error("name the Python of an environment with cpa-tools: --python or CPA_PYTHON")
    arguments.folder.mkdir(parents=True, exist_ok=True)
    atlas = arguments.folder / "kang.atlas"
    if not atlas.exists():
        run(arguments.perturbine, "ingest", arguments.kang, "--out", atlas, "--perturbation", "condition", "--control", "ctrl", "--covariates", "cell_type")
    listed = run(arguments.python, "-c", "import anndata, sys; print(*sorted(set(anndata.read_h5ad(sys.argv[1]).obs['cell_type'])), sep='\\n')", arguments.kang)
    folds = []
    for at, cell_type in enumerate(listed.splitlines()):
        folds.append(fold(arguments, cell_type, at, atlas))
        told = folds[-1]["cpa-tools, expected"][3]
        shown = ", ".join(f"{name} {rows[0]['pearson_delta']:.3f}" for name, rows in folds[-1].items() if rows[0].get("pearson_delta") is not None)
        print(f"{cell_type}: cpa-tools {told['epochs']} epochs, {told['processor_seconds']:.0f} s of processor time, {told['seconds']:.0f} s; Pearson: {shown}",
              file=sys.stderr, flush=True)
    print("\n".join(table(folds)))


if __name__ == "__main__":
    main()
