"""The fixture that all tests share: a simulated screen, split and trained on once."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import perturbine as pb
import pytest
from perturbine._arguments import Request


CELLS: dict[str, Any] = {"to": "all", "output": "cells", "file_size": "128KiB"}
"""A prediction of several files."""


@pytest.fixture(scope="session")
def screen(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A screen of 600 cells and 80 genes: `file`, `atlas`, `model`. Nothing changes it."""
    folder = tmp_path_factory.mktemp("screen")
    file = folder / "screen.h5ad"
    pb.simulate(file, cells=600, genes=80, conditions=8, combos=3, cell_types=2)
    atlas = make_atlas(file, folder / "screen.atlas")
    pb.split(atlas, name="pairs", scheme="combos:0.4")
    model = pb.train(atlas, folder / "screen.model", split="pairs", epochs=2)
    return SimpleNamespace(file=file, atlas=atlas, model=model, folder=folder)


@pytest.fixture(scope="session")
def single(screen: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of predicted cells that one run writes."""
    out = tmp_path_factory.mktemp("single") / "p"
    screen.model.predict(screen.atlas, **CELLS, out=out)
    return files(out)


def files(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, with its bytes."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def make_atlas(file: Path, out: Path) -> Path:
    """Ingests without the extension, which `perturbine.ingest` opens the atlas with."""
    Request("ingest", {"inputs": [file], "out": out}, positional="inputs").run()
    return out
