"""The verb `evaluate`. Written by scripts/python_verbs.py from the help of the command."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from .. import _outcomes
from .._arguments import Request, verb

if TYPE_CHECKING:
    from .._evaluation import Evaluation
    from .._messages import Progress
    from .._types import Scalar, StrPath


@verb
def evaluate(
    model: StrPath,
    atlas: StrPath,
    *,
    split: str | None = None,
    on: Literal["ood", "valid", "train"] | None = None,
    predictions: StrPath | None = None,
    scale: Literal["log1p_cp10k", "log1p", "pseudobulk", "values"] | None = None,
    readout: Literal["anchored", "raw"] | None = None,
    device: str | None = None,
    threads: int | None = None,
    memory: Scalar | None = None,
    access: Literal["map", "read"] | None = None,
    verbose: int = 0,
    progress: Progress = None,
) -> Evaluation:
    """Compare predictions with held-out cells and with baselines.

    Args:
        model: The model
        atlas: The atlas that holds the held-out cells
        split: The split with the held-out cells [default: the model's own]
        on: Which cells to evaluate [default: ood, or valid if nothing is held out]. `ood`: Held out; `valid`:
            Validation; `train`: Training; the baselines then see the cells that are evaluated
        predictions: Evaluate these predictions, as written by `predict`, instead of running the model
        scale: The scale of the scores: log1p_cp10k, log1p or pseudobulk for counts, values for anything else [default:
            log1p_cp10k or values; pseudobulk for predictions of counts]. `log1p_cp10k`: Means of log(1 + counts scaled
            to ten thousand per cell); `log1p`: Means of log(1 + counts); `pseudobulk`: log(1 + means of scaled counts);
            `values`: Means of the values
        readout: Add the predicted change to the real controls' mean, or take the output as it is [default: anchored;
            raw for predictions]. `anchored`: Real controls plus the predicted change; `raw`: The output as it is
        device: Device to compute on: auto, cpu or cuda:0 [default: auto]
        threads: Worker threads of each parallel stage, and at most as many of libtorch, on whose number the last digits
            of a training depend [default: all cores]
        memory: Memory for data waiting between stages, as in 512MiB or 2GiB [default: 256MiB]
        access: How the matrix is read. `map`: Through a memory map; `read`: By plain reads [default: map]
        verbose: Print more detail; 2 and 3 for still more
        progress: Where progress goes: True for `sys.stderr`, a function for each event [default: logging]
    """
    return _outcomes.evaluation(
        Request("evaluate", locals(), positional="model atlas")
    )
