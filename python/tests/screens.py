"""Screens for the tests of atlases and loaders, made once in a process and removed when it ends."""

from __future__ import annotations

import atexit
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import NamedTuple

import anndata
import numpy as np
import pandas as pd
import scipy.sparse
from perturbine._atlas import Atlas
from perturbine import open as open_atlas
from perturbine._program import program


class Screen(NamedTuple):
    """Cells in a file, and the atlas that was made of them."""

    file: Path
    atlas: Path
    x: scipy.sparse.csr_matrix
    """The values of the file, float32."""
    obs: pd.DataFrame
    genes: list[str]

    def open(self, access: str = "map") -> Atlas:
        """The atlas, opened."""
        return open_atlas(self.atlas, access)


@cache
def folder() -> Path:
    """A folder that this process removes at its end."""
    path = Path(tempfile.mkdtemp(prefix="perturbine-tests-"))
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path


CONDITIONS = ("ctrl", "A", "B", "C", "A+B", "B+C")
DOSES = {"ctrl": ("1",), "A": ("0.5", "1"), "B": ("1",), "C": ("2",), "A+B": ("1+1", "1+0.5"), "B+C": ("1+1",)}


@cache
def counts(cells: int = 1500, genes: int = 70) -> Screen:
    """Counts of any width, two donors, doses, and columns of every kind; the splits `half` and `pairs`."""
    random = np.random.default_rng(7)
    # Most counts are small, as in real cells; some need 16 or 32 bits.
    values = random.poisson(0.4, (cells, genes)).astype(np.float32)
    values[random.random((cells, genes)) < 0.0005] = 300
    values[5, 3], values[900, 11] = 70_000, 40_000
    values[17] = 0
    conditions = random.choice(CONDITIONS, cells, p=[0.3, 0.2, 0.2, 0.1, 0.1, 0.1])
    obs = pd.DataFrame(
        {
            "condition": conditions,
            "dose": [random.choice(DOSES[condition]) for condition in conditions],
            "donor": random.choice(["d1", "d2", "d3"], cells),
            "note": [None if number % 7 == 0 else f"n{number % 5}" for number in range(cells)],
            "total": values.sum(1).astype(np.int64),
            "share": random.random(cells),
            "is_late": random.random(cells) < 0.5,
            "maybe": np.where(random.random(cells) < 0.2, np.nan, random.random(cells)).astype(np.float32),
        },
        index=[f"cell-{number}" for number in range(cells)],
    )
    return _made("counts", values, obs, "--covariates", "donor", "--dose", "dose", "--control", "ctrl", "--perturbation", "condition")


@cache
def logarithms(cells: int = 400, genes: int = 40) -> Screen:
    """Continuous values, some below 0."""
    random = np.random.default_rng(8)
    values = np.where(random.random((cells, genes)) < 0.3, random.normal(0.5, 1, (cells, genes)), 0).astype(np.float32)
    obs = pd.DataFrame({"condition": random.choice(["ctrl", "A"], cells)}, index=[f"cell-{at}" for at in range(cells)])
    return _made("logarithms", values, obs, "--perturbation", "condition", "--control", "ctrl", "--values", "log1p")


def run(*arguments: object) -> None:
    """A command of the program."""
    subprocess.run([program(), *map(str, arguments)], check=True, capture_output=True)


def _made(name: str, values: np.ndarray, obs: pd.DataFrame, *keys: str) -> Screen:
    matrix = scipy.sparse.csr_matrix(values)
    genes = [f"g{number}" for number in range(values.shape[1])]
    file, atlas = folder() / f"{name}.h5ad", folder() / f"{name}.atlas"
    anndata.AnnData(matrix, obs, pd.DataFrame(index=genes)).write_h5ad(file)
    run("ingest", file, "--out", atlas, *keys)
    run("split", atlas, "--name", "half", "--scheme", "random:0.3", "--valid", "0.2")
    return Screen(file, atlas, matrix, obs, genes)


def log1p_cp10k(rows: np.ndarray) -> np.ndarray:
    """The computation of the loader, in float64."""
    sums = rows.sum(1, keepdims=True, dtype=np.float64)
    return np.log1p(np.divide(rows * 1e4, sums, out=np.zeros(rows.shape), where=sums > 0))
