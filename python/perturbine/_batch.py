"""A batch of a loader: rows of expression, and the labels of their cells."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from ._errors import error_of
from ._optional import optional

if TYPE_CHECKING:
    from ._native import Batch as NativeBatch
    from ._native import Buffer


class Perturbations(NamedTuple):
    """The perturbations of cells as one list, as `torch.nn.EmbeddingBag` takes them."""

    offsets: Any
    """Where each cell's perturbations begin, and where the last one's end: int64, one more than cells. Control has none."""
    codes: Any
    """Their codes, int64; `loader.perturbations` has the names."""
    doses: Any
    """The dose of each, float32."""


class Packed(NamedTuple):
    """Rows as they are stored: CSR in the narrowest types that hold the batch."""

    row_pointers: Any
    """Where each row begins, and where the last one ends: uint32."""
    genes: Any
    """The gene of each value, ascending in a row: uint16, or uint32 if the atlas has more than 65,536 genes."""
    values: Any
    """uint8, uint16 or uint32 for counts, float32 for others."""
    shape: tuple[int, int]
    """The numbers of cells and genes."""

    def dense(self) -> Any:
        """The same rows as one float32 array, on the device where these are."""
        torch = sys.modules.get("torch")
        if torch is not None and isinstance(self.values, torch.Tensor):
            pointers = self.row_pointers.long()
            rows = torch.repeat_interleave(torch.arange(self.shape[0], device=pointers.device), pointers.diff())
            out = torch.zeros(self.shape, dtype=torch.float32, device=pointers.device)
            out[rows, self.genes.long()] = self.values.float()
            return out
        numpy = optional("numpy")
        rows = numpy.repeat(numpy.arange(self.shape[0]), numpy.diff(self.row_pointers.astype(numpy.int64)))
        out = numpy.zeros(self.shape, dtype=numpy.float32)
        out[rows, self.genes] = self.values
        return out


class Kind(NamedTuple):
    """The properties that all batches of an epoch share."""

    format: str
    """`dense`, `csr` or `packed`."""
    is_torch: bool
    """Whether arrays are torch tensors."""
    columns: list[str]
    """The requested columns of `obs`."""
    doses: list[float]
    """The dose of each condition: see `Batch.dose`."""

    def view(self, buffer: Buffer) -> Any:
        """A buffer as a tensor or array, without a copy."""
        if self.is_torch:
            # `torch.from_dlpack` would first ask the buffer for its device, which takes longer than all the rest.
            return sys.modules["torch"].utils.dlpack.from_dlpack(buffer.__dlpack__())
        return optional("numpy").from_dlpack(buffer)


class Batch:
    """Cells of an atlas. Arrays are views of memory that is used again once nothing refers to it: keep them as long as you like.

    `batch["donor"]` has the values of a column of `obs` that the loader was asked for: for text int64 codes of
    `loader.categories["donor"]`, -1 where it is missing; numbers and truth values as they are.
    """

    __slots__ = ("_kept", "_kind", "_native", "shape")

    shape: tuple[int, int]
    """The numbers of cells and genes."""

    def __init__(self, native: NativeBatch | None, kind: Kind, shape: tuple[int, int], kept: dict[str, Any]) -> None:
        self._native = native
        self._kind = kind
        self._kept = kept
        self.shape = shape

    @property
    def x(self) -> Any:
        """The expression, a row for each cell.

        `dense`: float32. `csr`: a `torch.sparse_csr_tensor` or a `scipy.sparse.csr_matrix` with int32 indices and float32 values.
        `packed`: a `Packed`, which `batch.to(device)` makes dense there.
        """
        return self._get("x", self._rows)

    @property
    def cell(self) -> Any:
        """The index of each cell in the atlas, int64."""
        return self._get("cell", lambda native: self._kind.view(native.cell()))

    @property
    def condition(self) -> Any:
        """The code of each cell's condition, int64; `loader.conditions` and `loader.doses` say what it means. 0 is control."""
        return self._get("condition", lambda native: self._kind.view(native.condition()))

    @property
    def perturbations(self) -> Perturbations:
        """The perturbations of each cell, with their doses."""
        views: Perturbations = self._get(
            "perturbations", lambda native: Perturbations(*(self._kind.view(part) for part in native.perturbations()))
        )
        return views

    @property
    def dose(self) -> Any:
        """The dose of each cell, float32: 0 for control, NaN where perturbations of a cell have different doses."""
        if "dose" not in self._kept:
            condition = self.condition
            if self._kind.is_torch:
                torch = sys.modules["torch"]
                doses = torch.tensor(self._kind.doses, dtype=torch.float32, device=condition.device)
            else:
                doses = optional("numpy").asarray(self._kind.doses, dtype="float32")
            self._kept["dose"] = doses[condition]
        return self._kept["dose"]

    def __getitem__(self, column: str) -> Any:
        if column not in self._kind.columns:
            known = ", ".join(self._kind.columns) or "none"
            raise _NoColumn(f"the batch has no column {column!r}; it has {known}: name it in atlas.loader(columns=[...])")
        place = self._kind.columns.index(column)
        return self._get(f"column {column}", lambda native: self._kind.view(native.column(place)))

    def __len__(self) -> int:
        return self.shape[0]

    def numpy(self) -> Batch:
        """The same batch with numpy arrays, which share its memory unless it is on a GPU."""
        if not self._kind.is_torch:
            return self
        kind = self._kind._replace(is_torch=False)
        if self._native is not None:
            return Batch(self._native, kind, self.shape, {})
        return Batch(None, kind, self.shape, {name: _mapped(_to_numpy, value) for name, value in self._kept.items()})

    def torch(self) -> Batch:
        """The same batch with torch tensors, which share its memory."""
        if self._kind.is_torch:
            return self
        torch = optional("torch")
        kind = self._kind._replace(is_torch=True)
        if self._native is not None:
            return Batch(self._native, kind, self.shape, {})
        return Batch(None, kind, self.shape, {name: _mapped(torch.from_dlpack, value) for name, value in self._kept.items()})

    def to(self, device: Any, non_blocking: bool = False) -> Batch:
        """The same batch on a device, with torch tensors. A `packed` batch is copied as it is and made dense there."""
        of = self.torch()
        kept = {name: _mapped(lambda part: part.to(device, non_blocking=non_blocking), of._all(name)) for name in of._names()}
        if isinstance(kept["x"], Packed):
            kept["x"] = kept["x"].dense()
        return Batch(None, of._kind, self.shape, kept)

    def pin_memory(self) -> Batch:
        """A copy of the batch in pinned memory, with torch tensors."""
        of = self.torch()
        kept = {name: _mapped(lambda part: part.pin_memory(), of._all(name)) for name in of._names()}
        return Batch(None, of._kind, self.shape, kept)

    def __repr__(self) -> str:
        columns = "".join(f", {column}" for column in self._kind.columns)
        return f"<Batch of {self.shape[0]} cells × {self.shape[1]} genes ({self._kind.format}): x, condition, cell{columns}>"

    def __reduce__(self) -> tuple[object, ...]:
        # Another process can't share the pipeline's memory: tensors and arrays know how to get there.
        kept = {name: self._all(name) for name in ["dose", *self._names()]}
        return Batch, (None, self._kind._replace(doses=[]), self.shape, kept)

    def _names(self) -> list[str]:
        return ["x", "cell", "condition", "perturbations", *(f"column {name}" for name in self._kind.columns)]

    def _all(self, name: str) -> Any:
        return self[name.removeprefix("column ")] if name.startswith("column ") else getattr(self, name)

    def _get(self, name: str, make: Callable[[NativeBatch], Any]) -> Any:
        if name not in self._kept:
            assert self._native is not None, "a batch without native memory has everything"
            self._kept[name] = make(self._native)
        return self._kept[name]

    def _rows(self, native: NativeBatch) -> Any:
        parts = [self._kind.view(part) for part in native.rows()]
        if self._kind.format == "dense":
            return parts[0]
        pointers, genes, values = parts
        if self._kind.format == "packed":
            return Packed(pointers, genes, values, self.shape)
        if self._kind.is_torch:
            return sys.modules["torch"].sparse_csr_tensor(pointers, genes, values, self.shape, check_invariants=False)
        return optional("scipy.sparse").csr_matrix((values, genes, pointers), shape=self.shape, copy=False)


class _NoColumn(KeyError):
    """A column that the batch does not have; a `KeyError` shows its text in quotes."""

    def __str__(self) -> str:
        return str(self.args[0])


def _mapped(change: Callable[[Any], Any], value: Any) -> Any:
    """The change of each array of a value."""
    if isinstance(value, Perturbations):
        return Perturbations(*map(change, value))
    if isinstance(value, Packed):
        return Packed(change(value.row_pointers), change(value.genes), change(value.values), value.shape)
    return change(value)


def _to_numpy(tensor: Any) -> Any:
    tensor = tensor.cpu()
    if tensor.layout is sys.modules["torch"].sparse_csr:
        parts = (tensor.values().numpy(), tensor.col_indices().numpy(), tensor.crow_indices().numpy())
        return optional("scipy.sparse").csr_matrix(parts, shape=tuple(tensor.shape), copy=False)
    return tensor.numpy()


def refuse_to_collate(*_: object, **__: object) -> Any:
    """Takes the place of torch's way of joining examples to batches: these are batches."""
    raise error_of(
        2, "the loader yields whole batches, and DataLoader was given a batch size", "write DataLoader(loader, batch_size=None)"
    )
