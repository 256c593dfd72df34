"""The verb `judge`. Written by scripts/python_verbs.py from the help of the command."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from .. import _outcomes
from .._arguments import Request, verb

if TYPE_CHECKING:
    from .._evaluation import Evaluation
    from .._messages import Progress
    from .._types import Many, Scalar, StrPath


@verb
def judge(
    *predictions: object,
    truth: StrPath,
    split: str | None = None,
    on: Literal["ood", "valid", "train"] | None = None,
    scale: Literal["log1p_cp10k", "log1p", "pseudobulk", "values"] | None = None,
    scores: Many[str] | None = None,
    values: Literal["counts", "log1p_cp10k", "values"] | None = None,
    target_sum: int | None = None,
    perturbation: str | None = None,
    dose: str | None = None,
    layer: str | None = None,
    raw: bool = False,
    genome: str | None = None,
    obs_columns: Many[str] | None = None,
    genes_table: StrPath | None = None,
    list_start: Literal["auto", "marker", "gene"] | None = None,
    out: StrPath | None = None,
    card: StrPath | None = None,
    force: bool = False,
    threads: int | None = None,
    memory: Scalar | None = None,
    access: Literal["map", "read"] | None = None,
    verbose: int = 0,
    progress: Progress = None,
) -> Evaluation:
    """Compare predictions of any model with real cells and with baselines.

    Args:
        predictions: Predictions of any model: .h5ad, zarr or tables of cells, with the atlas's labels in obs; one row
            per condition is a mean; or what `predict` writes
        truth: The atlas with the real cells, or a file of them
        split: The split with the held-out cells [default: the atlas's only one]
        on: Which cells to compare with [default: ood, or valid if nothing is held out]. `ood`: Held out; `valid`:
            Validation; `train`: Training; the baselines then see the cells that are evaluated
        scale: The scale of the scores: log1p_cp10k, log1p or pseudobulk for counts, values for anything else [default:
            log1p_cp10k or values; pseudobulk for means of counts]. `log1p_cp10k`: Means of log(1 + counts scaled to ten
            thousand per cell); `log1p`: Means of log(1 + counts); `pseudobulk`: log(1 + means of scaled counts);
            `values`: Means of the values
        scores: Scores to compute, with commas between: all, means, cells, tests, or names as in JSON; pearson_delta is
            always among them [default: all]
        values: Which numbers files hold [default: counts if the first are whole numbers, otherwise log1p_cp10k or the
            atlas's values]. `counts`: Counts; `log1p_cp10k`: log(1 + counts scaled to ten thousand per cell, or to
            --target-sum); `values`: The atlas's own values
        target_sum: The sum that cells were scaled to before log1p [default: 10000]
        perturbation: The obs column of perturbations [default: the atlas's own]
        dose: The obs column of doses [default: the atlas's own, if the file has it]
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
        out: Write a page with all scores
        card: Write a card: hashes of data, split, predictions and definitions, which `verify` checks
        force: Replace an existing output of the same kind; the old one stays until the new one is complete
        threads: Worker threads of each parallel stage, and at most as many of libtorch, on whose number the last digits
            of a training depend [default: all cores]
        memory: Memory for data waiting between stages, as in 512MiB or 2GiB [default: 256MiB]
        access: How the matrix is read. `map`: Through a memory map; `read`: By plain reads [default: map]
        verbose: Print more detail; 2 and 3 for still more
        progress: Where progress goes: True for `sys.stderr`, a function for each event [default: logging]
    """
    return _outcomes.judgement(
        Request("judge", locals(), positional="predictions", joined="scores obs_columns")
    )
