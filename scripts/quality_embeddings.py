#!/usr/bin/env python3
"""Prints how well perturbations that were never trained on are predicted from their rows in a table of embeddings.

Counts of 120 perturbations are drawn whose effects on ln expression are linear in 12 numbers each, with effects of their
own beside. 30 perturbations are held out. The default model gets the table, the same table with its rows shuffled, and none;
beside it stands ridge regression of the training shifts on the table, with the penalty that predicts the held-out
shifts best: no other choice of a penalty can pass it.

PERTURBINE=target/release/perturbine python scripts/quality_embeddings.py, with numpy, pandas, scipy, anndata and pyarrow.
"""

import json
import os
import subprocess
import tempfile
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import scipy.sparse

PROGRAM = os.path.abspath(os.environ.get("PERTURBINE", "target/release/perturbine"))
PERTURBATIONS, HELD_OUT, GENES, WIDTH, CELLS, CONTROLS = 120, 30, 800, 12, 60, 1500


def draw(random, signal, own):
    """Vectors, labels, parts and counts."""
    vectors = random.normal(size=(PERTURBATIONS, WIDTH))
    weights = np.where(random.random(GENES) < 0.3, random.normal(size=(WIDTH, GENES)), 0) / np.sqrt(WIDTH)
    responds = random.random((PERTURBATIONS, GENES)) < 0.1
    effects = signal * vectors @ weights + own * np.where(responds, random.normal(size=responds.shape), 0)
    base = np.exp(random.normal(-0.5, 1.2, GENES))
    base /= base.sum()

    def cells(effect, count):
        share = base * np.exp(effect)
        library = np.exp(random.normal(8, 0.3, count))[:, None]
        return random.poisson(random.gamma(5, 1 / 5, (count, GENES)) * library * share / share.sum())

    names = [f"p{number:03d}" for number in range(PERTURBATIONS)]
    counts = np.vstack([cells(0, CONTROLS)] + [cells(effect, CELLS) for effect in effects])
    labels = np.array(["ctrl"] * CONTROLS + list(np.repeat(names, CELLS)))
    held_out = np.isin(labels, names[-HELD_OUT:])
    held_out[random.permutation(CONTROLS)[: CONTROLS // 4]] = True
    return names, vectors, labels, np.where(held_out, "ood", "train"), counts


def run(folder, *arguments):
    ran = subprocess.run([PROGRAM, "--json", *arguments], cwd=folder, capture_output=True, text=True)
    if ran.returncode:
        raise SystemExit(f"{' '.join(arguments)}: {ran.stderr}")
    return json.loads(ran.stdout)


def scores(predicted, real):
    correlations = [np.corrcoef(one, other)[0, 1] if one.any() else 0.0 for one, other in zip(predicted, real)]
    return np.mean(correlations), 1e3 * ((predicted - real) ** 2).mean()


def best_ridge(names, vectors, labels, parts, counts):
    """Ridge regression with the penalty that predicts the held-out shifts best."""
    logarithms = np.log1p(1e4 * counts / counts.sum(1, keepdims=True))
    mean = lambda rows: logarithms[rows].mean(0)
    source, reference = (mean((labels == "ctrl") & (parts == part)) for part in ("train", "ood"))
    shifts = np.array([mean(labels == name) for name in names])
    trained, real = shifts[:-HELD_OUT] - source, shifts[-HELD_OUT:] - reference
    centre, level = vectors[:-HELD_OUT].mean(0), trained.mean(0)
    known, asked = vectors[:-HELD_OUT] - centre, vectors[-HELD_OUT:] - centre
    found = []
    for penalty in 10.0 ** np.arange(-3, 5, 0.25):
        weights = np.linalg.solve(known.T @ known + penalty * np.eye(WIDTH), known.T @ (trained - level))
        found.append(scores(level + asked @ weights, real))
    return min(found, key=lambda of: of[1]), scores(0 * real, real), scores(level + 0 * real, real)


def main():
    print("| signal | own effects | model with the table | shuffled table | best ridge | mean shift | no change |")
    print("|---|---|---|---|---|---|---|")
    show = lambda of: f"{of[0]:.3f} / {of[1]:.2f}"
    for signal, own in [(0.6, 0.3), (0.3, 0.3), (0.15, 0.3), (0.0, 0.3)]:
        random = np.random.default_rng(5)
        names, vectors, labels, parts, counts = data = draw(random, signal, own)
        with tempfile.TemporaryDirectory() as folder:
            cells = pd.DataFrame({"condition": labels, "part": parts}, index=[f"c{cell}" for cell in range(len(labels))])
            matrix = scipy.sparse.csr_matrix(counts.astype(np.float32))
            anndata.AnnData(matrix, obs=cells).write_h5ad(Path(folder, "s.h5ad"))
            run(folder, "ingest", "s.h5ad", "--out", "s.atlas")
            run(folder, "split", "s.atlas", "--name", "s", "--from-obs", "part")
            found = []
            for name, rows in [("table", vectors), ("shuffled", random.permutation(vectors))]:
                columns = {f"z{at}": rows[:, at] for at in range(WIDTH)}
                pq.write_table(pa.table({"name": names, **columns}), Path(folder, f"{name}.parquet"))
                table = f"model.perturbation_embeddings={name}.parquet"
                run(folder, "train", "s.atlas", "--split", "s", "--out", name, "--epochs", "5", "--set", table)
                mean = run(folder, "evaluate", name, "s.atlas")["mean"]
                found.append((mean["pearson_delta"], 1e3 * mean["mse_delta"]))
        ridge, none, level = best_ridge(*data)
        print(f"| {signal} | {own} |", " | ".join(map(show, [*found, ridge, level, none])), "|", flush=True)


if __name__ == "__main__":
    main()
