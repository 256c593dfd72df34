"""Steps from batches that are packed already, and a plain PyTorch loop of the same step."""

import sys

from ..aims import BATCHES, SETTINGS
from ..machine import Failed

ENGINES = ("plain", "replayed")
# A process takes so long to start on a GPU and to draw its batches.
START = 8
# Nobody would wait longer for a steadier figure.
LONGEST = 3.0


def steps(check, budget):
    machine, results = check.machine, check.results
    if not machine.gpu:
        with results.attempt("the bench of steps runs"):
            found = []
            machine.json_lines([machine.bin / "gpu-bench", "--precisions=float32", "cpu", 200, 32], found.append, budget)
            results.check("the bench of steps runs", bool(found), "it printed nothing")
        results.skip("steps at 128, 2,048 and 8,192", "there is no GPU")
        return
    count = len(check.precisions)
    for at, precision in enumerate(check.precisions):
        with results.attempt(f"steps on the device, {precision}"):
            of_precision(check, precision, budget.share(count - at))
    for batch in BATCHES[:2]:
        for precision in check.precisions:
            plain, replayed = (check.steps.get((engine, precision, batch)) for engine in ENGINES)
            if plain and replayed:
                results.figure(f"graphs and own kernels against plain tch, {precision}, batch {batch}", round(replayed / plain, 2), "×",
                               f"engine {batch}")


def of_precision(check, precision, budget):
    machine, results = check.machine, check.results

    def take(line):
        engine, batch, rate = line["engine"], line["batch"], line["cells_per_second"]
        check.steps[engine, precision, batch] = rate
        results.figure(f"steps on the device, {engine}, {precision}, batch {batch}", rate, "cells/s", adv_steps=line["adv_steps"],
                       genes=line["genes"], steps=line["steps"], device_bytes_peak=line["device_bytes_peak"])

    runs = [(batch, engine) for batch in BATCHES for engine in ENGINES]
    seconds = min(LONGEST, max(0.2, (budget.left() - START) / len(runs) / 2))

    def bench(batches, engines):
        machine.json_lines([machine.bin / "gpu-bench", f"--engines={','.join(engines)}", f"--precisions={precision}", "--rounds=1",
                            f"--seconds={seconds:.2f}", *SETTINGS, machine.device, check.genes, *batches], take, budget)

    # All of them in one process, since each takes seconds to start. Where one breaks, those after it get a process each.
    try:
        bench(BATCHES, ENGINES)
    except Failed as error:
        if f"`{precision}`" in str(error):
            results.skip(f"steps on the device, {precision}", "the program does not support this precision")
            check.precisions = tuple(known for known in check.precisions if known != precision)
            return
        broken, *rest = [run for run in runs if (run[1], precision, run[0]) not in check.steps]
        results.check(f"steps on the device, {broken[1]}, {precision}, batch {broken[0]}", False, str(error))
        for batch, engine in rest:
            with results.attempt(f"steps on the device, {engine}, {precision}, batch {batch}"):
                bench([batch], [engine])


def loop(check, budget):
    """The plain PyTorch loop on the same GPU: the same step from batches on the device, and cpa-tools' step."""
    machine, results = check.machine, check.results
    if not machine.gpu or not machine.torch:
        results.skip("the plain PyTorch loop of the same step", "this Python has no torch 2.11" if machine.gpu else "there is no GPU")
        return
    seconds = min(LONGEST, max(0.2, (budget.left() - 2 * START) / 8))
    # Python finds torch's libraries by itself; only a stand-in's have to be put before them.
    script = [sys.executable, machine.folder / "original_step.py", "--device", machine.device, "--batch", *BATCHES[:2],
              "--seconds", f"{seconds:.2f}", "--genes", check.genes]
    if machine.stand_in:
        script.append("--values-mean-nothing")

    def take(line):
        batch, rate = line["batch"], line["cells_per_second"]
        results.figure(f"plain PyTorch loop, {line['what']}, float32, batch {batch}", rate, "cells/s", adv_steps=line["adv_steps"])
        if line["what"] != "the same step":
            return
        for precision in check.precisions:
            if ours := check.steps.get(("replayed", precision, batch)):
                results.figure(f"against a plain PyTorch loop of the same step in float32, ours in {precision}, batch {batch}",
                               round(ours / rate, 1), "×", f"pytorch {batch}" if precision == "float32" else None)

    for more in ([], ["--as-original"]):
        with results.attempt("the plain PyTorch loop" + (" of cpa-tools' step" if more else " of the same step")):
            machine.json_lines([*script, *more], take, budget)
