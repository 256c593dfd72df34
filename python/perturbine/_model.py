"""A trained model: its folder, and the verbs that take it."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from . import _verbs
from ._arguments import path_of
from ._errors import error_of
from ._table import Table

if TYPE_CHECKING:
    from ._types import StrPath

Others = ParamSpec("Others")
Result = TypeVar("Result")


def method(verb: Callable[Concatenate[Any, Others], Result]) -> Callable[Concatenate[Any, Others], Result]:
    """The verb itself: a function in a class is a method, and the model becomes its first argument. It says so to type checkers,
    which refuse a method whose first argument may be left out."""
    return verb


class Model:
    """A model's folder. Its methods are the verbs of the same names, with the model as their first argument.

    Attributes:
        path: the folder.
        summary: what `train` reported, for a model that this process trained; else empty.
    """

    predict = method(_verbs.predict)
    embed = method(_verbs.embed)
    response = method(_verbs.response)
    evaluate = method(_verbs.evaluate)
    report = method(_verbs.report)

    def __init__(self, path: StrPath, summary: dict[str, Any] | None = None) -> None:
        self.path = path_of(path)
        self.summary = summary or {}
        if not (self.path / "model.json").is_file():
            raise error_of(
                66,
                f"{self.path} is not a complete model: it has no model.json",
                "train one with `perturbine.train(atlas, out)`; the same call completes a training that was stopped",
            )

    @cached_property
    def card(self) -> dict[str, Any]:
        """The model's card (`model.json`): architecture, vocabulary, genes, data, split and settings."""
        card: dict[str, Any] = json.loads((self.path / "model.json").read_text(encoding="utf-8"))
        return card

    @property
    def history(self) -> Table:
        """Losses and scores, a row for each epoch."""
        with open(self.path / "history.jsonl", encoding="utf-8") as file:
            return Table.of_rows(json.loads(line) for line in file)

    def __fspath__(self) -> str:
        return str(self.path)

    def __repr__(self) -> str:
        return f"Model({str(self.path)!r})"
