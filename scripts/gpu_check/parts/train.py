"""One clean training run for each batch size and precision, from an atlas in the page cache."""

import time

from .. import history
from ..aims import BATCHES, CELLS
from ..schedule import OutOfTime
from ..training import EPOCHS, Run

# What is taken for the rate where no steps were measured.
UNKNOWN_RATE = 100_000
# Few cells validate, so that an epoch is one of nearly all of them.
SETTINGS = ("train.valid=0.02",)


def train(check, budget):
    results = check.results
    if not check.machine.gpu:
        results.skip("training", "there is no GPU")
        return
    check.atlas()
    wanted = [(precision, batch) for precision in check.precisions for batch in BATCHES]
    for at, (precision, batch) in enumerate(wanted):
        with results.attempt(f"training, {precision}, batch {batch}"):
            one(check, precision, batch, budget, budget.share(len(wanted) - at))


def one(check, precision, batch, budget, share):
    results = check.results
    atlas = affordable(check, precision, batch, budget, share)
    begun = time.monotonic()
    run = Run(check.machine, atlas, f"train-{precision}-{batch}", batch, precision, settings=SETTINGS).train(budget)
    check.runs[precision, batch] = run
    epochs = run.epochs()
    check.beside_epochs = max(1.0, time.monotonic() - begun - sum(epoch["seconds"] for epoch in epochs[:-1]))
    cells, rate = history.cells(epochs), history.rate(epochs)
    about = f"{precision}, batch {batch}, {cells:,} cells × {atlas.genes:,} genes an epoch"
    rates = [round(epoch["cells_per_second"]) for epoch in epochs]
    results.figure(f"training, {about}", round(rate), "cells/s", f"training {batch}", adv_steps=3, epochs=rates,
                   waited_for_data=[round(epoch["wait.data"], 3) for epoch in epochs])
    if steps := check.steps.get(("replayed", precision, batch)):
        results.figure(f"streaming against packed batches, {about}", round(rate / steps, 3), "", f"streaming {batch}")
    if atlas is check.large:
        # What the epoch of a million would take at this rate, where there was no time for this many.
        scaled = "" if cells >= 0.95 * CELLS else ", scaled up to 1,000,000"
        seconds = cells / rate * (CELLS / cells if scaled else 1)
        results.figure(f"one epoch, {about}{scaled}", round(seconds, 2), "s", "epoch")


def affordable(check, precision, batch, budget, share):
    """The large atlas where that leaves the later runs their share of the time, else the small one, by the rate of the steps."""
    rate = check.steps.get(("replayed", precision, batch), UNKNOWN_RATE)
    for atlas, time_left in ((check.large, share), (check.small, budget)):
        if atlas and check.beside_epochs + EPOCHS * atlas.cells / rate < time_left.left():
            return atlas
    raise OutOfTime(f"five epochs of the smallest atlas and a start take longer than the {budget.left():.0f} s that are left")
