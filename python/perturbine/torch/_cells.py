"""The cells of a batch as a network takes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from .._errors import error_of

if TYPE_CHECKING:
    from .._batch import Batch
    from .._loader import Loader
    from ._network import CPA


@dataclass(frozen=True)
class Cells:
    """The cells of a batch."""

    x: Any
    """Expression, `[cells, genes]`."""
    codes: Any
    """The codes of perturbations, `[cells, largest combination]`, int64, padded with 0."""
    doses: Any
    """Their doses, in the same shape."""
    covariates: Mapping[str, Any]
    """The code of each cell, `[cells]`, int64, by covariate."""
    combinations: Any
    """The adversary's class of each cell, `[cells]`, int64."""

    def __len__(self) -> int:
        return len(self.x)


@dataclass(frozen=True)
class Mixup:
    """How the cells of a batch are mixed: each with one other cell."""

    partners: Any
    """The partner of each cell, `[cells]`, int64."""
    share: float
    """A cell's own share in the mixture."""

    def mixed(self, rows: Any) -> Any:
        """Each row mixed with its partner's."""
        return rows * self.share + rows[self.partners] * (1 - self.share)

    def of_cells(self, cells: Cells) -> Cells:
        """Cells with mixed expression; labels remain those of the first cell of each pair."""
        return replace(cells, x=self.mixed(cells.x))


@dataclass(frozen=True)
class Draws:
    """The random numbers of a batch; those of dropout come from torch's generator."""

    mixup: Mixup | None = None
    noise: Any = None
    """Standard normal, `[cells, latent]`, for a variational encoder; drawn when needed if it is None."""

    @classmethod
    def of_batch(cls, seed: int, epoch: int, batch: int, alpha: float, cells: Cells) -> Draws:
        """The draws of a batch, a function of its place in the run; torch's generators are seeded.

        The seed is that of `perturbine train`, and dropout the same on a CPU.
        """
        torch.manual_seed((seed ^ (epoch << 40) ^ (batch * 0x9E37_79B9_7F4A_7C15)) & (1 << 64) - 1)
        if alpha <= 0:
            return cls()
        share = float(torch.distributions.Beta(torch.tensor(alpha, dtype=torch.float64), alpha).sample())
        return cls(Mixup(torch.randperm(len(cells)).to(cells.x.device), share))


class Labels:
    """From a loader's codes to a network's."""

    def __init__(self, network: CPA, loader: Loader) -> None:
        self._network, self._loader = network, loader
        known, classes = set(network.vocabulary["perturbations"]), network.vocabulary["combinations"]
        described = loader.atlas._described
        trained = [known.issuperset(name for name, _ in parts) for _, _, parts, _ in described]
        self._codes, self._doses = network.perturbations(
            [parts if is_known else [] for (_, _, parts, _), is_known in zip(described, trained)]
        )
        self._classes = torch.tensor([classes.index(name) if name in classes else -1 for name, *_ in described])
        self._is_known = torch.tensor(trained) & (self._classes >= 0)
        self._covariates = {name: self._values(name) for name in network.covariate_names}

    def _values(self, name: str) -> Any:
        """The network's code of each value of a covariate, by the loader's code; -1 where it was not trained."""
        trained = self._network.values(name)
        if name not in self._loader.categories:
            raise error_of(2, f"the loader has no column `{name}` of text", "make it with `network.loader(atlas, split)`")
        return torch.tensor([trained.index(value) if value in trained else -1 for value in self._loader.categories[name]])

    def cells(self, batch: Batch) -> Cells:
        """The cells of a batch, on the network's device and in its type.

        Raises:
            perturbine.Error: a cell with a perturbation or a covariate value that the network does not know.
        """
        place, condition = self._network.place, batch.condition.cpu()
        if not bool(self._is_known[condition].all()):
            code = int(condition[~self._is_known[condition]][0])
            raise self._unknown(batch, condition == code, f"condition `{self._loader.conditions[code]}`")
        covariates = {}
        for name, codes in self._covariates.items():
            theirs = batch[name].cpu()
            ours = torch.where(theirs < 0, -1, codes[theirs])
            if bool((ours < 0).any()):
                raise self._unknown(batch, ours < 0, f"value of `{name}`")
            covariates[name] = ours.to(place.device)
        return Cells(
            batch.to(place.device).x.to(place.dtype),
            self._codes[condition].to(place.device),
            self._doses[condition].to(place),
            covariates,
            self._classes[condition].to(place.device),
        )

    def _unknown(self, batch: Batch, rows: Any, what: str) -> Exception:
        cell = int(batch.cell[rows][0])
        return error_of(65, f"cell {cell:,} has a {what} that the model was not trained on", "load the part `train` of the model's split")
