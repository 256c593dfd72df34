"""The verb `crossval`. Written by scripts/python_verbs.py from the help of the command."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, overload

from .. import _outcomes
from .._arguments import Request, verb

if TYPE_CHECKING:
    from .._evaluation import Evaluation
    from .._messages import Progress
    from .._types import Many, Scalar, Selector, StrPath
    from ..scale import Job


@overload
def crossval(
    atlas: StrPath | None = None,
    scheme: str | None = None,
    *,
    seeds: int | None = None,
    seed: int | None = None,
    split_seed: int | None = None,
    out: StrPath | None = None,
    dry_run: bool = False,
    plan_only: bool = False,
    shard: str | None = None,
    shard_out: StrPath | None = None,
    from_: Many[StrPath] | None = None,
    commit: StrPath | None = None,
    genes: Many[str] | int | None = None,
    genes_keep: Many[StrPath] | None = None,
    preset: str | None = None,
    config: StrPath | None = None,
    set: Many[Selector] | None = None,
    epochs: int | None = None,
    batch_size: Scalar | None = None,
    scale: Literal["log1p_cp10k", "log1p", "pseudobulk", "values"] | None = None,
    readout: Literal["anchored", "raw"] | None = None,
    device: str | None = None,
    perturbation: str | None = None,
    control: Many[str] | None = None,
    dose: str | None = None,
    covariates: Many[str] | None = None,
    batch: str | None = None,
    delimiter: str | None = None,
    layer: str | None = None,
    raw: bool = False,
    genome: str | None = None,
    obs_columns: Many[str] | None = None,
    genes_table: StrPath | None = None,
    list_start: Literal["auto", "marker", "gene"] | None = None,
    values: Literal["auto", "counts", "log1p"] | None = None,
    on_bad_values: Literal["error", "drop", "clip"] | None = None,
    filter: Many[Selector] | None = None,
    drop_label: Many[str] | None = None,
    min_cells: int | None = None,
    storage: Literal["packed", "raw", "zstd"] | None = None,
    compress: bool = False,
    no_shuffle: bool = False,
    shuffle_seed: int | None = None,
    threads: int | None = None,
    memory: Scalar | None = None,
    access: Literal["map", "read"] | None = None,
    verbose: int = 0,
    progress: Progress = None,
    shards: None = None,
) -> Evaluation: ...


@overload
def crossval(
    atlas: StrPath | None = None,
    scheme: str | None = None,
    *,
    seeds: int | None = None,
    seed: int | None = None,
    split_seed: int | None = None,
    out: StrPath | None = None,
    dry_run: bool = False,
    plan_only: bool = False,
    shard: str | None = None,
    shard_out: StrPath | None = None,
    from_: Many[StrPath] | None = None,
    commit: StrPath | None = None,
    genes: Many[str] | int | None = None,
    genes_keep: Many[StrPath] | None = None,
    preset: str | None = None,
    config: StrPath | None = None,
    set: Many[Selector] | None = None,
    epochs: int | None = None,
    batch_size: Scalar | None = None,
    scale: Literal["log1p_cp10k", "log1p", "pseudobulk", "values"] | None = None,
    readout: Literal["anchored", "raw"] | None = None,
    device: str | None = None,
    perturbation: str | None = None,
    control: Many[str] | None = None,
    dose: str | None = None,
    covariates: Many[str] | None = None,
    batch: str | None = None,
    delimiter: str | None = None,
    layer: str | None = None,
    raw: bool = False,
    genome: str | None = None,
    obs_columns: Many[str] | None = None,
    genes_table: StrPath | None = None,
    list_start: Literal["auto", "marker", "gene"] | None = None,
    values: Literal["auto", "counts", "log1p"] | None = None,
    on_bad_values: Literal["error", "drop", "clip"] | None = None,
    filter: Many[Selector] | None = None,
    drop_label: Many[str] | None = None,
    min_cells: int | None = None,
    storage: Literal["packed", "raw", "zstd"] | None = None,
    compress: bool = False,
    no_shuffle: bool = False,
    shuffle_seed: int | None = None,
    threads: int | None = None,
    memory: Scalar | None = None,
    access: Literal["map", "read"] | None = None,
    verbose: int = 0,
    progress: Progress = None,
    shards: int,
) -> Job[Evaluation]: ...


@verb
def crossval(
    atlas: StrPath | None = None,
    scheme: str | None = None,
    *,
    seeds: int | None = None,
    seed: int | None = None,
    split_seed: int | None = None,
    out: StrPath | None = None,
    dry_run: bool = False,
    plan_only: bool = False,
    shard: str | None = None,
    shard_out: StrPath | None = None,
    from_: Many[StrPath] | None = None,
    commit: StrPath | None = None,
    genes: Many[str] | int | None = None,
    genes_keep: Many[StrPath] | None = None,
    preset: str | None = None,
    config: StrPath | None = None,
    set: Many[Selector] | None = None,
    epochs: int | None = None,
    batch_size: Scalar | None = None,
    scale: Literal["log1p_cp10k", "log1p", "pseudobulk", "values"] | None = None,
    readout: Literal["anchored", "raw"] | None = None,
    device: str | None = None,
    perturbation: str | None = None,
    control: Many[str] | None = None,
    dose: str | None = None,
    covariates: Many[str] | None = None,
    batch: str | None = None,
    delimiter: str | None = None,
    layer: str | None = None,
    raw: bool = False,
    genome: str | None = None,
    obs_columns: Many[str] | None = None,
    genes_table: StrPath | None = None,
    list_start: Literal["auto", "marker", "gene"] | None = None,
    values: Literal["auto", "counts", "log1p"] | None = None,
    on_bad_values: Literal["error", "drop", "clip"] | None = None,
    filter: Many[Selector] | None = None,
    drop_label: Many[str] | None = None,
    min_cells: int | None = None,
    storage: Literal["packed", "raw", "zstd"] | None = None,
    compress: bool = False,
    no_shuffle: bool = False,
    shuffle_seed: int | None = None,
    threads: int | None = None,
    memory: Scalar | None = None,
    access: Literal["map", "read"] | None = None,
    verbose: int = 0,
    progress: Progress = None,
    shards: int | None = None,
) -> Evaluation | Job[Evaluation]:
    """Cross-validate: train and evaluate every fold of the atlas.

    Args:
        atlas: The atlas, or a data file, which is first ingested into an atlas next to it
        scheme: What the folds hold out: leave-out:KEY (each value's perturbed cells in turn), combos:F, perturbations:F
            or random:F (each of them once; a fraction of 0.2 makes five folds)
        seeds: Number of seeds to train each fold with; a seed decides order, weights and dropout [default: 1]
        seed: The first of these seeds [default: 0]
        split_seed: Seed of the division into folds, and of the validation cells [default: 0]
        out: Folder to keep every model and the tables in; running the command again trains only what is missing
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
        genes: Number of genes to use, those that vary most between training cells, or a file with one gene name per
            line [default: all]
        genes_keep: Genes to add: those that are perturbed, or those listed in a file; repeatable
        preset: Preset to start from: residual, cpa, norman, kang or combosciplex [default: residual]
        config: Settings that override the preset
        set: Change one setting, as in model.n_latent=64; repeatable
        epochs: Maximum number of epochs
        batch_size: Cells per batch; auto is the largest power of two, up to 8192, with which the total of `explain`
            stays within --memory
        scale: The scale of the scores: log1p_cp10k, log1p or pseudobulk for counts, values for anything else [default:
            log1p_cp10k or values]. `log1p_cp10k`: Means of log(1 + counts scaled to ten thousand per cell); `log1p`:
            Means of log(1 + counts); `pseudobulk`: log(1 + means of scaled counts); `values`: Means of the values
        readout: Add the predicted change to the real controls' mean, or take the output as it is [default: anchored].
            `anchored`: Real controls plus the predicted change; `raw`: The output as it is
        device: Device to compute on: auto, cpu or cuda:0 [default: auto]
        perturbation: Column of the perturbation [default: condition, perturbation, cond_harm, or a name of published
            screens such as drug or perturbation_name]
        control: Label of unperturbed cells, also as a part of other labels, from which it is dropped (A+ctrl is A);
            repeatable; `*` matches any text [default: ctrl, control, DMSO, non-targeting, or a control of published
            screens such as Vehicle]
        dose: Column of the dose [default: dose_val, dose or dose_value]
        covariates: Covariate columns, separated by commas, a name with commas in double quotes; empty for none
            [default: cell_type or cell_line]
        batch: Column of the batch, which is also a covariate
        delimiter: Delimiter between the perturbations of a label [default: +]
        layer: Layer to take instead of X
        raw: Take raw/X instead of X
        genome: Genome to take from a 10x file
        obs_columns: Columns of a wide table that annotate cells, separated by commas; text and times annotate too, all
            others are genes, be they numbers or true and false [default: dose, n_counts and the like, printed when
            used]
        genes_table: Parquet table with the names of genes that lists store as numbers [default: gene_metadata.parquet
            next to them]
        list_start: What the first entry of each list in a table is. `auto`: A marker if every list begins with the same
            negative entry, whose number appears nowhere else; otherwise a gene; `marker`: An entry that marks the cell,
            as in Tahoe-100M; it is skipped; `gene`: A gene, whatever its value [default: auto]
        values: What the values are. `auto`: Counts where all are non-negative integers, else continuous; `counts`:
            Counts, or an error; `log1p`: Continuous values, normalised as the original expects them [default: auto]
        on_bad_values: What to do about NaN or infinite values and negative or fractional counts. `error`: Report the
            first ones and write nothing; `drop`: Leave out their cells; `clip`: Use the nearest valid value; values
            that are not finite become 0 [default: error]
        filter: Keep only cells with this value in a column of obs, as in 'cell_type=B' or 'cell_type!=B'; repeatable;
            `nan` matches missing values; put a column's name with = in double quotes
        drop_label: Leave out cells with this perturbation label, as in unassigned; repeatable; `*` matches any text,
            `nan` missing labels
        min_cells: Leave out conditions with fewer cells; A+B and B+A count as one, and control is always kept [default:
            0]
        storage: How the matrix is stored [default: packed]. `packed`: A few bits for each number, for counts about a
            third of raw; rows are decoded from the memory map; `raw`: Arrays as they are in memory; `zstd`: Compressed
            blocks: slow to read, and small where values are not counts
        compress: The same as --storage zstd
        no_shuffle: Keep rows in the order of the source
        shuffle_seed: Seed of the row order [default: 0]
        threads: Worker threads of each parallel stage, and at most as many of libtorch, on whose number the last digits
            of a training depend [default: all cores]
        memory: Memory for data waiting between stages, as in 512MiB or 2GiB [default: 256MiB]
        access: How the matrix is read. `map`: Through a memory map; `read`: By plain reads [default: map]
        verbose: Print more detail; 2 and 3 for still more
        progress: Where progress goes: True for `sys.stderr`, a function for each event [default: logging]
        shards: Prepare this many shards instead, which `Job.run` runs; with `shard_out`, they are folders in it, and
            workers need not share a folder [default: run here]
    """
    return _outcomes.sharded_evaluation(
        Request("crossval", locals(), positional="atlas", joined="covariates obs_columns", pairs="set filter", listed="genes")
    )
