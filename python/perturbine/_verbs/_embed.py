"""The verb `embed`. Written by scripts/python_verbs.py from the help of the command."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, overload

from .. import _outcomes
from .._arguments import Request, verb

if TYPE_CHECKING:
    from .._messages import Progress
    from .._prediction import Prediction
    from .._types import Many, Scalar, StrPath
    from ..scale import Job


@overload
def embed(
    model: StrPath | None = None,
    atlas: StrPath | None = None,
    *,
    out: StrPath | None = None,
    force: bool = False,
    file_size: Scalar | None = None,
    dry_run: bool = False,
    plan_only: bool = False,
    shard: str | None = None,
    shard_out: StrPath | None = None,
    from_: Many[StrPath] | None = None,
    commit: StrPath | None = None,
    of: Literal["cells", "perturbations", "covariates"] | None = None,
    missing_genes: Literal["error", "zero"] | None = None,
    device: str | None = None,
    threads: int | None = None,
    memory: Scalar | None = None,
    access: Literal["map", "read"] | None = None,
    verbose: int = 0,
    progress: Progress = None,
    shards: None = None,
) -> Prediction: ...


@overload
def embed(
    model: StrPath | None = None,
    atlas: StrPath | None = None,
    *,
    out: StrPath | None = None,
    force: bool = False,
    file_size: Scalar | None = None,
    dry_run: bool = False,
    plan_only: bool = False,
    shard: str | None = None,
    shard_out: StrPath | None = None,
    from_: Many[StrPath] | None = None,
    commit: StrPath | None = None,
    of: Literal["cells", "perturbations", "covariates"] | None = None,
    missing_genes: Literal["error", "zero"] | None = None,
    device: str | None = None,
    threads: int | None = None,
    memory: Scalar | None = None,
    access: Literal["map", "read"] | None = None,
    verbose: int = 0,
    progress: Progress = None,
    shards: int,
) -> Job[Prediction]: ...


@verb
def embed(
    model: StrPath | None = None,
    atlas: StrPath | None = None,
    *,
    out: StrPath | None = None,
    force: bool = False,
    file_size: Scalar | None = None,
    dry_run: bool = False,
    plan_only: bool = False,
    shard: str | None = None,
    shard_out: StrPath | None = None,
    from_: Many[StrPath] | None = None,
    commit: StrPath | None = None,
    of: Literal["cells", "perturbations", "covariates"] | None = None,
    missing_genes: Literal["error", "zero"] | None = None,
    device: str | None = None,
    threads: int | None = None,
    memory: Scalar | None = None,
    access: Literal["map", "read"] | None = None,
    verbose: int = 0,
    progress: Progress = None,
    shards: int | None = None,
) -> Prediction | Job[Prediction]:
    """Write the latents of cells, or the embeddings of perturbations and covariates.

    Args:
        model: The model
        atlas: The atlas with the cells to embed; not needed for embedding tables
        out: A folder of Parquet files, or a single file if the name ends in .parquet, .csv (a column for each number)
            or, for cells, .h5ad; an .h5ad has the basal latent in obsm["X_cpa"], the others in X_cpa_corrected and
            X_cpa_after; left out, the rows are a stream
        force: Replace an existing output of the same kind; the old one stays until the new one is complete
        file_size: Approximate size of a file's values, for cells [default: 256MiB]
        dry_run: Show what would be written and its number of units, and write nothing
        plan_only: Show the checksum of the plan and its number of units, which shards divide among them, and write
            nothing
        shard: Write one shard of the output, from 0/n to n-1/n; --commit publishes them once all are written. A shard
            that is complete already is not written again
        shard_out: Write the shard to a folder of its own, which may be moved to another machine; --commit OUT --from
            FOLDER... publishes them
        from_: With --commit, folders that --shard-out wrote; repeatable
        commit: Check and publish PATH once all of its shards are written; takes no model or atlas. --from names shards
            that --shard-out wrote
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
        shards: Prepare this many shards instead, which `Job.run` runs; with `shard_out`, they are folders in it, and
            workers need not share a folder [default: run here]
    """
    return _outcomes.sharded_prediction(
        Request("embed", locals(), positional="model atlas")
    )
