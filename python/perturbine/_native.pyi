"""The native half of the package; use it through `perturbine`."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, final

from typing_extensions import disjoint_base

from ._loader import Options, Place

__all__ = [
    "ArrowStream",
    "Atlas",
    "Batch",
    "BatchStream",
    "Buffer",
    "Columns",
    "Order",
    "__version__",
    "write_table",
]

__version__: str

class _Table(Protocol):
    def __arrow_c_stream__(self, requested_schema: object = None) -> object: ...

@disjoint_base
class Atlas:
    """An atlas; `perturbine.open` opens one."""

    def __new__(
        cls, path: str | os.PathLike[str], access: str = "map", hdf5_reader: str | os.PathLike[str] | None = None
    ) -> Atlas: ...
    @property
    def path(self) -> Path:
        """The atlas's folder; of a file that is read in place, the scratch folder with its labels."""
    @property
    def access(self) -> str:
        """How the matrix is read: `map` or `read`."""
    @property
    def is_scratch(self) -> bool:
        """Whether the matrix is read from its `.h5ad`, with labels in a scratch folder."""
    @property
    def cells(self) -> int:
        """Number of cells."""
    @property
    def nonzeros(self) -> int:
        """Number of non-zero values."""
    @property
    def values(self) -> str:
        """`counts` or `continuous`."""
    @property
    def checksum(self) -> str:
        """The checksum by which models and predictions know the atlas."""
    def gene_names(self) -> list[str]:
        """The names of the genes, in the order of columns."""
    def gene_places(self, names: Sequence[str]) -> list[int]:
        """The places of genes with these names."""
    def described_conditions(self) -> list[tuple[str, str, list[tuple[str, float]], int]]:
        """For each condition: its name, its doses as text, its perturbations with doses, its number of cells."""
    def perturbations(self) -> list[str]:
        """The names of the perturbations, by their codes."""
    def covariate_values(self) -> list[tuple[str, list[str]]]:
        """The covariates, each with its values."""
    def keys(self) -> tuple[str | None, str | None, str | None]:
        """The columns of `obs` with the perturbation, the dose and the batch of each cell."""
    def split_names(self) -> list[str]:
        """The names of the splits."""
    def split_counts(self, name: str) -> list[int]:
        """Number of cells for training, for validation, held out, and set apart as references."""
    def obs(self, columns: Sequence[str] | None = None) -> ArrowStream:
        """The annotations of the cells; some columns, or all of them, in the order of the file."""

@final
class ArrowStream:
    """A table that is read when it is taken, as often as one likes: `pyarrow.table(stream)`, `polars.from_arrow(stream)`."""

    @property
    def columns(self) -> list[str]:
        """The names of the columns."""
    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object: ...

@final
class Buffer:
    """A view of an array of a batch: `numpy.from_dlpack` and `torch.from_dlpack` take it without a copy."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The lengths of the array's dimensions."""
    def __dlpack__(
        self,
        *,
        stream: object | None = None,
        max_version: tuple[int, int] | None = None,
        dl_device: tuple[int, int] | None = None,
        copy: bool | None = None,
    ) -> object: ...
    def __dlpack_device__(self) -> tuple[int, int]: ...

@final
class Batch:
    """A batch; every method returns views of its memory."""

    @property
    def shape(self) -> tuple[int, int]:
        """Number of cells and of genes."""
    def rows(self) -> list[Buffer]:
        """Dense rows as one array; CSR as row pointers, genes and values."""
    def cell(self) -> Buffer:
        """The index of each cell in the atlas, `int64`."""
    def condition(self) -> Buffer:
        """The code of each cell's condition, `int64`."""
    def perturbations(self) -> tuple[Buffer, Buffer, Buffer]:
        """The perturbations of each cell: offsets and codes as `int64`, doses as `float32`."""
    def column(self, place: int) -> Buffer:
        """The values of a requested column, by its place among them."""

@final
class Columns:
    """The columns of `obs` that batches come with."""

    def __new__(cls, atlas: Atlas, names: Sequence[str]) -> Columns: ...
    @property
    def names(self) -> list[str]:
        """The names, as they were asked for."""
    def categories(self, place: int) -> list[str] | None:
        """The categories of a column, by their codes; `None` for numbers."""

@final
class Order:
    """The batches of one process: a pure function of the atlas, these arguments, epoch and position."""

    def __new__(cls, atlas: Atlas, request: Options) -> Order: ...
    @property
    def batches(self) -> int:
        """Number of batches of an epoch."""
    @property
    def cells(self) -> int:
        """Number of cells that an epoch of all processes draws from; with pairs, of perturbed ones."""
    @property
    def checksum(self) -> str:
        """A checksum of which cells these are."""

@final
class BatchStream:
    """An iterator over batches, made on threads of its own."""

    def __new__(cls, atlas: Atlas, order: Order, columns: Columns, look: Options, place: Place) -> BatchStream: ...
    @staticmethod
    def check(atlas: Atlas, columns: Columns, look: Options) -> None:
        """Checks what batches would look like, without making any."""
    def __iter__(self) -> BatchStream: ...
    def __next__(self) -> Batch:
        """The next batch; the same one until `is_taken` is set."""
    is_taken: bool
    """Write-only: the last batch has arrived."""
    def close(self) -> None:
        """Ends the threads; nothing comes any more."""

def write_table(table: _Table, path: str | os.PathLike[str]) -> int:
    """Writes the table of an object with `__arrow_c_stream__` to an Arrow file, and returns its number of rows."""
