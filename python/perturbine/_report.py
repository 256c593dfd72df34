"""Reports of commands: the JSON object that a command prints, and the path that it wrote."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ._table import shown

if TYPE_CHECKING:
    from pathlib import Path


class Report(Mapping[str, Any]):
    """The JSON object of a command, as a mapping.

    Attributes:
        json: the object itself.
        path: what the command wrote, or None.
    """

    def __init__(self, json: Mapping[str, Any], path: Path | None = None) -> None:
        self.json = dict(json)
        self.path = path

    def __getitem__(self, name: str) -> Any:
        return self.json[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.json)

    def __len__(self) -> int:
        return len(self.json)

    def __repr__(self) -> str:
        wrote = f"{self.path}: " if self.path else ""
        return wrote + ", ".join(f"{name} {shown(value)}" for name, value in self.json.items())
