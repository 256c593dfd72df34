#!/usr/bin/env python3
"""Which scores see what: three predictions whose quality is known, judged on one simulated screen; the table of docs/metrics.md on stdout.

usage: judged_controls.py PERTURBINE

40 conditions × 200 cells and 2,000 controls of 1,000 genes, as bench_judge.py makes them. The predictions: cells of the same experiment done
again, as good as can be; cells of control under every condition; and the experiment done again, with the conditions' names permuted.
Needs numpy and h5py.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import bench_judge
import numpy as np

CONDITIONS, GENES = 40, 1_000
PREDICTIONS = ["permuted", "control", "again"]


def make(folder):
    bench_judge.CELLS, bench_judge.CONTROLS, bench_judge.GENES = 200, 2_000, GENES
    random = np.random.default_rng(5)
    level = random.gamma(0.6, 1.2, GENES)
    effects = np.where(random.random((CONDITIONS, GENES)) < 0.08, random.normal(0.0, 0.8, (CONDITIONS, GENES)), 0.0)
    of = {"real": effects, "again": effects, "control": np.zeros_like(effects), "permuted": np.roll(effects, 1, axis=0)}
    for name, effects in of.items():
        bench_judge.write_cells(folder / f"{name}.h5ad", random, level, effects)


def main():
    program = Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        make(folder)
        keys = ["--perturbation", "perturbation", "--control", "ctrl"]
        subprocess.run([program, "--quiet", "ingest", folder / "real.h5ad", "--out", folder / "real.atlas", *keys], check=True)
        files = [folder / f"{name}.h5ad" for name in PREDICTIONS]
        judge = [program, "--quiet", "--json", "judge", *files, "--truth", folder / "real.atlas"]
        found = json.loads(subprocess.run(judge, check=True, capture_output=True, text=True).stdout)
    shown = lambda number: "–" if number is None else f"{number:.3f}"
    means = [one["mean"] for one in found["predictions"]]
    ranges = [one["range"] for one in found["predictions"]]
    ceiling = [one["ceiling"] for one in found["predictions"][0]["conditions"]]
    print("| score | permuted | control | done again | ceiling | share: permuted | control | done again |\n|---|---|---|---|---|---|---|---|")
    for score in means[0]:
        numbers = [mean[score] for mean in means]
        known = [one[score] for one in ceiling if one[score] is not None]
        if numbers == [None] * 3:
            continue
        shares = [of.get(score) for of in ranges]
        best = sum(known) / len(known) if known else None
        print(f"| `{score}` | " + " | ".join(map(shown, [*numbers, best, *shares])) + " |")


if __name__ == "__main__":
    main()
