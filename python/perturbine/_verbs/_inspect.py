"""The verb `inspect`. Written by scripts/python_verbs.py from the help of the command."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from .. import _outcomes
from .._arguments import Request, verb

if TYPE_CHECKING:
    from .._messages import Progress
    from .._report import Report
    from .._types import Many, Scalar, StrPath


@verb
def inspect(
    path: StrPath,
    *,
    layer: str | None = None,
    raw: bool = False,
    genome: str | None = None,
    obs_columns: Many[str] | None = None,
    genes_table: StrPath | None = None,
    list_start: Literal["auto", "marker", "gene"] | None = None,
    statistics: bool = False,
    threads: int | None = None,
    memory: Scalar | None = None,
    access: Literal["map", "read"] | None = None,
    verbose: int = 0,
    progress: Progress = None,
) -> Report:
    """Show what is in an atlas, a data file, a model or predictions.

    Args:
        path: An atlas, a data file or folder, a model, or predictions
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
        statistics: Show an atlas's statistics: cells, library sizes and differential genes of each group
        threads: Worker threads of each parallel stage, and at most as many of libtorch, on whose number the last digits
            of a training depend [default: all cores]
        memory: Memory for data waiting between stages, as in 512MiB or 2GiB [default: 256MiB]
        access: How the matrix is read. `map`: Through a memory map; `read`: By plain reads [default: map]
        verbose: Print more detail; 2 and 3 for still more
        progress: Where progress goes: True for `sys.stderr`, a function for each event [default: logging]
    """
    return _outcomes.report(
        Request("inspect", locals(), positional="path", joined="obs_columns")
    )
