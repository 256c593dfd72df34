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

# The prototype's perturbations see what others changed in the same pass, which makes their order matter; here all change at once.
source = Path(estimator.__file__).read_text()
for before, after in [
    ("total[r] += new - part[p]; part[p] = new", "later[p] = new"),
    ("            total = np.zeros_like(s.Y)\n", "            total = np.zeros_like(s.Y); later = {}\n"),
    ("            s.total = total\n", "            part, total = later, np.zeros_like(s.Y)\n            for p in s.names: total[s.rows[p]] += part[p]\n            s.total = total\n"),
    (".5 if s.combo[r].any() else 1.", "1 / max(len(s.keys[i][0]) for i in r)"),
]:
    assert source.count(before) == 1, before
    source = source.replace(before, after)
exec(compile(source, estimator.__file__, "exec"), estimator.__dict__)

# This crate differs from the prototype in two ways: few genes have a shared response (the prototype expects half
# of them, with a strength of 10), and it grows with the dose as effects do.
FEW_GENES, STRENGTH = 0.01, 30.0


class Fit(estimator.Fit):
    """The prototype with this crate's shared response."""

    def background(self, explained=None):
        if explained is None:
            self.curves()
            self.amounts = np.array([sum(self.size(part) for part in key[0]) for key in self.keys])
            self.known = np.zeros_like(self.B)
        perturbations = {context: self.perturbation_means(context, explained) for context in self.a}
        contexts = [context for context in self.a if len(perturbations[context]) >= 5]
        if not contexts:
            return
        means, noises, controls = zip(*(self.context_mean(context, perturbations[context], explained) for context in contexts))
        means, noises, controls = np.array(means), np.array(noises), np.array(controls)
        of_controls = np.array([self.v0[context] for context in contexts])
        kernel = 0.7 + 0.3 * np.eye(len(contexts))
        scales = estimator.Scales(kernel, np.diag(noises + controls**2 * of_controls), means)
        likelihoods = scales.loglik(self.lam)
        others = len(self.lam) - 1
        shares = estimator.em(likelihoods, np.r_[1 - FEW_GENES, np.full(others, FEW_GENES / others)], STRENGTH)
        every = sorted(self.a)
        between = np.array([[0.7 + 0.3 * (one == other) for other in contexts] for one in every])
        for context, shared in zip(every, scales.mean(self.lam, estimator.resp(likelihoods, shares), between)):
            self.M[context] = shared
        for at, context in enumerate(contexts):
            total = controls[at] ** 2 * of_controls[at] + noises[at]
            self.known[context] = controls[at] * of_controls[at] / total * (means[at] - self.M[context])
            self.vB[context] = of_controls[at] * noises[at] / total

    def perturbation_means(self, context, explained):
        found = {}
        for row in np.flatnonzero((self.ctx == context) & ~self.combo & (self.amounts >= 0.01)):
            found.setdefault(self.keys[row][0][0][0], []).append(row)
        left = self.Y if explained is None else self.Y - explained
        means = []
        for rows in found.values():
            weights = self.amounts[rows] / self.v[rows]
            total = weights @ self.amounts[rows]
            means.append((weights @ left[rows] / total, weights @ self.Y[rows] / total, 1 / total, weights.sum() / total))
        return means

    def context_mean(self, context, means, explained):
        left, whole, noise, controls = map(np.array, zip(*means))
        typical = np.median(np.maximum((left**2).mean(1) - noise - controls**2 * self.v0[context], 0))
        weights = 1 / (noise + typical + 1e-12)
        weights /= weights.sum()
        mean = weights @ left
        if explained is None:
            of_mean = 1.1 * (weights**2 @ (left - mean) ** 2).mean()
        else:
            of_mean = 1.3 * (weights**2 @ noise) + 0.3 * (weights**2 @ (whole - mean) ** 2).mean()
        return mean, of_mean, weights @ controls

    def bg(self, rows):
        rows = np.asarray(rows)
        return self.known[self.ctx[rows]] + self.amounts[rows][:, None] * self.M[self.ctx[rows]]

    def size(self, part):
        perturbation, dose = part
        return self.u[perturbation](np.array([self.limited(part)]))[0]

    def losses(self, name, halves):
        """How badly each half-effect dose explains products of whole shifts; None with fewer than two products."""
        rows = [row for row in self.rows[name] if not self.combo[row]]
        doses = {row: dict(self.keys[row][0])[name] for row in rows}
        pairs = [(one, other) for at, one in enumerate(rows) for other in rows[:at]]
        pairs = [(a, b) for a, b in pairs if doses[a] != doses[b] and self.ctx[a] == self.ctx[b]]
        if len(pairs) < 2:
            return None
        products = np.array([(self.Y[a] * self.Y[b]).mean() - self.v0[self.ctx[a]] for a, b in pairs])
        scale, top = max(abs(products).max(), 1e-9), max(self.dose[name])
        noise = (self.v[rows].mean() / scale) ** 2 / self.Y.shape[1] * 20 + 0.02**2
        one, other = (np.array([doses[pair[side]] for pair in pairs]) for side in (0, 1))
        found = []
        for half in halves:
            expected = estimator.hill(one, half, top) * estimator.hill(other, half, top)
            slope = (expected * products / scale).sum() / (expected**2).sum()
            found.append(((products / scale - slope * expected) ** 2).sum() / noise)
        return np.array(found)

    def curves(self):
        """Half-effect doses; a perturbation with one dose follows the others up to that dose."""
        self.u, self.wd = {name: (lambda doses: np.ones(len(doses))) for name in self.names}, 0.0
        self.several = [name for name in self.names if len(set(self.dose[name])) > 1]
        if not self.several:
            # No target of these cases asks for another dose then.
            return
        typical = np.median([dose for name in self.several for dose in self.dose[name]])
        halves = typical * np.exp(np.linspace(np.log(1e-2), np.log(1e2), 25))
        found = {name: self.losses(name, halves) for name in self.several}
        found = {name: losses for name, losses in found.items() if losses is not None}
        self.K = {}
        for name in self.names:
            half = typical
            if found:
                loss = found.get(name, 0) + 2 * sum(found.values()) / len(found)
                weights = np.exp(-0.5 * (loss - loss.min()))
                half = np.exp((weights * np.log(halves)).sum() / weights.sum())
            self.K[name] = half
            top = max(self.dose[name])
            self.u[name] = lambda doses, half=half, top=top: estimator.hill(np.asarray(doses, float), half, top)

    def doses(self):
        """What a dose has of its own, and a factor of the noise, by likelihood."""
        repeated = lambda name: any((self.ctx[self.rows[name]] == context).sum() > 1 for context in self.a)
        chosen = [name for name in self.several if repeated(name)]
        self.wd = 0.15 if self.several else 0.0
        noise, best = self.v.copy(), None
        for own in (0.03, 0.15, 0.35, 0.7) if chosen else ():
            for factor in (1.0, 1.4, 2.0, 3.0):
                self.wd, self.v, likelihoods = own, noise * factor, []
                for name in chosen:
                    rows = np.array([row for row in self.rows[name] if not self.combo[row]])
                    if not len(rows):
                        likelihoods.append(np.zeros((len(self.lam), self.Y.shape[1])))
                        continue
                    doses = np.array([dict(self.keys[row][0])[name] for row in rows])
                    kernel = self.Kp(name, 3, self.ctx[rows], doses, self.ctx[rows], doses)
                    likelihoods.append(estimator.Scales(kernel, self.D(rows), self.Y[rows] - self.bg(rows)).loglik(self.lam))
                all_genes = np.concatenate(likelihoods, 1)
                shares = estimator.em(all_genes, self.nul, 1.0, 20)
                most = all_genes.max(0)
                found = (most + np.log(shares @ np.exp(all_genes - most))).mean()
                if best is None or found > best[0]:
                    best = found, own, factor
        if best:
            _, self.wd, self.over = best
            self.v = noise * self.over

    def told(self, name, contexts, doses):
        """The prototype's name for an effect at doses in contexts."""
        return super().told(name, contexts, [self.limited((name, dose)) for dose in doses])

    def limited(self, part):
        """A dose beyond the only one that was seen counts as that one."""
        name, dose = part
        return min(dose, self.dose[name][0]) if self.several and name not in self.several else dose

    def predict(self, parts, context):
        shared, self.M[context] = self.M[context].copy(), 0.0
        beyond = super().predict(parts, context)
        self.M[context] = shared
        return beyond + sum(self.size(part) for part in parts) * shared * self.s


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
        fit = Fit(known)
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
