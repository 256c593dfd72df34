"""Scores of predictions next to those of baselines, as tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ._report import Report
from ._table import Table

HEADLINE = ("r2_mean", "r2_var", "r2_mean_top20", "r2_mean_top20_train", "pearson_delta", "mse_delta")
"""The scores that a notebook shows; the tables have all."""


class Evaluation(Report):
    """The scores of `evaluate`, `judge` or `crossval`, defined in docs/metrics.md. A notebook shows it as a page.

    Attributes:
        json: everything, as the command prints it with `--json`.
        path: the page or folder that was written, or None.
    """

    @property
    def summary(self) -> str:
        """One sentence for each prediction: how it compares with the best baseline."""
        return "\n".join(f"{label}{part['summary']}" for label, part in self._summaries())

    @property
    def scores(self) -> Table:
        """The mean scores, a row for each prediction and baseline."""
        rows = [{"prediction": part.get("name", "model"), **part["mean"]} for part in self._predictions()]
        rows += [{"prediction": name, **means} for name, means in self.json["baselines"].items()]
        return Table.of_rows(rows)

    @property
    def conditions(self) -> Table:
        """The scores of each held-out condition."""
        return Table.of_rows(
            {**labels, **_flat(condition)} for labels, part in self._parts() for condition in part["conditions"]
        )

    @property
    def skipped(self) -> Table:
        """The conditions that could not be scored, and why."""
        return Table.of_rows(self.json.get("skipped", ()))

    def _predictions(self) -> list[Mapping[str, Any]]:
        predictions: list[Mapping[str, Any]] = self.json.get("predictions", [self.json])
        return predictions

    def _summaries(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        for part in self._predictions():
            yield (f"{part['name']}: " if "name" in part else ""), part

    def _parts(self) -> Iterator[tuple[dict[str, Any], Mapping[str, Any]]]:
        if "folds" in self.json:
            for fold in self.json["folds"]:
                yield {"fold": fold["name"], "seed": fold["seed"]}, fold["evaluation"]
        else:
            for part in self._predictions():
                yield ({"prediction": part["name"]} if "name" in part else {}), part

    def __repr__(self) -> str:
        return f"{self.summary}\n{_headline(self.scores)!r}"

    def _repr_html_(self) -> str:
        # Imported here, since few programs need it and it takes milliseconds.
        from html import escape

        summaries = "".join(f"<p>{escape(line)}</p>" for line in self.summary.splitlines())
        return (
            f"{summaries}{_headline(self.scores)._repr_html_()}"
            f"<details><summary>Conditions</summary>{_headline(self.conditions)._repr_html_()}</details>"
        )


def _flat(condition: Mapping[str, Any]) -> dict[str, Any]:
    """A condition in one row: covariates are columns, and what has a value for each score is left out."""
    row: dict[str, Any] = {}
    for name, value in condition.items():
        if name == "covariates":
            row.update(value)
        elif not isinstance(value, Mapping):
            row[name] = value
    return row


def _headline(table: Table) -> Table:
    """The labels of a table and its headline scores."""
    labels = [
        name
        for name, values in table.columns.items()
        if name == "cells" or all(isinstance(value, str) for value in values)
    ]
    return Table({name: table[name] for name in [*labels, *HEADLINE] if name in table.columns})
