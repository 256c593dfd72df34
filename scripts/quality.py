#!/usr/bin/env python3
"""Runs the cross-validations behind benches/QUALITY.md, one after another, and writes their tables.

    scripts/quality.py --kang kang_pbmc_counts.h5ad --norman norman_mcfaline.h5ad --work FOLDER [--only PATTERN] [--seeds N]

Each run is `perturbine crossval --json` with one thread. What is in FOLDER already is not run again, so that a stopped script goes on;
`--only` runs what a pattern names, `--known` nothing. The tables stand in benches/QUALITY.md between two marks; the rest of the file is written by hand.
"""

import argparse
import fnmatch
import json
import os
import subprocess
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MARKS = ("<!-- tables by scripts/quality.py -->", "<!-- end of tables -->")
SCORES = [("r2_mean", "R²", 3), ("r2_mean_top20", "top 20", 3), ("r2_mean_top20_train", "top 20, training's", 3),
          ("pearson_delta", "Pearson", 3), ("mse_delta", "MSE × 10³", 2), ("e_distance", "E-distance", 3), ("rank", "rank", 3)]

# Simulated atlases: what they are for, and how they are made.
SIMULATED = {
    "interactions": "--cells 24000 --genes 600 --conditions 120 --combos 96 --cell-types 2 --batches 1 --density 0.25 --interactions pathways --seed 1",
    "own-interactions": "--cells 24000 --genes 600 --conditions 40 --combos 20 --cell-types 3 --batches 1 --density 0.25 --seed 2",
    "no-interactions": "--cells 24000 --genes 600 --conditions 120 --combos 96 --cell-types 2 --batches 1 --density 0.25 --interaction 0 --seed 1",
    "doses": "--cells 24000 --genes 600 --conditions 8 --combos 0 --cell-types 2 --doses 8 --batches 1 --density 0.25 --seed 4",
}
NO_NETWORK = "train.lr=0 train.doser_lr=0 train.epochs=1"
# Variants of the settings: a preset and what is laid over it.
VARIANTS = {
    "residual": ("residual", ""),
    "cpa": ("cpa", ""),
    "kang": ("kang", ""),
    "offset alone": ("residual", NO_NETWORK),
    "additive": ("residual", "model.offset=additive"),
    "additive alone": ("residual", "model.offset=additive " + NO_NETWORK),
    "no offset": ("residual", "model.offset=none"),
    "reconstruction": ("residual", "train.objective=reconstruction"),
    "paired": ("residual", "train.objective=paired"),
    "random dispersion": ("residual", "model.dispersion_start=random"),
    "40 epochs": ("residual", "train.epochs=40"),
    "lr 2e-3": ("residual", "train.lr=2e-3"),
    "as cpa, with offset": ("cpa", "model.offset=shrinkage model.output_deviation=0.001 model.perturbations_from_zero=true model.dispersion_start=moments"),
}
# What is run: data, scheme, scale, seeds, variants.
RUNS = [
    ("kang", "leave-out:cell_type", "log1p", 5, ["residual", "kang", "cpa", "offset alone", "additive", "additive alone", "no offset", "reconstruction",
                                                 "paired", "random dispersion", "40 epochs", "lr 2e-3", "as cpa, with offset"]),
    ("kang", "leave-out:cell_type", "pseudobulk", 5, ["residual", "kang", "offset alone"]),
    ("norman", "combos:0.2", "values", 5, ["residual", "cpa", "offset alone", "additive", "additive alone", "no offset"]),
    ("interactions", "combos:0.2", "log1p", 2, ["residual", "cpa", "offset alone", "additive", "40 epochs"]),
    ("own-interactions", "combos:0.2", "log1p", 2, ["residual", "offset alone"]),
    ("no-interactions", "combos:0.2", "log1p", 2, ["residual", "offset alone"]),
]
DOSE_SEEDS = 3
# Doses: trained on some levels, judged on others.
LEVELS = [f"{level / 8:g}" for level in range(1, 9)]


def perturbine(*arguments, cwd=None):
    program = os.environ.get("PERTURBINE", "perturbine")
    done = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, cwd=cwd)
    if done.returncode:
        raise SystemExit(f"{program} {' '.join(map(str, arguments))}\n{done.stderr}")
    return done.stdout


def settings(variant):
    preset, over = VARIANTS[variant]
    return ["--preset", preset] + [part for one in over.split() for part in ("--set", one)]


def atlas_of(data, given, work):
    atlas = work / f"{data}.atlas"
    if not atlas.exists():
        source = given.get(data)
        if source is None:
            source = work / f"{data}.h5ad"
            perturbine("simulate", *SIMULATED[data].split(), "--out", source)
        perturbine("ingest", source, "--out", atlas)
    return atlas


def kept_at(work, *of):
    return work / ("-".join(map(str, of)).replace(" ", "_") + ".json")


def run(data, scheme, scale, variant, given, work, seeds):
    kept = kept_at(work, data, scale, variant, seeds)
    if not kept.exists():
        atlas, started = atlas_of(data, given, work), time.time()
        told = perturbine("--json", "crossval", atlas, "--scheme", scheme, "--seeds", seeds, "--threads", 1, "--scale", scale, *settings(variant))
        crossed = json.loads(told)
        crossed["seconds"] = time.time() - started
        kept.write_text(json.dumps(crossed))
    return json.loads(kept.read_text())


def number(value, digits, times=1):
    return "–" if value is None else f"{value * times:.{digits}f}"


def row(name, scores, deviation=None, more=()):
    cells = []
    for key, _, digits in SCORES:
        times = 1000 if key == "mse_delta" else 1
        text = number(scores.get(key), digits, times)
        if deviation and deviation.get(key) is not None:
            text += f" ± {number(deviation[key], digits, times)}"
        cells.append(text)
    return "| " + " | ".join([name, *cells, *more]) + " |"


def beyond(crossed):
    found = [condition.get("beyond_additive") for fold in crossed["folds"] for condition in fold["evaluation"]["conditions"]]
    found = [value for value in found if value is not None]
    return sum(found) / len(found) if found else None


def both_trained(crossed):
    """Pearson of model and additive over judged combinations that `additive` is defined for."""
    pairs = [(condition["pearson_delta"], condition["baselines"]["additive"]["pearson_delta"])
             for fold in crossed["folds"] for condition in fold["evaluation"]["conditions"]]
    pairs = [pair for pair in pairs if None not in pair]
    return [sum(column) / len(pairs) for column in zip(*pairs)] + [len(pairs)] if pairs else None


def tables(data, scheme, scale, variants, given, work, seeds, wanted):
    chosen = [variant for variant in variants if wanted(f"{data}/{scale}/{variant}", kept_at(work, data, scale, variant, seeds))]
    if not chosen:
        return []
    head = ["", *(name for _, name, _ in SCORES), "beyond additive", "calibration", "minutes"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for variant in chosen:
        crossed = run(data, scheme, scale, variant, given, work, seeds)
        more = (number(beyond(crossed), 3), number(crossed.get("calibration"), 2), f"{crossed['seconds'] / 60:.1f}")
        lines.append(row(f"**{variant}**", crossed["mean"], crossed["sd_seeds"], more))
    for baseline, scores in crossed["baselines"].items():
        lines.append(row(baseline, scores, None, ("", "", "")))
    lines.append(row("ceiling", crossed["ceiling"], None, ("", "", "")))
    folds = len({fold["name"] for fold in crossed["folds"]})
    title = f"### {data}, `{scheme}`, {scale}: {folds} folds × {seeds} seeds (± between seeds)"
    pairs = both_trained(crossed) if scheme.startswith("combos") else None
    note = [f"Combinations that `additive` is defined for ({pairs[2] // seeds}), by {chosen[-1]}: Pearson {pairs[0]:.3f}, additive {pairs[1]:.3f}.", ""] if pairs else []
    return [title, "", *lines, "", *note]


def doses(given, work, seeds, wanted):
    """Trained on levels 1, 3 and 8 of eight (and, for what is beyond, on the lowest three): errors at trained, between and beyond."""
    cases = {"between": [level for at, level in enumerate(LEVELS, 1) if at not in (1, 3, 8)], "beyond": LEVELS[3:]}
    lines = ["| | settings | MSE × 10³ at trained doses | at those held out | ratio | Pearson | linear's MSE |", "|---|---|---|---|---|---|---|"]
    found = False
    for variant in ("residual", "offset alone", "cpa"):
        for case, held_out in cases.items():
            if not wanted(f"doses/{case}/{variant}", kept_at(work, "doses", case, variant, seeds - 1)):
                continue
            found, results = True, []
            for seed in range(seeds):
                kept = kept_at(work, "doses", case, variant, seed)
                if not kept.exists():
                    atlas, model = atlas_of("doses", given, work), work / "doses.model"
                    subprocess.run(["rm", "-rf", str(model)], check=True)
                    hold = [part for level in held_out for part in ("--hold-out", f"dose={level}")]
                    perturbine("train", atlas, "--out", model, "--seed", seed, "--threads", 1, *hold, *settings(variant))
                    judged = [json.loads(perturbine("--json", "evaluate", model, atlas, "--on", part)) for part in ("valid", "ood")]
                    kept.write_text(json.dumps(judged))
                results.append(json.loads(kept.read_text()))
            mean = lambda of: sum(map(of, results)) / len(results)
            trained, held = mean(lambda r: r[0]["mean"]["mse_delta"]), mean(lambda r: r[1]["mean"]["mse_delta"])
            pearson = mean(lambda r: r[1]["mean"]["pearson_delta"])
            linear = mean(lambda r: r[1]["baselines"]["linear"]["mse_delta"] or float("nan"))
            lines.append(f"| {case} | **{variant}** | {trained * 1e3:.2f} | {held * 1e3:.2f} | {held / trained:.2f} | {pearson:.3f} | {linear * 1e3:.2f} |")
    return [f"### doses: {seeds} seeds", "", *lines, ""] if found else []


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kang", type=Path)
    parser.add_argument("--norman", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--only", default="*")
    parser.add_argument("--known", action="store_true", help="make tables from FOLDER, and run nothing")
    parser.add_argument("--seeds", type=int, default=5, help="maximum number of seeds per run")
    parser.add_argument("--print", action="store_true", help="print the tables instead of writing them")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    given = {"kang": arguments.kang, "norman": arguments.norman}
    wanted = lambda name, kept: fnmatch.fnmatch(name, arguments.only) and (kept.exists() or not arguments.known)
    lines = []
    for data, scheme, scale, seeds, variants in RUNS:
        if data in given and given[data] is None and not arguments.known:
            continue
        lines += tables(data, scheme, scale, variants, given, arguments.work, min(arguments.seeds, seeds), wanted)
    lines += doses(given, arguments.work, min(arguments.seeds, DOSE_SEEDS), wanted)
    if arguments.print:
        print("\n".join(lines))
        return
    page = ROOT / "benches" / "QUALITY.md"
    before, rest = page.read_text().split(MARKS[0])
    after = rest.split(MARKS[1])[1]
    page.write_text("\n".join([before + MARKS[0], "", *lines, MARKS[1] + after]))


if __name__ == "__main__":
    main()
