"""The verb `predict`. Written by scripts/python_verbs.py from the help of the command."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, overload

from .. import _outcomes
from .._arguments import Request, verb

if TYPE_CHECKING:
    from .._messages import Progress
    from .._prediction import Prediction
    from .._types import Many, Scalar, Selector, StrPath
    from ..scale import Job


@overload
def predict(
    model: StrPath | None = None,
    atlas: StrPath | None = None,
    *,
    out: StrPath | None = None,
    force: bool = False,
    format: Literal["parquet", "h5ad", "csv"] | None = None,
    precision: Literal["f32", "bf16"] | None = None,
    partition_by: Many[str] | None = None,
    controls: Literal["none", "copy"] | None = None,
    max_bytes: Scalar | None = None,
    file_size: Scalar | None = None,
    dry_run: bool = False,
    plan_only: bool = False,
    shard: str | None = None,
    shard_out: StrPath | None = None,
    commit: StrPath | None = None,
    to: Many[Selector] | None = None,
    unseen: Literal["error", "skip", "embedding"] | None = None,
    unseen_covariate: Literal["error", "nearest", "mean"] | None = None,
    batch: str | None = None,
    samples: int | None = None,
    seed: int | None = None,
    from_: Many[Selector] | None = None,
    match: Many[str] | None = None,
    no_control: Literal["error", "skip", "borrow"] | None = None,
    cells_per_condition: int | None = None,
    output: Literal["means", "changes", "cells", "latent"] | None = None,
    layout: Literal["wide", "long"] | None = None,
    genes: Many[str] | None = None,
    top: int | None = None,
    library: Scalar | None = None,
    output_scale: Literal["counts", "cp10k", "log1p_cp10k", "values"] | None = None,
    missing_genes: Literal["error", "zero"] | None = None,
    split: str | None = None,
    device: str | None = None,
    log_memory: bool = False,
    threads: int | None = None,
    memory: Scalar | None = None,
    access: Literal["map", "read"] | None = None,
    verbose: int = 0,
    progress: Progress = None,
    shards: None = None,
) -> Prediction: ...


@overload
def predict(
    model: StrPath | None = None,
    atlas: StrPath | None = None,
    *,
    out: StrPath | None = None,
    force: bool = False,
    format: Literal["parquet", "h5ad", "csv"] | None = None,
    precision: Literal["f32", "bf16"] | None = None,
    partition_by: Many[str] | None = None,
    controls: Literal["none", "copy"] | None = None,
    max_bytes: Scalar | None = None,
    file_size: Scalar | None = None,
    dry_run: bool = False,
    plan_only: bool = False,
    shard: str | None = None,
    shard_out: StrPath | None = None,
    commit: StrPath | None = None,
    to: Many[Selector] | None = None,
    unseen: Literal["error", "skip", "embedding"] | None = None,
    unseen_covariate: Literal["error", "nearest", "mean"] | None = None,
    batch: str | None = None,
    samples: int | None = None,
    seed: int | None = None,
    from_: Many[Selector] | None = None,
    match: Many[str] | None = None,
    no_control: Literal["error", "skip", "borrow"] | None = None,
    cells_per_condition: int | None = None,
    output: Literal["means", "changes", "cells", "latent"] | None = None,
    layout: Literal["wide", "long"] | None = None,
    genes: Many[str] | None = None,
    top: int | None = None,
    library: Scalar | None = None,
    output_scale: Literal["counts", "cp10k", "log1p_cp10k", "values"] | None = None,
    missing_genes: Literal["error", "zero"] | None = None,
    split: str | None = None,
    device: str | None = None,
    log_memory: bool = False,
    threads: int | None = None,
    memory: Scalar | None = None,
    access: Literal["map", "read"] | None = None,
    verbose: int = 0,
    progress: Progress = None,
    shards: int,
) -> Job[Prediction]: ...


@verb
def predict(
    model: StrPath | None = None,
    atlas: StrPath | None = None,
    *,
    out: StrPath | None = None,
    force: bool = False,
    format: Literal["parquet", "h5ad", "csv"] | None = None,
    precision: Literal["f32", "bf16"] | None = None,
    partition_by: Many[str] | None = None,
    controls: Literal["none", "copy"] | None = None,
    max_bytes: Scalar | None = None,
    file_size: Scalar | None = None,
    dry_run: bool = False,
    plan_only: bool = False,
    shard: str | None = None,
    shard_out: StrPath | None = None,
    commit: StrPath | None = None,
    to: Many[Selector] | None = None,
    unseen: Literal["error", "skip", "embedding"] | None = None,
    unseen_covariate: Literal["error", "nearest", "mean"] | None = None,
    batch: str | None = None,
    samples: int | None = None,
    seed: int | None = None,
    from_: Many[Selector] | None = None,
    match: Many[str] | None = None,
    no_control: Literal["error", "skip", "borrow"] | None = None,
    cells_per_condition: int | None = None,
    output: Literal["means", "changes", "cells", "latent"] | None = None,
    layout: Literal["wide", "long"] | None = None,
    genes: Many[str] | None = None,
    top: int | None = None,
    library: Scalar | None = None,
    output_scale: Literal["counts", "cp10k", "log1p_cp10k", "values"] | None = None,
    missing_genes: Literal["error", "zero"] | None = None,
    split: str | None = None,
    device: str | None = None,
    log_memory: bool = False,
    threads: int | None = None,
    memory: Scalar | None = None,
    access: Literal["map", "read"] | None = None,
    verbose: int = 0,
    progress: Progress = None,
    shards: int | None = None,
) -> Prediction | Job[Prediction]:
    """Predict cells under other conditions.

    Args:
        model: The model
        atlas: The atlas with the cells to start from
        out: A folder of Parquet files, or a single file if the name ends in .parquet or .h5ad; left out, the rows are a
            stream
        force: Replace an existing output of the same kind; the old one stays until the new one is complete
        format: Parquet files, or one file that scanpy or a spreadsheet opens [default: by the ending of --out, else
            parquet]. `parquet`: A folder of Parquet files, or one file; `h5ad`: One AnnData file; `csv`: One table of
            text, of changes or of means in a long layout
        precision: Precision of numbers: bf16 keeps three decimal digits and makes files less than half as large. `f32`:
            32 bits; `bf16`: 16 bits: a bfloat16 [default: f32]
        partition_by: Columns whose values become folders, as in condition=A%2BB/: condition, dose or covariates,
            separated by commas
        controls: Real control cells to add to an .h5ad of cells. `none`: None; `copy`: Those of the same covariate
            combinations, as they are in the atlas [default: none]
        max_bytes: Refuse to start if the values could take more, as in 10GiB
        file_size: Approximate size of a file's values; means of a job or a batch of cells are never divided [default:
            256MiB]
        dry_run: Show what would be written and its number of units, and write nothing
        plan_only: Show the checksum of the plan and its number of units, which shards divide among them, and write
            nothing
        shard: Write one shard of the output, from 0/n to n-1/n; --commit publishes them once all are written. A shard
            that is complete already is not written again
        shard_out: Write the shard to a folder of its own, which may be moved to another machine; --commit OUT --from
            FOLDER... publishes them
        commit: Check and publish PATH once all of its shards are written; takes no model or atlas. --from names shards
            that --shard-out wrote
        to: Conditions to predict: 'condition=A+B,dose=1+0.5', a .csv file, observed, missing, ood, pairs or all;
            repeatable [default: ood if the model's split holds cells out, else observed]
        unseen: What to do with perturbations the model was not trained on. `error`: Refuse; `skip`: Skip, and report
            it; `embedding`: Predict from its row in the model's table of embeddings [default: error]
        unseen_covariate: What to use for covariate values the model was not trained on. `error`: Refuse; `nearest`: The
            trained value with the most similar controls; `mean`: The mean of all trained values [default: error]
        batch: The batch to predict for: source (that of the source cells), average (of all), none, or one by name
            [default: source]
        samples: For variational models, number of draws of each cell's latent to average [default: use its mean]
        seed: Seed of the draws [default: 0]
        from_: Cells to start from, as in 'condition=ctrl,cell_type=B' [default: the controls of each covariate
            combination]. With --commit, folders that --shard-out wrote; repeatable
        match: Covariates that source cells must share with what is predicted, as in plate,donor [default: all, but
            those that --from names]
        no_control: What to do with covariates that no source cell has. `error`: Refuse; `skip`: Skip, and report it;
            `borrow`: Start from the cells that share the most covariates [default: error]
        cells_per_condition: Maximum number of source cells per covariate combination
        output: What to predict. `means`: Mean and variance of each condition; `changes`: The change of each gene in
            each condition, with its log2 fold change, standard error and p; `cells`: Every cell; `latent`: The latents
            of every cell: basal, corrected (without the batch) and after [default: means]
        layout: One row per condition, or one row per condition and gene. `wide`: One row per condition; `long`: One row
            per condition and gene [default: wide]
        genes: The genes to write: those in a file, one per line, or those that are differentially expressed in the
            atlas's conditions [default: all]
        top: Maximum number of genes per condition: with `--genes deg`, the most significant ones [default: 50], else,
            in long tables, those with the largest predicted change
        library: Library size of predicted cells, in counts of the model's genes: that of the source cell, a number, or
            the median over the source cells of all predictions (of 16,384, evenly spread, where there are more)
            [default: source]
        output_scale: Scale of the predicted numbers [default: the model's own, counts or values]. `counts`: Counts;
            `cp10k`: Counts per ten thousand; `log1p_cp10k`: log(1 + counts per ten thousand); `values`: The continuous
            values of the atlas
        missing_genes: What to do with genes of the model that the atlas does not have. `error`: Refuse, and list them;
            `zero`: Set them to 0 in every cell, and list them [default: error]
        split: The split that `ood` means [default: the model's own]
        device: Device to compute on: auto, cpu or cuda:0 [default: auto]
        log_memory: Report the peak memory of each phase, on the host and on devices, when the command ends
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
        Request("predict", locals(), positional="model atlas", joined="partition_by match", listed="genes")
    )
