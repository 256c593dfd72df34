"""A loader: an iterable of batches, whose order is that of `perturbine train`."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from . import _native
from ._batch import Batch, Kind, refuse_to_collate
from ._errors import error_of
from ._optional import optional

if TYPE_CHECKING:
    from ._atlas import Atlas

STATE_FORMAT = 1
"""The form of a saved state."""
MOST_RANKS = 64
"""Numbers of ranks that an error names."""
OF_ORDER = (
    "split",
    "part",
    "batch_size",
    "seed",
    "sampling",
    "match_keys",
    "condition_weights",
    "shuffle",
    "drop_last",
    "window",
    "world_size",
)
"""The options on which the order depends, rank aside: all ranks are at the same place."""


@dataclass(frozen=True)
class Options:
    """The arguments of `Atlas.loader`, with genes as places; native code reads them by name."""

    batch_size: int
    split: str | None
    part: str | None
    seed: int
    format: str
    genes: list[int] | None
    normalize: str | None
    sampling: str
    match_keys: list[str]
    condition_weights: dict[str, float]
    columns: list[str]
    shuffle: bool | None
    drop_last: bool
    window: int | None
    rank: int
    world_size: int
    output: str
    pin_memory: bool
    threads: int | None
    memory: int


class Worker(NamedTuple):
    """Which of the processes of a `DataLoader` this is."""

    id: int
    workers: int


class Place(NamedTuple):
    """Where an iteration begins; native code reads it by name."""

    epoch: int
    position: int
    worker: int
    workers: int


class Loader:
    """Batches of an atlas, made by threads of their own; `Atlas.loader` makes one.

    Every iteration is an epoch, and the next one after that another: `set_epoch` chooses it. It can be given to
    `torch.utils.data.DataLoader(loader, batch_size=None)`, which adds nothing but pinned memory; with `num_workers`, each batch
    comes once, but more slowly than without.

    Attributes:
        atlas: the atlas.
        epoch: the epoch that is being iterated, or comes next.
    """

    def __init__(self, atlas: Atlas, options: Options) -> None:
        if options.output not in ("auto", "torch", "numpy"):
            raise error_of(2, f"output={options.output!r} is not a kind of array", 'write "auto", "torch" or "numpy"')
        for name, bits in (("seed", 64), ("window", 32), ("threads", 16), ("memory", 48)):
            number = getattr(options, name)
            if number is not None and not 0 <= number < 1 << bits:
                raise error_of(2, f"{name}={number} is out of range", f"give a number from 0 to 2**{bits} - 1")
        self.atlas = atlas
        self._options = options
        self._order = _native.Order(atlas, options)
        self._columns = _native.Columns(atlas, options.columns)
        _native.BatchStream.check(atlas, self._columns, options)
        self.epoch = 0
        self._yielded = 0
        self._began = False

    def __len__(self) -> int:
        """Batches of an epoch, of this rank."""
        return self._order.batches

    @property
    def genes(self) -> list[str]:
        """The names of the genes of a batch."""
        places = self._options.genes
        return self.atlas.genes if places is None else [self.atlas.genes[place] for place in places]

    @property
    def conditions(self) -> list[str]:
        """The name of each condition, by its code; the first is control."""
        return self.atlas.conditions["condition"]

    @property
    def doses(self) -> list[str]:
        """The doses of each condition, by its code, as they are written: `1`, or `1+0.5`."""
        return self.atlas.conditions["dose"]

    @cached_property
    def _dose_of(self) -> list[float]:
        """The dose that all perturbations of a condition share: 0 for control, NaN if they differ."""

        def shared(parts: list[tuple[str, float]]) -> float:
            doses = {dose for _, dose in parts}
            return 0.0 if not doses else doses.pop() if len(doses) == 1 else float("nan")

        return [shared(parts) for _, _, parts, _ in self.atlas._described]

    @cached_property
    def perturbations(self) -> list[str]:
        """The names of single perturbations, by their codes."""
        return self.atlas.perturbations()

    @cached_property
    def categories(self) -> dict[str, list[str]]:
        """The categories of requested columns that hold text, by their codes."""
        found = ((name, self._columns.categories(place)) for place, name in enumerate(self._options.columns))
        return {name: categories for name, categories in found if categories is not None}

    def set_epoch(self, epoch: int) -> None:
        """Lets the next iteration be this epoch, from its beginning."""
        if epoch < 0:
            raise error_of(2, f"{epoch} is not an epoch", "epochs count from 0")
        self.epoch, self._yielded, self._began = epoch, 0, False

    def state_dict(self) -> dict[str, Any]:
        """Where the iteration is: behind the batches that were yielded, whatever was made ahead of them.

        It consists of numbers and text. In a worker of a `DataLoader` it is the worker's state; the process that has the
        `DataLoader` does not know what its workers have yielded (`torchdata.stateful_dataloader` asks them).
        """
        state = {"format": STATE_FORMAT, **self._identity(), "epoch": self.epoch, "batch": self._yielded}
        worker = _worker()
        return state if worker is None else {**state, "worker": list(worker)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Lets the next iteration go on where a state was taken, also with another number of ranks.

        Raises:
            perturbine.Error: the state is of another atlas, split, seed or batch size, or of another order for any reason; or the
                batches that all ranks have yielded can't be divided among those of this loader.
        """
        if not isinstance(state, Mapping) or state.get("format") != STATE_FORMAT:
            raise error_of(2, "this is not a state of a loader", "give what loader.state_dict() returned")
        worker = _worker()
        mine = {**self._identity(), "worker": None if worker is None else list(worker)}
        theirs = {"worker": None, **state}
        if worker is not None and theirs["worker"] is None:
            # The state of a loader without workers: each worker takes its share of what is left.
            mine["worker"] = None
        ranks = mine.pop("world_size") if theirs["worker"] is None else None
        differing = [name for name, value in mine.items() if theirs.get(name) != value]
        if differing:
            differences = "; ".join(f"{name} was {theirs.get(name)!r}, and is {mine[name]!r}" for name in differing)
            raise error_of(
                2, f"the state is of another loader: {differences}", "make the loader with the same arguments, or begin without the state"
            )
        batch = state["batch"] if ranks is None else _of_each_rank(state["batch"], state["world_size"], ranks)
        self.epoch, self._yielded, self._began = state["epoch"], batch, False
        if theirs["worker"] is None and len(self) <= self._yielded:
            # It was taken behind the last batch, before the iteration found out that it is over.
            self.epoch, self._yielded = self.epoch + 1, 0

    def _identity(self) -> dict[str, Any]:
        """On what the order depends."""
        options = asdict(self._options)
        return {
            "atlas": self.atlas.checksum,
            "cells": self._order.checksum,
            **{name: options[name] for name in OF_ORDER},
        }

    def __iter__(self) -> Iterator[Batch]:
        worker = _worker() or Worker(0, 1)
        if self._began:
            # An iteration that was broken off is over.
            self.epoch, self._yielded = self.epoch + 1, 0
        self._began = True
        if worker.id == 0 and worker.workers > 1:
            warnings.warn(
                f"the loader has threads of its own: with num_workers={worker.workers}, batches are also copied between processes, "
                "which is slower than num_workers=0",
                stacklevel=2,
            )
        return _Epoch(self, worker)

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        # `DataLoader` looks for torch's base class to tell an iterable from a list, and torch may be imported later than this.
        _register(type(self))
        return type(self)

    def __getstate__(self) -> dict[str, Any]:
        return {"atlas": self.atlas, "options": self._options, "place": (self.epoch, self._yielded, self._began)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["atlas"], state["options"])  # type: ignore[misc]
        self.epoch, self._yielded, self._began = state["place"]

    def __repr__(self) -> str:
        options = self._options
        cells = f"split {options.split!r}, part {options.part!r}" if options.split else "all cells"
        return f"<Loader of {self.atlas.path}: {cells}, {len(self):,} batches of {options.batch_size}, {options.format}>"


class _Epoch:
    """One iteration over a loader."""

    def __init__(self, loader: Loader, worker: Worker) -> None:
        options = loader._options
        self._loader = loader
        self._epoch = loader.epoch
        self._worker = worker
        self._kind = Kind(options.format, _is_torch(options), options.columns, loader._dose_of)
        self._pins = options.pin_memory and _can_pin()
        # The first batch from the position on that is this worker's.
        position = loader._yielded
        self._next = position + (worker.id - position) % worker.workers
        threads = options.threads if worker.workers == 1 else (options.threads or _share_of_cores(worker.workers))
        look = Options(**{**options.__dict__, "threads": threads})
        place = Place(self._epoch, position, worker.id, worker.workers)
        self._stream = _native.BatchStream(loader.atlas, loader._order, loader._columns, look, place)

    def __iter__(self) -> _Epoch:
        return self

    def __next__(self) -> Batch:
        native = next(self._stream, None)
        loader = self._loader
        if native is None:
            if loader.epoch == self._epoch and loader._began:
                loader.epoch, loader._yielded, loader._began = self._epoch + 1, 0, False
            raise StopIteration
        batch = Batch(native, self._kind, native.shape, {})
        if self._pins:
            batch = batch.pin_memory()
        # An interrupt may come at any call, and the same batch comes again then. Below there is none.
        yielded = self._next + 1
        self._next += self._worker.workers
        if loader.epoch == self._epoch and loader._began:
            loader._yielded = yielded
        self._stream.is_taken = True
        return batch

    def close(self) -> None:
        """Ends the threads, as dropping the iterator does."""
        self._stream.close()


def _of_each_rank(batch: int, before: int, now: int) -> int:
    """The batches that each rank has yielded, where so many ranks had yielded `batch` batches each before."""
    passed = batch * before
    if passed % now:
        sizes = [str(size) for size in range(1, min(passed, MOST_RANKS) + 1) if passed % size == 0]
        raise error_of(
            2,
            f"world_size was {before:,}, and is {now:,}: the {passed:,} batches of the epoch that were yielded can't be divided by it",
            f"go on with a world size that divides them, such as {', '.join(sizes)}",
        )
    return passed // now


def _worker() -> Worker | None:
    """This process among the workers of a `DataLoader`; `None` if it is not one."""
    data = sys.modules.get("torch.utils.data")
    info = None if data is None else data.get_worker_info()
    return None if info is None else Worker(info.id, info.num_workers)


def _is_torch(options: Options) -> bool:
    if options.output == "torch":
        optional("torch")
    return options.output == "torch" or options.pin_memory or (options.output == "auto" and "torch" in sys.modules)


def _can_pin() -> bool:
    if optional("torch").cuda.is_available():
        return True
    warnings.warn("pin_memory=True does nothing here: torch finds no GPU", stacklevel=4)
    return False


def _share_of_cores(workers: int) -> int:
    import os

    return max(1, len(os.sched_getaffinity(0)) // workers)


def _register(loader: type) -> None:
    """Lets torch, if it is there, take loaders for what they are."""
    data = sys.modules.get("torch.utils.data")
    dataset = getattr(data, "IterableDataset", None)
    if dataset is not None and not issubclass(loader, dataset):
        dataset.register(loader)
        joining = getattr(sys.modules.get("torch.utils.data._utils.collate"), "default_collate_fn_map", None)
        if joining is not None:
            joining[Batch] = refuse_to_collate
