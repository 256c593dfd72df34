"""The quantities that change during training, as a function of settings and time: that of `perturbine train`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Clock:
    """The position in training."""

    epoch: int = 0
    """The epoch, from 0."""
    batch: int = 0
    """The step of the epoch, from 0."""
    step: int = 0
    """The step of the run, from 0."""
    updates: int = 0
    """Updates of all optimisers so far; the original counts these as steps."""
    of: int = 0
    """Steps of the whole run."""


@dataclass(frozen=True)
class Schedule:
    """The schedule's values at one time."""

    adversarial: bool
    """Whether the autoencoder trains against its adversaries; before that, each side trains separately."""
    autoencoder_learns: bool
    """Whether the autoencoder learns in this step."""
    adversaries_learn: bool
    """Whether the adversaries learn in this step."""
    adversary_weight: float
    """The weight of the adversaries' loss in the autoencoder's."""
    divergence_weight: float
    """The weight of the Kullback-Leibler divergence."""
    mixup_alpha: float
    """α of the Beta(α, α) for mixup; 0: no mixup."""
    rate: float
    """Factor of the learning rates."""

    @classmethod
    def at(cls, config: Mapping[str, Any], clock: Clock) -> Schedule:
        """The schedule at a time; `config` are a model's settings."""
        train, adversary, original = config["train"], config["adversary"], is_original(config)
        adversarial, adversary_share, mixup_share, decays = _of_the_original(train, clock) if original else _of_ours(train, clock)
        every = adversary["adv_steps"]
        # The original counts batches from 0 in every epoch, so the autoencoder learns from the first one of each.
        turn = clock.batch if original else clock.step
        both = not adversarial or every == 0
        autoencoders_turn = both or turn % every == 0
        steps = clock.updates if original else clock.step
        kl_epochs = train["n_epochs_kl_warmup"]
        cosine = (1 + math.cos(math.pi * _share(clock.step, clock.of))) / 2
        return cls(
            adversarial,
            autoencoders_turn,
            both or not autoencoders_turn,
            adversary["reg_adv"] * adversary_share,
            _share(clock.epoch, kl_epochs) if kl_epochs else _share(steps, train["n_steps_kl_warmup"]),
            train["mixup_alpha"] * mixup_share,
            cosine if train["lr_schedule"] == "cosine" else train["lr_decay"] ** decays,
        )


def is_original(config: Mapping[str, Any]) -> bool:
    """Whether the settings ask for the habits of cpa-tools 0.8.8."""
    return bool(config["compat"] != "none")


def _of_ours(train: Mapping[str, Any], clock: Clock) -> tuple[bool, float, float, int]:
    # Pretraining is given in batches or in epochs, as is each warm-up, which starts where pretraining ends.
    if train["n_steps_pretrain_ae"]:
        before, epochs = train["n_steps_pretrain_ae"], clock.epoch
        adversarial = before <= clock.step
    else:
        pretraining = train["n_epochs_pretrain_ae"]
        before = (clock.step - clock.batch) // clock.epoch * pretraining if clock.epoch else 0
        adversarial, epochs = pretraining <= clock.epoch, max(clock.epoch - pretraining, 0)
    steps = max(clock.step - before, 0)
    warm_up = train["n_steps_adv_warmup"]
    share = _share(steps, warm_up) if warm_up else _share(epochs, train["n_epochs_adv_warmup"])
    mixing = train["n_epochs_mixup_warmup"]
    mixup = 1.0 if not mixing else _share(epochs, mixing) if adversarial else 0.0
    return adversarial, share, mixup, clock.epoch // train["step_size_lr"] if train["step_size_lr"] else 0


def _of_the_original(train: Mapping[str, Any], clock: Clock) -> tuple[bool, float, float, int]:
    """The schedule of cpa-tools 0.8.8. Pretraining takes one epoch (or update) longer than set; mixup with a warm-up never starts
    if there is pretraining, since the epoch is subtracted from itself; and a scheduler that waits for `step_size_lr` calls is itself
    called only every `step_size_lr` epochs, and not in the first two."""
    steps, epochs = train["n_steps_pretrain_ae"], train["n_epochs_pretrain_ae"]
    adversarial = steps < clock.updates if steps else epochs < clock.epoch if epochs else True
    if train["n_steps_adv_warmup"]:
        share = _below_too(clock.updates - steps, train["n_steps_adv_warmup"])
    else:
        share = _below_too(clock.epoch - epochs, train["n_epochs_adv_warmup"])
    mixing = train["n_epochs_mixup_warmup"]
    mixup = 1.0 if not mixing else 0.0 if epochs else _share(clock.epoch, mixing)
    every = train["step_size_lr"]
    if not every:
        return adversarial, share, mixup, 0
    calls = max(clock.epoch - 1, 0) // every - (every == 1 < clock.epoch)
    return adversarial, share, mixup, calls // every


def _share(into: int, of: int) -> float:
    """The completed share of a warm-up, 1 if there is none."""
    return into / of if into < of else 1.0


def _below_too(into: int, of: int) -> float:
    """The same, but negative before the warm-up: the original computes such values but does not use them."""
    return into / of if of > 0 and into < of else 1.0
