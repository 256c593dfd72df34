"""Cells that are in memory, as files that the program reads."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from . import _native
from ._arguments import text_of
from ._errors import error_of

if TYPE_CHECKING:
    from pathlib import Path


@contextmanager
def as_files(inputs: Iterable[Any], beside: Path | None, in_place: bool = False) -> Iterator[list[str]]:
    """The inputs as files: AnnData objects and Arrow tables are written to a folder, and removed afterwards. Files are taken as they are.

    Args:
        inputs: what to read; also lists of it, and mappings, whose keys name what is in memory.
        beside: the output beside which the folder is made, where there has to be room for the atlas anyway; None for the system's folder.
        in_place: whether the files are read later as well.
    """
    named = list(_named(inputs))
    if all(_is_path(value) for _, value in named):
        yield [text_of(value) for _, value in named]
        return
    if in_place:
        raise error_of(2, "`in_place` reads from a file, and these cells are in memory", "write the file, and ingest that")
    import tempfile

    parent = str(beside.absolute().parent) if beside else tempfile.gettempdir()
    try:
        folder = tempfile.TemporaryDirectory(prefix=f".{beside.name if beside else 'perturbine'}.input-", dir=parent)
    except OSError as error:
        raise error_of(73, f"cells in memory could not be written to {parent}: {error.strerror}") from error
    with folder:
        yield [_file_of(value, os.path.join(folder.name, name)) for name, value in named]


def _named(inputs: Iterable[Any]) -> Iterator[tuple[str, Any]]:
    """Each input with the name that its file gets."""
    number = 0
    for value in inputs:
        if isinstance(value, Mapping):
            for name, one in value.items():
                if os.path.basename(name) != name or not name:
                    raise error_of(2, f"`{name}` cannot be the name of a file", "use letters, digits, - and _")
                yield name, one
            continue
        for one in value if isinstance(value, (list, tuple)) else [value]:
            number += 1
            yield f"input-{number}", one


def _is_path(value: Any) -> bool:
    return isinstance(value, (str, os.PathLike)) or isinstance(getattr(value, "path", None), (str, os.PathLike))


def _file_of(value: Any, stem: str) -> str:
    """The value's own file, or a new one with what it holds."""
    if _is_path(value):
        return text_of(value)
    if hasattr(value, "write_h5ad"):
        # Views and files that are open for reading write themselves as well.
        value.write_h5ad(stem + ".h5ad")
        return stem + ".h5ad"
    if hasattr(value, "__arrow_c_stream__"):
        _native.write_table(value, stem + ".arrow")
        return stem + ".arrow"
    raise error_of(
        2,
        f"cells cannot be read from an object of the type {type(value).__name__}",
        "give paths, AnnData objects, or tables with `__arrow_c_stream__`",
    )
