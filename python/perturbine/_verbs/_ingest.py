"""The verb `ingest`. Written by scripts/python_verbs.py from the help of the command."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from .. import _outcomes
from .._arguments import Request, verb

if TYPE_CHECKING:
    from .._atlas import Atlas
    from .._messages import Progress
    from .._types import Many, Scalar, Selector, StrPath


@verb
def ingest(
    *inputs: object,
    out: StrPath,
    force: bool = False,
    split: str | None = None,
    join: Literal["inner", "outer"] | None = None,
    gene_id: str | None = None,
    file_key: str | None = None,
    layer: str | None = None,
    raw: bool = False,
    genome: str | None = None,
    obs_columns: Many[str] | None = None,
    genes_table: StrPath | None = None,
    list_start: Literal["auto", "marker", "gene"] | None = None,
    values: Literal["auto", "counts", "log1p"] | None = None,
    on_bad_values: Literal["error", "drop", "clip"] | None = None,
    no_perturbation: bool = False,
    perturbation: str | None = None,
    control: Many[str] | None = None,
    dose: str | None = None,
    covariates: Many[str] | None = None,
    batch: str | None = None,
    delimiter: str | None = None,
    in_place: bool = False,
    storage: Literal["packed", "raw", "zstd"] | None = None,
    compress: bool = False,
    no_shuffle: bool = False,
    shuffle_seed: int | None = None,
    filter: Many[Selector] | None = None,
    drop_label: Many[str] | None = None,
    min_cells: int | None = None,
    log_memory: bool = False,
    threads: int | None = None,
    memory: Scalar | None = None,
    access: Literal["map", "read"] | None = None,
    verbose: int = 0,
    progress: Progress = None,
) -> Atlas:
    """Convert files to an atlas.

    Args:
        inputs: Files or folders of cells: .h5ad, zarr store, 10x .h5 or folder, Matrix Market, Parquet or Arrow tables;
            several are joined into one atlas
        out: The atlas to write (a folder)
        force: Replace an existing output of the same kind; the old one stays until the new one is complete
        split: Column of obs to import as a split of that name; its values are train, valid (or test) and ood
        join: Which genes to keep when files have different ones. `inner`: Genes that every file has; `outer`: Genes
            that any file has; cells from files without a gene get 0 [default: inner]
        gene_id: Column of var that identifies genes when files are joined [default: their names]
        file_key: Add a column of this name to obs with the file that each cell is from, including as many parent
            folders as needed to tell files apart; may be used as a covariate or batch
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
        no_perturbation: Make an atlas without labels, of cells whose perturbation is not known: models can predict from
            them, but none can be trained
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
        in_place: Leave the matrix in its file, an uncompressed .h5ad, and read it from there
        storage: How the matrix is stored [default: packed]. `packed`: A few bits for each number, for counts about a
            third of raw; rows are decoded from the memory map; `raw`: Arrays as they are in memory; `zstd`: Compressed
            blocks: slow to read, and small where values are not counts
        compress: The same as --storage zstd
        no_shuffle: Keep rows in the order of the source
        shuffle_seed: Seed of the row order [default: 0]
        filter: Keep only cells with this value in a column of obs, as in 'cell_type=B' or 'cell_type!=B'; repeatable;
            `nan` matches missing values; put a column's name with = in double quotes
        drop_label: Leave out cells with this perturbation label, as in unassigned; repeatable; `*` matches any text,
            `nan` missing labels
        min_cells: Leave out conditions with fewer cells; A+B and B+A count as one, and control is always kept [default:
            0]
        log_memory: Report the peak memory of each phase, on the host and on devices, when the command ends
        threads: Worker threads of each parallel stage, and at most as many of libtorch, on whose number the last digits
            of a training depend [default: all cores]
        memory: Memory for data waiting between stages, as in 512MiB or 2GiB [default: 256MiB]
        access: How the matrix is read. `map`: Through a memory map; `read`: By plain reads [default: map]
        verbose: Print more detail; 2 and 3 for still more
        progress: Where progress goes: True for `sys.stderr`, a function for each event [default: logging]
    """
    return _outcomes.atlas(
        Request("ingest", locals(), positional="inputs", joined="obs_columns covariates", pairs="filter")
    )
