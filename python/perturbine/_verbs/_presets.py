"""The verb `presets`. Written by scripts/python_verbs.py from the help of the command."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from .. import _outcomes
from .._arguments import Request, verb

if TYPE_CHECKING:
    from .._messages import Progress
    from .._table import Table
    from .._types import Scalar


@verb
def presets(
    *,
    threads: int | None = None,
    memory: Scalar | None = None,
    access: Literal["map", "read"] | None = None,
    verbose: int = 0,
    progress: Progress = None,
) -> Table:
    """List the presets of training, and what each is for.

    Args:
        threads: Worker threads of each parallel stage, and at most as many of libtorch, on whose number the last digits
            of a training depend [default: all cores]
        memory: Memory for data waiting between stages, as in 512MiB or 2GiB [default: 256MiB]
        access: How the matrix is read. `map`: Through a memory map; `read`: By plain reads [default: map]
        verbose: Print more detail; 2 and 3 for still more
        progress: Where progress goes: True for `sys.stderr`, a function for each event [default: logging]
    """
    return _outcomes.table(
        Request("presets", locals())
    )
