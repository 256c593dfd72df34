#!/usr/bin/env python3
"""Kang by the protocol of the published comparisons: each cell type's stimulated cells left out in turn, all of its controls on both sides.

    scripts/kang_same_controls.py target/release/perturbine kang_pbmc_counts.h5ad [--seeds N] [SETTING…]

`evaluate` starts predictions from one half of the controls and takes the real change against the other; others take the same controls for both, whose noise
then stands on both sides. Predicted counts of all controls, as they are and stimulated, are read on log1p as `evaluate` reads them (anchored, by counting
noise), and as logarithms of means. SETTING is more of `train`'s, such as `--set train.lr=0`. Wants numpy, scipy and anndata.
"""

import argparse
import subprocess
import tempfile
from pathlib import Path

import anndata
import numpy as np
from scipy.stats import poisson

TOP = 20
RIDGE = 10.0
SCORES = ("R²", "top 20", "Pearson", "MSE × 10³")
# ln of means at which the expected logarithm of a Poisson count is computed, to be interpolated between.
GRID = np.linspace(-12, 8, 2000)


def expected_logarithms():
    def at(mean):
        counts = np.arange(int(mean + 12 * np.sqrt(mean) + 30))
        return (poisson.pmf(counts, mean) * np.log1p(counts)).sum()

    return np.array([at(mean) for mean in np.exp(GRID)])


def dense(matrix):
    return np.asarray(matrix.toarray() if hasattr(matrix, "toarray") else matrix, dtype=float)


def r2(real, predicted):
    return 1 - ((real - predicted) ** 2).sum() / ((real - real.mean()) ** 2).sum()


def scores(real, control, predicted, top):
    return [r2(real, predicted), r2(real[top], predicted[top]), np.corrcoef(real - control, predicted - control)[0, 1], 1e3 * ((real - predicted) ** 2).mean()]


def linear(profiles, shifts, held_out):
    """Kernel ridge of the shift on the control profile."""
    trained = list(shifts)
    center = np.mean([profiles[one] for one in trained], axis=0)
    away, shift = np.array([profiles[one] for one in trained]) - center, np.array([shifts[one] for one in trained])
    weights = np.linalg.solve(away @ away.T + RIDGE * np.eye(len(trained)), away @ (profiles[held_out] - center))
    return shift.mean(axis=0) + weights @ (shift - shift.mean(axis=0))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("perturbine", type=Path)
    parser.add_argument("kang", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    arguments, settings = parser.parse_known_args()

    data = anndata.read_h5ad(arguments.kang)
    counts, types, conditions = dense(data.X), data.obs["cell_type"].astype(str).values, data.obs["condition"].astype(str).values
    cells = lambda name, condition: counts[(types == name) & (conditions == condition)]
    profile = lambda matrix: np.log1p(matrix).mean(axis=0)
    names = sorted(set(types))
    controls = {name: profile(cells(name, "ctrl")) for name in names}
    logarithms = expected_logarithms()
    readouts = {
        "anchored, counting noise": lambda mean: np.interp(np.log(np.maximum(mean, 1e-6)), GRID, logarithms),
        "anchored, logarithms of means": np.log1p,
    }

    found = {readout: [] for readout in ["linear", *readouts]}
    with tempfile.TemporaryDirectory() as folder:
        def perturbine(*parts):
            subprocess.run([arguments.perturbine.resolve(), *map(str, parts)], cwd=folder, check=True, capture_output=True)

        perturbine("ingest", arguments.kang.resolve(), "--out", "kang.atlas")
        for name in names:
            real, control = profile(cells(name, "stim")), controls[name]
            noise = np.log1p(cells(name, "stim")).var(axis=0) / len(cells(name, "stim")) + np.log1p(cells(name, "ctrl")).var(axis=0) / len(cells(name, "ctrl"))
            top = np.argsort(-np.abs(real - control) / np.sqrt(noise + 1e-9), kind="stable")[:TOP]
            shifts = {one: profile(cells(one, "stim")) - controls[one] for one in names if one != name}
            found["linear"].append(scores(real, control, control + linear(controls, shifts, name), top))
            for seed in range(arguments.seeds):
                model = f"{name}-{seed}.model".replace(" ", "_")
                perturbine("train", "kang.atlas", "--out", model, "--hold-out", f"condition=stim,cell_type={name}", "--seed", seed, "--threads", 1, *settings)
                predicted = {}
                for condition in ("ctrl", "stim"):
                    out = f"{model}.{condition}.h5ad"
                    perturbine("predict", model, "kang.atlas", "--to", f"condition={condition},cell_type={name}", "--output", "cells", "--format", "h5ad", "--out", out)
                    predicted[condition] = dense(anndata.read_h5ad(Path(folder) / out).X)
                for readout, of in readouts.items():
                    change = of(predicted["stim"]).mean(axis=0) - of(predicted["ctrl"]).mean(axis=0)
                    found[readout].append(scores(real, control, control + change, top))

    print("| | " + " | ".join(SCORES) + " |\n" + "|---" * (1 + len(SCORES)) + "|")
    for readout, all_scores in found.items():
        means = np.mean(all_scores, axis=0)
        print(f"| {readout} | " + " | ".join(f"{value:.{digits}f}" for value, digits in zip(means, (4, 3, 4, 2))) + " |")


if __name__ == "__main__":
    main()
