"""The verb `embed`. Written by scripts/python_verbs.py from the help of the command."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from .. import _outcomes
from .._arguments import Request, verb

if TYPE_CHECKING:
    from .._messages import Progress
    from .._prediction import Prediction
    from .._types import Scalar, StrPath


@verb
def embed(
    model: StrPath,
    atlas: StrPath | None = None,
    *,
    out: StrPath | None = None,
    force: bool = False,
    of: Literal["cells", "perturbations", "covariates"] | None = None,
    missing_genes: Literal["error", "zero"] | None = None,
    device: str | None = None,
    threads: int | None = None,
    memory: Scalar | None = None,
    access: Literal["map", "read"] | None = None,
    verbose: int = 0,
    progress: Progress = None,
) -> Prediction:
    """Write the latents of cells, or the embeddings of perturbations and covariates.

    Args:
        model: The model
        atlas: The atlas with the cells to embed; not needed for embedding tables
        out: A folder of Parquet files, or a single file if the name ends in .parquet, .csv (a column for each number)
            or, for cells, .h5ad; an .h5ad has the basal latent in obsm["X_cpa"], the others in X_cpa_corrected and
            X_cpa_after; left out, the rows are a stream
        force: Replace an existing output of the same kind; the old one stays until the new one is complete
        of: What to embed. `cells`: The latents of every cell: basal, corrected (without the batch) and after;
            `perturbations`: The embedding table of the perturbations, and their similarity; `covariates`: The embedding
            tables of the covariates [default: cells]
        missing_genes: What to do with genes of the model that the atlas does not have. `error`: Refuse, and list them;
            `zero`: Set them to 0 in every cell, and list them [default: error]
        device: Device to compute on: auto, cpu or cuda:0 [default: auto]
        threads: Worker threads of each parallel stage, and at most as many of libtorch, on whose number the last digits
            of a training depend [default: all cores]
        memory: Memory for data waiting between stages, as in 512MiB or 2GiB [default: 256MiB]
        access: How the matrix is read. `map`: Through a memory map; `read`: By plain reads [default: map]
        verbose: Print more detail; 2 and 3 for still more
        progress: Where progress goes: True for `sys.stderr`, a function for each event [default: logging]
    """
    return _outcomes.prediction(
        Request("embed", locals(), positional="model atlas")
    )
