"""Losses: decoder output against cells, classifiers' logits against classes."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F

EPSILON = 1e-8
"""Keeps logarithms finite, as in the original."""


class Decoded(NamedTuple):
    """The decoder's output for every cell and gene."""

    mean: Any
    """The expected value: of counts, without excess zeros."""
    spread: Any
    """The inverse dispersion of counts, `[genes]`, or the variance of values, `[cells, genes]`."""
    zeros: Any = None
    """Logits of the share of excess zeros."""


def reconstruction(decoded: Decoded, x: Any, kind: str) -> Any:
    """Negative log-likelihood of the cells, summed over genes and averaged over cells."""
    return -log_likelihood(decoded, x, kind).sum(1).mean()


def log_likelihood(decoded: Decoded, x: Any, kind: str) -> Any:
    """The log-likelihood of each value; `kind` is `nb`, `zinb` or `gauss`."""
    mean, theta, zeros = decoded
    if kind == "gauss":
        return -((x - mean).square() / theta + theta.log() + math.log(2 * math.pi)) / 2
    log_sum = (theta + mean + EPSILON).log()
    of_zero = theta * ((theta + EPSILON).log() - log_sum)
    of_value = x * ((mean + EPSILON).log() - log_sum) + (x + theta).lgamma() - theta.lgamma() - (x + 1).lgamma()
    if kind == "nb":
        return of_zero + of_value
    inflated = of_zero - zeros
    return torch.where(x < EPSILON, F.softplus(inflated), inflated + of_value) - F.softplus(-zeros)


def divergence(mean: Any, deviation: Any) -> Any:
    """Kullback-Leibler divergence of normals from the standard normal, summed over the latent and averaged over cells."""
    return ((deviation.square() + mean.square() - 1) / 2 - deviation.log()).sum(1).mean()


def guess_loss(kind: str, logits: Any, classes: Any, weights: Any = None) -> Any:
    """The loss of logits `[cells, classes]` for classes `[cells]`, weighted by class.

    `cce` is Σ w nll / Σ w over cells; `focal` the mean over cells of (1 - p)² w nll, with p the probability of the class.
    """
    if kind == "cce":
        return F.cross_entropy(logits, classes, weights)
    log_p = logits.log_softmax(-1).gather(1, classes[:, None])[:, 0]
    each = -((1 - log_p.exp()).square() * log_p)
    return (each if weights is None else each * weights[classes]).mean()
