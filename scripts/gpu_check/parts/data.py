"""The atlases: a small one first, whose time says how large the large one can be."""

from ..atlases import cells_that_fit, make

SMALLEST, LARGEST_SMALL = 4000, 150_000
# How much of the cells the small atlas has.
SMALL_SHARE = 8


def data(check, budget):
    machine, results = check.machine, check.results
    if not machine.gpu:
        results.skip("simulated atlases", "there is no GPU")
        return
    few = min(LARGEST_SMALL, max(SMALLEST, check.cells // SMALL_SHARE))
    check.small = make(machine, "small", few, budget, genes=check.genes)
    results.figure(f"simulating and ingesting {few:,} cells × {check.genes:,} genes", round(check.small.seconds, 1), "s")
    many = cells_that_fit(check.cells, check.small, budget.left())
    if many <= few:
        results.skip("a larger atlas", f"{few:,} cells took {check.small.seconds:.0f} s, but {budget.left():.0f} s were left")
        return
    if many < check.cells:
        results.skip(f"an atlas of {check.cells:,} cells", f"there is only time for {many:,} cells")
    check.large = make(machine, "large", many, budget, genes=check.genes)
    results.figure(f"simulating and ingesting {many:,} cells × {check.genes:,} genes", round(check.large.seconds, 1), "s")
