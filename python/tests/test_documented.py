"""Python in README and docs runs as printed, page by page, in a folder of its own, after the commands that the page shows before it.

`tests/documented.rs` runs the commands themselves on every page. The reader's own objects that a page takes as given, such
as an AnnData object, are made here.
"""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import anndata
import numpy as np
import pandas as pd
import perturbine as pb
import pyarrow.parquet as pq
import pytest
import scipy.sparse
from conftest import table_of_cells
from perturbine._program import program

ROOT = Path(__file__).resolve().parents[2]
Names = dict[str, Any]


class Block(NamedTuple):
    """A fenced block of a page."""

    language: str
    line: int
    text: str


def blocks(page: str) -> Iterator[Block]:
    """The blocks of a page, in order."""
    language, first, lines = None, 0, []
    for number, line in enumerate((ROOT / page).read_text().splitlines(), 1):
        fence = line.strip()
        if language is None and fence.startswith("```"):
            language, first, lines = fence.removeprefix("```"), number, []
        elif language is not None and fence == "```":
            yield Block(language, first, "\n".join(lines))
            language = None
        elif language is not None:
            lines.append(line)


def run(block: Block) -> None:
    """Runs the commands of a block, if it has any; `tests/documented.rs` checks what they do."""
    rows = block.text.splitlines() if block.language == "console" else []
    for command in (row.removeprefix("$ perturbine ") for row in rows if row.startswith("$ ")):
        subprocess.run([program(), *shlex.split(command)], capture_output=True)


def pages() -> list[str]:
    """The pages with Python."""
    every = ["README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]
    return [page for page in every if any(block.language == "python" for block in blocks(page))]


def kang(cells: int = 600, genes: int = 40) -> anndata.AnnData:
    """Counts of stimulated and control cells of three types from two donors."""
    random = np.random.default_rng(3)
    obs = pd.DataFrame(
        {
            "condition": random.choice(["ctrl", "stim"], cells),
            "cell_type": random.choice(["B", "CD4T", "NK"], cells),
            "donor": random.choice(["101", "107"], cells),
        },
        index=[f"cell-{at}" for at in range(cells)],
    )
    rates = 1 + (obs["condition"] == "stim").to_numpy()[:, None] * random.random(genes)
    counts = scipy.sparse.csr_matrix(random.poisson(rates).astype(np.float32))
    return anndata.AnnData(counts, obs, pd.DataFrame(index=[f"gene-{at}" for at in range(genes)]))


def own_object() -> Names:
    """The reader's object: the simulated file of the page, with counts in a layer."""
    pb.simulate("own.h5ad", cells=800, genes=100, conditions=6, combos=2, cell_types=2)
    adata = anndata.read_h5ad("own.h5ad")
    adata.layers["counts"] = adata.X.copy()
    return {"adata": adata}


def kang_file() -> Names:
    """The file of Kang's cells."""
    kang().write_h5ad("kang.h5ad")
    return {}


def kang_atlas() -> Names:
    """The atlas of Kang's cells with its split, and the reader's own step and genes."""
    kang_file()
    pb.split(pb.ingest("kang.h5ad", out="kang.atlas", covariates=["cell_type", "donor"]), name="b", hold_out={"cell_type": "B", "condition": "stim"})
    return {"hvg": [f"gene-{at}" for at in range(20)], "step": lambda x, condition, donor: (x.sum(), len(condition), len(donor))}


def kang_model() -> Names:
    """A model of Kang's cells as a torch module reads it, and counts for it."""
    kang_file()
    pb.train(pb.ingest("kang.h5ad", out="kang.atlas"), "kang.model", preset="cpa", epochs=2)
    torch = pytest.importorskip("torch")
    adata = kang()
    return {"counts": torch.from_numpy(adata.X.toarray()), "n": adata.n_obs}


@contextmanager
def engine() -> Iterator[Names]:
    """An engine on this machine that takes it to have a GPU, and the files of README's commands."""
    ray = pytest.importorskip("ray", reason="without ray, its lines in docs/scale.md are not run")
    for block in blocks("README.md"):
        run(block)
    Path("cells").mkdir()
    pq.write_table(table_of_cells(Path("screen.h5ad"), pb.inspect("screen.model")["gene_names"]), "cells/0.parquet")
    ray.init(num_gpus=1, ignore_reinit_error=True, include_dashboard=False)
    yield {"ray": ray}
    # A process that is connected to ray is ended when ray is.
    ray.shutdown()


PREPARED: dict[str, Callable[[], Names | AbstractContextManager[Names]]] = {
    "docs/from-scanpy.md": own_object,
    "docs/model.md": kang_model,
    "docs/python-loader.md": kang_atlas,
    "docs/python.md": kang_file,
    "docs/scale.md": engine,
}


@pytest.mark.parametrize("page", pages())
def test_python_in_the_docs_runs_as_printed(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    prepared = PREPARED.get(page, dict)()
    with nullcontext(prepared) if isinstance(prepared, dict) else prepared as names:
        for block in blocks(page):
            run(block)
            if block.language == "python":
                code = compile("\n" * block.line + block.text, str(ROOT / page), "exec")
                try:
                    exec(code, names)
                except ModuleNotFoundError as error:
                    pytest.skip(f"without {error.name}, {page} is not run from line {block.line} on")


def test_every_page_that_is_prepared_has_python() -> None:
    assert set(PREPARED) <= set(pages())
