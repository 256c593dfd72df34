"""The verb `simulate`. Written by scripts/python_verbs.py from the help of the command."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from .. import _outcomes
from .._arguments import Request, verb

if TYPE_CHECKING:
    from .._messages import Progress
    from .._report import Report
    from .._types import Scalar, StrPath


@verb
def simulate(
    out: StrPath,
    *,
    cells: int | None = None,
    genes: int | None = None,
    cell_types: int | None = None,
    batches: int | None = None,
    density: float | None = None,
    sorted: bool | None = None,
    seed: int | None = None,
    conditions: int | None = None,
    combos: int | None = None,
    interactions: Literal["own", "pathways"] | None = None,
    interaction: float | None = None,
    doses: int | None = None,
    gzip: int | None = None,
    threads: int | None = None,
    memory: Scalar | None = None,
    access: Literal["map", "read"] | None = None,
    verbose: int = 0,
    progress: Progress = None,
) -> Report:
    """Simulate a realistic atlas with known ground truth.

    Args:
        cells: Number of cells [default: 20000]
        genes: Number of genes [default: 2000]
        cell_types: Number of cell types [default: 3]
        batches: Number of batches [default: 2]
        density: Expected share of non-zero counts [default: 0.1]
        sorted: Whether cells are sorted by condition, as in real files [default: true]
        seed: Random seed; the same seed gives the same atlas [default: 0]
        conditions: Number of conditions besides control: single perturbations and combinations [default: 40]
        combos: How many of the conditions are combinations of two perturbations [default: 30%]
        interactions: What combinations change beyond the sum of their parts: their own genes, or genes of pathway
            pairs. `own`: Each combination changes its own genes; `pathways`: Each pair of pathways changes genes
            [default: own]
        interaction: Size of these interactions; at 0, combinations are the sum of their parts [default: 1]
        doses: Number of dose levels [default: 1]
        gzip: Compress the file with gzip, at this level
        out: The .h5ad file to write; the ground truth goes next to it, into FILE.truth.parquet
        threads: Worker threads of each parallel stage, and at most as many of libtorch, on whose number the last digits
            of a training depend [default: all cores]
        memory: Memory for data waiting between stages, as in 512MiB or 2GiB [default: 256MiB]
        access: How the matrix is read. `map`: Through a memory map; `read`: By plain reads [default: map]
        verbose: Print more detail; 2 and 3 for still more
        progress: Where progress goes: True for `sys.stderr`, a function for each event [default: logging]
    """
    return _outcomes.report(
        Request("simulate", locals(), texts="sorted")
    )
