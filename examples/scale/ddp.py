"""A network trained by several processes on one atlas: CPA, or a network of your own.

    torchrun --nproc-per-node 4 examples/scale/ddp.py cpa kang.atlas --split b --out kang.model
    torchrun --nproc-per-node 4 --max-restarts 3 examples/scale/ddp.py own kang.atlas --split b --out classifier.pt --checkpoint run.pt

A step takes `--batches` batches, all processes together, so that another number of processes takes the same steps: it only has to
divide that number. With --checkpoint a run goes on where it was: after a process was killed (torchrun starts all of them again), or
later, with more or fewer processes. Needs torch, safetensors and xxhash; docs/scale.md says when one GPU is the better choice.
"""

from __future__ import annotations

import argparse
import math
import os
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

import perturbine as pb
from perturbine.torch import CPA, Learner, batches_of_rank, join, leave, steps, summed


def main() -> None:
    options = arguments()
    on_gpu = torch.cuda.is_available()
    join("nccl" if on_gpu else "gloo")
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if on_gpu else torch.device("cpu")
    if on_gpu:
        torch.cuda.set_device(device)
    # Refused before anything is read, naming the numbers of processes that work.
    batches_of_rank(options.batches, distributed.get_world_size())
    (train_cpa if options.network == "cpa" else train_own)(options, device, Checkpoint(options))
    leave()


def train_cpa(options: argparse.Namespace, device: torch.device, checkpoint: Checkpoint) -> None:
    """CPA, saved as a model that `perturbine predict`, `evaluate` and `report` take."""
    atlas = pb.open(options.atlas)
    network = CPA.for_atlas(atlas, options.split, epochs=options.epochs, batch_size=options.batch_size, set=options.set)
    learner = Learner(network.to(device, getattr(torch, options.dtype)))
    loader = network.loader(atlas)
    checkpoint.restore({"learner": learner, "loader": loader})
    epochs = network.config["train"]["epochs"]
    while loader.epoch < epochs:
        for _ in learner.epoch(loader, options.batches):
            checkpoint.after_step()
        report(f"epoch {loader.epoch} of {epochs}: reconstruction loss {learner.history[-1]['train.recon']:.4f}")
    if distributed.get_rank() == 0:
        print(network.save(options.out, learner.history), flush=True)


def train_own(options: argparse.Namespace, device: torch.device, checkpoint: Checkpoint) -> None:
    """A network of one's own: a classifier of conditions."""
    atlas = pb.open(options.atlas)
    loader = atlas.loader(options.batch_size or 512, split=options.split, normalize="log1p_cp10k")
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(len(loader.genes), 64), nn.ReLU(), nn.Linear(64, len(loader.conditions)))
    network = network.to(device, getattr(torch, options.dtype))
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-3)
    checkpoint.restore({"network": network, "optimiser": optimiser, "loader": loader})
    shared, loss = DistributedDataParallel(network), math.nan
    while loader.epoch < (options.epochs or 10):
        for batches in steps(loader, options.batches):
            loss = gradients(shared, batches, device)
            optimiser.step()
            optimiser.zero_grad()
            checkpoint.after_step()
        report(f"epoch {loader.epoch}: loss {loss:.4f}")
    if distributed.get_rank() == 0:
        torch.save(network.state_dict(), options.out)


def gradients(network: DistributedDataParallel, batches: list[Any], device: torch.device) -> float:
    """The gradients of the mean loss over the cells of all processes' batches; returns that loss."""
    cells = float(summed(torch.tensor(sum(len(batch.cell) for batch in batches), device=device)))
    total: Any = 0.0
    for at, batch in enumerate(batches):
        # Gradients are exchanged once a step, with its last batch. They become means over processes, hence the factor.
        with nullcontext() if at + 1 == len(batches) else network.no_sync():
            batch = batch.to(device)
            scores = network(batch.x.to(next(network.parameters()).dtype))
            loss = nn.functional.cross_entropy(scores, batch.condition, reduction="sum") / cells
            (loss * distributed.get_world_size()).backward()
        total = total + loss.detach()
    return float(summed(total))


class Checkpoint:
    """The state of what a run consists of, in a file that is written every few steps, when all processes are at the same step."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.path: Path | None = options.checkpoint
        self.every, self.steps, self.parts = options.every, 0, {}
        self.state = torch.load(self.path, map_location="cpu") if self.path and self.path.exists() else None
        self.batches = options.batches
        if self.state and self.state["batches"] != self.batches:
            raise SystemExit(f"{self.path}: its steps have {self.state['batches']} batches: give --batches {self.state['batches']}")

    def restore(self, parts: dict[str, Any]) -> None:
        """Lets these parts go on where the file's were, if there is one."""
        self.parts = parts
        for name, part in parts.items() if self.state else ():
            part.load_state_dict(self.state[name])

    def after_step(self) -> None:
        self.steps += 1
        if self.path and self.steps % self.every == 0 and distributed.get_rank() == 0:
            staged = self.path.with_name(f".{self.path.name}.part")
            torch.save({"batches": self.batches, **{name: part.state_dict() for name, part in self.parts.items()}}, staged)
            # Whoever is killed meanwhile leaves the last one.
            os.replace(staged, self.path)


def report(text: str) -> None:
    if distributed.get_rank() == 0:
        print(text, flush=True)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", choices=["cpa", "own"])
    parser.add_argument("atlas")
    parser.add_argument("--split", required=True, help="the split whose training cells are loaded")
    parser.add_argument("--out", required=True, type=Path, help="a model's folder for cpa, a file for own")
    parser.add_argument("--batches", type=int, help="batches of a step, all processes together [default: one for each process]")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--batch-size", type=int, help="cells of a batch")
    parser.add_argument("--set", action="append", help="a setting of cpa, as in model.n_latent=32; repeatable")
    parser.add_argument("--checkpoint", type=Path, help="a file in a folder that all processes share")
    parser.add_argument("--every", type=int, default=100, help="steps between two checkpoints [default: 100]")
    parser.add_argument("--dtype", choices=["float32", "float64"], default="float32")
    options = parser.parse_args()
    options.batches = options.batches or int(os.environ["WORLD_SIZE"])
    return options


if __name__ == "__main__":
    main()
