"""Other packages, imported when something needs them."""

from __future__ import annotations

import importlib
from typing import Any


def optional(package: str) -> Any:
    """Imports a package that this one works without."""
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        name = package.partition(".")[0]
        if error.name != name:
            raise
        raise ImportError(f"this needs {name}, which is not installed: pip install {name}", name=name) from error
