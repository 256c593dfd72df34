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


@pytest.fixture(scope="session")
def cells(screen: SimpleNamespace) -> Any:
    """All cells of the screen as a table, with lists for the model's genes."""
    return table_of_cells(screen.file, screen.model.card["genes"])


def table_of_cells(file: Path, genes: list[str]) -> Any:
    """The cells of a file as a table, with lists for these genes."""
    anndata = pytest.importorskip("anndata", reason="without anndata, the cells of a file are not read")
    np = pytest.importorskip("numpy", reason="without numpy, expression is not read")
    pyarrow = pytest.importorskip("pyarrow", reason="without pyarrow, tables are not made")
    data = anndata.read_h5ad(file)
    values = pyarrow.array(np.asarray(data[:, genes].X.todense(), np.float32).ravel())
    lists = pyarrow.FixedSizeListArray.from_arrays(values, len(genes))
    labels = {name: pyarrow.array(data.obs[name].astype(str)) for name in data.obs}
    return pyarrow.table({"cell": pyarrow.array(data.obs_names), **labels, "expression": lists})


def ordered(table: Any) -> Any:
    """Rows in an order of their own, without metadata, which holds a checksum of the atlas."""
    return table.sort_by([(name, "ascending") for name in ("cell", "condition", "dose")]).combine_chunks().replace_schema_metadata(None)


def files(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, with its bytes."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def make_atlas(file: Path, out: Path) -> Path:
    """Ingests without the extension, which `perturbine.ingest` opens the atlas with."""
    Request("ingest", {"inputs": [file], "out": out}, positional="inputs").run()
    return out
