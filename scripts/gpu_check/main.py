"""Runs the parts of a check one after another, each within its share of the time."""

import argparse
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

from .aims import CELLS, GENES, NETWORK
from .machine import PROGRAMS, Machine, folder_for_data
from .package import build
from .parts import Check
from .parts.data import data
from .parts.first import first
from .parts.memory import memory
from .parts.predictions import predictions
from .parts.rest import rest
from .parts.steps import loop, steps
from .parts.tests import tests
from .parts.train import train
from .results import Results, say
from .schedule import Schedule

# Each part, and its share of the time: about the seconds that it takes of the default on an H100 machine. What an early part does
# not need goes to later ones.
PARTS = (
    ("first", first, 40),
    ("tests", tests, 80),
    ("steps", steps, 90),
    ("loop", loop, 45),
    ("data", data, 60),
    ("train", train, 180),
    ("memory", memory, 25),
    ("predictions", predictions, 90),
    ("rest", rest, 70),
)
PRECISIONS = "float32,tf32,bf16"
# The machine ends a command after ten minutes: the check has to end before.
SECONDS = 560
# A part with less than this left is not begun.
LEAST = 1.0


def main(launcher: Path) -> None:
    options = parse(sys.argv[1:])
    here = launcher.resolve().parent
    folder = here
    if not (here / PROGRAMS).exists():
        root = here.parent
        folder = (options.out or root / "target/gpu-check").resolve()
        build(root, folder, options.profile)
    if not options.build_only:
        sys.exit(run(folder, options))


def parse(arguments):
    parser = argparse.ArgumentParser(description="Runs checks and benchmarks that need a GPU; see the top of this file.")
    parser.add_argument("--seconds", type=float, default=SECONDS, help=f"time limit for everything, in seconds [{SECONDS}]")
    parser.add_argument("--cells", type=int, default=CELLS, help=f"maximum number of cells of the large atlas [{CELLS}]")
    parser.add_argument("--genes", type=int, default=GENES, help=f"genes of the atlases [{GENES}]; the targets are for {GENES}")
    parser.add_argument("--precisions", default=PRECISIONS, help=f"precisions of training, the most important first [{PRECISIONS}]")
    parser.add_argument("--parts", default=",".join(name for name, _, _ in PARTS), help="the parts to run [all of them]")
    parser.add_argument("--stand-in", type=Path, metavar="FOLDER",
                        help="run on the stand-in for CUDA whose libtorch_cuda.so and libcuda.so.1 are in FOLDER: everything runs, values are not compared")
    parser.add_argument("--build-only", action="store_true", help="in the repository: build the folder, run nothing")
    parser.add_argument("--profile", default="release", help="in the repository: cargo's profile [release]")
    parser.add_argument("--out", type=Path, help="in the repository: the folder to build [target/gpu-check]")
    options = parser.parse_args(arguments)
    unknown = set(options.parts.split(",")) - {name for name, _, _ in PARTS}
    if unknown:
        parser.error(f"there is no part {', '.join(sorted(unknown))}; there are {', '.join(name for name, _, _ in PARTS)}")
    return options


def run(folder: Path, options) -> int:
    started = time.monotonic()
    # Whoever ends the check ends the program that it runs, and removes its atlases.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    path = Path(os.environ.get("OUT") or folder) / "gpu-check.json"
    with tempfile.TemporaryDirectory(prefix="gpu-check-") as scratch, \
            tempfile.TemporaryDirectory(prefix="gpu-check-", dir=folder_for_data(options.cells)) as atlases:
        machine = Machine(folder, Path(scratch), Path(atlases), options.stand_in)
        machine.log_file = path.with_suffix(".log")
        machine.log_file.unlink(missing_ok=True)
        description = {**machine.description(), "network": NETWORK, "seconds": options.seconds, "cells": options.cells,
                       "genes": options.genes}
        say(f"commit {description['commit']}; GPU: {machine.gpu or 'none'}; torch: {(machine.torch or {}).get('version', 'none of this Python')}; "
            f"{options.seconds:.0f} s, {options.cells:,} cells")
        results = Results(path, description, values_mean_something=machine.stand_in is None)
        check = Check(machine, results, options.cells, tuple(options.precisions.split(",")), options.genes)
        asked = options.parts.split(",")
        schedule = Schedule(options.seconds - (time.monotonic() - started), {name: share for name, _, share in PARTS if name in asked})
        run_parts(check, schedule, [(name, part) for name, part, _ in PARTS if name in asked])
    print(results.table())
    return 1 if results.failed() else 0


def run_parts(check, schedule, parts):
    """Runs parts in their order. One that breaks, or has no time left, costs its own figures alone."""
    for name, part in parts:
        budget, begun = schedule.budget(name), time.monotonic()
        say(f"-- {name}: at most {budget.left():.0f} s")
        with check.results.attempt(name):
            budget.needs(LEAST, f"part {name}")
            part(check, budget)
        check.results.took(name, time.monotonic() - begun)
