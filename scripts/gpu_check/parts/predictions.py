"""Predictions: means of all conditions from all cells of the atlas, and single cells."""

import shutil
import time

from ..aims import CELLS, CONDITIONS

# Source cells of each cell type in a first, short run.
FEW = 2000
# Seconds before the first cell is predicted.
START = 8
# The means' part of the time.
MEANS = 0.75
# How much of what the short run promises is believed.
BELIEVED = 0.7


def predictions(check, budget):
    results = check.results
    if not check.machine.gpu:
        results.skip("predictions", "there is no GPU")
        return
    run, atlas = check.model(), check.atlas()
    with results.attempt("means of all conditions"):
        rate = all_means(check, run, atlas, budget.part(MEANS))
        with results.attempt("predicted cells"):
            cells(check, run, atlas, rate, budget)


def predict(check, run, atlas, name, *more, budget):
    out = check.machine.data / name
    started = time.monotonic()
    report = check.machine.perturbine("predict", run.folder, atlas.path, "--out", out, "--device", check.machine.device, *more, budget=budget)
    seconds = time.monotonic() - started
    shutil.rmtree(out, ignore_errors=True)
    return report, seconds


def all_means(check, run, atlas, budget):
    """From every cell of the atlas, or from as many as there is time for; returns the cells × conditions a second."""
    of_types, batch = covariates(check, atlas, budget)
    source = ("--from", f"batch={batch}", "--to", "observed")
    first, _ = predict(check, run, atlas, "few-means", *source, "--cells-per-condition", FEW, budget=budget)
    affordable = BELIEVED * first["cells_per_second"] * max(1.0, budget.left() - START)
    limit = max(FEW, int(affordable / CONDITIONS / len(of_types)))
    more = () if max(of_types) <= limit else ("--cells-per-condition", limit)
    report, seconds = predict(check, run, atlas, "means", *source, *more, budget=budget)
    cells, conditions = sum(min(limit, count) for count in of_types), report["rows"] // len(of_types)
    about = f"{cells:,} cells × {conditions} conditions, {atlas.genes:,} genes"
    rate = report["cells_per_second"]
    check.results.figure(f"means, {about}", round(rate), "cells × conditions/s", "means")
    whole, scaled = seconds, ""
    if cells < 0.95 * CELLS:
        # The start is as long, whatever comes after it.
        predicting = cells * conditions / rate
        whole, scaled = seconds + predicting * (CELLS / cells - 1), ", scaled up to 1,000,000 cells"
    check.results.figure(f"means, the whole command, {about}{scaled}", round(whole, 1), "s", "means of 100")
    return rate


def covariates(check, atlas, budget):
    """How many cells each cell type has, and the one batch, by which all cells can be chosen."""
    shown = check.machine.perturbine("inspect", atlas.path, budget=budget)["covariates"]
    return list(shown["cell_type"].values()), next(iter(shown["batch"]))


def cells(check, run, atlas, means_rate, budget):
    """Predicted cells, written to Parquet, from controls."""
    flags = ("--to", "observed", "--output", "cells", "--cells-per-condition", 200)
    report, _ = predict(check, run, atlas, "cells", *flags, budget=budget)
    rate = report["cells_per_second"]
    check.results.figure(f"predicted cells, {report['rows']:,} rows × {atlas.genes:,} genes in Parquet", round(rate), "cells/s")
    check.results.figure("means against cells", round(means_rate / rate, 1), "×", "means against cells")
