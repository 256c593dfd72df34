"""The types of arguments."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any, Protocol, TypeVar, Union


class HasPath(Protocol):
    """An object that stands for a path, such as an atlas or a model."""

    @property
    def path(self) -> Any:
        """The path."""


Value = TypeVar("Value")
StrPath = Union[str, "os.PathLike[str]", HasPath]
"""A path, or an object that has one."""
Scalar = Union[str, int, float]
Many = Union[Value, Iterable[Value]]
"""One value or several."""
Selector = Union[str, Mapping[str, object]]
"""Cells or conditions, as `"condition=A+B,dose=1"` or as `{"condition": "A+B", "dose": 1}`."""
