"""What was found: printed as it comes, and written to a file after every line."""

import contextlib
import json
import math
import os
import traceback
from pathlib import Path

from .aims import AIMS
from .schedule import OutOfTime


class Results:
    """Checks that passed or failed, figures, and what was skipped."""

    def __init__(self, path: Path, machine: dict, values_mean_something=True):
        self.path, self.machine = path, machine
        self.values_mean_something = values_mean_something
        self.checks, self.figures, self.skipped, self.seconds = [], [], [], {}
        self.write()

    def check(self, name, passed, why=""):
        self.checks.append({"check": name, "passed": bool(passed), "why": "" if passed else why})
        say(f"{'ok    ' if passed else 'FAILED'}  {name}{'' if passed or not why else ': ' + why}")
        self.write()

    def compare(self, name, passed, why=""):
        """A check of values that were computed on the device."""
        if self.values_mean_something:
            self.check(name, passed, why)
        else:
            self.skip(name, f"values are meaningless on a stand-in for CUDA; it {'passed' if passed else 'failed'}")

    def skip(self, name, why):
        self.skipped.append({"what": name, "why": why})
        say(f"skipped {name}: {why}")
        self.write()

    def figure(self, name, value, unit, aim=None, **more):
        """A number. One with an aim says whether the aim is met, except on a stand-in, whose speed means nothing either."""
        if not math.isfinite(value):
            self.check(name, False, f"it is {value}")
            return
        wanted = AIMS[aim] if aim else None
        met = wanted.is_met(value) if wanted and self.values_mean_something else None
        self.figures.append({"figure": name, "value": value, "unit": unit, "aim": aim, "met": met, **more})
        say(f"        {name}: {number(value)} {unit}")
        self.write()

    def took(self, part, seconds):
        self.seconds[part] = round(seconds, 1)
        self.write()

    @contextlib.contextmanager
    def attempt(self, name):
        """Whatever goes wrong inside costs what is inside, and nothing after it."""
        try:
            yield
        except OutOfTime as late:
            self.skip(name, f"out of time: {late}")
        except Exception as error:  # one failure must not hide what the rest finds
            where = traceback.extract_tb(error.__traceback__)[-1]
            self.check(name, False, f"{type(error).__name__}: {error} ({Path(where.filename).name}:{where.lineno})")

    def best(self, aim):
        """The best figure of an aim; none where nothing was measured."""
        best = None
        for figure in self.figures:
            if figure["aim"] == aim and (best is None or AIMS[aim].is_better(figure["value"], best["value"])):
                best = figure
        return best

    def aims(self):
        """Every aim with the best figure that was measured for it."""
        rows = []
        for name, aim in AIMS.items():
            best = self.best(name)
            rows.append({"aim": name, "what": aim.what, "wanted": aim.wanted, "at": "most" if aim.at_most else "least",
                         "unit": aim.unit, "measured": best["value"] if best else None,
                         "by": best["figure"] if best else None, "met": best["met"] if best else None})
        return rows

    def write(self):
        found = {"machine": self.machine, "values_mean_something": self.values_mean_something, "aims": self.aims(),
                 "checks": self.checks, "figures": self.figures, "skipped": self.skipped, "seconds": self.seconds}
        beside = self.path.with_name(self.path.name + ".new")
        beside.write_text(json.dumps(found, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        os.replace(beside, self.path)

    def failed(self):
        return [check["check"] for check in self.checks if not check["passed"]]

    def table(self):
        lines = ["", "| figure | measured | wanted | met | how it was measured |", "|---|---|---|---|---|"]
        for row in self.aims():
            wanted = f"at {row['at']} {number(row['wanted'])} {row['unit']}"
            measured = "not measured" if row["measured"] is None else f"{number(row['measured'])} {row['unit']}"
            met = {None: "", True: "yes", False: "no"}[row["met"]]
            lines.append(f"| {row['what']} | {measured} | {wanted} | {met} | {row['by'] or ''} |")
        lines += ["", "| part | seconds |", "|---|---|"]
        lines += [f"| {part} | {seconds} |" for part, seconds in self.seconds.items()]
        lines.append("")
        lines.append(f"{len(self.checks) - len(self.failed())} checks passed, {len(self.failed())} failed, "
                     f"{len(self.skipped)} skipped; everything is in {self.path}")
        if not self.values_mean_something:
            lines.append("this ran on a stand-in for CUDA: the figures are meaningless")
        return "\n".join(lines)


def number(value):
    """A number as a person would write it."""
    return f"{value:,.0f}" if 1000 <= abs(value) else f"{value:.4g}"


def say(text):
    print(text, flush=True)
