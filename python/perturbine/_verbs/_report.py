"""The verb `report`. Written by scripts/python_verbs.py from the help of the command."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from .. import _outcomes
from .._arguments import Request, verb

if TYPE_CHECKING:
    from .._messages import Progress
    from .._report import Report
    from .._types import Scalar, StrPath


@verb
def report(
    model: StrPath,
    out: StrPath,
    *,
    figures: StrPath | None = None,
    tables: StrPath | None = None,
    force: bool = False,
    threads: int | None = None,
    memory: Scalar | None = None,
    access: Literal["map", "read"] | None = None,
    verbose: int = 0,
    progress: Progress = None,
) -> Report:
    """Write an HTML report about a model.

    Args:
        model: The model
        out: The page to write
        figures: Also write every chart to a new folder, as SVG and PNG
        tables: Also write every table to a new folder, as CSV with all digits; of genes and scores, all
        force: Replace an existing output of the same kind; the old one stays until the new one is complete
        threads: Worker threads of each parallel stage, and at most as many of libtorch, on whose number the last digits
            of a training depend [default: all cores]
        memory: Memory for data waiting between stages, as in 512MiB or 2GiB [default: 256MiB]
        access: How the matrix is read. `map`: Through a memory map; `read`: By plain reads [default: map]
        verbose: Print more detail; 2 and 3 for still more
        progress: Where progress goes: True for `sys.stderr`, a function for each event [default: logging]
    """
    return _outcomes.report(
        Request("report", locals(), positional="model")
    )
