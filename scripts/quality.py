#!/usr/bin/env python3
"""Runs the cross-validations behind benches/QUALITY.md, one after another, and writes their tables.

    scripts/quality.py --kang kang_pbmc_counts.h5ad --norman norman_mcfaline.h5ad --work FOLDER [--only PATTERN] [--seeds N]

Each run is `perturbine crossval --json` with one thread, on the default scale and on strict splits: no model and no baseline learns from the held-out cells
or from the reference controls. What is in FOLDER already is not run again, so that a stopped script goes on; `--only` runs what a pattern names, `--known`
nothing. Each table stands in benches/QUALITY.md between two marks; the rest of the file is written by hand.
"""

import argparse
import fnmatch
import json
import os
import re
import resource
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SCORES = [("r2_mean", "R²", 3), ("r2_mean_top20_train", "top 20, training's", 3), ("pearson_delta", "Pearson", 3), ("mse_delta", "MSE × 10³", 2),
          ("e_distance", "E-distance", 3), ("rank", "rank", 3)]
END = "<!-- end -->"
SHARES = ["pearson_delta", "mse_delta"]

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
    "offset alone": ("residual", NO_NETWORK),
    "additive alone": ("residual", "model.offset=additive " + NO_NETWORK),
    "no offset": ("residual", "model.offset=none"),
    "cpa": ("cpa", ""),
}
# Slow ones are trained with one seed.
SLOW = {"cpa"}
# What is run: data, scheme, seeds, variants.
RUNS = [
    ("kang", "leave-out:cell_type", 5, ["residual", "offset alone", "additive alone", "no offset", "cpa"]),
    ("norman", "combos:0.2", 5, ["residual", "offset alone", "additive alone", "no offset", "cpa"]),
    ("interactions", "combos:0.2", 2, ["residual", "offset alone", "additive alone"]),
    ("own-interactions", "combos:0.2", 2, ["residual", "offset alone"]),
    ("no-interactions", "combos:0.2", 2, ["residual", "offset alone"]),
]
DOSE_SEEDS = 2
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


def processor_seconds():
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime + resource.getrusage(resource.RUSAGE_CHILDREN).ru_stime


def run(data, scheme, variant, given, work, seeds):
    kept = kept_at(work, data, variant, seeds)
    if not kept.exists():
        atlas, before = atlas_of(data, given, work), processor_seconds()
        crossed = json.loads(perturbine("--json", "crossval", atlas, "--scheme", scheme, "--seeds", seeds, "--threads", 1, *settings(variant)))
        if not all(fold["evaluation"]["strict"] for fold in crossed["folds"]):
            raise SystemExit(f"{data}: an evaluation is not strict")
        crossed["seconds"] = processor_seconds() - before
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


def mean(numbers):
    numbers = [number for number in numbers if number is not None]
    return sum(numbers) / len(numbers) if numbers else None


def beyond(crossed):
    return mean(condition.get("beyond_additive") for fold in crossed["folds"] for condition in fold["evaluation"]["conditions"])


def share(crossed, score):
    return mean(condition["ranges"][score]["share"] for fold in crossed["folds"] for condition in fold["evaluation"]["conditions"])


def verdict(summary):
    """Of all held-out conditions together: better, level or worse than the best baseline, the lead in Pearson's correlation and its interval."""
    found = re.search(r"over all (\w+) .*?: (\S+) \(95% interval (\S+) to (\S+)\)", summary)
    return "{}: {} ({} to {})".format(*found.groups()) if found else "–"


def tables(data, scheme, variants, given, work, seeds, wanted):
    """The name of a table and its lines."""
    seeds_of = lambda variant: 1 if variant in SLOW else seeds
    chosen = [variant for variant in variants if wanted(f"{data}/{variant}", kept_at(work, data, variant, seeds_of(variant)))]
    if not chosen:
        return {}
    runs = {variant: run(data, scheme, variant, given, work, seeds_of(variant)) for variant in chosen}
    head = ["", *(name for _, name, _ in SCORES), "beyond additive", "shares: Pearson, MSE", "against the best baseline", "calibration", "seconds"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for variant, crossed in runs.items():
        folds = len(crossed["folds"])
        more = (number(beyond(crossed), 3), ", ".join(number(share(crossed, score), 2) for score in SHARES), verdict(crossed["summary"]),
                number(crossed.get("calibration"), 2), f"{crossed['seconds'] / folds:.1f}")
        lines.append(row(f"**{variant}**" + (", one seed" if variant in SLOW and seeds > 1 else ""), crossed["mean"], crossed["sd_seeds"], more))
    first = runs[chosen[0]]
    for baseline, scores in first["baselines"].items():
        if baseline != "offset":
            lines.append(row(baseline, scores, None, [""] * 5))
    lines.append(row("ceiling", first["ceiling"], None, [""] * 5))
    return {data: lines}


def doses(given, work, seeds, wanted):
    """Trained on levels 1, 3 and 8 of eight, and judged on those between; or on the lowest three, and judged beyond them."""
    cases = {"between": [level for at, level in enumerate(LEVELS, 1) if at not in (1, 3, 8)], "beyond": LEVELS[3:]}
    lines = ["| judged | | Pearson | MSE × 10³ | MSE beyond noise × 10³ | E-distance | against the best baseline |", "|---|---|---|---|---|---|---|"]
    found = False
    for case, held_out in cases.items():
        for variant in ("residual", "offset alone"):
            if not wanted(f"doses/{case}/{variant}", kept_at(work, "doses", case, variant, seeds - 1)):
                continue
            found, results = True, []
            for seed in range(seeds):
                kept = kept_at(work, "doses", case, variant, seed)
                if not kept.exists():
                    atlas, model = atlas_of("doses", given, work), work / "doses.model"
                    subprocess.run(["rm", "-rf", str(model)], check=True)
                    hold = [part for level in held_out for part in ("--hold-out", f"dose={level}")]
                    perturbine("split", atlas, "--name", case, "--force", *hold)
                    perturbine("train", atlas, "--split", case, "--out", model, "--seed", seed, "--threads", 1, *settings(variant))
                    kept.write_text(perturbine("--json", "evaluate", model, atlas, "--threads", 1))
                results.append(json.loads(kept.read_text()))
            if not all(result["strict"] for result in results):
                raise SystemExit("doses: an evaluation is not strict")

            def scores(name, of, more):
                values = lambda key: mean(of(result)[key] for result in results)
                lines.append(f"| {case} | {name} | {number(values('pearson_delta'), 3)} | {number(values('mse_delta'), 2, 1000)} | "
                             f"{number(values('mse_beyond_noise'), 2, 1000)} | {number(values('e_distance'), 3)} | {more} |")

            scores(f"**{variant}**", lambda result: result["mean"], verdict(results[0]["summary"]))
            if variant == "offset alone":
                for baseline in results[0]["baselines"]:
                    if baseline != "offset":
                        scores(baseline, lambda result: result["baselines"][baseline], "")
    return {"doses": lines} if found else {}


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
    found = {}
    for data, scheme, seeds, variants in RUNS:
        if data in given and given[data] is None and not arguments.known:
            continue
        found |= tables(data, scheme, variants, given, arguments.work, min(arguments.seeds, seeds), wanted)
    found |= doses(given, arguments.work, min(arguments.seeds, DOSE_SEEDS), wanted)
    if arguments.print:
        for data, lines in found.items():
            print("\n".join([f"{data}:", *lines, ""]))
        return
    page = ROOT / "benches" / "QUALITY.md"
    text = page.read_text()
    for data, lines in found.items():
        before, rest = text.split(f"<!-- {data}, by scripts/quality.py -->\n")
        after = rest.split(END, 1)[1]
        text = before + "\n".join([f"<!-- {data}, by scripts/quality.py -->", *lines, END]) + after
    page.write_text(text)


if __name__ == "__main__":
    main()
