"""The offset `additive` of a network's output: profiles of controls, and sums of trained shifts (docs/offsets.md)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

Part = tuple[int, float]
"""A perturbation's code and dose."""
Weights = dict[int, float]
"""Weights of the rows of trained shifts."""


class Offsets(nn.Module):
    """The offset of each cell, from measurements on training cells."""

    def __init__(self, card: Mapping[str, Any]) -> None:
        super().__init__()
        vocabulary, model = card["vocabulary"], card["config"]["model"]
        self.counts = model["recon_loss"] != "gauss"
        self.names = [covariate["name"] for covariate in vocabulary["covariates"]]
        self.kept = [at for at, name in enumerate(self.names) if name != vocabulary["batch"]]
        values = [covariate["values"] for covariate in vocabulary["covariates"]]
        self.contexts: list[tuple[int, ...]] = []
        self.with_controls: set[int] = set()
        self.rows: list[tuple[tuple[Part, ...], int]] = []
        for group in vocabulary["trained"]:
            context = tuple(values[at].index(group["covariates"][at]) for at in self.kept)
            if context not in self.contexts:
                self.contexts.append(context)
            at, parts = self.contexts.index(context), tuple(zip(group["perturbations"], group["doses"]))
            if not parts:
                self.with_controls.add(at)
            elif (parts, at) not in self.rows:
                self.rows.append((parts, at))
        self.trained, genes = len(vocabulary["perturbations"]), len(card["genes"])
        for name, size in (("controls", (len(self.contexts), genes)), ("shifts", (len(self.rows), genes)), ("chosen", (5,)),
                           ("half_effects", (self.trained,))):
            self.register_buffer(name, torch.zeros(size))

    def effect(self, code: int, dose: float) -> float:
        """The size of a perturbation's effect at a dose, up to a factor."""
        half = float(self.half_effects[code]) if code < self.trained else 0.0
        return dose / (dose + half) if half > 0 else math.log1p(dose)

    def scale(self, code: int, known: float, wanted: float) -> float:
        """The factor from the effect at a known dose to that at a wanted one."""
        flat = known < wanted and not (code < self.trained and self.half_effects[code] > 0) or self.effect(code, known) <= 0
        return 1.0 if flat else self.effect(code, wanted) / self.effect(code, known)

    def at_doses(self, rows: list[int], parts: tuple[Part, ...]) -> Weights:
        """Weights of the rows of one combination in one context."""
        exact = [row for row in rows if self.rows[row][0] == parts]
        if exact:
            return {exact[0]: 1.0}
        if len(parts) > 1:
            nearest = min(rows, key=lambda row: sum(abs(math.log1p(a[1]) - math.log1p(b[1])) for a, b in zip(self.rows[row][0], parts)))
            scales = [self.scale(code, known, dose) for (code, known), (_, dose) in zip(self.rows[nearest][0], parts)]
            return {nearest: sum(scales) / len(parts)}
        ((code, dose),) = parts
        known = sorted((self.rows[row][0][0][1], row) for row in rows)
        below, above = [pair for pair in known if pair[0] < dose], [pair for pair in known if pair[0] >= dose]
        if not below:
            return {above[0][1]: self.scale(code, above[0][0], dose)}
        if not above:  # as all trained doses grow, by least squares; as the largest where nothing is known of growth
            if code >= self.trained or self.half_effects[code] <= 0:
                return {below[-1][1]: 1.0}
            squares = sum(self.effect(code, known) ** 2 for known, _ in below)
            return {row: self.effect(code, dose) * self.effect(code, known) / squares for known, row in below}
        (low, first), (high, last) = below[-1], above[0]
        low, high, here = (self.effect(code, dose) for dose in (low, high, dose))
        share = (here - low) / (high - low) if low < high else 1.0
        return {first: 1 - share, last: share}

    def of_combination(self, parts: tuple[Part, ...], own: int | None, stand_ins: list[int]) -> Weights | None:
        """Weights of a combination that was trained somewhere, else none."""
        seen: dict[int, list[int]] = {}
        for row, (known, context) in enumerate(self.rows):
            if [code for code, _ in known] == [code for code, _ in parts]:
                seen.setdefault(context, []).append(row)
        if not seen:
            return None
        if own in seen:
            return self.at_doses(seen[own], parts)
        if self.with_controls & set(seen):
            seen = {context: rows for context, rows in seen.items() if context in self.with_controls}
        counted = [context for context in sorted(seen) if context in stand_ins] or sorted(seen)
        return added(*((self.at_doses(seen[context], parts), 1 / len(counted)) for context in counted))

    def of_part(self, part: Part, own: int | None, stand_ins: list[int]) -> Weights:
        """Weights of one perturbation, from its own shifts, or else from combinations with it, or else from all others."""

        def alone(part: Part) -> Weights | None:
            return self.of_combination((part,), own, stand_ins)

        known = alone(part)
        if known is not None:
            return known
        first: dict[tuple[int, ...], tuple[Part, ...]] = {}
        for parts, _ in self.rows:
            first.setdefault(tuple(code for code, _ in parts), parts)
        with_it = [parts for codes, parts in first.items() if part[0] in codes]
        if not with_it:
            singles = [codes[0] for codes in first if len(codes) == 1]
            return added(*((alone((code, part[1])) or {}, 1 / len(singles)) for code in singles))
        sums = []
        for parts in with_it:
            others = [alone(other) for other in parts]
            whole = self.of_combination(parts, own, stand_ins) or {}
            rest = added((whole, 1), *((weights, -1) for weights in others if weights is not None))
            sums.append((rest, 1 / (others.count(None) * len(with_it))))
        return added(*sums)

    def row(self, parts: tuple[Part, ...], context: tuple[int, ...]) -> Any:
        """The offset of a condition in a context."""
        own = self.contexts.index(context) if context in self.contexts else None
        shared = {at: sum(a == b for a, b in zip(self.contexts[at], context)) for at in self.with_controls}
        stand_ins = [own] if own in self.with_controls else [at for at in shared if shared[at] == max(shared.values())]
        control = all(code == 1 for code, _ in parts)
        weights = {} if control else added(*((self.of_part(part, own, stand_ins), 1) for part in parts))
        level = self.controls[stand_ins].mean(0) + sum(weight * self.shifts[row] for row, weight in weights.items())
        return torch.log(torch.expm1(level).clamp_min(float(self.chosen[1]))) if self.counts else level

    def forward(self, perturbations: tuple[Any, Any], covariates: Mapping[str, Any]) -> Any:
        """The offset of each cell, `[cells, genes]`."""
        codes, doses = (tensor.tolist() for tensor in perturbations)
        contexts = zip(*(covariates[self.names[at]].tolist() for at in self.kept)) if self.kept else [()] * len(codes)
        keys = [(tuple((code, dose) for code, dose in zip(*pair) if code), context)
                for pair, context in zip(zip(codes, doses), contexts)]
        rows = {key: self.row(*key) for key in set(keys)}
        return torch.stack([rows[key] for key in keys])


def added(*weighted: tuple[Weights, float]) -> Weights:
    """A sum of weights, each times a number."""
    sums: Weights = {}
    for weights, times in weighted:
        for row, weight in weights.items():
            sums[row] = sums.get(row, 0.0) + weight * times
    return sums
