#!/usr/bin/env python3
"""Judging predicted cells, beside cell-eval, by turns on the same files: lines of JSON, then a table, on stdout.

usage: bench_judge.py PERTURBINE [FOLDER]     (the built command line; a folder for 2 GB, kept if it is named)

500 conditions × 100 cells and 5,000 controls of 5,000 genes, negative binomial counts with an effect for each condition, a third of
them not 0, as log-normalised CSR in .h5ad: real cells, and predicted cells whose effects are half right. `perturbine judge` computes all
of its scores, and then only those of cell-eval's `scores`: Pearson's correlation, errors and discrimination. With CELL_EVAL_FULL=1, cell-eval
also computes its whole profile `full`, which tests every gene; CELL_EVAL_PYTHON is a Python that has it. ROUNDS says how often each runs, CONDITIONS how
many conditions there are, and JUDGE_FLAGS are flags of `judge`. With LARGE=1, there are 2,000,000 cells of 2,000 genes, one in twenty not 0,
as counts. Memory is the most of what is resident, and of that the anonymous part.

Needs numpy and h5py.
"""

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import h5py
import numpy as np

LARGE = bool(os.environ.get("LARGE"))
CONDITIONS, CELLS, CONTROLS, GENES = (1_000, 1_900, 100_000, 2_000) if LARGE else (500, 100, 5_000, 5_000)
CONDITIONS = int(os.environ.get("CONDITIONS", CONDITIONS))
SCORES = ["pearson_delta", "mse_delta", "mae_delta", *(f"discrimination_score_{distance}" for distance in ("l1", "l2", "cosine"))]
CELL_EVAL = """
import logging, sys
from cell_eval import MetricsEvaluator
logging.disable(logging.CRITICAL)
real, predicted, out, which = sys.argv[1:]
full = which == "full"
evaluator = MetricsEvaluator(adata_pred=predicted, adata_real=real, control_pert="ctrl", pert_col="perturbation", outdir=out, skip_de=not full)
skipped = [] if full else ["pearson_edistance", "clustering_agreement"]
_, means = evaluator.compute(profile="full" if full else "anndata", skip_metrics=skipped)
found = dict(means.filter(means["statistic"] == "mean").iter_rows(named=True).__next__())
print({name: value for name, value in found.items() if name != "statistic"}, file=sys.stderr)
"""


def counts_of(random, mean, count):
    """Negative binomial counts [count, genes] around the mean of each gene; of a large matrix, each count falls to a random cell."""
    depth = random.lognormal(0.0, 0.3, count)
    if not LARGE:
        return random.poisson(random.gamma(2.0, mean / 2.0, (count, GENES)) * depth[:, None])
    genes = np.repeat(np.arange(GENES), random.poisson(mean * count))
    cells = random.choice(count, len(genes), p=depth / depth.sum())
    return np.bincount(cells * GENES + genes, minlength=count * GENES).reshape(count, GENES)


def write_cells(path, random, level, effects):
    """Cells of each condition and of control, as CSR: conditions one after another, controls last. Returns the share of non-zeros."""
    value, index = (np.uint8, np.uint16) if LARGE else (np.float32, np.int32)
    groups = [*((f"P{at}", CELLS, effect) for at, effect in enumerate(effects))]
    groups += [("ctrl", min(CELLS, CONTROLS - first), None) for first in range(0, CONTROLS, CELLS)]
    labels, ends = [], [np.zeros(1, np.int64)]
    with h5py.File(path, "w") as file:
        text = h5py.string_dtype()
        file.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
        matrix = file.create_group("X")
        made = {name: matrix.create_dataset(name, (0,), kind, maxshape=(None,), chunks=(1 << 18,)) for name, kind in [("data", value), ("indices", index)]}
        for name, count, effect in groups:
            counts = counts_of(random, level if effect is None else level * np.exp(effect), count)
            values = counts if LARGE else np.log1p(counts * (1e4 / counts.sum(axis=1, keepdims=True)))
            rows, genes = np.nonzero(values)
            for part, numbers in (("data", np.minimum(values[rows, genes], 255) if LARGE else values[rows, genes]), ("indices", genes)):
                made[part].resize(made[part].shape[0] + len(genes), axis=0)
                made[part][-len(genes) :] = numbers
            ends.append(ends[-1][-1] + np.cumsum(np.bincount(rows, minlength=count)))
            labels += [name] * count
        matrix.attrs.update({"encoding-type": "csr_matrix", "encoding-version": "0.1.0", "shape": np.array([len(labels), GENES])})
        matrix.create_dataset("indptr", data=np.concatenate(ends))
        columns = {"obs": {"perturbation": labels, "_index": [f"c{at}" for at in range(len(labels))]}}
        columns["var"] = {"_index": [f"g{at}" for at in range(GENES)]}
        for name, table in columns.items():
            group = file.create_group(name)
            order = np.array([column for column in table if column != "_index"], dtype=object)
            group.attrs.update({"encoding-type": "dataframe", "encoding-version": "0.2.0", "_index": "_index"})
            group.attrs.create("column-order", order, dtype=text)
            for column, texts in table.items():
                strings = group.create_dataset(column, data=np.array(texts, dtype=object), dtype=text)
                strings.attrs.update({"encoding-type": "string-array", "encoding-version": "0.2.0"})
    return ends[-1][-1] / (len(labels) * GENES)


def make(folder):
    """real.h5ad and predicted.h5ad."""
    random = np.random.default_rng(17)
    level = random.gamma(0.6, 0.1 if LARGE else 1.2, GENES)
    real = np.where(random.random((CONDITIONS, GENES)) < 0.05, random.normal(0.0, 0.7, (CONDITIONS, GENES)), 0.0)
    wrong = np.where(random.random((CONDITIONS, GENES)) < 0.03, random.normal(0.0, 0.4, (CONDITIONS, GENES)), 0.0)
    filled = write_cells(folder / "real.h5ad", random, level, real)
    write_cells(folder / "predicted.h5ad", random, level, 0.5 * real + wrong)
    print(f"{CONDITIONS} × {CELLS} cells and {CONTROLS} controls × {GENES} genes, {filled:.0%} non-zeros", flush=True)


def resident(process):
    """Resident and anonymous kB of a process and its children."""
    total = [0, 0]
    try:
        children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
        for line in Path(f"/proc/{process}/status").read_text().splitlines():
            total[0] += int(line.split()[1]) if line.startswith("VmRSS") else 0
            total[1] += int(line.split()[1]) if line.startswith("RssAnon") else 0
    except OSError:
        return total
    return [sum(parts) for parts in zip(total, *map(resident, children))]


def measured(who, command):
    """Wall and processor seconds of a command, and its most memory in MB."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    process = subprocess.Popen([str(word) for word in command], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    peak = [0, 0]

    def watch():
        while process.poll() is None:
            peak[:] = [max(pair) for pair in zip(peak, resident(process.pid))]
            time.sleep(0.01)

    watcher = threading.Thread(target=watch)
    watcher.start()
    said = process.stderr.read()
    watcher.join()
    wall = time.perf_counter() - started
    if process.returncode:
        sys.exit(f"{command[0]} failed:\n{said[-2000:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    line = {"who": who, "wall": round(wall, 2), "processor": round(seconds, 2), "mb": peak[0] // 1024, "anonymous_mb": peak[1] // 1024}
    print(json.dumps(line), flush=True)
    return line


def run(program, folder):
    if not (folder / "predicted.h5ad").exists():
        make(folder)
    atlas, lines = folder / "real.atlas", []
    if not atlas.exists():
        ingest = ["ingest", folder / "real.h5ad", "--out", atlas, "--perturbation", "perturbation", "--control", "ctrl"]
        lines.append(measured("perturbine ingest", [program, "--quiet", *ingest]))
    python = os.environ.get("CELL_EVAL_PYTHON")
    if not python:
        print("SKIPPED: cell-eval (CELL_EVAL_PYTHON names no Python that has it)", flush=True)
    for _ in range(int(os.environ.get("ROUNDS", "2"))):
        flags = os.environ.get("JUDGE_FLAGS", "").split()
        judge = [program, "--quiet", "judge", folder / "predicted.h5ad", "--truth", atlas, *flags]
        lines.append(measured("perturbine judge, all scores", judge))
        lines.append(measured("perturbine judge, cell-eval's scores", [*judge, "--scores", ",".join(SCORES)]))
        for which in ["scores", *(["full"] if os.environ.get("CELL_EVAL_FULL") else [])] if python else []:
            files = [folder / "real.h5ad", folder / "predicted.h5ad", folder / "cell-eval", which]
            lines.append(measured(f"cell-eval, {which}", [python, "-c", CELL_EVAL, *files]))
    print("\n| | wall | processor | peak memory | of which anonymous |\n|---|---|---|---|---|")
    for who in dict.fromkeys(line["who"] for line in lines):
        of = lambda key: statistics.median(line[key] for line in lines if line["who"] == who)
        print(f"| {who} | {of('wall'):.1f} s | {of('processor'):.1f} s | {of('mb') / 1e3:.2f} GB | {of('anonymous_mb') / 1e3:.2f} GB |")


def main():
    program = Path(sys.argv[1]).resolve()
    if 2 < len(sys.argv):
        folder = Path(sys.argv[2])
        folder.mkdir(parents=True, exist_ok=True)
        return run(program, folder)
    with tempfile.TemporaryDirectory() as folder:
        run(program, Path(folder))


if __name__ == "__main__":
    main()
