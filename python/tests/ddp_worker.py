"""examples/scale/ddp.py in a process that torchrun started, with what tests need around it.

The environment says what: LOG, a folder for the cells that each rank trained on; DIE, `rank:step`, where this rank is killed on the
first attempt; STOP, the step after which all ranks end.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "examples" / "scale"))
import ddp  # noqa: E402
import perturbine as pb  # noqa: E402
from perturbine.torch import _learner, _ranks, leave  # noqa: E402


def place() -> tuple[int, int]:
    """Which attempt this is, and which rank."""
    return int(os.environ["TORCHELASTIC_RESTART_COUNT"]), int(os.environ["RANK"])


def log(name: str) -> Path:
    """A file for the test to read."""
    return Path(os.environ["LOG"]) / name


def logged(loader: Any, batches: int) -> Any:
    """The batches of each step, whose cells are written down before they are trained on."""
    attempt, rank = place()
    with open(log(f"cells-{attempt}-{rank}.jsonl"), "a") as file:
        for step in _ranks.steps(loader, batches):
            file.write(json.dumps([loader.epoch, [batch.cell.tolist() for batch in step]]) + "\n")
            file.flush()
            yield step


class Stop(Exception):
    """The run was to end here."""


class Checkpoint(ddp.Checkpoint):
    """A checkpoint with an end behind it."""

    def after_step(self) -> None:
        super().after_step()
        rank, _, step = os.environ.get("DIE", "-1:0").partition(":")
        if (*place(), self.steps) == (0, int(rank), int(step)):
            os.kill(os.getpid(), signal.SIGKILL)
        if self.steps == int(os.environ.get("STOP", 0)):
            raise Stop


def of_one_step(options: Namespace) -> None:
    """The gradients of a network's first step."""
    loader = pb.open(options.atlas).loader(options.batch_size, split=options.split, seed=3)
    network = small_network(len(loader.genes), len(loader.conditions))
    shared = DistributedDataParallel(network)
    step = next(_ranks.steps(loader, options.batches))
    loss = ddp.gradients(shared, step, torch.device("cpu"))
    if place()[1] == 0:
        torch.save([loss, [part.grad for part in network.parameters()]], log("gradients.pt"))


def small_network(genes: int, conditions: int) -> nn.Module:
    torch.manual_seed(5)
    return nn.Sequential(nn.Linear(genes, 16), nn.Tanh(), nn.Linear(16, conditions)).double()


if __name__ == "__main__":
    torch.set_num_threads(1)
    _learner.steps = logged  # type: ignore[assignment]
    ddp.Checkpoint = Checkpoint  # type: ignore[misc]
    trains = ddp.train_cpa

    def train_cpa(options: Namespace, device: torch.device, checkpoint: Checkpoint) -> None:
        trains(options, device, checkpoint)
        of_one_step(options)

    ddp.train_cpa = train_cpa
    try:
        ddp.main()
    except Stop:
        pass
    if torch.distributed.is_initialized():
        leave()
