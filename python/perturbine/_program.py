"""Where the `perturbine` program is, and the environment in which it runs."""

from __future__ import annotations

import os
import sys

from ._errors import error_of

PROGRAM = "PERTURBINE_PROGRAM"
LIBTORCH = "PERTURBINE_LIBTORCH"
TORCH = "2.11."
"""The release of torch that the program is built for, up to its patch number."""


def program() -> str:
    """The path of the program: that of `PERTURBINE_PROGRAM`, that of this package, or the first on the path."""
    chosen = os.environ.get(PROGRAM)
    if chosen:
        if not os.access(chosen, os.X_OK):
            raise error_of(66, f"{PROGRAM} is {chosen}, which is not a program", f"unset {PROGRAM}, or correct it")
        return chosen
    packaged = os.path.join(os.path.dirname(os.path.abspath(__file__)), "bin", "perturbine")
    if os.access(packaged, os.X_OK):
        return packaged
    for folder in os.get_exec_path():
        found = os.path.join(folder, "perturbine")
        # The console script of this package has the same name as the program, and would start itself for ever.
        if os.path.isfile(found) and os.access(found, os.X_OK) and not _is_script(found):
            return found
    raise error_of(
        66,
        "the program `perturbine` was not found: this package has none, and the path has none",
        f"install the package from its wheel, or set {PROGRAM} to the path of the program",
    )


def _is_script(path: str) -> bool:
    with open(path, "rb") as file:
        return file.read(2) == b"#!"


def environment() -> dict[str, str]:
    """The environment of the program: this process's, with the place of this environment's torch if its release fits."""
    variables = dict(os.environ)
    if not variables.get(LIBTORCH):
        library = _torch_library()
        if library:
            variables[LIBTORCH] = library
    return variables


def _torch_library() -> str | None:
    """The folder with the libraries of this environment's torch, if that is of the release that the program needs.

    Its version is read from a file: importing it takes seconds, and would load its libraries into this process.
    """
    for folder in sys.path:
        torch = os.path.join(folder, "torch")
        try:
            with open(os.path.join(torch, "version.py"), encoding="utf-8") as file:
                version = next((line for line in file if line.startswith("__version__ = ")), "")
        except OSError:
            continue
        fits = version.partition("=")[2].strip(" \n'\"").startswith(TORCH)
        return os.path.join(torch, "lib") if fits else None
    return None
