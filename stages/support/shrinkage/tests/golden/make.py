"""Writes cases.json: small sums of groups and what the numpy prototype of the estimator says of them.

python make.py FOLDER_OF_THE_PROTOTYPE, with numpy and scipy; its `estimator.py` has the class `Fit`.
"""

import json
import sys
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import numpy as np

sys.path.insert(0, sys.argv[1])
import estimator

# In this crate few genes have a shared response, with this strength; the prototype takes half of them, with 10.
SHARED = 30.0
mixed = estimator.em


def with_rare_shared_response(likelihoods, prior, strength, passes=25):
    if strength == SHARED:
        prior = np.r_[0.99, np.full(len(prior) - 1, 0.01 / (len(prior) - 1))]
    return mixed(likelihoods, prior, strength, passes)


estimator.em = with_rare_shared_response


class Fit(estimator.Fit):
    """The rows of a context with few groups have the shared response that is predicted for it, too."""

    def background(self, *told):
        super().background(*told)
        alone = lambda context: ((self.ctx == context) & ~self.combo).sum()
        if self.o["background"] and any(alone(context) >= 5 for context in self.a):
            for context in self.a:
                if alone(context) < 5:
                    self.B[context] = self.M[context]


class Training:
    """Cells that are drawn group by group, of which only sums are kept."""

    def __init__(self, seed, genes, contexts):
        self.random = np.random.default_rng(seed)
        self.genes, self.contexts = genes, contexts
        self.deviations = self.random.uniform(0.2, 0.8, genes)
        common = self.random.uniform(0.5, 3.0, genes)
        self.levels = [common + self.random.normal(0.0, 0.3, genes) for _ in range(contexts)]
        self.groups, self.targets = [], []

    def effect(self, size=0.6, share=0.3):
        return np.where(self.random.random(self.genes) < share, self.random.normal(0.0, size, self.genes), 0.0)

    def add(self, parts, context, cells, shift=0.0):
        drawn = self.levels[context] + shift + self.random.normal(0.0, 1.0, (cells, self.genes)) * self.deviations
        values = np.round(drawn.sum(0), 4)
        # One cell has no scatter, not even by rounding.
        sums = [values, values**2 if cells == 1 else np.round((drawn * drawn).sum(0), 4)]
        self.groups.append({"parts": parts, "context": context, "cells": cells, "sums": [list(map(float, s)) for s in sums]})

    def ask(self, parts, context):
        self.targets.append({"parts": parts, "context": context})

    def answers(self):
        names = lambda parts: tuple((f"{perturbation:03d}", float(dose)) for perturbation, dose in parts)
        key = lambda group: (names(group["parts"]), group["context"])
        known = SimpleNamespace(
            C=self.contexts,
            n={key(group): group["cells"] for group in self.groups},
            S1={key(group): np.array(group["sums"][0]) for group in self.groups},
            S2={key(group): np.array(group["sums"][1]) for group in self.groups},
        )
        doses = {}
        for group in self.groups:
            for perturbation, dose in group["parts"]:
                doses.setdefault(perturbation, set()).add(dose)
        # Here doses and a shared response exclude each other.
        fit = Fit(known, nullM=SHARED, background=all(len(of) == 1 for of in doses.values()))
        for target in self.targets:
            target["shift"] = [float(f"{value:.12g}") for value in fit.predict(*key(target))]
        fitted = {
            "variances": list(map(float, fit.s2)),
            "kernel_weights": [float(fit.wh[kernel]) for kernel in fit.top],
            "half_effects": [[int(name), float(half)] for name, half in getattr(fit, "K", {}).items()],
            "own_of_doses": float(fit.wd),
            "noise_factor": float(getattr(fit, "over", 1.0)),
            "slope": float(fit.fac),
            "misfit": float(fit.nu),
        }
        return {"genes": self.genes, "contexts": self.contexts, "groups": self.groups, "targets": self.targets, "fitted": fitted}


def contexts():
    """Single perturbations in four contexts of two kinds, some of them left out."""
    case = Training(1, 40, 4)
    case.levels[2:] = [level + case.effect(1.0) for level in case.levels[2:]]
    for context in range(4):
        case.add([], context, 200)
    for perturbation in range(7):
        common, of_kinds = case.effect(), [case.effect(0.4), case.effect(0.4)]
        for context in range(4):
            if perturbation % 4 == context:
                case.ask([[perturbation, 1.0]], context)
            else:
                case.add([[perturbation, 1.0]], context, 60, common + of_kinds[context // 2] + case.effect(0.2))
    case.ask([[0, 1.0]], 1)
    return case.answers()


def combinations():
    """Pairs and their parts in two contexts; one part was never seen alone."""
    case = Training(2, 40, 2)
    effects = [case.effect() for _ in range(7)]
    pairs = [[0, 1], [0, 2], [1, 3], [2, 4], [5, 0], [5, 1], [5, 2], [3, 4]]
    for context in range(2):
        case.add([], context, 150)
        for perturbation in [0, 1, 2, 3, 4, 6]:
            case.add([[perturbation, 1.0]], context, 50, effects[perturbation] + case.effect(0.2))
        # The prototype fails on parts that were never alone in more than one context.
        for one, other in pairs if context == 0 else [pair for pair in pairs[1:] if 5 not in pair]:
            parts = sorted([[one, 1.0], [other, 1.0]])
            case.add(parts, context, 40, 0.9 * (effects[one] + effects[other]) + case.effect(0.3, 0.1))
    case.ask([[0, 1.0], [3, 1.0]], 0)
    case.ask([[0, 1.0], [1, 1.0]], 1)
    case.ask([[1, 1.0], [3, 1.0]], 0)
    case.ask([[1, 1.0], [2, 1.0], [4, 1.0]], 1)
    case.ask([[5, 1.0]], 1)
    case.ask([[2, 1.0]], 1)
    return case.answers()


def doses():
    """Doses of five perturbations, of which two were seen at one dose, in two contexts."""
    case = Training(3, 40, 2)
    for context in range(2):
        case.add([], context, 120)
    for perturbation in range(5):
        effect, half = case.effect(0.9), [0.5, 1.5, 5.0, 1.0, 1.0][perturbation]
        for context in range(2):
            for dose in [0.3, 1.0, 3.0, 10.0] if perturbation < 3 else [1.0]:
                if [perturbation, dose, context] == [1, 3.0, 1]:
                    continue
                case.add([[perturbation, dose]], context, 30, effect * dose / (dose + half) + case.effect(0.1))
    for parts, context in [([[0, 2.0]], 0), ([[1, 3.0]], 1), ([[1, 30.0]], 0), ([[2, 0.1]], 1), ([[3, 4.0]], 0), ([[0, 1.0]], 1)]:
        case.ask(parts, context)
    return case.answers()


def dosed_combinations():
    """Pairs at several doses in three contexts; a perturbation that has other doses in pairs than alone."""
    case = Training(4, 30, 3)
    effects = [case.effect(0.8) for _ in range(4)]
    shift = lambda parts: sum(effects[perturbation] * dose / (dose + 1.0) for perturbation, dose in parts)
    for context in range(3):
        case.add([], context, 100)
        singles = [[[perturbation, dose]] for perturbation in range(3) for dose in [0.5, 2.0]]
        pairs = [[[0, 0.5], [1, 2.0]], [[0, 2.0], [2, 2.0]], [[1, 4.0], [3, 1.0]], [[2, 0.5], [3, 3.0]]]
        for parts in singles + (pairs if context == 0 else pairs[:2]):
            case.add(parts, context, 25, shift(parts) + case.effect(0.1))
    for parts in [[[0, 2.0], [1, 2.0]], [[3, 2.0]], [[1, 4.0], [3, 1.0]], [[2, 8.0]]]:
        case.ask(parts, 2)
    return case.answers()


def no_effect():
    """One context in which nothing does anything, pairs among it."""
    case = Training(5, 50, 1)
    case.add([], 0, 100)
    for perturbation in range(9):
        case.add([[perturbation, 1.0]], 0, 30)
    for perturbation in range(4):
        case.add([[perturbation, 1.0], [perturbation + 4, 1.0]], 0, 30)
    case.ask([[0, 1.0]], 0)
    case.ask([[1, 1.0], [2, 1.0]], 0)
    return case.answers()


def sizes():
    """Groups of 1 to 400 cells in five contexts; one context has controls alone, one has none."""
    case = Training(6, 40, 7)
    shared = case.effect(0.3)
    for context, cells in enumerate([1, 20, 400, 60, 150, 50]):
        case.add([], context, cells)
    for perturbation in range(6):
        effect = shared + case.effect()
        for context in [0, 1, 2, 3, 4, 6]:
            cells = [1, 3, 12, 60, 200, 400][(perturbation + context) % 6]
            if (perturbation, context) not in [(1, 2), (4, 4)]:
                case.add([[perturbation, 1.0]], context, cells, effect + case.effect(0.2))
    for perturbation, context in [(1, 2), (4, 4), (0, 0), (3, 5), (5, 1)]:
        case.ask([[perturbation, 1.0]], context)
    return case.answers()


def smallest():
    """One perturbation in two contexts."""
    case = Training(7, 20, 2)
    effect = case.effect(0.5)
    for context in range(2):
        case.add([], context, 80)
    case.add([[0, 1.0]], 0, 40, effect)
    case.ask([[0, 1.0]], 0)
    case.ask([[0, 1.0]], 1)
    return case.answers()


cases = {case.__name__: case() for case in [contexts, combinations, doses, dosed_combinations, no_effect, sizes, smallest]}
packages = {package: version(package) for package in ["numpy", "scipy"]}
text = json.dumps({"packages": packages, "cases": cases}, separators=(",", ":"))
Path(__file__).with_name("cases.json").write_text(text + "\n")
