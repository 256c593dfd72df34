"""The verb `response`. Written by scripts/python_verbs.py from the help of the command."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from .. import _outcomes
from .._arguments import Request, verb

if TYPE_CHECKING:
    from .._messages import Progress
    from .._prediction import Prediction
    from .._types import Many, Scalar, Selector, StrPath


@verb
def response(
    model: StrPath,
    atlas: StrPath,
    condition: str,
    *,
    doses: Many[Many[Scalar]] | None = None,
    genes: Many[str] | int | None = None,
    from_: Selector | None = None,
    cells_per_condition: int | None = None,
    out: StrPath | None = None,
    force: bool = False,
    device: str | None = None,
    threads: int | None = None,
    memory: Scalar | None = None,
    access: Literal["map", "read"] | None = None,
    verbose: int = 0,
    progress: Progress = None,
) -> Prediction:
    """Predict how genes respond to doses of a perturbation or a pair.

    Args:
        model: The model
        atlas: The atlas with the controls to start from
        condition: A perturbation, or a pair as in A+B
        doses: First dose, last dose and step, or doses separated by commas; given once for both perturbations of a
            pair, or once for each [default: from 0 to the largest trained dose, with all trained ones]
        genes: Genes to show: a number of those whose prediction changes most over all doses, or those listed in a file
            [default: 10]
        from_: Cells to start from, as in 'cell_type=B' [default: the controls of each covariate combination]
        cells_per_condition: Maximum number of source cells per covariate combination [default: 256]
        out: Also write the curves to a .parquet or .csv file, one row per dose and gene; left out, the rows are a
            stream
        force: Replace an existing output of the same kind; the old one stays until the new one is complete
        device: Device to compute on: auto, cpu or cuda:0 [default: auto]
        threads: Worker threads of each parallel stage, and at most as many of libtorch, on whose number the last digits
            of a training depend [default: all cores]
        memory: Memory for data waiting between stages, as in 512MiB or 2GiB [default: 256MiB]
        access: How the matrix is read. `map`: Through a memory map; `read`: By plain reads [default: map]
        verbose: Print more detail; 2 and 3 for still more
        progress: Where progress goes: True for `sys.stderr`, a function for each event [default: logging]
    """
    return _outcomes.prediction(
        Request("response", locals(), positional="model atlas", joined="doses", listed="genes")
    )
