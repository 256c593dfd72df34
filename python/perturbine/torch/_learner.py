"""The training of CPA: the autoencoder against its adversaries, in one process or in several."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from .._errors import error_of
from ._adversaries import Adversaries
from ._cells import Cells, Draws, Labels
from ._layers import restore
from ._losses import divergence, reconstruction
from ._ranks import Statistics, batches_of_rank, steps, summed, world
from ._schedule import Clock, Schedule, is_original

if TYPE_CHECKING:
    from .._loader import Loader
    from ._network import CPA

DOSERS, PROJECTION = "pert_network.dosers.", "pert_network.pert_transformation."
"""Beginnings of the names of dose curves, and of the projection of given embeddings."""
UNSUPPORTED = {
    ("model", "offset"): "none",
    ("model", "dispersion_start"): "random",
    ("model", "perturbation_embeddings"): None,
    ("train", "objective"): "reconstruction",
    ("train", "shrink_perturbations"): False,
    ("train", "average"): "none",
    ("train", "precision"): "float32",
}
"""Settings of which only one value can be trained here."""


class Autoencoder(nn.Module):
    """The autoencoder's pass over a batch: its loss, its divergence, and the basal latents."""

    def __init__(self, network: CPA) -> None:
        super().__init__()
        self.network = network

    def forward(self, cells: Cells, draws: Draws) -> tuple[Any, Any, Any]:
        """Reconstruction loss, divergence (0 for points) and basal latents."""
        latent = self.network.latent(cells, draws)
        decoded = self.network.decode(latent.after(), cells.x.sum(1, keepdim=True))
        loss = reconstruction(decoded, cells.x, self.network.settings["recon_loss"])
        apart = loss.new_zeros(()) if latent.drawn_from is None else divergence(*latent.drawn_from)
        return loss, apart, latent.basal


class Learner:
    """Trains a network as `perturbine train` does with the same settings, on the batches of all processes of a group.

    If torch.distributed is initialised, gradients are summed by DistributedDataParallel. Each step is that of one process with
    `train.accumulate` set to the batches of all of them: to rounding, the number of processes changes nothing.

    Attributes:
        network: the network.
        adversaries: its adversaries.
        history: what was measured, a row for each epoch: `network.save(folder, learner.history)`.
    """

    def __init__(self, network: CPA) -> None:
        check(network.config)
        self.network, self.config = network.train(), network.config
        torch.manual_seed(self.config["seed"])
        self.adversaries = Adversaries(network.card).to(network.place).train()
        self.history: list[dict[str, float]] = []
        self._rank, self._world = world()
        self._updates = 0
        self._sums: dict[str, Any] = {}
        self._cells: dict[str, float] = {}
        self._autoencoder = self._shared(Autoencoder(network))
        self._judges = self._shared(self.adversaries) if self.adversaries.any() else None
        self._statistics = Statistics(network, self.adversaries) if self._world > 1 else None
        self._optimisers = self._make_optimisers()

    def _shared(self, module: nn.Module) -> nn.Module:
        if self._world == 1:
            return module
        with warnings.catch_warnings():
            # The statistics of batch norms are put together here; the newer name of the argument is unknown to older versions.
            warnings.simplefilter("ignore", FutureWarning)
            return DistributedDataParallel(module, broadcast_buffers=False)

    def _make_optimisers(self) -> dict[str, Any]:
        train, adversary = self.config["train"], self.config["adversary"]
        kind = torch.optim.AdamW if train["decoupled_decay"] else torch.optim.Adam
        # The original gives the projection of given embeddings to no optimiser.
        frozen = is_original(self.config)
        parameters = {
            name: value
            for name, value in self.network.named_parameters()
            if value.requires_grad and not (frozen and name.startswith(PROJECTION))
        }
        sides = {
            "autoencoder": ([value for name, value in parameters.items() if not name.startswith(DOSERS)], train["lr"], train["wd"]),
            "doser": ([value for name, value in parameters.items() if name.startswith(DOSERS)], train["doser_lr"], train["doser_wd"]),
            "adversary": (list(self.adversaries.parameters()), adversary["adv_lr"], adversary["adv_wd"]),
        }
        return {name: kind(values, lr=rate, weight_decay=decay) for name, (values, rate, decay) in sides.items() if values}

    def epoch(self, loader: Loader, batches: int = 1) -> Iterator[dict[str, Any]]:
        """Trains on what is left of a loader's epoch; yields what each step measured, and then the learner and the loader can be saved.

        Args:
            loader: the loader of this rank, from `network.loader`.
            batches: batches of a step, all ranks together; with another number of ranks the steps are the same.
        """
        options = loader._options
        if (options.rank, options.world_size) != (self._rank, self._world):
            raise error_of(
                2,
                f"the loader is that of rank {options.rank} of {options.world_size}, the process group's is {self._rank} of {self._world}",
                "make the loader after `torch.distributed.init_process_group`, with its rank and world size",
            )
        state, labels, each = loader.state_dict(), Labels(self.network, loader), batches_of_rank(batches, self._world)
        epoch, of_epoch = state["epoch"], len(loader) // each
        for at, given in enumerate(steps(loader, batches), state["batch"] // each):
            clock = Clock(epoch, at, epoch * of_epoch + at, self._updates, self.config["train"]["epochs"] * of_epoch)
            schedule = Schedule.at(self.config, clock)
            cells = [labels.cells(batch) for batch in given]
            measured = self.step(cells, schedule, epoch, at * each)
            if at + 1 == of_epoch:
                self._end_epoch(epoch)
            yield measured

    def step(
        self, batches: Sequence[Cells], schedule: Schedule, epoch: int = 0, first: int = 0, draws: Sequence[Draws] | None = None
    ) -> dict[str, Any]:
        """One step over all batches of all processes; returns what was measured, means over cells.

        Args:
            batches: those of this process.
            schedule: which sides learn, and how.
            epoch: the epoch, for the random draws.
            first: the index of the first batch among those of this rank's epoch, for the random draws.
            draws: the random draws of each batch, where they are not functions of epoch and index.
        """
        shares = self._shares(batches)
        if self._statistics:
            self._statistics.begin()
        measured: dict[str, Any] = {}
        for at, (cells, (share, emphasis)) in enumerate(zip(batches, shares)):
            place = (first + at) * self._world + self._rank
            drawn = draws[at] if draws else Draws.of_batch(self.config["seed"], epoch, place, schedule.mixup_alpha, cells)
            if self._statistics:
                self._statistics.begin_batch()
            with self._sums_gradients(at + 1 == len(batches)):
                found = self._batch(cells, drawn, schedule, share, emphasis)
            for name, value in found.items():
                measured[name] = measured.get(name, 0.0) + value.detach() * share
            if self._statistics:
                self._statistics.end_batch((len(batches) - 1 - at) * self._world + self._world - 1 - self._rank)
        if self._statistics:
            self._statistics.end(len(batches) * self._world)
        measured = dict(zip(measured, summed(torch.stack(list(measured.values()))).unbind()))
        measured |= self._learn(schedule)
        self._add(measured)
        return measured

    def _shares(self, batches: Sequence[Cells]) -> list[tuple[float, Any]]:
        """The share of each batch in its step's cells, and the factor of its combination loss: the losses are means over cells, but
        the cross-entropy of combinations is a mean weighted by class."""
        counts = [float(len(cells)) for cells in batches]
        weights = [self.adversaries.mean_class_weight(cells) for cells in batches]
        own = torch.stack([torch.tensor([count, count * float(weight)], dtype=torch.float64) for count, weight in zip(counts, weights)])
        cells, weight = summed(own.sum(0).to(self.network.place.device)).tolist()
        self._step_cells = cells
        if len(batches) * self._world == 1 or weight == 0:
            return [(count / cells, 1.0) for count in counts]
        return [(count / cells, mean / (weight / cells)) for count, mean in zip(counts, weights)]

    def _sums_gradients(self, last: bool) -> AbstractContextManager[Any]:
        """Gradients are summed over processes with the last batch of a step."""
        stack = ExitStack()
        for module in (self._autoencoder, self._judges):
            if isinstance(module, DistributedDataParallel) and not last:
                stack.enter_context(module.no_sync())
        return stack

    def _batch(self, cells: Cells, draws: Draws, schedule: Schedule, share: float, emphasis: Any) -> dict[str, Any]:
        """The gradients of one batch, added to those of its step."""
        if draws.mixup is not None:
            cells = draws.mixup.of_cells(cells)
        # Gradients become means over processes.
        factor, train = share * self._world, self.config["train"]
        measured: dict[str, Any] = {}
        learns = schedule.autoencoder_learns or self._judges is None
        if learns:
            recon, apart, basal = self._autoencoder(cells, draws)
            total = recon + apart * schedule.divergence_weight
            if schedule.adversarial and self._judges is not None:
                # The adversaries themselves don't learn from this.
                self.adversaries.requires_grad_(False)
                verdict = self.adversaries(basal, cells, draws.mixup, emphasis)
                total = total - verdict.loss * schedule.adversary_weight
                measured |= {"adversary": verdict.loss, **verdict.parts}
            (total * factor).backward()
            self.adversaries.requires_grad_(True)
        else:
            decodes = train["decoder_on_every_batch"] or is_original(self.config)
            with torch.no_grad():
                recon, apart, basal = Autoencoder(self.network)(cells, draws) if decodes else (None, None, self.network.drawn(cells, draws))
        if recon is not None:
            measured |= {"recon": recon, **({"kl": apart} if self.network.settings["variational"] else {})}
        if schedule.adversaries_learn and self._judges is not None:
            verdict = self._judges(basal.detach(), cells, draws.mixup, emphasis, penalised=True)
            ((verdict.loss + verdict.penalty * self.config["adversary"]["pen_adv"]) * factor).backward()
            measured |= {"adversary": verdict.loss, "penalty": verdict.penalty, **verdict.parts}
        return measured

    def _learn(self, schedule: Schedule) -> dict[str, Any]:
        """Steps the optimisers of the sides that have gradients; returns the norms of their gradients."""
        norms, clip = {}, self.config["train"]["gradient_clip_value"] or math.inf
        autoencoders = schedule.autoencoder_learns or self._judges is None
        adversaries = schedule.adversaries_learn and self._judges is not None
        train, adversary = self.config["train"], self.config["adversary"]
        rates = {"autoencoder": train["lr"], "doser": train["doser_lr"], "adversary": adversary["adv_lr"]}
        for name, optimiser in self._optimisers.items():
            if adversaries if name == "adversary" else autoencoders:
                (group,) = optimiser.param_groups
                group["lr"] = rates[name] * schedule.rate
                norms[f"norm_{name}"] = nn.utils.clip_grad_norm_(group["params"], clip)
                optimiser.step()
                optimiser.zero_grad()
        self._updates += 2 * autoencoders + adversaries
        return norms

    def _add(self, measured: Mapping[str, Any]) -> None:
        for name, value in measured.items():
            self._sums[name] = self._sums.get(name, 0.0) + value.double() * self._step_cells
            self._cells[name] = self._cells.get(name, 0.0) + self._step_cells

    def _end_epoch(self, epoch: int) -> None:
        means = {f"train.{name}": float(value) / self._cells[name] for name, value in self._sums.items()}
        for name, mean in means.items():
            if not math.isfinite(mean):
                message = f"training diverged: {name} is {mean} in epoch {epoch:,}"
                raise error_of(65, message, "lower train.lr, or train.gradient_clip_value")
        self.history.append({"epoch": epoch, **means})
        self._sums, self._cells = {}, {}

    def state_dict(self) -> dict[str, Any]:
        """Everything that has been learned, the same in all processes: `torch.save` it together with the loader's state."""
        return {
            "network": self.network.state_dict(),
            "adversaries": self.adversaries.state_dict(),
            "optimisers": {name: optimiser.state_dict() for name, optimiser in self._optimisers.items()},
            "updates": self._updates,
            "sums": self._sums,
            "cells": self._cells,
            "history": self.history,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on where a state was taken, with any number of processes."""
        restore(self.network, state["network"], "the state")
        restore(self.adversaries, state["adversaries"], "the state")
        for name, optimiser in self._optimisers.items():
            optimiser.load_state_dict(state["optimisers"][name])
        self._updates, self._sums, self._cells = state["updates"], dict(state["sums"]), dict(state["cells"])
        self.history = list(state["history"])


def check(config: Mapping[str, Any]) -> None:
    """Refuses settings that can't be trained here."""
    if "train" not in config or "adversary" not in config:
        raise error_of(2, "the model's card has no settings of its training", "make the network with `CPA.for_atlas`")
    for (section, name), only in UNSUPPORTED.items():
        value = config[section].get(name)
        if value != only:
            raise error_of(2, f"{section}.{name} = {value} can't be trained in torch", "leave it out, or use `perturbine train`")
