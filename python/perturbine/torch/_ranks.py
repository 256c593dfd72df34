"""The processes that train one network together, as torchrun starts them."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import distributed, nn

from .._errors import error_of

if TYPE_CHECKING:
    from .._batch import Batch
    from .._loader import Loader


def join(backend: str | None = None) -> None:
    """Joins the processes that torchrun started, as `torch.distributed.init_process_group` does.

    Where torchrun starts all of them again, they use the store of the first attempt; without names of their own, as torch 2.15 leaves
    them, they would find the addresses of processes that have ended.
    """
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    store, rank, world_size = next(distributed.rendezvous("env://"))
    store = distributed.PrefixStore(f"attempt-{attempt}", store)
    distributed.init_process_group(backend, store=store, rank=rank, world_size=world_size)


def leave() -> None:
    """Leaves the group of processes, once nothing refers to networks and learners that were shared.

    What still holds the group's connections is freed first: torch 2.15 often aborts a process that ends with them.
    """
    gc.collect()
    distributed.destroy_process_group()
    gc.collect()


def world() -> tuple[int, int]:
    """This process's rank, and the number of processes."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


def summed(numbers: Any) -> Any:
    """A tensor summed over all processes."""
    if world()[1] > 1:
        distributed.all_reduce(numbers)
    return numbers


def batches_of_rank(batches: int, world_size: int) -> int:
    """How many of a step's batches each of these processes has.

    Raises:
        perturbine.Error: the batches can't be divided among so many; the error names the numbers that work.
    """
    if batches % world_size:
        sizes = [str(size) for size in range(1, batches + 1) if batches % size == 0]
        named = " or ".join([", ".join(sizes[:-1]), sizes[-1]] if sizes[1:] else sizes)
        raise error_of(
            2,
            f"the {batches:,} batches of a step can't be divided among {world_size:,} processes",
            f"start {named} {'processes' if batches > 1 else 'process'}, for example with `torchrun --nproc-per-node`",
        )
    return batches // world_size


def steps(loader: Loader, batches: int) -> Iterator[list[Batch]]:
    """This process's batches of each step that is left of the loader's epoch; then the loader is at the next epoch.

    The steps are the same for any number of processes: up to `batches - 1` batches at the end of an epoch are left out.

    Args:
        loader: the loader of this rank.
        batches: batches of a step, all ranks together.
    """
    each = batches_of_rank(batches, loader._options.world_size)
    if len(loader) < each:
        raise error_of(
            65,
            f"an epoch has {len(loader):,} batches for each process, and a step {each:,}",
            "take fewer batches for a step, or smaller ones",
        )
    state = loader.state_dict()
    left = (len(loader) - state["batch"]) // each
    iterator = iter(loader)
    for _ in range(left):
        yield [next(iterator) for _ in range(each)]
    loader.set_epoch(state["epoch"] + 1)


class Statistics:
    """The running statistics of batch norms, as one process would have them that sees the batches of all.

    Each process runs its own batches alone, from statistics of 0, so that what each batch adds is known. A later batch leaves a share
    of what was added before it.
    """

    def __init__(self, *modules: nn.Module) -> None:
        self._norms = [part for module in modules for part in module.modules() if isinstance(part, nn.BatchNorm1d)]

    def begin(self) -> None:
        """A step begins."""
        self._before = self._running()
        self._added = torch.zeros_like(self._before)
        self._passes = self._counts()

    def begin_batch(self) -> None:
        """A batch begins."""
        self._set(torch.zeros_like(self._before))
        self._passes = self._counts()

    def end_batch(self, later: int) -> None:
        """A batch is over; `later` is how many batches of the step come after it in the order of one process."""
        # The two sides may pass a batch through their norms once or twice.
        kept = [(1 - norm.momentum) ** (now - before) for norm, now, before in zip(self._norms, self._counts(), self._passes)]
        self._kept = torch.cat([torch.full_like(part, share) for part, share in zip(self._parts(), [k for k in kept for _ in range(2)])])
        self._added += self._kept**later * self._running()

    def end(self, batches: int) -> None:
        """A step of so many batches is over."""
        self._set(self._before * self._kept**batches + summed(self._added))

    def _parts(self) -> list[Any]:
        return [part for norm in self._norms for part in (norm.running_mean, norm.running_var)]

    def _counts(self) -> list[int]:
        return [int(norm.num_batches_tracked) for norm in self._norms]

    def _running(self) -> Any:
        return torch.cat(self._parts())

    def _set(self, values: Any) -> None:
        for part, value in zip(self._parts(), values.split([len(part) for part in self._parts()])):
            part.copy_(value)
