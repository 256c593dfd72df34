"""Classifiers that predict combination and covariates from the basal latent."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import nn

from ._cells import Cells, Mixup
from ._layers import Hidden, Named
from ._losses import guess_loss
from ._schedule import is_original


class Verdict(NamedTuple):
    """The adversaries' results for a batch."""

    loss: Any
    """The sum of the losses."""
    penalty: Any
    """The sum of the gradient penalties; 0 if they were not asked for."""
    parts: dict[str, Any]
    """The loss (`adv_perts`) and penalty (`penalty_perts`) of each classifier, detached."""


class Adversaries(nn.Module):
    """One classifier for the combination, if there are several, and one for each covariate with several values."""

    def __init__(self, card: Mapping[str, Any]) -> None:
        super().__init__()
        config, vocabulary = card["config"], card["vocabulary"]
        self.settings = config["adversary"]
        # As in the original, the second covariate value of a mixed cell is ignored.
        self.first_values_only = is_original(config)
        self.latent = config["model"]["n_latent"]
        has_effect = self.settings["reg_adv"] > 0 or is_original(config)
        self.perturbation_classifier = None
        if has_effect and len(vocabulary["combinations"]) > 1:
            self.perturbation_classifier = self._classifier(len(vocabulary["combinations"]))
            cells = torch.tensor(vocabulary["combination_cells"], dtype=torch.float64).clamp_min(1)
            # In single precision, as in the original.
            weights = (sum(vocabulary["combination_cells"]) / cells - 1).float()
            self.register_buffer("class_weights", weights, persistent=False)
        sizes = {covariate["name"]: len(covariate["values"]) for covariate in vocabulary["covariates"]}
        self.covars_classifiers = Named(
            {name: self._classifier(size) for name, size in sizes.items() if has_effect and size > 1}
        )

    def _classifier(self, classes: int) -> nn.Module:
        width = self.settings["n_hidden_adv"]
        hidden = Hidden(self.latent, width, self.settings["n_layers_adv"], self.settings["norm_adv"], self.settings["dropout_rate_adv"])
        return nn.ModuleDict({"classifier": nn.Sequential(hidden, nn.Linear(width, classes))})

    def any(self) -> bool:
        """Whether there is anything to predict."""
        return self.perturbation_classifier is not None or len(self.covars_classifiers) > 0

    def logits(self, basal: Any) -> dict[str, Any]:
        """The logits of each classifier, by name."""
        found = {name: part["classifier"](basal) for name, part in self.covars_classifiers.items()}
        if self.perturbation_classifier is not None:
            found["perts"] = self.perturbation_classifier["classifier"](basal)
        return found

    def mean_class_weight(self, cells: Cells) -> Any:
        """The mean class weight of cells; 1 if the loss is not weighted by class."""
        if self.perturbation_classifier is None or self.settings["adv_loss"] != "cce":
            return torch.ones((), dtype=cells.x.dtype, device=cells.x.device)
        return self.class_weights[cells.combinations].mean()

    def forward(self, basal: Any, cells: Cells, mixup: Mixup | None, emphasis: Any = 1.0, penalised: bool = False) -> Verdict:
        """Losses of predictions from basal latents. With `penalised` the latents are detached, and the gradient penalties computed:
        for each classifier, the mean over cells and latent of (∂ Σ logits / ∂ basal)².

        Args:
            basal: the latents, `[cells, latent]`.
            cells: their cells.
            mixup: how they were mixed, if they were.
            emphasis: the factor of the combination's loss, where several batches are one step.
            penalised: whether it is the adversaries that learn.
        """
        if penalised:
            basal = basal.detach().requires_grad_()
        zero = basal.new_zeros(())
        loss, penalty, parts = zero, zero, {}
        for name, logits in self.logits(basal).items():
            guess = self._combination_loss(logits, cells, mixup) * emphasis if name == "perts" else self._loss(name, logits, cells, mixup)
            loss = loss + guess
            parts[f"adv_{name}"] = guess.detach()
            if penalised:
                (slope,) = torch.autograd.grad(logits.sum(), basal, create_graph=True)
                each = slope.square().mean()
                penalty = penalty + each
                parts[f"penalty_{name}"] = each.detach()
        return Verdict(loss, penalty, parts)

    def _combination_loss(self, logits: Any, cells: Cells, mixup: Mixup | None) -> Any:
        def guess(classes: Any) -> Any:
            return guess_loss(self.settings["adv_loss"], logits, classes, self.class_weights)

        return _of_both(mixup, cells.combinations, guess)

    def _loss(self, name: str, logits: Any, cells: Cells, mixup: Mixup | None) -> Any:
        def guess(classes: Any) -> Any:
            return guess_loss(self.settings["adv_loss"], logits, classes)

        if mixup is not None and self.first_values_only:
            return guess(cells.covariates[name]) * mixup.share
        return _of_both(mixup, cells.covariates[name], guess)


def _of_both(mixup: Mixup | None, classes: Any, function: Callable[[Any], Any]) -> Any:
    """A function of the labels of cells; for mixed cells, of both labels, weighted by their shares."""
    if mixup is None:
        return function(classes)
    return function(classes) * mixup.share + function(classes[mixup.partners]) * (1 - mixup.share)
