"""The verb `split`. Written by scripts/python_verbs.py from the help of the command."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from .. import _outcomes
from .._arguments import Request, verb

if TYPE_CHECKING:
    from .._messages import Progress
    from .._report import Report
    from .._types import Many, Scalar, Selector, StrPath


@verb
def split(
    atlas: StrPath,
    *,
    name: str | None = None,
    remove: str | None = None,
    hold_out: Many[Selector] | None = None,
    scheme: str | None = None,
    from_obs: str | None = None,
    valid: float | None = None,
    reference: float | None = None,
    seed: int | None = None,
    force: bool = False,
    threads: int | None = None,
    memory: Scalar | None = None,
    access: Literal["map", "read"] | None = None,
    verbose: int = 0,
    progress: Progress = None,
) -> Report:
    """Choose the cells to train on, to validate on and to hold out.

    Args:
        atlas: The atlas
        name: The split's name, of letters, digits, - and _
        remove: Remove the split of this name
        hold_out: Cells to hold out, as in 'condition=stim,cell_type=B'; repeatable; put values with commas or outer
            spaces, and keys with commas or =, in double quotes, as in 'cell_type="T, naive"'
        scheme: How to draw held-out cells: random:F, leave-out:KEY, combos:F or perturbations:F
        from_obs: Column of obs to import the split from, where `test` means valid
        valid: Fraction of the other cells to use for validation [default: 0.15]
        reference: Fraction of each context's controls to set apart: `evaluate` measures real changes from them, and
            nothing is trained on them; at least 20 (or half of the controls), at most 2,000 [default: 0.25]
        seed: Random seed [default: 0]
        force: Replace a split of this name
        threads: Worker threads of each parallel stage, and at most as many of libtorch, on whose number the last digits
            of a training depend [default: all cores]
        memory: Memory for data waiting between stages, as in 512MiB or 2GiB [default: 256MiB]
        access: How the matrix is read. `map`: Through a memory map; `read`: By plain reads [default: map]
        verbose: Print more detail; 2 and 3 for still more
        progress: Where progress goes: True for `sys.stderr`, a function for each event [default: logging]
    """
    return _outcomes.report(
        Request("split", locals(), positional="atlas")
    )
